"""Both halves of a face seen alike: what mirror images score, what memory they take, what files cannot add."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
import torch

from device.c_runtime import CompiledVerifier
from device.runtimes import RUNTIMES, load_verifier, precisions
from export.arena import plan_arena
from export.bundle import write_model
from export.c_writer import write_c_single
from export.integer import IntegerVerifier
from export.tolerances import FP32_ATOL
from models.spec import DEFAULT_SPEC
from models.verifier import to_input, verify_users
from toolkit.errors import ArtifactError

HERE = ("litert", "onnxruntime", "c")


@pytest.mark.parametrize(("runtime", "precision"), [(r, p) for r in HERE for p in precisions(r)])
def test_a_face_and_its_mirror_image_score_the_same(
    runtime: str, precision: str, theta: np.ndarray, noise_faces: np.ndarray
) -> None:
    data = write_model(DEFAULT_SPEC, theta, RUNTIMES[runtime].kind, precision)  # type: ignore[arg-type]
    with load_verifier(runtime, data, precision) as verifier:  # type: ignore[arg-type]
        scores = [[verifier.score(np.ascontiguousarray(face)) for face in faces]
                  for faces in (noise_faces, noise_faces[:, :, ::-1])]  # fmt: skip
        assert not verifier.remark, "XNNPACK takes what it can"
    np.testing.assert_allclose(*scores, atol=0 if precision == "int8" else FP32_ATOL)
    assert len(set(scores[0])) > 4, "or nothing was compared"


def test_torch_and_the_integer_reference_see_mirror_images_alike(theta: np.ndarray, noise_faces: np.ndarray) -> None:
    reference, mirrored = IntegerVerifier(DEFAULT_SPEC, theta), np.ascontiguousarray(noise_faces[:, :, ::-1])
    np.testing.assert_array_equal(reference.scores(mirrored), reference.scores(noise_faces))
    both = torch.stack([to_input(torch.from_numpy(x).permute(0, 3, 1, 2)) for x in (noise_faces, mirrored)])
    scores = verify_users(DEFAULT_SPEC, torch.from_numpy(theta)[None].expand(2, -1), both)
    torch.testing.assert_close(scores[0], scores[1], atol=1e-5, rtol=0)


def test_a_mean_of_linear_outputs_is_refused_by_int8_writers_alone(theta: np.ndarray) -> None:
    layers = list(DEFAULT_SPEC.layers)
    before = [layer.kind for layer in layers].index("mean") - 1
    layers[before] = replace(layers[before], activation="linear")
    linear = replace(DEFAULT_SPEC, layers=tuple(layers))
    for kind in ("onnx", "tflite", "c"):
        with pytest.raises(ArtifactError, match="mean of leaky outputs"):
            write_model(linear, theta, kind, "int8")  # type: ignore[arg-type]
    compiled = CompiledVerifier(write_c_single(linear, theta, "fp32"), "fp32")
    face = np.full((64, 64, 3), 200, np.uint8)
    with load_verifier("litert", write_model(linear, theta, "tflite", "fp32"), "fp32") as verifier:
        assert verifier.score(face) == pytest.approx(compiled.score(face), abs=FP32_ATOL)


def test_the_arena_is_as_small_as_its_fullest_step_and_holds_one_half_at_a_time() -> None:
    plan = plan_arena(DEFAULT_SPEC, 1)
    assert "image" not in plan.offsets, "halves are made of the pixels themselves"
    steps = range(max(last for _, last in plan.lives.values()) + 1)
    at_once = [sum(plan.sizes[n] for n, (first, last) in plan.lives.items() if first <= step <= last) for step in steps]
    assert plan.size_bytes == max(at_once), "no layout takes less"
    halves = [layer for layer in DEFAULT_SPEC.layers if DEFAULT_SPEC.maps[layer.name] == 2]
    for layer in halves:
        maps = 2 if layer == halves[-1] else 1
        assert plan.sizes[layer.name] == maps * prod(DEFAULT_SPEC.shape(layer)[1:])
    assert plan.lives[halves[-1].name][0] == 1, "the second half is made where nothing of the first is left"
