"""`toolkit doctor`: what is installed, what is missing, and how to mend it."""

from __future__ import annotations

import typer

from toolkit.commands.options import Json
from toolkit.errors import MissingError
from toolkit.output import emit


def doctor(json: Json = False) -> None:
    """Check Python, packages, model files, runtimes, cameras and permissions; each failing line says how to mend it.

    Exit code 3 if something that enrolment or verification needs is missing.
    """
    from toolkit.doctor import examine

    checks = examine()
    rows = [vars(check) for check in checks]
    marks = {"ok": "ok  ", "optional": "–   ", "failed": "FAIL"}

    def human() -> str:
        lines = []
        for check in checks:
            lines.append(f"{marks[check.status]}  {check.name}: {check.found}")
            if check.remedy:
                lines.append(f"      → {check.remedy}")
        return "\n".join(lines)

    emit({"checks": rows, "ok": all(c.status != "failed" for c in checks)}, json, human)
    if any(check.status == "failed" for check in checks):
        raise typer.Exit(MissingError.exit_code)
