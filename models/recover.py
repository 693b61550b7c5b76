"""A network to train on, from a generator's two files alone: for those who have h.onnx and not the run behind it.

The file holds the trunk with its normalisation folded into weights and biases. Training needs it unfolded, so it is
measured anew: the mean and the variance of each convolution's outputs over faces become its statistics, and scale and
shift are what then gives back the outputs that the file has. What was done to all scores after training is undone.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from models.generator import Generator
from models.hypernetwork import HyperNetwork
from models.normalisation import as_learned
from models.spec import Layer, VerifierSpec
from models.verifier import Trunk, convolve, parameters_of, through_layers
from toolkit.errors import UsageError

Moments = dict[str, tuple[Tensor, Tensor]]  # layer → mean and variance of its convolution's outputs, [C] each


@torch.no_grad()
def recovered(path: Path, spec: VerifierSpec, backbone: str, faces: Iterable[Tensor]) -> HyperNetwork:
    """The network of the head generator at `path`.

    `faces`: batches [N, 3, H, W] in the spec's value range, to measure on. Raises UsageError for a generator of another
    kind, form or backbone, MissingError, ArtifactError.
    """
    h = Generator(path)
    got, expected = (h.info.generator, h.info.backbone, h.info.spec.hash), ("head", backbone, spec.hash)
    if got != expected:
        what = f"{path} does not fit this configuration"
        raise UsageError(what, got=_told(*got), expected=_told(*expected))
    network = HyperNetwork(spec, h.template_dim)
    constants = {
        c.name: torch.from_numpy(numpy_helper.to_array(c).copy())
        for c in onnx.load_from_string(as_learned(path.read_bytes())).graph.initializer
    }
    theta = constants["base"]  # [1, the trunk's part of P]
    _unfold(network.trunk, theta, _measured(spec, theta, faces))
    told = h.info.training
    factor, shift = float(told.get("score_factor", 1.0)), float(told.get("score_shift", 0.0))
    constants["head.bias"][-1] -= shift
    network.head.weight.copy_(constants["head.weight"].T / factor)
    network.head.bias.copy_(constants["head.bias"] / factor)
    return network


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
        size = conv.weight.norm() / weight.norm().clamp(min=1e-12)
        assert norm.running_mean is not None
        assert norm.running_var is not None
        conv.weight.copy_(weight * size)
        norm.running_mean.copy_((mean - bias) * size)
        norm.running_var.copy_(variance * size**2)
        norm.weight.copy_(torch.sqrt(norm.running_var + norm.eps) / size)
        norm.bias.copy_(mean)
