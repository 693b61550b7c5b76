"""`toolkit eval photographs`: raw photographs through the whole pipeline, against the clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from toolkit.commands.evaluate_tables import percent
from toolkit.commands.evaluating import BackboneFile, EvalPrecision, generator_facts, prepare
from toolkit.commands.options import GeneratorFile, Json, Point, RuntimeName
from toolkit.errors import UsageError
from toolkit.output import emit, table


def photographs(
    folder: Annotated[Path, typer.Argument(help="One sub-folder a person, of raw photos.", show_default=False)],
    enrol: Annotated[int, typer.Option("--enrol", min=1, help="Each person's first photos, to enrol from.")] = 3,
    within: Annotated[str, typer.Option("--within", help="Time limits in ms, with commas.")] = "100,500,1000",
    operating_point: Point = "fmr1e-3",
    precision: EvalPrecision = "int8",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    backbone: BackboneFile = None,
    json: Json = False,
) -> None:
    """Failure to enrol, failure to acquire, and decisions within time limits, on one core: every failure rejects.

    Each person is enrolled as `toolkit enroll` does, at the shipped threshold; all their other photos claim to be
    everybody once, timed from the file on: decode, detect, check, align, verify.
    """
    limits = _limits(within)
    h, way, scorer = prepare(generator, precision, runtime, None)
    from benchmarks.photographs import evaluate_photographs
    from benchmarks.photographs import photographs as find
    from models.backbone import load_backbone
    from models.enrolment import Enroller
    from models.files import find_model
    from models.fold import detector_file

    _, points = h.info.points_for(enrol)
    if operating_point not in points:
        raise UsageError("unknown operating point", got=operating_point, expected=", ".join(points))
    people = find(folder, enrol)
    detector = detector_file(find_model("yunet"))
    enroller = Enroller(detector, load_backbone(h.info.backbone, backbone), h.info.spec.framing)
    summary = evaluate_photographs(people, enrol, h, enroller, detector, scorer, operating_point, limits)
    facts = generator_facts("photographs", h, way, scorer)
    result = {**facts, "faces": folder.name, **summary}
    emit(result, json, lambda: _table(result))


def _limits(text: str) -> list[float]:
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and int(word) > 0 for word in words):
        raise UsageError("--within is not a list of milliseconds", got=text, expected="numbers such as 100,500,1000")
    return [float(word) for word in words]


def _table(r: dict[str, Any]) -> str:
    lines = []
    for name, key in (("failure to enrol", "failure_to_enrol"), ("failure to acquire", "failure_to_acquire")):
        reasons = ", ".join(f"{reason} {n}" for reason, n in r[key]["reasons"].items())
        lines.append(f"{name}: {percent(r[key])} of {r[key]['trials']}" + (f" ({reasons})" if reasons else ""))
    rows = [
        (f"{limit} ms", *(percent(found[key]) for key in ("false_rejection", "false_acceptance", "late")))
        for limit, found in r["within_ms"].items()
    ]
    whole = r["times"]["photograph to decision"]
    lines.append(f"photograph to decision: p50 {whole['p50_ms']:.1f} ms, p99 {whole['p99_ms']:.1f} ms")
    head = ("within", f"FRR at {r['operating_point']}", "FAR", "photos too late")
    return "\n".join(lines) + "\n\n" + table(rows, head)
