"""`toolkit verify`: is this the enrolled person, picture by picture."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toolkit.commands.options import Bundle, Json, Point, Precision, RuntimeName, Threads
from toolkit.errors import EXIT_ACCEPTED, EXIT_REJECTED, InputError
from toolkit.output import emit, note, table

if TYPE_CHECKING:
    from device.pipeline import Pipeline


def verify(
    bundle: Bundle,
    images: Annotated[list[Path], typer.Argument(help="Photos to check.", show_default=False)],
    runtime: RuntimeName = "auto",
    precision: Precision = "int8",
    operating_point: Point = "fmr1e-3",
    threads: Threads = 1,
    json: Json = False,
) -> None:
    """Verify photos against a bundle: score, threshold and decision for each.

    Exit code 0: every photo is accepted; 10: at least one is rejected; 4: none is rejected, but at least one cannot
    be used.
    """
    from device.detector import PHOTO_SIDES_PX
    from device.open import open_pipeline
    from export.manifest import open_bundle

    opened = open_bundle(bundle)
    threshold = opened.threshold(operating_point)
    with open_pipeline(opened, runtime, precision, threads, PHOTO_SIDES_PX) as pipeline:
        rows = [_judge(pipeline, image, threshold) for image in images]
        used = pipeline.verifier.runtime
        if pipeline.verifier.remark:
            note(pipeline.verifier.remark)
    result = {
        "bundle": str(bundle),
        "name": opened.name,
        "runtime": used,
        "precision": precision,
        "operating_point": operating_point,
        "threshold": threshold,
        "images": rows,
    }
    emit(result, json, lambda: _human(rows, threshold))
    decisions = {row["decision"] for row in rows}
    if "rejected" in decisions:
        raise typer.Exit(EXIT_REJECTED)
    raise typer.Exit(InputError.exit_code if "unusable" in decisions else EXIT_ACCEPTED)


def _judge(pipeline: Pipeline, image: Path, threshold: float) -> dict[str, Any]:
    from device.image import read_image
    from device.quality import ADVICE

    row: dict[str, Any] = {"file": str(image), "decision": "unusable", "score": None, "reason": None, "message": None}
    try:
        seen = pipeline.observe(read_image(image), alone=True)
    except InputError as error:
        return row | {"reason": "unreadable", "message": str(error)}
    if seen.score is None:
        return row | {"reason": seen.reason, "message": ADVICE[seen.reason]}
    return row | {"decision": "accepted" if seen.score >= threshold else "rejected", "score": round(seen.score, 6)}


def _human(rows: list[dict[str, Any]], threshold: float) -> str:
    lines = []
    for row in rows:
        score = "" if row["score"] is None else f"{row['score']:+.3f}"
        lines.append((row["file"], row["decision"], score, row["message"] or ""))
    return table(lines, ("photo", "decision", "score", f"threshold {threshold:+.3f}"))
