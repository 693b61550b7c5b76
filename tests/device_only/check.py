"""Run in the device's own environment: the whole pipeline with tflite-runtime and nothing of the workstation."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np

from device.open import open_pipeline
from device.runtimes import installed_runtimes
from device.settings import Settings
from device.watch import Equipment, find_bundles
from export.manifest import open_bundle

folder = Path(sys.argv[1])
unwanted = [n for n in ("torch", "tensorflow", "onnx", "onnxruntime", "ai_edge_litert") if importlib.util.find_spec(n)]
if unwanted:
    sys.exit(f"this is not a device environment: it has {unwanted}")
assert installed_runtimes() == ["tflite-runtime", "c"], installed_runtimes()
faces = np.load(folder / "faces.npy")
stored = json.loads((folder / "expected.json").read_text())
expected, (largest, mean) = np.array(stored["scores"]), stored["tolerance"]
with open_pipeline(open_bundle(folder / "test.hvb"), "auto", "int8") as pipeline:
    scores = np.rint(np.array([pipeline.verifier.score(face) for face in faces]) * 128)
    assert pipeline.observe(np.full((480, 640, 3), 90, np.uint8)).reason == "no_face"
with Equipment(Settings(), find_bundles(folder / "test.hvb")) as door:
    status = door.session.update(door.pipeline.follow(np.full((480, 640, 3), 4, np.uint8)), 0.0)
    assert (status.state, status.reason) == ("searching", "dark_scene"), status
with open_pipeline(open_bundle(folder / "test.hvb"), "c", "int8") as pipeline:
    compiled = np.array([pipeline.verifier.score(face) for face in faces]) * 128
if not np.array_equal(compiled, expected):
    sys.exit("the C code disagrees with the integer reference")
error = np.abs(scores - expected)
print(f"tflite-runtime against the integer reference: at most {error.max():.0f} steps apart, mean {error.mean():.3f}")
if error.max() > largest or error.mean() > mean or np.ptp(expected) < 5:
    sys.exit("tflite-runtime disagrees with the integer reference")
print("device-only environment: detection, alignment and verification run without the workstation's packages")
