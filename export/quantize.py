"""Calibration-free int8: every activation scale is known from the spec, so only the weights are looked at.

    input and linear outputs   q / 128            [-1, 127/128]
    leaky outputs              (q + 77) · 1.25/255   [-1/4, 1]
    weights                    per output channel, symmetric, ±127
    biases                     int32 at (input scale · weight scale)
    mean of two maps           (a + b + 1) >> 1: their mean in the scale of both, or their sum in steps twice as large

A linear convolution's clip to [-1, 1] is then the saturation that every int8 runtime does anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from models.spec import LEAKY_SLOPE, Layer, VerifierSpec
from toolkit.errors import ArtifactError

MAX_FACTOR = 0.25  # from sums to outputs; larger ones would need a shift below 33 in integer code


@dataclass(frozen=True)
class Scale:
    """real = scale · (q - zero)."""

    scale: float
    zero: int

    def quantise(self, real: np.ndarray) -> np.ndarray:
        """To int8, rounding half to even, saturating."""
        q = np.rint(np.asarray(real, np.float64) / self.scale) + self.zero
        return np.asarray(np.clip(q, -128, 127), np.int8)

    def real(self, q: np.ndarray) -> np.ndarray:
        return np.asarray((q.astype(np.float32) - self.zero) * np.float32(self.scale), np.float32)


LINEAR = Scale(1 / 128, 0)
LEAKY = Scale((1 + LEAKY_SLOPE) / 255, round(-128 + LEAKY_SLOPE * 255 / (1 + LEAKY_SLOPE)))


def output_scale(layer: Layer, source: Scale) -> Scale:
    """Of what a layer makes of values in the scale `source`."""
    if layer.kind == "mean":
        return source
    return LEAKY if layer.activation == "leaky" else LINEAR


def summed(scale: Scale) -> Scale:
    """Of a sum of two values in `scale`, whose integers are those of their mean."""
    return Scale(2 * scale.scale, scale.zero)


def output_scales(spec: VerifierSpec) -> dict[str, Scale]:
    """Layer name → scale of its output; the score's are steps of 1/128."""
    scale, scales = LINEAR, {}
    for layer in spec.layers:
        scale = scales[layer.name] = output_scale(layer, scale)
    return scales


@dataclass(frozen=True)
class QuantisedLayer:
    """weight int8 of the layer's shape, bias int32 [C], weight_scale float32 [C]; the scale of the layer's input.

    What reads a mean of two maps reads it as their sum, with half the weight: int8 runtimes add, and know no mean.

    Arrays are read-only: people whose verifiers share a layer share them.
    """

    layer: Layer
    weight: np.ndarray
    bias: np.ndarray
    weight_scale: np.ndarray
    input: Scale

    @cached_property
    def bias_scale(self) -> np.ndarray:
        """float32 [C]"""
        return np.asarray(self.weight_scale * np.float32(self.input.scale))


def check_additions(spec: VerifierSpec) -> None:
    """Integer additions share one scale. Raises ArtifactError naming the layer."""
    scales: dict[str, Scale] = {}
    source = LINEAR
    for layer in spec.layers:
        if layer.kind == "add" and not (source is scales[layer.skip] is output_scale(layer, source)):
            raise ArtifactError(
                f"layer {layer.name}: integer code adds linear outputs only",
                got=f"{layer.activation}, of which {layer.skip} is one input",
                do="give the added layers linear outputs",
            )
        scales[layer.name] = source = output_scale(layer, source)


def layer_tensors(spec: VerifierSpec, theta: np.ndarray) -> dict[str, np.ndarray]:
    """θ [P] cut into named float32 arrays. Raises ArtifactError (wrong length; NaN or infinity, naming the layer)."""
    if theta.shape != (spec.params,):
        raise ArtifactError("the weight vector does not fit the spec", got=theta.shape, expected=f"({spec.params},)")
    wide = theta.astype(np.float32)
    tensors = {s.name: wide[s.offset : s.end].reshape(s.shape) for s in spec.slots.values()}
    if not np.isfinite(wide).all():
        name = next(name for name, tensor in tensors.items() if not np.isfinite(tensor).all())
        raise ArtifactError(f"the weights of {name} are not finite", do="enrol again or retrain the generator")
    return tensors


def quantise(spec: VerifierSpec, theta: np.ndarray) -> dict[str, QuantisedLayer]:
    """Layer name → integer weights. Raises ArtifactError (wrong θ, or a bias beyond int32)."""
    tensors = layer_tensors(spec, theta)
    layers: dict[str, QuantisedLayer] = {}
    source = LINEAR
    share = np.float32(1)
    for layer in spec.layers:
        if layer.weighted:
            weight, bias = tensors[f"{layer.name}.weight"] * share, tensors[f"{layer.name}.bias"]
            layers[layer.name] = _quantise_layer(layer, weight.tobytes(), bias.tobytes(), source)
        source, share = output_scale(layer, source), np.float32(1)
        if layer.kind == "mean":
            if source is not LEAKY:
                what = f"layer {layer.name}: int8 code takes the mean of leaky outputs only"
                raise ArtifactError(what, got="linear ones", do="give the layer before it a leaky output")
            source, share = summed(source), np.float32(0.5)
    return layers


@lru_cache(maxsize=64)  # a head generator's verifiers differ in their last layer alone: half of the time saved
def _quantise_layer(layer: Layer, weight_bytes: bytes, bias_bytes: bytes, source: Scale) -> QuantisedLayer:
    weight = np.frombuffer(weight_bytes, np.float32).reshape(layer.weight_shape)
    bias = np.frombuffer(bias_bytes, np.float32)
    peak = np.abs(weight).reshape(layer.out_channels, -1).max(1).astype(np.float64)
    # The step may not be so small that the bias would leave int32; a channel of zeros gets that smallest step.
    smallest = np.maximum(np.abs(bias).astype(np.float64), 1e-3) / (2**30 * source.scale)
    scale = np.maximum(peak / 127, smallest).astype(np.float32)
    shaped = scale.reshape(-1, *[1] * (weight.ndim - 1))
    q = np.clip(np.rint(weight / shaped), -127, 127).astype(np.int8)
    wide = np.rint(bias.astype(np.float64) / (scale.astype(np.float64) * source.scale))
    if np.abs(wide).max(initial=0) >= 2**31:
        raise ArtifactError(f"the bias of {layer.name} does not fit int32", do="enrol again or retrain the generator")
    factor = float(scale.astype(np.float64).max()) * source.scale / LINEAR.scale
    if not factor < MAX_FACTOR * (1 - 2**-31):
        raise ArtifactError(
            f"the weights of {layer.name} are too large for integer arithmetic",
            got=f"the factor {factor:.4g}", expected=f"< {MAX_FACTOR}", do="enrol again or retrain the generator",
        )  # fmt: skip
    integer = wide.astype(np.int32)
    for array in (q, integer, scale):
        array.flags.writeable = False
    return QuantisedLayer(layer, q, integer, scale, source)
