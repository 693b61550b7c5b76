"""Run in the device's own environment: the whole pipeline with one runtime and nothing of the workstation.

check.py FOLDER [RUNTIME]     what prepare.py made, and the runtime that this environment has
"""

from __future__ import annotations

import importlib.util
import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from device.open import open_pipeline
from device.runtimes import installed_runtimes, open_verifier
from device.settings import Settings
from device.watch import Equipment, find_bundles
from export.manifest import open_bundle

MODULES = {"tflite-runtime": "tflite_runtime", "litert": "ai_edge_litert", "onnxruntime": "onnxruntime"}

folder, runtime = Path(sys.argv[1]), (sys.argv[2:] or ["tflite-runtime"])[0]
others = {"torch", "tensorflow", "onnx", *MODULES.values()} - {MODULES[runtime]}
if unwanted := [name for name in sorted(others) if importlib.util.find_spec(name)]:
    sys.exit(f"this is not a device environment: it has {unwanted}")
installed = installed_runtimes()
assert installed in ([runtime, "c"], [runtime]), installed  # C where there is a compiler
faces, bundle = np.load(folder / "faces.npy"), open_bundle(folder / "test.hvb")
stored = json.loads((folder / "expected.json").read_text())
expected, (largest, mean) = np.array(stored["scores"]), stored["tolerances"][runtime]


def report(form: str, scores: np.ndarray) -> np.ndarray:
    error = np.abs(scores - expected)
    print(f"{form} against the integer reference: at most {error.max():.0f} steps apart, mean {error.mean():.3f}")
    return error


def without_xnnpack() -> np.ndarray:
    from ai_edge_litert import interpreter

    plain = interpreter.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    usual = interpreter.Interpreter
    interpreter.Interpreter = partial(usual, experimental_op_resolver_type=plain)
    with open_verifier(bundle, runtime) as verifier:
        assert verifier.remark
        interpreter.Interpreter = usual
        return np.rint(np.array([verifier.score(face) for face in faces]) * 128)


with open_pipeline(bundle, "auto", "int8") as pipeline:
    assert (pipeline.verifier.runtime, pipeline.verifier.remark) == (runtime, ""), pipeline.verifier.remark
    scores = np.rint(np.array([pipeline.verifier.score(face) for face in faces]) * 128)
    assert pipeline.observe(np.full((480, 640, 3), 90, np.uint8)).reason == "no_face"
with Equipment(Settings(), find_bundles(folder / "test.hvb")) as door:
    status = door.session.update(door.pipeline.follow(np.full((480, 640, 3), 4, np.uint8)), 0.0)
    assert (status.state, status.reason) == ("searching", "dark_scene"), status
if "c" in installed:
    with open_pipeline(bundle, "c", "int8") as pipeline:
        compiled = np.array([pipeline.verifier.score(face) for face in faces]) * 128
    if not np.array_equal(compiled, expected):
        sys.exit("the C code disagrees with the integer reference")
error = report(runtime, scores)
if runtime == "litert":  # what a device gets that cannot look its processor up, for comparison
    report("litert without XNNPACK", without_xnnpack())
if error.max() > largest or error.mean() > mean or np.ptp(expected) < 5:
    sys.exit(f"{runtime} disagrees with the integer reference")
print("device-only environment: detection, alignment and verification run without the workstation's packages")
