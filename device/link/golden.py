"""The self-test: pictures that every machine makes alike, and the scores that this person's verifier must give them.

The scores are those of the integer reference (`export/integer.py`), worked out on the workstation and signed with the
bundle. A runtime rounds in its own way, by a few steps of 1/128; wrong weights, a broken runtime or a wrong byte order
are far outside that.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from export.tolerances import INT8_STEPS
from toolkit.errors import ArtifactError, GateError

if TYPE_CHECKING:
    import numpy as np

GOLDEN = "golden.json"
VECTORS = 8
GRID = 8  # coarse pixels a side: the verifier answers to coarse structure, not to pixel noise
TOLERANCE_STEPS = max(largest for largest, _ in INT8_STEPS.values())  # of any runtime


def golden_faces(input_px: int) -> np.ndarray:
    """uint8 RGB [8, H, W, 3], from SHAKE-256 alone, so that they are the same everywhere and always."""
    import numpy as np

    size = GRID * GRID * 3
    stream = hashlib.shake_256(b"hyperverify golden faces 1").digest(VECTORS * size)
    coarse = np.frombuffer(stream, np.uint8).reshape(VECTORS, GRID, GRID, 3)
    rows = np.arange(input_px) * GRID // input_px
    return np.ascontiguousarray(coarse[:, rows][:, :, rows])


def write_golden(folder: Path) -> bytes:
    """golden.json for a bundle, from the weights in its fp32 ONNX file. Raises ArtifactError, MissingError."""
    from export.integer import IntegerVerifier
    from export.manifest import MODELS, open_bundle
    from toolkit.errors import MissingError

    try:
        from export.onnx_writer import read_theta
    except ImportError as error:
        raise MissingError(f"golden scores need {error.name}", do="run `pip install 'hyperverify[enroll]'`") from error
    bundle = open_bundle(folder)
    theta = read_theta(bundle.spec, bundle.read(MODELS["onnx", "fp32"]))
    scores = IntegerVerifier(bundle.spec, theta).scores(golden_faces(bundle.spec.input_px))
    return json.dumps({"schema_version": 1, "scores_steps": [int(score) for score in scores]}).encode() + b"\n"


def self_test(folder: Path, runtime: str = "auto") -> dict[str, Any]:
    """Load the bundle as the service does; detector and verifier must answer as they should.

    Returns the runtime and the largest difference in steps. Raises GateError (wrong answers) or the reason it does not
    load.
    """
    import numpy as np

    from device.open import open_pipeline
    from export.manifest import open_bundle

    bundle = open_bundle(folder)
    expected = _read_scores(folder)
    with open_pipeline(bundle, runtime, "int8") as pipeline:
        found = [pipeline.verifier.score(face) * 128 for face in golden_faces(bundle.spec.input_px)]
        used = pipeline.verifier.runtime
        empty = pipeline.observe(np.full((480, 640, 3), 90, np.uint8))
    largest = float(np.abs(np.array(found) - np.array(expected)).max())
    if largest > TOLERANCE_STEPS or empty.reason != "no_face":
        raise GateError(
            f"{bundle.name} failed its self-test in {used}", got=f"scores up to {largest:.0f} steps off",
            expected=f"at most {TOLERANCE_STEPS}", do="enrol again, or use another runtime on the device",
        )  # fmt: skip
    return {"runtime": used, "vectors": len(expected), "largest_difference_steps": largest}


def _read_scores(folder: Path) -> list[int]:
    try:
        scores: list[int] = json.loads((folder / GOLDEN).read_bytes())["scores_steps"]
        if len(scores) != VECTORS or not all(type(score) is int for score in scores):
            raise ValueError
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ArtifactError(f"{folder / GOLDEN} is missing or damaged", do="deploy the bundle again") from error
    return scores
