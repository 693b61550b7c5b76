"""The hypernetwork h_gen: a person's template in, the flat weights θ of that person's verifier out.

The paper's h is a frozen backbone with a trained generator that makes every weight of f. How its generator is built
is not known here; the four below are this project's own, and all end in the same θ of the spec:

    head      only the last layer depends on the person; the trunk is shared
    film      also a scale and a shift for every channel of every layer, folded into the weights
    low-rank  also, for every layer's matrix, a personal matrix of low rank times one that all people share
    full      instead of that, an offset for every single weight

    θ = [ base · (1 + γ[channel]) + β[channel] · is_bias + δ ,  head(e) ]

Letters: U users, D template dimensions, P parameters of f, T of them in the trunk, C channels of all layers together,
R rank.
"""

from __future__ import annotations

from math import prod
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.spec import VerifierSpec
from models.verifier import Trunk

Generator = Literal["head", "film", "low-rank", "full"]
GENERATORS: tuple[str, ...] = get_args(Generator)
RANK = 4  # of `low-rank`


def channel_table(spec: VerifierSpec) -> tuple[np.ndarray, np.ndarray]:
    """For each trunk parameter: the index of its output channel over all layers [T], and whether it is a bias [T]."""
    index, is_bias, start = [], [], 0
    for layer in spec.trunk:
        channels = np.arange(start, start + layer.out_channels)
        per_channel = spec.slots[f"{layer.name}.weight"].size // layer.out_channels
        index += [np.repeat(channels, per_channel), channels]
        is_bias += [np.zeros(per_channel * layer.out_channels), np.ones(layer.out_channels)]
        start += layer.out_channels
    return np.concatenate(index).astype(np.int64), np.concatenate(is_bias).astype(np.float32)


def column_table(spec: VerifierSpec) -> np.ndarray:
    """For each trunk parameter: the index of its column over all layers' matrices [out, in * kernel * kernel]; [T].

    Biases point at column 0.
    """
    columns, start = [], 0
    for layer in spec.trunk:
        per_channel = spec.slots[f"{layer.name}.weight"].size // layer.out_channels
        columns += [np.tile(np.arange(start, start + per_channel), layer.out_channels)]
        columns += [np.zeros(layer.out_channels, np.int64)]
        start += per_channel
    return np.concatenate(columns).astype(np.int64)


def weight_scale(spec: VerifierSpec) -> np.ndarray:
    """Typical size of each trunk parameter, 1/sqrt(fan-in) [T]: what δ is counted in."""
    scales = []
    for slot in spec.slots.values():
        if not slot.name.startswith(spec.head.name + "."):
            fan_in = max(1, int(np.prod(slot.shape[1:])))
            scales.append(np.full(slot.size, 0.25 / np.sqrt(fan_in), np.float32))
    return np.concatenate(scales)


class HyperNetwork(nn.Module):
    """Trunk, head generator and, for all but `head`, the generators of the trunk's personal part."""

    def __init__(
        self,
        spec: VerifierSpec,
        template_dim: int,
        generator: Generator = "head",
        hidden: int = 96,
        branches: int = 1,
    ):
        super().__init__()
        self.spec, self.template_dim, self.generator = spec, template_dim, generator
        self.trunk = Trunk(spec, branches)
        self.head = nn.Linear(
            template_dim, prod(spec.head.weight_shape) + 1
        )  # weights of the score layer, and its bias
        channel, is_bias = channel_table(spec)
        # Constants, kept out of the buffers: a moving average of the weights averages buffers too, and would truncate
        # an averaged index.
        self.channel, self.is_bias = torch.from_numpy(channel), torch.from_numpy(is_bias)
        self.scale = torch.from_numpy(weight_scale(spec))
        self.column = torch.from_numpy(column_table(spec))
        if generator != "head":
            channels = int(channel.max()) + 1
            self.embed = nn.Linear(template_dim, hidden)
            self.gamma = _silent(nn.Linear(hidden, channels))
            self.beta = _silent(nn.Linear(hidden, channels))
        if generator == "low-rank":
            self.left = _silent(nn.Linear(hidden, channels * RANK))  # [C, R], each person's own
            self.right = nn.Parameter(torch.randn(RANK, int(self.column.max()) + 1))
        if generator == "full":
            self.delta = _silent(nn.Linear(hidden, len(channel)))

    def forward(self, templates: Tensor) -> Tensor:
        """Templates [U, D] of unit length to θ [U, P]."""
        trunk = self.trunk.fold()[None]  # [1, T]
        if self.generator != "head":
            # Templates have length one; the factor brings each coordinate to about one.
            hidden = F.leaky_relu(self.embed(templates * self.template_dim**0.5), 0.25)  # [U, hidden]
            gamma, beta = self.gamma(hidden)[:, self.channel], self.beta(hidden)[:, self.channel]  # [U, T]
            trunk = trunk * (1 + gamma) + beta * self.is_bias
            if self.generator == "low-rank":
                left = self.left(hidden).unflatten(1, (-1, RANK))[:, self.channel]  # [U, T, R]
                trunk = trunk + (left * self.right_of_weight().T).sum(2)
            if self.generator == "full":
                trunk = trunk + self.delta(hidden) * self.scale
        return torch.cat([trunk.expand(len(templates), -1), self.head(templates)], dim=1)  # [U, P]

    def right_of_weight(self) -> Tensor:
        """What `low-rank` multiplies each person's factors with: [R, T], nothing for a bias."""
        return self.right[:, self.column] * (self.scale * (1 - self.is_bias))

    def shared_scores(self, templates: Tensor, x: Tensor) -> Tensor:
        """Scores [U, N] of every face x [N, 3, H, W] under every template, for the `head` generator only.

        The trunk runs once per face, with batch statistics while training.
        """
        return self.scores_of_features(templates, self.trunk(x).flatten(1))

    def scores_of_features(self, templates: Tensor, features: Tensor) -> Tensor:
        """The same, from what the trunk made of the faces [N, F]."""
        # Faces go to the templates' space, not templates to the features': the same sum, eight times cheaper.
        weight, bias = self.head.weight, self.head.bias  # [F + 1, D], [F + 1]
        projected = features @ weight[:-1]  # [N, D]
        scores: Tensor = templates @ projected.T + features @ bias[:-1] + (templates @ weight[-1] + bias[-1])[:, None]
        return scores  # [U, N]


def _silent(layer: nn.Linear) -> nn.Linear:
    """Start at zero, so that a new generator begins as the verifier that it refines."""
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)
    return layer
