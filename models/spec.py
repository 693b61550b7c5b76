"""VerifierSpec: the one description of the personal verifier f that everything else is derived from.

The paper (arXiv 2312.13240) gives the budget: about 23 k parameters and 5 M FLOPs. The layers below are this project's
choice. Pure Python: the torch forward, the generator's output, the file writers, the FLOP counter and the device
all read it.

Every convolution's output is clipped to [-1, 1] in training and in every file. That is the whole secret of the
calibration-free int8 form: each tensor's scale is known before any user exists (see `docs/decisions`).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from math import prod
from typing import Any, Literal, get_args

from toolkit.errors import ArtifactError

Kind = Literal["halves", "conv", "depthwise", "add", "mean", "dense"]
Activation = Literal["linear", "leaky"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WEIGHTED: tuple[Kind, ...] = ("conv", "depthwise", "dense")  # those that hold a part of θ

LEAKY_SLOPE = 0.25  # PReLU's usual start value; fixed, because int8 runtimes have a fast fixed-slope kernel
MAX_PARAMS = 23_000  # the paper's parameter count
CROP_PX = 112  # side of an aligned face
FEATURES = (28, 32, 84, 105)  # left, top, right, bottom of eyes to mouth in it: every region holds them
MAX_SIZE = 4096  # of channels and pixels: far beyond any verifier, and nothing to allocate
MAX_FLOPS = 5_000_000  # the paper's FLOPs, counted here as two per multiply-accumulate


@dataclass(frozen=True)
class Layer:
    """One step of the graph. Its input is the layer before it; `add` also takes the output of `skip`.

    `dense` takes the whole map before it: its kernel is that map's height, and its output is not clipped.
    `halves` comes first, if at all. It makes two pictures of one: the left `kernel` columns, and the left `kernel`
    columns of the mirror image. Layers treat both alike, until `mean` makes one map of two: one side of a face is seen
    as the other is, and a face and its mirror image have the same score.
    """

    name: str
    kind: Kind
    in_channels: int
    out_channels: int
    kernel: int = 1
    stride: int = 1
    padding: int = 0  # pixels on each side, symmetric
    activation: Activation = "linear"
    skip: str = ""
    width: int = 0  # of the map that a dense layer takes, where it is not as wide as high

    @property
    def sound(self) -> bool:
        """Numbers that a layer can have at all; a manifest may hold any."""
        sizes = (
            self.in_channels, self.out_channels, self.kernel, self.stride, self.padding + 1, self.kernel_size[1],
        )  # fmt: skip
        return all(type(size) is int and 0 < size <= MAX_SIZE for size in sizes) and type(self.name) is str

    @property
    def weighted(self) -> bool:
        return self.kind in WEIGHTED

    @property
    def kernel_size(self) -> tuple[int, int]:
        """Height and width."""
        return self.kernel, self.width or self.kernel

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """[out, in, height, width], [channels, 1, height, width] for depthwise; a dense layer's kernel is its map."""
        if not self.weighted:
            return ()
        inputs = 1 if self.kind == "depthwise" else self.in_channels
        return (self.out_channels, inputs, *self.kernel_size)

    def to_dict(self) -> dict[str, Any]:
        """All fields; what only newer layers have is left out of others, so that older specs keep their hash."""
        return {name: value for name, value in asdict(self).items() if name != "width" or value}


@dataclass(frozen=True)
class Slot:
    """Where one parameter tensor lives in the flat weight vector."""

    name: str  # "<layer>.weight" or "<layer>.bias"
    shape: tuple[int, ...]
    offset: int

    @cached_property
    def size(self) -> int:
        return prod(self.shape)

    @cached_property
    def end(self) -> int:
        return self.offset + self.size


@dataclass(frozen=True)
class Framing:
    """Which square of an aligned face a network sees, in pixels of the CROP_PX crop, and in how many pixels it does."""

    side_px: int
    left: int = 0
    top: int = 0
    size: int = CROP_PX

    @property
    def scale(self) -> float:
        """Pixels that the network gets of one of the crop's."""
        return self.side_px / self.size

    @property
    def region(self) -> tuple[int, int, int]:
        return self.left, self.top, self.size


WHOLE = Framing(CROP_PX)


