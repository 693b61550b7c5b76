"""The int8 verifier in plain integer arithmetic: what every int8 file is compared with.

    accumulate    int32: sum of (input - zero) · weight, plus bias
    requantise    (sum · multiplier + half) >> shift, multiplier of 31 bits: no float at run time. With a shift above 32
                  that is, exactly, the product's upper 32 bits, plus half, shifted on: cheap in SIMD lanes.
    leaky         a table of 256 entries
    add           saturating int8 addition (both inputs and the output share one scale)
    halves, mean  two maps of one face; (a + b + 1) >> 1

Runtimes differ from it by their own rounding: XNNPACK and ONNX Runtime requantise in fp32, rounding half to even.
"""

from __future__ import annotations

import math

import numpy as np

from export.quantize import LEAKY, LINEAR, MAX_FACTOR, QuantisedLayer, check_additions, quantise
from models.spec import LEAKY_SLOPE, Layer, VerifierSpec


def fixed_point(real: float) -> tuple[int, int]:
    """real ≈ multiplier / 2**shift, 2**30 ≤ multiplier < 2**31 and 33 ≤ shift ≤ 62; factors below 2^-32 become 0.

    Raises ValueError for factors that do not fit.
    """
    if not 0 < real < MAX_FACTOR * (1 - 2**-31):
        raise ValueError(f"the factor {real} is not between 0 and {MAX_FACTOR}")
    mantissa, exponent = math.frexp(real)
    multiplier = round(mantissa * 2**31)
    if multiplier == 2**31:
        multiplier, exponent = 2**30, exponent + 1
    shift = 31 - exponent
    return (multiplier, shift) if shift <= 62 else (0, 62)


def channel_factors(q: QuantisedLayer) -> list[tuple[int, int]]:
    """Multiplier and shift of each output channel."""
    factors = q.input.scale * q.weight_scale.astype(np.float64) / LINEAR.scale
    return [fixed_point(factor) for factor in factors.tolist()]


def requantise(accumulator: np.ndarray, factors: list[tuple[int, int]]) -> np.ndarray:
    """int32 [..., C] times each channel's factor, rounded half up, saturated to int8 at zero point 0."""
    multiplier, shift = (np.array(column, np.int64) for column in zip(*factors, strict=True))
    wide = accumulator.astype(np.int64) * multiplier
    return np.asarray(np.clip((wide + (np.int64(1) << (shift - 1))) >> shift, -128, 127), np.int8)


def leaky_table() -> np.ndarray:
    """int8 [256]: entry q + 128 is the leaky output for the linear value q, rounded half up as XNNPACK does.

    Both factors are exact in 1/256: 408/256 from one scale to the other, and a quarter of it below zero.
    """
    q = np.arange(-128, 128)
    factor = LINEAR.scale / LEAKY.scale * 256
    multiplier = np.where(q > 0, round(factor), round(factor * LEAKY_SLOPE))
    return np.asarray(np.clip(((q * multiplier + 128) >> 8) + LEAKY.zero, -128, 127), np.int8)


class IntegerVerifier:
    """f in integers. Layout NHWC."""

    def __init__(self, spec: VerifierSpec, theta: np.ndarray):
        check_additions(spec)
        self.spec, self.layers, self._table = spec, quantise(spec, theta), leaky_table()

    def scores(self, pixels: np.ndarray, trace: dict[str, np.ndarray] | None = None) -> np.ndarray:
        """uint8 RGB [N, H, W, 3] to int8 scores [N] in steps of 1/128.

        `trace` collects every layer's int8 output, [N, H, W, C]; with two maps a face [2N, ...], all left halves first.
        """
        x = (pixels.astype(np.int16) - 128).astype(np.int8)
        outputs: dict[str, np.ndarray] = {} if trace is None else trace
        for layer in self.spec.layers:
            if layer.kind == "halves":
                x = np.concatenate([x[:, :, : layer.kernel], x[:, :, ::-1][:, :, : layer.kernel]])
            elif layer.kind == "mean":
                left, right = np.split(x.astype(np.int16), 2)
                x = ((left + right + 1) >> 1).astype(np.int8)
            elif layer.kind == "add":
                x = np.clip(x.astype(np.int16) + outputs[layer.skip], -128, 127).astype(np.int8)
            else:
                x = self._weighted(self.layers[layer.name], x)
                if layer.activation == "leaky":
                    x = self._table[x.astype(np.int16) + 128]
            outputs[layer.name] = x
        return x[:, 0, 0, 0]

    def _weighted(self, q: QuantisedLayer, x: np.ndarray) -> np.ndarray:
        # float64 holds these integer sums exactly (below 2^53), and its matrix product is fast.
        centred = x.astype(np.float64) - q.input.zero
        weight = q.weight.astype(np.float64)
        layer = q.layer
        patches = _patches(centred, layer)  # [N, H', W', C, *kernel_size]
        if layer.kind == "depthwise":
            sums = np.einsum("nhwckl,ckl->nhwc", patches, weight[:, 0], optimize=True)
        else:
            flat = patches.reshape(*patches.shape[:3], -1)
            sums = flat @ weight.reshape(layer.out_channels, -1).T
        accumulator = sums.astype(np.int64) + q.bias
        return requantise(accumulator, channel_factors(q))


def _patches(x: np.ndarray, layer: Layer) -> np.ndarray:
    """x [N, H, W, C], padded with the zero point (0 once centred), to [N, H', W', C, *kernel_size]."""
    p, s = layer.padding, layer.stride
    x = np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(x, layer.kernel_size, axis=(1, 2))
    return np.asarray(windows[:, ::s, ::s])
