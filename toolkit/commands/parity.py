"""`toolkit parity`: do all forms of one person's verifier compute the same thing?"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Bundle, Json, Point
from toolkit.errors import GateError, InputError, MissingError
from toolkit.output import emit, note, table

if TYPE_CHECKING:
    import numpy as np

    from models.spec import Framing


def parity(
    bundle: Bundle,
    faces: Annotated[
        Path | None,
        typer.Option("--faces", help="Aligned crops: a Parquet file, or a folder with one sub-folder a person."),
    ] = None,
    crops: Annotated[int, typer.Option(min=2, help="How many of them, evenly spaced.")] = 500,
    per_layer: Annotated[
        bool, typer.Option("--per-layer", help="Also every layer's output, on the first crops; slow.")
    ] = False,
    point: Point = "fmr1e-3",
    json: Json = False,
) -> None:
    """Compare every form of a bundle's verifier, reloaded from disk, over the same crops: torch where it is installed,
    ONNX, TFLite and C in fp32 and int8, and the integer reference.

    Largest and mean error, SQNR, and decisions that flip at the operating point. Exit code 5 when a tolerance of
    export/tolerances.py is exceeded. Without --faces the pictures are made up, which says less.
    """
    from export.manifest import open_bundle

    opened = open_bundle(bundle)
    threshold = opened.threshold(point)
    pixels = _pixels(faces, crops, opened.spec.framing)
    try:
        from benchmarks.parity import parity as compare
    except ImportError as error:
        raise MissingError(f"parity needs {error.name}", do="run `pip install 'hyperverify[enroll]'`") from error
    pictures = faces.name if faces else "made up"
    result = {"bundle": str(bundle), "pictures": pictures, **compare(opened, pixels, threshold, per_layer)}
    emit(result, json, lambda: _human(result))
    if not result["passed"]:
        failed = ", ".join(row["form"] for row in result["matrix"] if not row["passed"])
        note(f"error: tolerances are exceeded by {failed}")
        raise typer.Exit(GateError.exit_code)


def _pixels(faces: Path | None, crops: int, framing: Framing) -> np.ndarray:
    """uint8 RGB [crops, side_px, side_px, 3]. Raises InputError when there are fewer faces."""
    if faces is None:
        from benchmarks.pictures import made_up

        note("no --faces: the pictures are made up, and so are the flips")
        return made_up(crops, framing.side_px)
    from models.facedata import read_faces

    source = read_faces(faces)
    if len(source) < crops:
        raise InputError(f"{faces} has too few crops", got=len(source), expected=crops, do="pass a smaller --crops")
    return source.some([i * len(source) // crops for i in range(crops)]).crops(framing)


def _human(r: dict[str, Any]) -> str:
    head = (
        f"{r['crops']} crops ({r['pictures']}); threshold {r['threshold']:+.4f}, "
        f"{r['accepted_by_reference']} accepted by {r['reference']}"
    )
    rows = [
        (row["form"], row["compared_with"], f"{row['max_error']:.3g}", f"{row['mean_error']:.3g}",
         "steps" if row["unit"] != "score" else "", _db(row), str(row["flips"]), "ok" if row["passed"] else "EXCEEDED")
        for row in r["matrix"]
    ]  # fmt: skip
    text = head + "\n\n" + table(rows, ("form", "compared with", "max", "mean", "", "SQNR dB", "flips", "tolerance"))
    if "layers" not in r:
        return text
    rows_by_layer = [
        (row["layer"], row["form"], f"{row['max_error']:.3g}", f"{row['mean_error']:.3g}", _db(row))
        for row in r["layers"]
    ]
    note_ = f"layer by layer, {r['layer_crops']} crops; int8 in steps, the integer reference in units"
    return f"{text}\n\n{note_}\n" + table(rows_by_layer, ("layer", "form", "max", "mean", "SQNR dB"))


def _db(row: dict[str, Any]) -> str:
    return "exact" if row["sqnr_db"] is None else f"{row['sqnr_db']:.1f}"