@dataclass(frozen=True)
class VerifierSpec:
    """Input: RGB, input_px × input_px, value (pixel - 128) / 128, so that int8 input is pixel - 128 exactly.
    Output: one score; larger means more likely the enrolled person; int8 files saturate it to [-1, 1]."""

    input_px: int
    layers: tuple[Layer, ...]
    region: tuple[int, int, int] = WHOLE.region  # of the aligned face that f sees: left, top, size

    def __post_init__(self) -> None:
        """Refuse a graph that does not hang together. Raises ArtifactError."""
        seen: dict[str, Layer] = {}
        channels, size, maps = 3, (self.input_px, self.input_px), 1
        if not 0 < self.input_px <= MAX_SIZE:
            raise ArtifactError("the verifier spec's input size is out of range", got=self.input_px)
        if not _fits(self.region):
            wanted = f"left, top, size: whole pixels of {CROP_PX}, in the middle from left to right, around {FEATURES}"
            raise ArtifactError("the verifier spec's region does not fit", got=self.region, expected=wanted)
        for layer in self.layers:
            ok = layer.kind in KINDS and layer.in_channels == channels and layer.name not in seen and layer.sound
            if layer.kind in ("depthwise", "add", "halves", "mean"):
                ok = ok and layer.in_channels == layer.out_channels
            if layer.kind == "halves":
                ok = ok and not seen and layer.kernel < self.input_px <= 2 * layer.kernel
                maps = 2
            if layer.kind == "mean":
                ok = ok and maps == 2
                maps = 1
            if layer.kind == "add":
                ok = ok and layer.skip in seen and seen[layer.skip].out_channels == channels
                ok = ok and self.maps[layer.skip] == maps
            if layer.kind == "dense":
                ok = ok and maps == 1 and layer.kernel_size == size and not layer.padding
            else:
                ok = ok and not layer.width
            if not ok or min(_size_after(layer, size)) < 1:
                raise ArtifactError(f"the verifier spec's layer {layer.name} ({layer.kind}) does not fit")
            seen[layer.name] = layer
            channels, size = layer.out_channels, _size_after(layer, size)
        if not self.layers or self.layers[-1].kind != "dense" or self.layers[-1].out_channels != 1:
            raise ArtifactError("the verifier spec must end in a dense layer with one output")

    @property
    def framing(self) -> Framing:
        return Framing(self.input_px, *self.region)

    @cached_property
    def sizes(self) -> dict[str, tuple[int, int]]:
        """Output height and width in pixels of each layer."""
        size, sizes = (self.input_px, self.input_px), {}
        for layer in self.layers:
            size = sizes[layer.name] = _size_after(layer, size)
        return sizes

    @cached_property
    def maps(self) -> dict[str, int]:
        """How many maps each layer makes of one face: two from `halves` to `mean`, one otherwise."""
        maps, found = 1, {}
        for layer in self.layers:
            maps = {"halves": 2, "mean": 1}.get(layer.kind, maps)
            found[layer.name] = maps
        return found

    def shape(self, layer: Layer) -> tuple[int, int, int, int]:
        """Of what a layer makes of one face: maps, height, width, channels."""
        return (self.maps[layer.name], *self.sizes[layer.name], layer.out_channels)

    @cached_property
    def slots(self) -> dict[str, Slot]:
        """name → shape and offset of every parameter in the flat vector θ, in graph order."""
        slots: dict[str, Slot] = {}
        offset = 0
        for layer in self.layers:
            if not layer.weighted:
                continue
            for name, shape in (("weight", layer.weight_shape), ("bias", (layer.out_channels,))):
                slot = Slot(f"{layer.name}.{name}", shape, offset)
                slots[slot.name] = slot
                offset = slot.end
        return slots

    @cached_property
    def params(self) -> int:
        """Parameters of the deployed verifier, normalisation folded: the length of θ."""
        return max(slot.end for slot in self.slots.values())

    def layer_macs(self, layer: Layer) -> int:
        """Multiply-accumulates of one layer for one face."""
        positions = self.maps[layer.name] * prod(self.sizes[layer.name])
        return prod(layer.weight_shape) * positions if layer.weighted else 0

    @property
    def macs(self) -> int:
        return sum(self.layer_macs(layer) for layer in self.layers)

    @property
    def flops(self) -> int:
        """Two per multiply-accumulate. Activations, clips, additions and means are not counted."""
        return 2 * self.macs

    @cached_property
    def halved(self) -> tuple[str, ...]:
        """The layers, by name, that make a map of each half of a face; none where f sees it at once."""
        return tuple(name for name, maps in self.maps.items() if maps == 2)

    @property
    def trunk(self) -> list[Layer]:
        """The layers with weights before the last one."""
        return [layer for layer in self.layers[:-1] if layer.weighted]

    @property
    def head(self) -> Layer:
        """The last layer: what the `head` generator makes for each person."""
        return self.layers[-1]

    def to_dict(self) -> dict[str, Any]:
        described: dict[str, Any] = {"input_px": self.input_px, "layers": [layer.to_dict() for layer in self.layers]}
        # Left out where it is the whole face, so that specs from before there were regions keep their hash.
        return described if self.region == WHOLE.region else described | {"region": list(self.region)}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> VerifierSpec:
        """Inverse of `to_dict`. Raises ArtifactError for anything that is not a spec."""
        try:
            left, top, size = data.get("region", WHOLE.region)
            return cls(int(data["input_px"]), tuple(Layer(**layer) for layer in data["layers"]), (left, top, size))
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ArtifactError("this is not a verifier spec", got=str(error)) from error

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the canonical JSON form."""
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()


def _fits(region: tuple[int, int, int]) -> bool:
    """Whether a region lies within the aligned face, holds its features, and is mirrored onto itself."""
    if not all(type(number) is int for number in region):
        return False
    left, top, size = region
    across = 0 <= left <= FEATURES[0] and 2 * left + size == CROP_PX
    return across and 0 <= top <= FEATURES[1] and FEATURES[3] <= top + size <= CROP_PX


def _size_after(layer: Layer, size: tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of the layer's output, from those of its input."""
    if layer.kind in ("add", "mean"):
        return size
    if layer.kind == "halves":
        return size[0], layer.kernel
    height, width = (
        (side + 2 * layer.padding - kernel) // layer.stride + 1
        for side, kernel in zip(size, layer.kernel_size, strict=True)
    )
    return height, width


