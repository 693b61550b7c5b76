"""Let a trained trunk use the whole int8 range, without changing what it computes of the faces that it is shown.

A leaky activation may be scaled up per channel when the layer that reads it takes it with weights as much smaller: the
function stays the same, and its int8 form gets finer steps. After the cross-layer equalisation of Nagel et al.,
"Data-Free Quantization Through Weight Equalization and Bias Correction" (ICCV 2019); what the channels are brought to
here is not the next layer's weights but the spec's fixed range.
"""

from __future__ import annotations

from itertools import pairwise
from math import prod

import torch
from torch import Tensor

from models.hypernetwork import HyperNetwork
from models.spec import Layer, VerifierSpec

BLOCK = 256  # faces at once
MOST = 32.0  # times; a channel that is nearly silent is left nearly silent


@torch.no_grad()
def fill_ranges(network: HyperNetwork, x: Tensor) -> dict[str, float]:
    """Scale every channel of every leaky layer so that its largest value over faces x [N, 3, H, W] reaches the clip.

    Changes `network` in place; a channel that is clipped already stays as it is. Returns the median factor by layer.
    All generators but `head` add offsets in the units of their trunk, so they are left alone.
    """
    if network.generator != "head":
        return {}
    peaks = _peaks(network, x)
    factors = {}
    for layer, reader in leaky_layers(network.spec):
        factor = (1 / peaks[layer.name].clamp(min=1e-6)).clamp(1.0, MOST)  # [C]
        rescale(network, layer, reader, factor)
        factors[layer.name] = float(factor.median())
    return factors


def leaky_layers(spec: VerifierSpec) -> list[tuple[Layer, Layer]]:
    """Each leaky layer and the one with weights that reads it."""
    pairs = pairwise(layer for layer in spec.layers if layer.kind != "mean")
    return [(layer, reader) for layer, reader in pairs if layer.activation == "leaky"]


def rescale(network: HyperNetwork, layer: Layer, reader: Layer, factor: Tensor) -> None:
    """Multiply the channels of `layer` by `factor` [C], and divide the weights with which `reader` takes them."""
    norm = network.trunk.norm(layer)
    norm.weight.mul_(factor)
    norm.bias.mul_(factor)
    if reader.name == network.spec.head.name:
        each = factor.repeat_interleave(prod(reader.kernel_size))  # [F]
        network.head.weight[:-1].div_(each[:, None])
        network.head.bias[:-1].div_(each)
    elif reader.kind == "depthwise":
        network.trunk.conv(reader).weight.div_(factor[:, None, None, None])  # [C, 1, k, k]
    else:
        network.trunk.conv(reader).weight.div_(factor[None, :, None, None])  # [C', C, k, k]


def _peaks(network: HyperNetwork, x: Tensor) -> dict[str, Tensor]:
    """The largest magnitude before the clip of each leaky layer's channels, [C]."""
    peaks: dict[str, Tensor] = {}

    def keep(name: str, output: Tensor) -> None:
        peak = output.abs().amax((0, 2, 3))
        peaks[name] = torch.maximum(peaks.get(name, peak), peak)

    hooks = [
        network.trunk.norm(layer).register_forward_hook(lambda _m, _i, output, name=layer.name: keep(name, output))
        for layer in network.spec.layers[:-1]
        if layer.activation == "leaky"
    ]
    network.eval()
    for start in range(0, len(x), BLOCK):
        network.trunk.forward(x[start : start + BLOCK])
    for hook in hooks:
        hook.remove()
    return peaks
