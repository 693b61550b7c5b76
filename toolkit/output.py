"""What a command prints: its result on stdout, human or JSON; everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from typing import Any

SCHEMA_VERSION = 1


def emit(result: dict[str, Any], as_json: bool, human: Callable[[], str]) -> None:
    """Print the one result of a command: a single JSON document with `schema_version`, or text for people."""
    if as_json:
        print(json.dumps({"schema_version": SCHEMA_VERSION, **result}, indent=2))
    else:
        print(human())


def command_line() -> str:
    """The command as it was typed, folders left out of its paths: a result says how it was made, not where."""
    return " ".join(["toolkit", *(word.rstrip("/").rsplit("/", 1)[-1] or word for word in sys.argv[1:])])


def emit_line(result: dict[str, Any]) -> None:
    """Print one JSON line of a stream, at once."""
    print(json.dumps({"schema_version": SCHEMA_VERSION, **result}), flush=True)


def note(message: str) -> None:
    """Tell the person something that is not the result."""
    print(message, file=sys.stderr, flush=True)


def table(rows: Sequence[tuple[str, ...]], header: tuple[str, ...] = ()) -> str:
    """Columns padded with spaces; the first is left-aligned, the others right-aligned."""
    lines = [header, *rows] if header else list(rows)
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    out = []
    for line in lines:
        cells = [line[0].ljust(widths[0])] + [c.rjust(w) for c, w in zip(line[1:], widths[1:], strict=True)]
        out.append("  ".join(cells).rstrip())
    if header:
        out.insert(1, "─" * max(len(line) for line in out))
    return "\n".join(out)
