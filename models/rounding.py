"""Round a trunk's weights to those that int8 files hold, with all weights of a filter in view.

Rounding each weight to the nearest step lets the errors of a filter add up: the pixels that one of the first layer's
filters reads are nearly alike, so it is the sum of its 27 errors that counts. Here a weight goes a step further up or
down where that brings the filter's output over faces nearer to what it was. In aim this is "Up or Down? Adaptive
Rounding for Post-Training Quantization" (Nagel et al., ICML 2020); so few weights need no gradient, only the best step
again and again.

It is done once, when a generator is written: all people share the trunk. Exporters then find weights that are whole
steps already, so that fp32 and int8 files hold the same ones, and no face is needed at enrolment.

This is the project's own step; the paper is not known to have one.

Letters: N faces, C output channels, K weights of a filter, G filters that read inputs of their own: C, or one for all.
"""

from __future__ import annotations

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import numpy_helper
from torch import Tensor

from models.faceset import FaceSet
from models.spec import Layer, VerifierSpec
from models.verifier import convolve, parameters_of, through_layers, to_input

FACES, BATCH = 2048, 128
MOST = 127  # steps of the largest weight of a filter, which int8 files scale by
TOO_LITTLE = 1e-9  # of the inputs' mean power: a gain that is rounding itself
DAMPING = 1e-4  # of the inputs' mean power, for inputs that hardly vary


@torch.no_grad()
def rounded(h: bytes, spec: VerifierSpec, faces: FaceSet, seed: int = 1) -> bytes:
    """The ONNX file of a `head` generator, whose trunk all people share, with that trunk's weights in whole steps.

    `faces` show what each layer reads.
    """
    model = onnx.load_from_string(h)
    constants = {constant.name: constant for constant in model.graph.initializer}
    theta = torch.from_numpy(numpy_helper.to_array(constants["base"]).copy())  # [1, the trunk's part of P]
    rows = np.sort(np.random.default_rng(seed).permutation(len(faces))[:FACES])
    moments = _moments_of_inputs(spec, theta, faces.pixels, rows)
    for layer in spec.trunk:
        weight = parameters_of(spec, theta, layer)[0][0]  # a view
        weight.copy_(_whole_steps(weight.flatten(1), moments[layer.name]).view_as(weight))
    constants["base"].CopyFrom(numpy_helper.from_array(theta.numpy(), "base"))
    return bytes(model.SerializeToString(deterministic=True))


def _moments_of_inputs(spec: VerifierSpec, theta: Tensor, pixels: np.ndarray, rows: np.ndarray) -> dict[str, Tensor]:
    """Layer → sum of x xᵀ over all places and faces, where x are the K inputs of a filter: float64 [G, K, K]."""
    moments: dict[str, Tensor] = {}

    def weigh(layer: Layer, x: Tensor) -> Tensor:
        read = _read(layer, x).double()
        moments[layer.name] = moments.get(layer.name, 0) + read @ read.mT
        return convolve(spec, theta, layer, x)

    for start in range(0, len(rows), BATCH):
        shown = torch.from_numpy(pixels[rows[start : start + BATCH]])
        through_layers(spec, weigh, to_input(shown.permute(0, 3, 1, 2)))
    return moments


def _read(layer: Layer, x: Tensor) -> Tensor:
    """What each filter reads of maps x [N, C, H, W]: [G, K, places]."""
    alone = layer.kind == "depthwise"
    maps = x.transpose(0, 1).unsqueeze(2) if alone else x[None]  # [G, N, inputs, H, W]
    patches = F.unfold(maps.flatten(0, 1), layer.kernel, padding=layer.padding, stride=layer.stride)
    return patches.reshape(*maps.shape[:2], *patches.shape[1:]).transpose(1, 2).flatten(2)


def _whole_steps(weight: Tensor, moments: Tensor) -> Tensor:
    """Filters [C, K], each in whole steps of a MOST-th of its largest weight, from the `moments` [G, K, K] of what
    they read. Weights as large as the largest stay, so that the steps do."""
    step = weight.abs().amax(1, keepdim=True).double() / MOST
    step[step == 0] = 1.0
    moments, power = _damped(moments, len(weight))
    exact = weight.double() / step
    whole = exact.round()
    largest = whole.abs() >= MOST
    while True:
        # What one step adds to the squared error of the output: its own power, less twice what it undoes.
        slope = torch.einsum("ck,ckl->cl", whole - exact, moments)
        beyond = (whole - slope.sign()).abs() > MOST
        change, at = (power - 2 * slope.abs()).masked_fill(largest | beyond, 0.0).min(1)
        better = torch.nonzero(change < -TOO_LITTLE * power.mean(1))[:, 0]
        if not len(better):
            return (whole * step).float()
        whole[better, at[better]] -= slope[better, at[better]].sign()


def _damped(moments: Tensor, filters: int) -> tuple[Tensor, Tensor]:
    """[G, K, K] to one matrix for each of the filters, [C, K, K], and their diagonals [C, K]."""
    mean = torch.diagonal(moments, dim1=1, dim2=2).mean(1)  # [G]
    damped = moments + DAMPING * mean[:, None, None] * torch.eye(moments.shape[-1])
    damped = damped.expand(filters, -1, -1)
    return damped, torch.diagonal(damped, dim1=1, dim2=2)
