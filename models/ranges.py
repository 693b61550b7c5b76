"""Let a trained trunk use the whole int8 range, without changing what it computes.

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
from models.spec import Layer

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
    for layer, reader in pairwise(layer for layer in network.spec.layers if layer.kind != "mean"):
        if layer.name not in peaks:
            continue
        factor = (1 / peaks[layer.name].clamp(min=1e-6)).clamp(1.0, MOST)  # [C]
        norm = network.trunk.norm(layer)
        norm.weight.mul_(factor)
        norm.bias.mul_(factor)
        _weaken(network, reader, factor)
        factors[layer.name] = float(factor.median())
    return factors


def _weaken(network: HyperNetwork, reader: Layer, factor: Tensor) -> None:
    """Divide the weights with which `reader` takes each input channel by `factor` [C]."""
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
