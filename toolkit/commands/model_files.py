"""`toolkit models`: the third-party model files."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from toolkit.commands.options import Json
from toolkit.errors import HyperverifyError, UsageError
from toolkit.output import emit, table

app = typer.Typer(help="Third-party model files: list them, fetch them.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_models(json: Json = False) -> None:
    """Which model files are here, where, and under which licence."""
    from models.files import MODEL_FILES, find_model

    rows: list[dict[str, Any]] = []
    for model in MODEL_FILES.values():
        try:
            where, problem = str(find_model(model.name)), None
        except HyperverifyError as error:
            where, problem = "", str(error)
        rows.append({"name": model.name, "file": model.file, "path": where or None, "problem": problem,
                     "sha256": model.sha256, "licence": model.licence})  # fmt: skip
    lines = [(r["name"], r["licence"], r["path"] or r["problem"]) for r in rows]
    emit({"models": rows}, json, lambda: table(lines, ("model", "licence", "where")))


@app.command()
def fetch(
    names: Annotated[list[str], typer.Argument(help="sface, yunet, dlib or mobilefacenet.", show_default=False)],
    json: Json = False,
) -> None:
    """Download model files from their official homes into the model folder. The only command that downloads."""
    from models.fetch import fetch_model
    from models.files import MODEL_FILES

    for name in names:
        if name not in MODEL_FILES:
            raise UsageError("unknown model", got=name, expected=", ".join(MODEL_FILES))
    paths = {name: str(fetch_model(MODEL_FILES[name])) for name in names}
    emit({"fetched": paths}, json, lambda: "\n".join(f"{name}: {path}" for name, path in paths.items()))
