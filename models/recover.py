"""A network to train on, from a generator's two files alone: for those who have h.onnx and not the run behind it.

The file holds the trunk with its normalisation folded into weights and biases. Training needs it unfolded, so it is
measured anew: the mean and the variance of each convolution's outputs over faces become its statistics, and scale and
shift are what then gives back the outputs that the file has. What was done to channels and to all scores after training
is undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from models.generator import Generator
from models.grow import Weights, grown
from models.hypernetwork import HyperNetwork
from models.normalisation import as_learned
from models.ranges import leaky_layers, rescale
from models.spec import Layer, VerifierSpec
from models.verifier import Trunk, convolve, parameters_of, through_layers
from toolkit.errors import UsageError

Moments = dict[str, tuple[Tensor, Tensor]]  # layer → mean and variance of its convolution's outputs, [C] each


@torch.no_grad()
def recovered(
    path: Path, spec: VerifierSpec, backbone: str, faces: Iterable[Tensor], grow: int | None = None
) -> HyperNetwork:
    """The network of the head generator at `path`.

    `faces`: batches [N, 3, H, W] in the spec's value range, to measure on. With a seed to `grow` with, its form may be
    another than `spec` (`models/grow.py`). Raises UsageError for a generator of another kind, form or backbone,
    MissingError, ArtifactError.
    """
    h = Generator(path)
    before = h.info.spec
    got, expected = (h.info.generator, h.info.backbone, before.hash), ("head", backbone, spec.hash)
    if got[:2] != expected[:2] or (grow is None and before != spec):
        what = f"{path} does not fit this configuration"
        do = "set the same verifier, or take over what fits with --grow" if got[:2] == expected[:2] else ""
        raise UsageError(what, got=_told(*got), expected=_told(*expected), do=do)
    weights = _learned(path, h.info.training)
    if grow is not None:
        weights = grown(weights, before, spec, grow)
    network = HyperNetwork(spec, h.template_dim)
    _unfold(network.trunk, weights.trunk, _measured(spec, weights.trunk, faces))
    network.head.weight.copy_(weights.head)
    network.head.bias.copy_(weights.bias)
    factors = h.info.training.get("range_factors", {})
    for layer, reader in leaky_layers(spec):
        rescale(network, layer, reader, torch.full((layer.out_channels,), 1 / float(factors.get(layer.name, 1.0))))
    return network


def _learned(path: Path, told: dict[str, Any]) -> Weights:
    """What stands in the generator's file, before lookalikes and all scores were shifted and stretched."""
    constants = {
        c.name: torch.from_numpy(numpy_helper.to_array(c).copy())
        for c in onnx.load_from_string(as_learned(path.read_bytes())).graph.initializer
    }
    factor, shift = float(told.get("score_factor", 1.0)), float(told.get("score_shift", 0.0))
    bias = constants["head.bias"]  # [F + 1]
    bias[-1] -= shift
    return Weights(constants["base"], constants["head.weight"].T / factor, bias / factor)


def _told(generator: str, backbone: str, spec: str) -> str:
    return f"a generator {generator} of {backbone} for the spec {spec[:8]}"


def _measured(spec: VerifierSpec, theta: Tensor, faces: Iterable[Tensor]) -> Moments:
    """Moments of what the folded convolutions, biases included, make of the faces; θ [1, P]."""
    sums = {layer.name: np.zeros((2, layer.out_channels)) for layer in spec.trunk}
    counts = dict.fromkeys(sums, 0)

    def weigh(layer: Layer, x: Tensor) -> Tensor:
        output = convolve(spec, theta, layer, x)
        values = output.double().transpose(0, 1).flatten(1)  # [C, values of a channel]
        sums[layer.name] += np.stack([values.sum(1).numpy(), values.square().sum(1).numpy()])
        counts[layer.name] += values.shape[1]
        return output

    for x in faces:
        through_layers(spec, weigh, x)
    moments: Moments = {}
    for name, (total, squares) in sums.items():
        mean = total / counts[name]
        variance = np.maximum(squares / counts[name] - mean**2, 0)
        moments[name] = torch.from_numpy(mean).float(), torch.from_numpy(variance).float()
    return moments


def _unfold(trunk: Trunk, theta: Tensor, moments: Moments) -> None:
    """Weights as large as the fresh ones were, which learning rates are for, and a normalisation that gives back θ."""
    for layer in trunk.spec.trunk:
        conv, norm, (mean, variance) = trunk.conv(layer), trunk.norm(layer), moments[layer.name]
        weight, bias = (part[0] for part in parameters_of(trunk.spec, theta, layer))
        each = weight.flatten(1).norm(dim=1)  # [C]: filters are of one size while they are trained, not once folded
        size = conv.weight.norm() / len(each) ** 0.5 / each.clamp(min=1e-12)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight.copy_(weight * size[:, None, None, None])
        norm.running_mean.copy_((mean - bias) * size)
        norm.running_var.copy_(variance * size**2)
        norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps) / size)
        norm.bias.copy_(mean)
