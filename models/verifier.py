"""The personal verifier f in torch: a trunk to train, and f(θ) for one person or for many at once.

    Trunk            shared layers with batch normalisation, the form that is trained
    Trunk.fold       the same function without normalisation, as a flat vector
    verify_users     f(θ_u) for U people at once, each with their own faces, as one grouped network

Letters: U users, Q faces per user, N faces, V maps of a face (spec.maps), C channels, H and W height and width in
pixels, P parameters, F values of the last map.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from models.spec import LEAKY_SLOPE, Layer, VerifierSpec

# Batch normalisation starts at this scale: ±1, where every activation is clipped, is then four deviations away.
INITIAL_DEVIATION = 0.25


def activate(x: Tensor, layer: Layer) -> Tensor:
    """Clip to the spec's range, then the layer's activation. Any shape."""
    x = F.hardtanh(x)  # clips to [-1, 1] as clamp does, whose gradient is five passes over the map instead of one
    return F.leaky_relu_(x, LEAKY_SLOPE) if layer.activation == "leaky" else x


def halves(x: Tensor, width: int) -> Tensor:
    """Faces [N, C, H, W] to both halves of each, [2N, C, H, width]: all the left ones, then the right ones mirrored."""
    return torch.cat([x[..., :width], x.flip(-1)[..., :width]])


def mean_of_halves(x: Tensor) -> Tensor:
    """The maps of both halves, [2N, C, H, W] as `halves` orders them, to one for each face, [N, C, H, W]."""
    return x.reshape(2, -1, *x.shape[1:]).mean(0)


def to_input(pixels: Tensor) -> Tensor:
    """uint8 or float RGB 0..255 of any shape to the spec's value range."""
    return (pixels.float() - 128.0) / 128.0


class Trunk(nn.Module):
    """Every layer of f but the last, shared by all people, with batch normalisation after each convolution."""

    def __init__(self, spec: VerifierSpec):
        super().__init__()
        self.spec = spec
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for layer in spec.trunk:
            groups = layer.in_channels if layer.kind == "depthwise" else 1
            conv = nn.Conv2d(
                layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding,
                groups=groups, bias=False,
            )  # fmt: skip
            norm = nn.BatchNorm2d(layer.out_channels)
            nn.init.constant_(norm.weight, INITIAL_DEVIATION)
            self.convs[_key(layer)], self.norms[_key(layer)] = conv, norm

    def forward(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] in the spec's value range to the map [N, C, H', W'] that the last layer reads, in [-1, 1]."""
        return through_layers(self.spec, self._weighed, x)

    def _weighed(self, layer: Layer, x: Tensor) -> Tensor:
        return cast(Tensor, self.norm(layer)(self.conv(layer)(x)))

    def conv(self, layer: Layer) -> nn.Conv2d:
        return cast(nn.Conv2d, self.convs[_key(layer)])

    def norm(self, layer: Layer) -> nn.BatchNorm2d:
        return cast(nn.BatchNorm2d, self.norms[_key(layer)])

    def fold(self) -> Tensor:
        """The trunk's part of θ, [P - head], with normalisation (running statistics) folded. Differentiable."""
        parts = []
        for layer in self.spec.trunk:
            conv, norm = self.conv(layer), self.norm(layer)
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # [C]
            parts.append((conv.weight * scale[:, None, None, None]).flatten())
            parts.append(norm.bias - norm.running_mean * scale)
        return torch.cat(parts)


def _key(layer: Layer) -> str:
    return layer.name.replace(".", "_")  # a ModuleDict refuses dots


def verify_users(spec: VerifierSpec, theta: Tensor, x: Tensor) -> Tensor:
    """Scores [U, Q] of faces x [U, Q, 3, H, W], each row under its own θ [U, P].

    All users run as one network: users sit side by side in the channel axis and every convolution is grouped.
    """
    users = len(x)
    x = run_layers(spec, theta, x.transpose(0, 1).flatten(1, 2))  # [Q, U*C, H, W]
    features = x.reshape(len(x), users, -1)  # [Q, U, F]
    weight, bias = parameters_of(spec, theta, spec.head)
    return torch.einsum("quf,uf->uq", features, weight.flatten(1)) + bias  # [U, Q]


def run_layers(spec: VerifierSpec, theta: Tensor, x: Tensor, end: int = -1) -> Tensor:
    """`through_layers` for users side by side, θ [U, P]: faces x [Q, U*C, H, W] to maps [V*Q, U*C, H', W']."""
    return through_layers(spec, partial(convolve, spec, theta), x, end)


def through_layers(spec: VerifierSpec, weigh: Callable[[Layer, Tensor], Tensor], x: Tensor, end: int = -1) -> Tensor:
    """What spec.layers[:end], all but the last if not told otherwise, make of faces x [N, C, H, W]: [V*N, C, H', W'].

    `weigh` gives what a layer with weights makes of its input, not activated yet.
    """
    outputs: dict[str, Tensor] = {}
    for layer in spec.layers[:end]:
        if layer.kind == "halves":
            x = halves(x, layer.kernel)
        elif layer.kind == "mean":
            x = mean_of_halves(x)
        else:
            x = activate(x + outputs[layer.skip] if layer.kind == "add" else weigh(layer, x), layer)
        outputs[layer.name] = x
    return x


def convolve(spec: VerifierSpec, theta: Tensor, layer: Layer, x: Tensor) -> Tensor:
    """x [Q, U*C, H, W] of U users through a convolution, each user's with their own weights of θ [U, P]."""
    weight, bias = parameters_of(spec, theta, layer)
    groups = len(theta) * (layer.in_channels if layer.kind == "depthwise" else 1)
    return F.conv2d(x, weight.flatten(0, 1), bias.flatten(), layer.stride, layer.padding, groups=groups)


def parameters_of(spec: VerifierSpec, theta: Tensor, layer: Layer) -> tuple[Tensor, Tensor]:
    """Weight [U, *shape] and bias [U, C] of one layer, views of θ [U, P]."""
    w, b = spec.slots[f"{layer.name}.weight"], spec.slots[f"{layer.name}.bias"]
    return theta[:, w.offset : w.end].reshape(-1, *w.shape), theta[:, b.offset : b.end]
