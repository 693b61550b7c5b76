"""What held-out people tell of scores, written beside the generator: thresholds on photos, and the spread of visits.

`toolkit train` ends with the thresholds. `python -m benchmarks.calibration models/weights/h.onnx --faces DATA/faces`
rounds the trunk for int8 (models/rounding.py), makes strangers' scores alike anew (models/normalisation.py), sets them
again, and then lets everybody come on video (benchmarks/visits.py): what `toolkit run` weighs frames by. `--visits`
does the latter alone, in about two minutes.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.enrolling import Generated
from benchmarks.household import can_enrol, household_trials, operating_points
from benchmarks.scoring import FileScorer
from benchmarks.visits import LEVEL_FRAMES, describe, record
from models.backbone import load_backbone
from models.facemap import map_faces
from models.faceset import FaceSet, load_faces
from models.files import sha256_of
from models.generator import Generator, GeneratorInfo
from models.spec import WHOLE, VerifierSpec
from toolkit import __version__
from toolkit.atomic import write_atomically

ENROLMENT_PHOTOS = (1, 3, 5)
REPEATS = 2  # enrolments a person, of different photos: more trials from the same people


def finished(plain: bytes, generator: str, backbone: str, spec: VerifierSpec, faces: FaceSet, seed: int = 1) -> bytes:
    """The ONNX file of a generator as it ships: the trunk, where people share one, rounded for int8, and everybody's
    lookalikes alike. `plain` is the file as learned, `faces` are those it was trained on."""
    from models.normalisation import impostor_statistics, normalised
    from models.rounding import rounded

    if generator == "head":
        plain = rounded(plain, spec, faces, seed)
    return normalised(plain, impostor_statistics(plain, spec, faces, backbone, seed=seed))


def calibrate(
    path: Path, generator: str, backbone: str, spec: VerifierSpec, training: dict[str, Any], held_out: FaceSet
) -> dict[str, Any]:
    """Write the .json beside the ONNX file at `path`, thresholds set on the held-out faces. Returns its content."""
    network = load_backbone(backbone, threads=2)
    digest = sha256_of(path)
    version = f"{__version__}+{digest[:8]}"
    info = GeneratorInfo(version, generator, backbone, network.sha256, spec, training, {})
    _write(path, info)
    enrol, scorer = Generated(Generator(path)), FileScorer(spec, "int8", "litert")  # what devices run
    possible = [n for n in ENROLMENT_PHOTOS if can_enrol(held_out, n)]
    points = {n: operating_points(household_trials(held_out, enrol, scorer, n, REPEATS)) for n in possible}
    info = replace(info, operating_points=points)
    _write(path, info)
    return info.to_dict()


def calibrate_visits(path: Path, held_out: FaceSet, crops: np.ndarray) -> dict[str, Any]:
    """Write how scores of visits on video are spread into the .json beside the generator. Returns its content.

    `crops`: the held-out faces at 112 pixels, uint8 RGB [N, 112, 112, 3].
    """
    h = Generator(path)
    visits = record(held_out, crops, Generated(h), FileScorer(h.info.spec, "int8", "litert"), LEVEL_FRAMES)
    info = replace(h.info, visits=describe(visits, np.unique(visits.visitor)))
    _write(path, info)
    return info.to_dict()


def _write(path: Path, info: GeneratorInfo) -> None:
    text = json.dumps(info.to_dict(), indent=2, sort_keys=True) + "\n"
    write_atomically(path.with_suffix(".json"), text.encode(), mode=0o644)


def main() -> None:
    parser = argparse.ArgumentParser(description="Set a generator's operating points again.")
    parser.add_argument("h", type=Path, help="the generator, h.onnx beside its h.json")
    parser.add_argument("--faces", type=Path, action="append", required=True, help="the faces it was trained on")
    parser.add_argument("--visits", action="store_true", help="leave generator and thresholds as they are")
    options = parser.parse_args()
    info, paths = Generator(options.h).info, options.faces
    share = info.held_out_share
    backbone = load_backbone(info.backbone, threads=2)
    held_out, crops = (load_faces(paths, "val", framing, backbone, share) for framing in (info.spec.framing, WHOLE))
    if not options.visits:
        _set_thresholds(options.h, info, map_faces(paths, info.spec.framing, backbone, share).train, held_out)
    told = calibrate_visits(options.h, held_out, crops.pixels)
    print(json.dumps({name: told[name] for name in ("operating_points", "visits")}, indent=2))


def _set_thresholds(path: Path, info: GeneratorInfo, faces: FaceSet, held_out: FaceSet) -> None:
    from models.normalisation import as_learned

    h = finished(as_learned(path.read_bytes()), info.generator, info.backbone, info.spec, faces)
    write_atomically(path, h, mode=0o644)
    calibrate(path, info.generator, info.backbone, info.spec, info.training, held_out)


if __name__ == "__main__":
    main()
