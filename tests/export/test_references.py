"""The writers against what others write for the same network: PyTorch's ONNX exporter, TensorFlow's converter."""

from __future__ import annotations

import io
import json
import os
import subprocess
import warnings
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tests_support import describe

from device.runtimes import load_verifier
from export.bundle import write_model
from export.tolerances import FP32_ATOL, INT8_MEAN_ERROR
from models.spec import DEFAULT_SPEC
from models.verifier import verify_users

ROOT = Path(__file__).parents[2]


class Verifier(torch.nn.Module):
    """One person's f, as PyTorch sees it."""

    def __init__(self, theta: np.ndarray):
        super().__init__()
        self.theta = torch.nn.Parameter(torch.from_numpy(theta)[None], requires_grad=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return verify_users(DEFAULT_SPEC, self.theta, image[None])[0][:, None]


def scores_of(runtime: str, model: bytes, precision: str, faces: np.ndarray) -> np.ndarray:
    with load_verifier(runtime, model, precision) as verifier:
        return np.array([verifier.score(face) for face in faces])


def test_pytorchs_exporter_writes_the_same_network(theta: np.ndarray, noise_faces: np.ndarray) -> None:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # this exporter, which needs no further package, is called the old one
        example = torch.zeros(1, 3, DEFAULT_SPEC.input_px, DEFAULT_SPEC.input_px)
        torch.onnx.export(Verifier(theta).eval(), (example,), file, input_names=["image"], dynamo=False)
    theirs = file.getvalue()
    onnx.checker.check_model(onnx.load_from_string(theirs), full_check=True)
    expected = scores_of("onnxruntime", theirs, "fp32", noise_faces)
    found = scores_of("onnxruntime", write_model(DEFAULT_SPEC, theta, "onnx", "fp32"), "fp32", noise_faces)
    assert np.ptp(expected) > 0.1
    assert np.abs(found - expected).max() <= FP32_ATOL, describe(expected, found)


def test_tensorflows_converter_writes_the_same_network(
    theta: np.ndarray, noise_faces: np.ndarray, tmp_path: Path
) -> None:
    """Its int8 file has scales of its own, from these pictures: it may differ from fp32 as far as ours may."""
    python = os.environ.get("HYPERVERIFY_TENSORFLOW")
    if not python:
        pytest.skip("HYPERVERIFY_TENSORFLOW names no Python that has TensorFlow: run `make test-tensorflow`")
    (tmp_path / "spec.json").write_text(json.dumps(DEFAULT_SPEC.to_dict()))
    np.save(tmp_path / "theta.npy", theta)
    np.save(tmp_path / "faces.npy", noise_faces)
    command = [python, str(ROOT / "tests/tensorflow_only/convert.py"), str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs = {p: scores_of("litert", (tmp_path / f"{p}.tflite").read_bytes(), "fp32", noise_faces)
              for p in ("fp32", "int8")}  # fmt: skip
    ours = {p: scores_of("litert", write_model(DEFAULT_SPEC, theta, "tflite", p), p, noise_faces)
            for p in ("fp32", "int8")}  # fmt: skip
    assert np.ptp(theirs["fp32"]) > 0.1
    assert np.abs(ours["fp32"] - theirs["fp32"]).max() <= FP32_ATOL, describe(theirs["fp32"], ours["fp32"])
    for scores in (theirs, ours):
        assert np.abs(scores["int8"] - scores["fp32"]).mean() <= INT8_MEAN_ERROR, describe(*scores.values())
