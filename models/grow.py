"""A trained generator's weights in a verifier of another form: what fits is taken over, the rest begins fresh.

After Chen, Goodfellow and Shlens, "Net2Net: Accelerating Learning via Knowledge Transfer" (ICLR 2016): where a layer
only gets wider, those channels that there were do at first what they did, since they do not read the new ones yet.
Where a map is smaller, or halves are joined at another layer, what is taken over is a beginning, not the same function.

Letters: P parameters, D template dimensions, F values of the trunk's last map.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from models.hypernetwork import HyperNetwork
from models.spec import Layer, VerifierSpec
from models.verifier import parameters_of


@dataclass(frozen=True)
class Weights:
    """Of a head generator's file: `trunk` [1, the trunk's part of P], `head` [F + 1, D] and its `bias` [F + 1]."""

    trunk: Tensor
    head: Tensor
    bias: Tensor


def grown(weights: Weights, before: VerifierSpec, spec: VerifierSpec, seed: int) -> Weights:
    """Those of the form `before` in the form `spec`; fresh ones are drawn with `seed`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        fresh = HyperNetwork(spec, weights.head.shape[1])
    known = {layer.name: layer for layer in before.trunk}
    parts = []
    for layer in spec.trunk:
        weight, bias = fresh.trunk.conv(layer).weight.detach(), torch.zeros(layer.out_channels)
        if alike(known.get(layer.name), layer):
            _place(weight, bias, *(part[0] for part in parameters_of(before, weights.trunk, known[layer.name])))
        parts += [weight.flatten(), bias]
    head = _head(torch.cat([weights.head, weights.bias[:, None]], 1), before.head, spec.head)
    return Weights(torch.cat(parts)[None], head[:, :-1], head[:, -1])


def alike(before: Layer | None, layer: Layer) -> bool:
    """Whether the weights of one layer mean something to the other."""
    return before is not None and (before.kind, before.kernel) == (layer.kind, layer.kernel)


def _place(weight: Tensor, bias: Tensor, old_weight: Tensor, old_bias: Tensor) -> None:
    """Put as much of an old layer into a new one as fits: weights [C, C', k, k], biases [C]."""
    channels, inputs = (min(a, b) for a, b in zip(weight.shape[:2], old_weight.shape[:2], strict=True))
    weight[:channels] = 0  # of what the old channels did not read
    weight[:channels, :inputs] = old_weight[:channels, :inputs]
    bias[:channels] = old_bias[:channels]


def _head(old: Tensor, before: Layer, head: Layer) -> Tensor:
    """Rows of the last layer's generator, one a weight and one for the bias, [F + 1, …]; new weights begin at zero."""
    maps = [(layer.in_channels, *layer.kernel_size) for layer in (before, head)]
    kept = tuple(slice(min(a, b)) for a, b in zip(*maps, strict=True))
    new = torch.zeros(*maps[1], old.shape[1])
    new[kept] = old[:-1].reshape(*maps[0], -1)[kept]
    return torch.cat([new.flatten(0, 2), old[-1:]])
