"""`toolkit report`: result files to one page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toolkit.commands.options import Json
from toolkit.errors import MissingError, UsageError
from toolkit.output import emit

if TYPE_CHECKING:
    from benchmarks.report.document import Report


def report(
    results: Annotated[
        list[Path],
        typer.Argument(help="Files that `toolkit eval … --json` or `toolkit bench --json` printed; folders."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="report.html, .md or .json")] = Path("report.html"),
    title: Annotated[str, typer.Option(help="The page's title.")] = "Verification report",
    json: Json = False,
) -> None:
    """Tables and charts of result files on one page that needs no network, and where every number came from.

    HTML: dark and light, tables that sort, charts that name their points under the pointer or with the arrow keys.
    """
    writers = {".html": _html, ".md": _markdown, ".json": _json}
    if out.suffix.lower() not in writers:
        raise UsageError("unknown format of the report", got=out.name, expected=", ".join(writers))
    try:
        from benchmarks.report.build import build, read_results
    except ImportError as error:
        raise MissingError(f"a report needs {error.name}", do="run `pip install 'hyperverify[eval]'`") from error
    from toolkit.atomic import write_atomically

    found = read_results(results)
    text = writers[out.suffix.lower()](build(found, title))
    write_atomically(out, text.encode(), mode=0o644)
    result = {"report": str(out), "results": list(found)}
    emit(result, json, lambda: f"{out}: {len(found)} results")


def _html(built: Report) -> str:
    from benchmarks.report.page import to_html

    return to_html(built)


def _markdown(built: Report) -> str:
    from benchmarks.report.markdown import to_markdown

    return to_markdown(built)


def _json(built: Report) -> str:
    import json
    from dataclasses import asdict

    from toolkit.output import SCHEMA_VERSION

    return json.dumps({"schema_version": SCHEMA_VERSION, **asdict(built)}, indent=1) + "\n"
