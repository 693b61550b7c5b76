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
    """Every layer of f but the last, shared by all people, with batch normalisation after each convolution.

    With more than one of `branches`, each layer is trained as the sum of that many convolutions, each with a
    normalisation of its own, and a block's depthwise layer also of its normalised input; they fold into one. After Ding
    et al., "RepVGG: Making VGG-style ConvNets great again" (CVPR 2021), and Vasu et al., "MobileOne" (CVPR 2023).
    """

    def __init__(self, spec: VerifierSpec, branches: int = 1):
        super().__init__()
        self.spec, self.branches = spec, branches
        self.convs, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for layer in spec.trunk:
            groups = layer.in_channels if layer.kind == "depthwise" else 1
            for key in self._conv_keys(layer):
                self.convs[key] = nn.Conv2d(
                    layer.in_channels, layer.out_channels, layer.kernel, layer.stride, layer.padding,
                    groups=groups, bias=False,
                )  # fmt: skip
            keys = self._norm_keys(layer)
            for key in keys:
                norm = self.norms[key] = nn.BatchNorm2d(layer.out_channels)
                nn.init.constant_(norm.weight, INITIAL_DEVIATION / len(keys) ** 0.5)

    def _conv_keys(self, layer: Layer) -> list[str]:
        """Names of the layer's convolutions; those of their normalisations are the same."""
        key = layer.name.replace(".", "_")  # a ModuleDict refuses dots
        return [key, *(f"{key}_{number}" for number in range(1, self.branches))]

    def _norm_keys(self, layer: Layer) -> list[str]:
        """The last one is that of the input itself, where a layer adds it: each output has an input in its middle."""
        keys = self._conv_keys(layer)
        centred = layer.kind == "depthwise" and layer.kernel == 2 * layer.padding + 1
        return [*keys, f"{keys[0]}_input"] if self.branches > 1 and centred else keys

    def forward(self, x: Tensor) -> Tensor:
        """x [N, 3, H, W] in the spec's value range to the map [N, C, H', W'] that the last layer reads, in [-1, 1]."""
        return through_layers(self.spec, self._weighed, x)

    def _weighed(self, layer: Layer, x: Tensor) -> Tensor:
        """The layer's outputs of x [N, C, H, W], not activated yet."""
        parts = [
            self.norms[key](self.convs[key](x) if key in self.convs else _under_middles(layer, x))
            for key in self._norm_keys(layer)
        ]
        return cast(Tensor, sum(parts[1:], start=parts[0]))

    def conv(self, layer: Layer) -> nn.Conv2d:
        """The layer's only convolution."""
        assert self.branches == 1
        return cast(nn.Conv2d, self.convs[self._conv_keys(layer)[0]])

    def norm(self, layer: Layer) -> nn.BatchNorm2d:
        """That of `conv`."""
        return cast(nn.BatchNorm2d, self.norms[self._conv_keys(layer)[0]])

    def folded(self, layer: Layer) -> tuple[Tensor, Tensor]:
        """Weight of the layer's shape and bias [C] that do what all its parts do, with running statistics."""
        weight, bias = torch.zeros(()), torch.zeros(())
        for key in self._norm_keys(layer):
            norm = cast(nn.BatchNorm2d, self.norms[key])
            assert norm.running_var is not None
            assert norm.running_mean is not None
            scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)  # [C]
            kernel = cast(nn.Conv2d, self.convs[key]).weight if key in self.convs else _middle(layer).to(scale.device)
            weight = weight + kernel * scale[:, None, None, None]
            bias = bias + norm.bias - norm.running_mean * scale
        return weight, bias

    def fold(self) -> Tensor:
        """The trunk's part of θ, [P - head], with normalisation (running statistics) folded. Differentiable."""
        return torch.cat([part.flatten() for layer in self.spec.trunk for part in self.folded(layer)])

    @torch.no_grad()
    def merged(self) -> Trunk:
        """The same function with one convolution a layer, for what happens to a trunk after training."""
        if self.branches == 1:
            return self
        trunk = Trunk(self.spec)
        for layer in self.spec.trunk:
            weight, bias = self.folded(layer)
            norm = trunk.norm(layer)  # fresh: mean 0, variance 1
            trunk.conv(layer).weight.copy_(weight)
            norm.weight.fill_((1 + norm.eps) ** 0.5)
            norm.bias.copy_(bias)
        return trunk.to(next(self.parameters()).device).train(self.training)


def _under_middles(layer: Layer, x: Tensor) -> Tensor:
    """What the middles of a layer's kernels are over, of x [N, C, H, W]: [N, C, H', W'].

    It lies in memory as the convolutions' outputs do, or their sum would be rearranged at every layer.
    """
    if layer.stride == 1:  # a slice of everything costs a map of zeros in the backward pass
        return x
    return x[..., :: layer.stride, :: layer.stride].contiguous(memory_format=torch.channels_last)


def _middle(layer: Layer) -> Tensor:
    """The depthwise kernels that give each input back, [C, 1, K, K]."""
    kernel = torch.zeros(layer.weight_shape)
    kernel[..., layer.kernel // 2, layer.kernel // 2] = 1
    return kernel


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
