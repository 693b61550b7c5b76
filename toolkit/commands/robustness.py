"""`toolkit eval robustness`: what blur, darkness, compression, distance, covers and pose do to the error rates."""

from __future__ import annotations

from typing import Any

from toolkit.commands.evaluate_tables import percent
from toolkit.commands.evaluating import (
    EvalPrecision,
    PairList,
    check_one_source,
    check_pairs,
    load,
    prepare,
    provenance,
)
from toolkit.commands.options import Faces, GeneratorFile, Json, RuntimeName, Threads
from toolkit.output import emit, table


def robustness(
    faces: Faces,
    pairs: PairList = None,
    precision: EvalPrecision = "int8",
    runtime: RuntimeName = "auto",
    generator: GeneratorFile = None,
    threads: Threads = 2,
    json: Json = False,
) -> None:
    """Errors when shown photos get worse: blur, dark, JPEG, low resolution, occlusion, in four steps each, and pose.

    The enrolled photo stays as it is, and so do the thresholds, set on the unchanged impostor pairs. Beside the errors:
    how many photos the device's own quality check would refuse.
    """
    check_pairs(faces, pairs)
    check_one_source(faces)
    h, way, scorer = prepare(generator, precision, runtime, None)
    from benchmarks.protocols import pairs_of_pack, read_pairs
    from benchmarks.robustness import evaluate_robustness
    from device.detector import FaceDetector
    from models.facedata import read_faces
    from models.files import find_model
    from models.fold import detector_file

    detector = FaceDetector(detector_file(find_model("yunet")))
    loaded = load(h, faces, "", None, threads)
    protocol = read_pairs(pairs, loaded) if pairs else pairs_of_pack(faces)
    summary = evaluate_robustness(loaded, read_faces(faces).crops(), protocol, way, scorer, detector)
    result = {**provenance("robustness", h, way, scorer, faces), "pairs": (pairs or faces).name, **summary}
    emit(result, json, lambda: _table(result))


def _table(result: dict[str, Any]) -> str:
    def row(name: str, level: str, found: dict[str, Any]) -> tuple[str, ...]:
        rates = [percent(at[kind]) for at in found["at"].values() for kind in ("fnmr", "fmr") if kind in at]
        cells = [f"{found['eer']:.2%}", percent(found["refused"])] if "eer" in found else ["–", "–"]
        return (name, level, *cells, *rates, *[""] * (2 * len(result["thresholds"]) - len(rates)))

    rows = [row("unchanged", "", result["unchanged"])]
    for name, condition in result["conditions"].items():
        rows += [row(name, f"{found['level']:g}", found) for found in condition["levels"]]
    heads = [f"{kind} at {name}" for name in result["thresholds"] for kind in ("FNMR", "FMR")]
    text = table(rows, ("shown photo", "level", "EER", "refused by quality", *heads))
    turned = [(f"{r['low']:g} to {r['high']:g}", *(percent(at["fnmr"]) for at in r["at"].values()))
              for r in result["pose"]["ranges"]]  # fmt: skip
    return f"{text}\n\n" + table(turned, ("turned by", *(f"FNMR at {name}" for name in result["thresholds"])))
