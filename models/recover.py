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
from torch import Tensor, nn

from models.generator import Generator
from models.hypernetwork import HyperNetwork
from models.normalisation import as_learned
from models.spec import Layer, VerifierSpec
from models.verifier import Trunk
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
    _take(network.trunk, constants["base"][0])
    _unfold(network.trunk, _measured(network.trunk, faces), Trunk(spec))
    factor, shift = (float(h.info.training.get(name, neutral)) for name, neutral in (("score_factor", 1.0),
                                                                                     ("score_shift", 0.0)))  # fmt: skip
    constants["head.bias"][-1] -= shift
    network.head.weight.copy_(constants["head.weight"].T / factor)
    network.head.bias.copy_(constants["head.bias"] / factor)
    return network


def _told(generator: str, backbone: str, spec: str) -> str:
    return f"a generator {generator} of {backbone} for the spec {spec[:8]}"


def _take(trunk: Trunk, theta: Tensor) -> None:
    """The folded weights as they are, behind a normalisation that only adds the biases."""
    for layer in _weighted(trunk):
        norm, weight, bias = trunk.norm(layer), *_parameters(trunk, theta, layer)
        trunk.conv(layer).weight.copy_(weight)
        _settle(norm, torch.zeros_like(bias), torch.full_like(bias, 1 - norm.eps), torch.ones_like(bias), bias)


def _measured(trunk: Trunk, faces: Iterable[Tensor]) -> Moments:
    """What the trunk's convolutions make of the faces."""
    sums = {layer.name: np.zeros((2, layer.out_channels)) for layer in _weighted(trunk)}
    counts = dict.fromkeys(sums, 0)

    def add(name: str, output: Tensor) -> None:
        values = output.double().transpose(0, 1).flatten(1)  # [C, values of a channel]
        sums[name] += np.stack([values.sum(1).numpy(), values.square().sum(1).numpy()])
        counts[name] += values.shape[1]

    hooks = [
        trunk.conv(layer).register_forward_hook(lambda _m, _i, output, name=layer.name: add(name, output))
        for layer in _weighted(trunk)
    ]
    trunk.eval()
    for x in faces:
        trunk.forward(x)
    for hook in hooks:
        hook.remove()
    moments: Moments = {}
    for name, (total, squares) in sums.items():
        mean = total / max(counts[name], 1)
        variance = np.maximum(squares / max(counts[name], 1) - mean**2, 0)
        moments[name] = torch.from_numpy(mean).float(), torch.from_numpy(variance).float()
    return moments


def _unfold(trunk: Trunk, moments: Moments, fresh: Trunk) -> None:
    """Weights as large as those of `fresh`, which learning rates are for, and a normalisation that changes nothing."""
    for layer in _weighted(trunk):
        conv, norm, (mean, variance) = trunk.conv(layer), trunk.norm(layer), moments[layer.name]
        size = fresh.conv(layer).weight.norm() / conv.weight.norm().clamp(min=1e-12)
        conv.weight.mul_(size)
        variance = variance * size**2
        _settle(norm, mean * size, variance, torch.sqrt(variance + norm.eps) / size, norm.bias + mean)


def _settle(norm: nn.BatchNorm2d, mean: Tensor, variance: Tensor, scale: Tensor, shift: Tensor) -> None:
    assert norm.running_mean is not None
    assert norm.running_var is not None
    for target, value in ((norm.running_mean, mean), (norm.running_var, variance), (norm.weight, scale),
                          (norm.bias, shift)):  # fmt: skip
        target.copy_(value)


def _weighted(trunk: Trunk) -> list[Layer]:
    return [layer for layer in trunk.spec.layers[:-1] if layer.weighted]


def _parameters(trunk: Trunk, theta: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """Weight and bias in the flat θ."""
    weight, bias = (trunk.spec.slots[f"{layer.name}.{part}"] for part in ("weight", "bias"))
    return theta[weight.offset : weight.end].reshape(weight.shape), theta[bias.offset : bias.end]
