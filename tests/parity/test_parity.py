"""Every written form computes the same verifier, after being read back from disk, on 200 real crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tests_support import describe

from device.runtimes import RUNTIMES, installed_runtimes, load_verifier, precisions
from export.bundle import write_model
from export.integer import IntegerVerifier, fixed_point, requantise
from export.tolerances import FP32_ATOL, INT8_MEAN_ERROR, INT8_STEPS
from models.facedata import read_faces
from models.generator import Generator
from models.spec import DEFAULT_SPEC
from models.verifier import to_input, verify_users

CROPS = 200


@pytest.fixture(scope="module")
def crops(data: Path) -> np.ndarray:
    faces = read_faces(data / "lfw" / "view1.parquet")
    step = len(faces) // CROPS
    few = type(faces)(faces.path, faces.images[::step][:CROPS], *[[""] * CROPS] * 3, faces.digest)  # type: ignore[arg-type]
    return few.crops(DEFAULT_SPEC.framing)


@pytest.fixture(scope="module")
def torch_scores(theta: np.ndarray, crops: np.ndarray) -> np.ndarray:
    x = to_input(torch.from_numpy(crops).permute(0, 3, 1, 2))
    with torch.no_grad():
        return verify_users(DEFAULT_SPEC, torch.from_numpy(theta)[None], x[None])[0].numpy()


def file_scores(runtime: str, precision: str, theta: np.ndarray, crops: np.ndarray, folder: Path) -> np.ndarray:
    path = folder / "model"
    path.write_bytes(write_model(Generator().info.spec, theta, RUNTIMES[runtime].kind, precision))
    with load_verifier(runtime, path.read_bytes(), precision) as verifier:
        return np.array([verifier.score(crop) for crop in crops])


@pytest.mark.parametrize("runtime", [name for name in installed_runtimes() if "fp32" in precisions(name)])
def test_fp32_files_equal_torch(
    runtime: str, theta: np.ndarray, crops: np.ndarray, torch_scores: np.ndarray, tmp_path: Path
) -> None:
    scores = file_scores(runtime, "fp32", theta, crops, tmp_path)
    assert np.abs(scores - torch_scores).max() <= FP32_ATOL, describe(torch_scores, scores)
    assert torch_scores.std() > 0.05, "the verifier tells these faces apart, so equality means something"


@pytest.mark.parametrize("runtime", installed_runtimes())
def test_int8_files_equal_the_integer_reference(
    runtime: str, theta: np.ndarray, crops: np.ndarray, tmp_path: Path
) -> None:
    reference = IntegerVerifier(DEFAULT_SPEC, theta).scores(crops)
    steps = np.rint(file_scores(runtime, "int8", theta, crops, tmp_path) * 128)
    error = np.abs(steps - reference)
    largest, mean = INT8_STEPS[runtime]
    assert error.max() <= largest, describe(reference, steps)
    assert error.mean() <= mean, describe(reference, steps)


def test_int8_stays_close_to_fp32(theta: np.ndarray, crops: np.ndarray, torch_scores: np.ndarray) -> None:
    integer = IntegerVerifier(DEFAULT_SPEC, theta).scores(crops) / 128
    assert np.abs(integer - torch_scores.clip(-1, 127 / 128)).mean() <= INT8_MEAN_ERROR, describe(torch_scores, integer)


def test_fixed_point_is_exact_to_31_bits() -> None:
    for real in (1e-6, 0.003, 0.1, 0.249999999):
        multiplier, shift = fixed_point(real)
        assert 2**30 <= multiplier < 2**31
        assert multiplier / 2**shift == pytest.approx(real, rel=2**-31)
    assert fixed_point(2**-40) == (0, 62)
    for real in (0.25, 3.7, -0.1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="is not between"):
            fixed_point(real)


def test_requantise_rounds_half_up_and_saturates() -> None:
    sums = np.array([[-12, 40_000], [-4, -40_000], [4, 8], [12, -8]], np.int64)
    result = requantise(sums, [fixed_point(0.125)] * 2)
    assert result.tolist() == [[-1, 127], [0, -128], [1, 1], [2, -1]]