def mobile_spec(
    input_px: int = 64,
    stem: int = 8,
    blocks: tuple[tuple[int, int], ...] = ((16, 2), (16, 1), (16, 1), (24, 2), (24, 1), (24, 1), (24, 1)),
    expansion: int = 2,
    features: int = 128,
    pooled: bool = False,
    kernel: int = 3,
    region: tuple[int, int, int] = (8, 14, 96),
    half: int = 36,
    joined: bool = False,
) -> VerifierSpec:
    """Stem, inverted residuals given as (channels, stride), 1×1 features, and a dense score over their whole map.

    After MobileFaceNet (Chen et al., 2018) in form, without its pooling: where in the face a feature lies is left to
    the score's weights, which each person has for themselves. The sizes were found by measurement here.
    `kernel`, an odd number, is that of the blocks' depthwise layers.
    `pooled` puts MobileFaceNet's global depthwise layer, shared by all people, before the score.
    `region` is the square of the aligned face that f sees: left, top and size in pixels of its 112.
    `half` shows f both halves of the face, that many columns of the input each and the right one mirrored; half of the
    input at least, and less than all of it. 0 shows f the face at once.
    `joined` makes one map of both halves in the last block of stride 2, behind its depthwise layer, whose leaky outputs
    int8 code can add. Otherwise, and where there is no such block, they become one before the score.
    """
    left, top, size = region
    layers = [Layer("halves", "halves", 3, 3, half)] if half else []
    layers.append(Layer("stem", "conv", 3, stem, 3, 2, 1, "leaky"))
    last_shrinking = max((i for i, (_, stride) in enumerate(blocks, 1) if stride == 2), default=0)
    for i, (width, stride) in enumerate(blocks, 1):
        join = bool(half) and joined and i == last_shrinking
        layers += _block(f"block{i}", layers[-1], width, stride, expansion, kernel, join)
    layers.append(Layer("features", "conv", layers[-1].out_channels, features, activation="leaky"))
    return VerifierSpec(input_px, (*layers, *_last_layers(layers, input_px, pooled)), (left, top, size))


def _block(name: str, before: Layer, width: int, stride: int, expansion: int, kernel: int, join: bool) -> list[Layer]:
    """An inverted residual behind the layer `before`; with `join`, both halves are one map from its middle on."""
    channels, hidden = before.out_channels, before.out_channels * expansion
    layers = [
        Layer(f"{name}.expand", "conv", channels, hidden, activation="leaky"),
        Layer(f"{name}.depthwise", "depthwise", hidden, hidden, kernel, stride, kernel // 2, "leaky"),
        *([Layer("mean", "mean", hidden, hidden)] if join else []),
        Layer(f"{name}.project", "conv", hidden, width),
    ]
    if stride == 1 and width == channels and before.activation == "linear":  # integer code adds no leaky outputs
        layers.append(Layer(f"{name}.add", "add", width, width, skip=before.name))
    return layers


def _last_layers(layers: list[Layer], input_px: int, pooled: bool) -> list[Layer]:
    """From the features to the score."""
    features = layers[-1].out_channels
    height, width = input_px, input_px
    for layer in layers:
        height, width = _size_after(layer, (height, width))
    last = []
    if layers[0].kind == "halves":
        if pooled:
            raise ArtifactError("halves do not end in one value a feature", got="pooled", do="set half = 0")
        if all(layer.kind != "mean" for layer in layers):
            last.append(Layer("mean", "mean", features, features))
    if pooled:
        last.append(Layer("pool", "depthwise", features, features, height))
        height = width = 1
    last.append(Layer("score", "dense", features, 1, height, width=width if width != height else 0))
    return last


DEFAULT_SPEC = mobile_spec()
