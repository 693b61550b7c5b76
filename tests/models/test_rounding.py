"""Rounding a trunk for int8: whole steps, and outputs nearer to what they were than with the nearest steps."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from tests_support import share_read

from export.quantize import quantise
from models.faceset import FaceSet
from models.generator import SHIPPED
from models.h_onnx import write_generator
from models.rounding import _whole_steps, rounded
from models.spec import DEFAULT_SPEC, VerifierSpec
from models.verifier import run_layers, to_input
from tests.models.test_normalisation import faces as _faces
from tests.models.test_normalisation import settled

faces = _faces  # the fixture


def theta_of(h: bytes) -> np.ndarray:
    """One person's, with a last layer of ones."""
    base = next(numpy_helper.to_array(c) for c in onnx.load_from_string(h).graph.initializer if c.name == "base")
    return np.concatenate([base[0], np.ones(DEFAULT_SPEC.params - base.shape[1], np.float32)])


def as_int8(theta: np.ndarray, spec: VerifierSpec = DEFAULT_SPEC) -> np.ndarray:
    """θ with the trunk's weights as an int8 file holds them."""
    held = theta.copy()
    for name, layer in quantise(spec, theta).items():
        slot = spec.slots[f"{name}.weight"]
        if name != spec.head.name:
            scale = layer.weight_scale.reshape(-1, *[1] * (layer.weight.ndim - 1))
            held[slot.offset : slot.end] = (layer.weight * scale).ravel() / share_read(spec, name)
    return held


def maps(theta: np.ndarray, faces: FaceSet) -> np.ndarray:
    x = to_input(torch.from_numpy(faces.pixels).permute(0, 3, 1, 2))
    with torch.no_grad():
        return run_layers(DEFAULT_SPEC, torch.from_numpy(theta)[None], x).numpy()


def test_int8_weights_do_what_the_trunk_did(faces: FaceSet) -> None:
    """Judged on faces that nothing was rounded by."""
    plain = write_generator(settled("head", faces))
    shown = FaceSet(faces.pixels[:64], faces.templates[:64], faces.identity[:64], (), ())
    others = FaceSet(faces.pixels[64:], faces.templates[64:], faces.identity[64:], (), ())
    done = rounded(plain, DEFAULT_SPEC, shown)
    before, after = theta_of(plain), theta_of(done)
    np.testing.assert_allclose(as_int8(after), after, rtol=1e-6, atol=1e-9, err_msg="all weights are whole steps")
    real = maps(before, others)
    nearest, best = (np.std(maps(theta, others) - real) for theta in (as_int8(before), after))
    assert best < 0.7 * nearest
    assert rounded(done, DEFAULT_SPEC, shown) == done, "nothing is left to round"
    assert rounded(plain, DEFAULT_SPEC, shown) == done, "the same bytes again"


def test_a_filter_of_equal_inputs_keeps_its_sum() -> None:
    """Nine like pixels: only the sum of the rounded weights counts, and the largest weight must stay."""
    rng = np.random.default_rng(2)
    weight = torch.from_numpy(rng.uniform(-0.9, 0.9, (6, 9)).astype(np.float32))
    weight[:, 4] = 1.0
    whole = _whole_steps(weight, torch.ones(1, 9, 9, dtype=torch.float64))
    steps = whole.double() * 127
    np.testing.assert_allclose(steps, steps.round(), atol=1e-4)
    assert (whole[:, 4] == 1).all()
    np.testing.assert_allclose(whole.sum(1), weight.sum(1), atol=0.51 / 127)
    assert (whole - weight).abs().max() < 1.5 / 127


def test_no_weight_goes_beyond_what_int8_holds() -> None:
    """A faint input could mend by several steps what the others' rounding leaves; none may pass the largest weight."""
    gains = torch.tensor([0.0, 0.1, 1.0, 1.0, 1.0], dtype=torch.float64)  # of one signal, in five inputs
    faint = torch.tensor([126.0, 100.0])  # the largest weight is 127
    weight = torch.stack([torch.tensor([127.0, w, 10.45, 20.45, 30.45]) for w in faint]) / 127
    steps = (_whole_steps(weight, torch.outer(gains, gains)[None]) * 127).round()
    assert steps[:, 2:].sum(1).tolist() == [61, 61], "of 61.35, one goes up"
    assert steps[:, 1].tolist() == [127, 103], "three steps; the first only the one that is left"


@pytest.mark.parametrize("value", [0.0, 1e-30])
def test_silent_filters_are_no_error(value: float) -> None:
    weight = torch.full((2, 4), value)
    assert torch.isfinite(_whole_steps(weight, torch.zeros(1, 4, 4, dtype=torch.float64))).all()


def test_the_shipped_trunk_is_rounded() -> None:
    theta = theta_of(SHIPPED.read_bytes())
    np.testing.assert_allclose(as_int8(theta), theta, rtol=1e-6, atol=1e-9)
