"""A verifier that sees a whole face at once, as shipped ones did before halves: every form computes the same."""

from __future__ import annotations

from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tests_support import WHOLE_FACE

from benchmarks.graph_count import Count, count_onnx, count_profiled, count_tflite
from benchmarks.layers import trace_of
from device.alignment import align
from device.c_runtime import CompiledVerifier
from device.image import read_image
from device.open import open_pipeline
from device.runtimes import load_verifier
from export.bundle import BundleContent, write_bundle, write_model
from export.c_writer import write_c_single
from export.integer import IntegerVerifier
from export.manifest import open_bundle
from export.onnx_writer import read_theta
from export.stencil import Stencil, file_tensors
from export.tolerances import FP32_ATOL
from models.hypernetwork import HyperNetwork
from models.spec import Framing
from models.verifier import to_input, verify_users
from tests.export.test_c import COMPILERS, PATHS, STRICT, built, sanitised_scores, written


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """uint8 [24, 64, 64, 3]: smooth pictures."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (24, 16, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)


@pytest.fixture(scope="module")
def theta(pixels: np.ndarray) -> np.ndarray:
    """Of an untrained network whose normalisation knows these pictures; scores lie within int8's range."""
    torch.manual_seed(0)
    net = HyperNetwork(WHOLE_FACE, 16)
    x = to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    with torch.no_grad():
        for _ in range(40):
            net.train().trunk(x)
        theta = net.eval()(F.normalize(torch.randn(1, 16), dim=1))[0].numpy()
    score = WHOLE_FACE.slots["score.weight"]
    theta[score.offset :] *= 0.9 / np.abs(scores(theta, pixels)).max()
    return theta


def scores(theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    x = to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return verify_users(WHOLE_FACE, torch.from_numpy(theta)[None], x[None])[0].numpy()


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_runtimes_score_as_torch_and_the_reference_do(runtime: str, theta: np.ndarray, pixels: np.ndarray) -> None:
    kind = {"litert": "tflite", "onnxruntime": "onnx"}[runtime]
    with load_verifier(runtime, write_model(WHOLE_FACE, theta, kind, "fp32"), "fp32") as verifier:  # type: ignore[arg-type]
        found = [verifier.score(face) for face in pixels]
        assert not verifier.remark, "XNNPACK takes what it can"
    np.testing.assert_allclose(found, scores(theta, pixels), atol=FP32_ATOL)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("runtime", ["litert", "onnxruntime", "c"])
def test_every_layer_of_every_form(runtime: str, precision: str, theta: np.ndarray, pixels: np.ndarray) -> None:
    reference = "integer reference" if precision == "int8" else "torch"
    expected = trace_of(reference, precision, WHOLE_FACE, theta)(pixels[0])
    found = trace_of(runtime, precision, WHOLE_FACE, theta)(pixels[0])
    for layer in WHOLE_FACE.layers:
        assert found[layer.name].size == prod(WHOLE_FACE.shape(layer))
        a, b = (v[layer.name].astype(np.float64).ravel() for v in (found, expected))
        np.testing.assert_allclose(a, b, atol=1 if precision == "int8" else 1e-4, err_msg=f"{layer.name}, {runtime}")


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_compiled_c_code(precision: str, theta: np.ndarray, pixels: np.ndarray) -> None:
    compiled = CompiledVerifier(write_c_single(WHOLE_FACE, theta, precision), precision)
    found = [compiled.score(face) for face in pixels]
    if precision == "int8":
        assert found == IntegerVerifier(WHOLE_FACE, theta).scores(pixels).tolist()
    else:
        np.testing.assert_allclose(found, scores(theta, pixels), atol=FP32_ATOL)


@pytest.mark.parametrize("path", PATHS)
def test_sanitisers_find_nothing(path: str, theta: np.ndarray, pixels: np.ndarray, tmp_path: Path) -> None:
    found = sanitised_scores(tmp_path, theta, pixels, path, "100", WHOLE_FACE)
    assert found == IntegerVerifier(WHOLE_FACE, theta).scores(pixels).tolist()


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_strict_compilers_have_nothing_to_say(compiler: str, precision: str, theta: np.ndarray, tmp_path: Path) -> None:
    assert "-Werror" in STRICT
    written(tmp_path, theta, precision, WHOLE_FACE)
    for path in PATHS.values():
        assert built(tmp_path, compiler, "-O2", path, "-c").stat().st_size > WHOLE_FACE.params


def test_files_tell_the_specs_counts_and_hold_theta(theta: np.ndarray) -> None:
    onnx, tflite = (write_model(WHOLE_FACE, theta, kind, "fp32") for kind in ("onnx", "tflite"))
    expected = Count(WHOLE_FACE.params, WHOLE_FACE.macs)
    assert [count_onnx(onnx), count_profiled(onnx), count_tflite(tflite)] == [expected] * 3
    assert read_theta(WHOLE_FACE, onnx).tobytes() == theta.tobytes()


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_files_written_in_bulk_are_the_same(kind: str, precision: str, theta: np.ndarray) -> None:
    stencil = Stencil(WHOLE_FACE, kind, precision)
    assert stencil.fill(file_tensors(WHOLE_FACE, theta, precision)) == write_model(WHOLE_FACE, theta, kind, precision)


def test_a_bundle_of_one_scores_photos_and_video(
    theta: np.ndarray, photos: Path, detector_bytes: bytes, tmp_path: Path
) -> None:
    content = BundleContent("obama", WHOLE_FACE, theta, {}, 1, {"fmr1e-3": {"threshold": 0.3}}, 1, detector_bytes, {})
    write_bundle(content, tmp_path / "obama.hvb", replace=False)
    bundle = open_bundle(tmp_path / "obama.hvb")
    assert bundle.spec == WHOLE_FACE
    frame = read_image(photos / "obama.jpg")
    with open_pipeline(bundle, "litert", "int8") as pipeline:
        seen, followed = pipeline.observe(frame), pipeline.follow(frame)[0]
    for found in (seen, followed):
        assert found.crop is not None
        expected = IntegerVerifier(WHOLE_FACE, theta).scores(found.crop[None])[0] / 128
        assert found.scores["obama"] == pytest.approx(expected, abs=2 / 128)
    assert seen.face is not None
    np.testing.assert_array_equal(seen.crop, align(frame, seen.face.landmarks, Framing(64)), "all of the face")
