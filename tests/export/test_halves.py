"""A verifier that sees both halves of a face: every form computes the same, of a face and of its mirror image."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks.graph_count import Count, count_onnx, count_profiled, count_tflite
from benchmarks.layers import trace_of
from device.c_runtime import CompiledVerifier
from device.runtimes import load_verifier
from export.arena import plan_arena
from export.bundle import write_model
from export.c_writer import write_c_single
from export.integer import IntegerVerifier
from export.onnx_writer import read_theta
from export.stencil import Stencil, file_tensors
from export.tolerances import FP32_ATOL
from models.config import read_config
from models.generator import SHIPPED, Generator
from models.hypernetwork import HyperNetwork
from models.spec import DEFAULT_SPEC, MAX_FLOPS, MAX_PARAMS
from models.verifier import to_input, verify_users
from tests.export.test_c import COMPILERS, PATHS, STRICT, built, sanitised_scores, written
from toolkit.errors import ArtifactError

PREVIEW = SHIPPED.with_name("halves.onnx")
SPEC = read_config(Path("configs/halves.toml")).verifier


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """uint8 [24, 64, 64, 3]: smooth pictures, none its own mirror image."""
    rng = np.random.default_rng(0)
    return rng.integers(0, 256, (24, 16, 16, 3), np.uint8).repeat(4, 1).repeat(4, 2)


@pytest.fixture(scope="module")
def theta(pixels: np.ndarray) -> np.ndarray:
    """Of an untrained network whose normalisation knows these pictures; scores lie within int8's range."""
    torch.manual_seed(0)
    net = HyperNetwork(SPEC, 16)
    x = to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    with torch.no_grad():
        for _ in range(40):
            net.train().trunk(x)
        theta = net.eval()(F.normalize(torch.randn(1, 16), dim=1))[0].numpy()
    score = SPEC.slots["score.weight"]
    theta[score.offset :] *= 0.9 / np.abs(scores(theta, pixels)).max()
    return theta


