"""Thresholds for the named operating points, from held-out people, written beside the generator."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.enrolling import Generated
from benchmarks.household import can_enrol, household_trials, operating_points
from benchmarks.scoring import FileScorer
from models.backbone import load_backbone
from models.faceset import FaceSet
from models.files import sha256_of
from models.generator import Generator, GeneratorInfo
from models.spec import VerifierSpec
from toolkit import __version__
from toolkit.atomic import write_atomically

ENROLMENT_PHOTOS = (1, 3, 5)
REPEATS = 2  # enrolments a person, of different photos: more trials from the same people


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


def _write(path: Path, info: GeneratorInfo) -> None:
    text = json.dumps(info.to_dict(), indent=2, sort_keys=True) + "\n"
    write_atomically(path.with_suffix(".json"), text.encode(), mode=0o644)