def scores(theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    x = to_input(torch.from_numpy(pixels).permute(0, 3, 1, 2))
    return verify_users(SPEC, torch.from_numpy(theta)[None], x[None])[0].numpy()


def test_it_keeps_to_the_papers_budget() -> None:
    assert SPEC.layers[0].kind == "halves"
    assert SPEC.params <= MAX_PARAMS
    assert SPEC.flops <= MAX_FLOPS


def test_a_face_and_its_mirror_image_score_the_same(theta: np.ndarray, pixels: np.ndarray) -> None:
    mirrored = np.ascontiguousarray(pixels[:, :, ::-1])
    np.testing.assert_allclose(scores(theta, mirrored), scores(theta, pixels), atol=1e-5)
    reference = IntegerVerifier(SPEC, theta)
    np.testing.assert_array_equal(reference.scores(mirrored), reference.scores(pixels))
    assert len(set(reference.scores(pixels).tolist())) > 10, "or nothing was compared"


@pytest.mark.parametrize("runtime", ["litert", "onnxruntime"])
def test_runtimes_score_as_torch_and_the_reference_do(runtime: str, theta: np.ndarray, pixels: np.ndarray) -> None:
    kind = {"litert": "tflite", "onnxruntime": "onnx"}[runtime]
    with load_verifier(runtime, write_model(SPEC, theta, kind, "fp32"), "fp32") as verifier:  # type: ignore[arg-type]
        found = [verifier.score(face) for face in pixels]
        assert not verifier.remark, "XNNPACK takes what it can"
    np.testing.assert_allclose(found, scores(theta, pixels), atol=FP32_ATOL)


@pytest.mark.parametrize("precision", ["int8", "fp32"])
@pytest.mark.parametrize("runtime", ["litert", "onnxruntime", "c"])
def test_every_layer_of_every_form(runtime: str, precision: str, theta: np.ndarray, pixels: np.ndarray) -> None:
    reference = "integer reference" if precision == "int8" else "torch"
    expected = trace_of(reference, precision, SPEC, theta)(pixels[0])
    found = trace_of(runtime, precision, SPEC, theta)(pixels[0])
    for layer in SPEC.layers:
        assert found[layer.name].size == prod(SPEC.shape(layer))
        a, b = (v[layer.name].astype(np.float64).ravel() for v in (found, expected))
        np.testing.assert_allclose(a, b, atol=1 if precision == "int8" else 1e-4, err_msg=f"{layer.name}, {runtime}")


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_the_compiled_c_code(precision: str, theta: np.ndarray, pixels: np.ndarray) -> None:
    compiled = CompiledVerifier(write_c_single(SPEC, theta, precision), precision)
    found = [compiled.score(face) for face in pixels]
    if precision == "int8":
        assert found == IntegerVerifier(SPEC, theta).scores(pixels).tolist()
    else:
        np.testing.assert_allclose(found, scores(theta, pixels), atol=FP32_ATOL)


@pytest.mark.parametrize("path", PATHS)
def test_sanitisers_find_nothing(path: str, theta: np.ndarray, pixels: np.ndarray, tmp_path: Path) -> None:
    found = sanitised_scores(tmp_path, theta, pixels, path, "100", SPEC)
    assert found == IntegerVerifier(SPEC, theta).scores(pixels).tolist()


@pytest.mark.parametrize("compiler", COMPILERS)
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_strict_compilers_have_nothing_to_say(compiler: str, precision: str, theta: np.ndarray, tmp_path: Path) -> None:
    assert "-Werror" in STRICT
    written(tmp_path, theta, precision, SPEC)
    for path in PATHS.values():
        assert built(tmp_path, compiler, "-O2", path, "-c").stat().st_size > SPEC.params


def test_files_tell_the_specs_counts_and_hold_theta(theta: np.ndarray) -> None:
    onnx, tflite = (write_model(SPEC, theta, kind, "fp32") for kind in ("onnx", "tflite"))
    expected = Count(SPEC.params, SPEC.macs)
    assert [count_onnx(onnx), count_profiled(onnx), count_tflite(tflite)] == [expected] * 3
    assert read_theta(SPEC, onnx).tobytes() == theta.tobytes()


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_files_written_in_bulk_are_the_same(kind: str, precision: str, theta: np.ndarray) -> None:
    stencil = Stencil(SPEC, kind, precision)
    assert stencil.fill(file_tensors(SPEC, theta, precision)) == write_model(SPEC, theta, kind, precision)


def test_a_mean_of_linear_outputs_is_refused_by_int8_writers_alone(theta: np.ndarray) -> None:
    *layers, features, mean, score = SPEC.layers
    linear = replace(SPEC, layers=(*layers, replace(features, activation="linear"), mean, score))
    for kind in ("onnx", "tflite", "c"):
        with pytest.raises(ArtifactError, match="mean of leaky outputs"):
            write_model(linear, theta, kind, "int8")  # type: ignore[arg-type]
    compiled = CompiledVerifier(write_c_single(linear, theta, "fp32"), "fp32")
    face = np.full((64, 64, 3), 200, np.uint8)
    with load_verifier("litert", write_model(linear, theta, "tflite", "fp32"), "fp32") as verifier:
        assert verifier.score(face) == pytest.approx(compiled.score(face), abs=FP32_ATOL)


def test_the_preview_is_of_this_form_and_its_int8_scores_are_near(noise_faces: np.ndarray) -> None:
    h = Generator(PREVIEW)
    assert h.info.spec == SPEC
    assert sum(file.stat().st_size for file in PREVIEW.parent.iterdir()) <= 16_000_000
    template = np.random.default_rng(7).standard_normal((1, h.template_dim)).astype(np.float32)
    theta = h.weights(template / np.linalg.norm(template))[0]
    real = scores(theta, noise_faces).clip(-1, 127 / 128)
    error = IntegerVerifier(SPEC, theta).scores(noise_faces) / 128 - real
    assert np.abs(error).max() < 0.15, "pictures of noise; of faces, `toolkit parity` tells"
    assert np.ptp(real) > 0.2


def test_the_arena_is_as_small_as_a_whole_faces() -> None:
    plan = plan_arena(SPEC, 1)
    assert "image" not in plan.offsets, "halves are made of the pixels themselves"
    assert plan.size_bytes <= plan_arena(DEFAULT_SPEC, 1).size_bytes
