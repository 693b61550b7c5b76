"""Write the verifier as C99: `verifier.h` and `verifier.c`, with no library behind them, no malloc and no state.

    int8   int32_t hv_score(const uint8_t rgb[...], void *arena)   steps of 1/128, equal to `export.integer` bit for bit
    fp32   float   hv_score(const uint8_t rgb[...], void *arena)

The kernels are the files in `export/c`; what is written here is the person's weights, the calls in the order of the
spec's layers, and where in the arena each layer's output lives.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from math import prod
from pathlib import Path

import numpy as np

from export.arena import Plan, plan_arena
from export.integer import channel_factors
from export.quantize import LEAKY, LINEAR, QuantisedLayer, check_additions, layer_tensors, quantise
from models.spec import LEAKY_SLOPE, Layer, VerifierSpec
from toolkit.errors import ArtifactError

KERNELS = Path(__file__).parent / "c"
HEADER, SOURCE = "verifier.h", "verifier.c"
_LINE = 120
_TYPES = {"int8": ("int8_t", "int32_t", 1), "fp32": ("float", "float", 4)}  # activation, score, bytes an activation

_INLINE = """#if defined(__GNUC__) && !defined(__OPTIMIZE_SIZE__)
#define HV_INLINE __inline__ __attribute__((always_inline))
#else
#define HV_INLINE
#endif
/* Compiled once, not into each of its callers. */
#if defined(__clang__)
#define HV_APART __attribute__((noinline))
#elif defined(__GNUC__)
#define HV_APART __attribute__((noinline, noclone))
#else
#define HV_APART
#endif

/* To look at every layer's output, define this before: it is used without a semicolon. */
#ifndef HV_LAYER
#define HV_LAYER(values, count)
#endif
"""


def write_c(
    spec: VerifierSpec, theta: np.ndarray, precision: str = "int8", thresholds: dict[str, float] | None = None
) -> dict[str, bytes]:
    """File name → content for θ float32 [P]; `thresholds` by operating point go into the header.

    Deterministic. Raises ArtifactError (wrong θ, or a layer kind that C has no kernel for).
    """
    writer = _Writer(spec, theta, precision)
    return {
        HEADER: writer.header(thresholds or {}).encode(),
        SOURCE: writer.source().encode(),
    }


def write_c_single(spec: VerifierSpec, theta: np.ndarray, precision: str = "int8") -> bytes:
    """Header and source in one file that compiles alone: the form inside a bundle."""
    files = write_c(spec, theta, precision)
    return files[HEADER] + b"\n" + files[SOURCE].removeprefix(f'#include "{HEADER}"\n'.encode())


def shown_maps(spec: VerifierSpec) -> list[tuple[str, int]]:
    """(layer, number of its map) in the order of HV_LAYER: those of one half of the face, of the other, the rest."""
    rest = [(name, 0) for name in spec.maps if name not in spec.halved]
    return [(name, half) for half in (0, 1) for name in spec.halved] + rest


class _Writer:
    """The text of both files."""

    def __init__(self, spec: VerifierSpec, theta: np.ndarray, precision: str):
        self.spec, self.precision = spec, precision
        self.activation, self.score, self.width_bytes = _TYPES[precision]
        self.real = layer_tensors(spec, theta)
        if precision == "int8":
            check_additions(spec)
        self.quantised = quantise(spec, theta) if precision == "int8" else {}
        self.plan: Plan = plan_arena(spec, self.width_bytes)
        self.arrays: list[str] = []

    def header(self, thresholds: dict[str, float]) -> str:
        unit, aligned = (
            ("steps of 1/128", "") if self.precision == "int8" else ("its own unit", ", aligned as a float is")
        )
        lines = [
            "/* One person's face verifier. Its weights are that person's biometric template: keep them secret.",
            f"   Spec {self.spec.hash}, {self.precision}. */",
            "#ifndef HV_VERIFIER_H",
            "#define HV_VERIFIER_H",
            "#include <stdint.h>",
            "",
            f"#define HV_INPUT_PX {self.spec.input_px}",
            "/* Of a face aligned to 112 by 112 pixels, the square that is shown in these: its corner and its side. */",
            *(f"#define HV_REGION_{k} {v}" for k, v in zip(("LEFT", "TOP", "SIZE"), self.spec.region, strict=True)),
            f"#define HV_ARENA_BYTES {self.plan.size_bytes}",
            "/* Accept a score at or above the threshold of the operating point that you choose. */",
            *(f"#define HV_THRESHOLD_{_identifier(k)} {self._threshold(v)}" for k, v in sorted(thresholds.items())),
            "",
            f"/* Score, in {unit}, of one aligned face: RGB, row by row, HV_INPUT_PX squared. `arena` is",
            f"   HV_ARENA_BYTES of working memory{aligned}. Nothing outlives the call: threads with an arena each",
            "   may call this at once. */",
            f"{self.score} hv_score(const uint8_t rgb[HV_INPUT_PX * HV_INPUT_PX * 3], void *arena);",
            "",
            "#endif",
        ]
        return "\n".join(lines) + "\n"

    def _threshold(self, value: float) -> str:
        return f"({math.ceil(value * 128)})" if self.precision == "int8" else f"({_float(value)})"

    def source(self) -> str:
        body = "\n".join(f"    {line}" for line in self._body())
        kernels = _kernels(self.precision, "halves" if self.spec.halved else "whole")
        for name, value in self._constants().items():
            kernels = kernels.replace(f"@{name}@", str(value))
        return "\n".join(
            [
                f'#include "{HEADER}"\n',
                _INLINE,
                kernels,
                *self.arrays,
                f"{self.score} hv_score(const uint8_t rgb[HV_INPUT_PX * HV_INPUT_PX * 3], void *arena) {{",
                f"    {self.activation} *const memory = ({self.activation} *)arena;",
                *(["    int map;"] if self.spec.halved else []),
                body,
                f"    return *({self._at(self.spec.head.name)});",
                "}\n",
            ]
        )

    def _body(self) -> list[str]:
        """A call for each layer; of those before the mean, all for one half of the face, then all for the other."""
        lines, x, indent = [], "image", ""
        if not self.spec.halved:
            lines.append(f"hv_image(rgb, {self._at(x)}, {self.spec.input_px**2 * 3});")
        for layer in self.spec.layers:
            write = getattr(self, f"write_{layer.kind}", None)
            if write is None:
                raise ArtifactError(f"layer {layer.name}: the C writer does not know the kind {layer.kind}")
            if layer.kind == "halves":
                lines.append("for (map = 0; map < 2; map++) {")
                indent = "    "
            if layer.kind == "mean":
                lines.append("}")
                indent = ""
            lines.append(indent + write(layer, x))
            lines.append(f"{indent}HV_LAYER({self._to(layer)}, {prod(self.spec.shape(layer)[1:])})")
            x = layer.name
        return lines

    def _constants(self) -> dict[str, object]:
        convs = [layer for layer in self.spec.layers if layer.kind == "conv"]
        windows = [layer for layer in self.spec.layers if layer.kind in ("conv", "depthwise")]
        widest = max(3, *(layer.out_channels for layer in self.spec.layers))  # the picture's colours are channels too
        factor = LINEAR.scale / LEAKY.scale * 256
        return {
            "MAX_CHANNELS": widest,
            "MAX_ROW": max(layer.kernel**2 * layer.in_channels for layer in convs),
            "MAX_TAPS": max(layer.kernel**2 for layer in windows),
            **self._extents(windows),
            "LEAKY_ZERO": LEAKY.zero,
            "POSITIVE": round(factor),
            "NEGATIVE": round(factor * LEAKY_SLOPE),
            "SLOPE": LEAKY_SLOPE,
        }

    def _extents(self, windows: list[Layer]) -> dict[str, object]:
        """The most values that the x86 kernels keep: of a map with its border, and of a depthwise layer's rows."""
        padded = {d.name: [side + 2 * d.padding for side in self._size_before(d)] for d in windows}
        convs, depthwise = ([layer for layer in windows if layer.kind == kind] for kind in ("conv", "depthwise"))
        row = [-(-padded[d.name][1] // d.stride) * d.stride * d.in_channels for d in depthwise]
        return {
            "MAX_KERNEL": max(layer.kernel for layer in windows),
            "MAX_RUN": max(layer.kernel * layer.in_channels for layer in convs),
            "MAX_MAP": max(prod(padded[layer.name]) * layer.in_channels for layer in convs),
            "MAX_PADDED_ROW": max(row, default=1),
            "MAX_OUT_ROW": max((self.spec.sizes[d.name][1] * d.out_channels for d in depthwise), default=1),
        }

    def _size_before(self, layer: Layer) -> tuple[int, int]:
        """Height and width of what a layer reads."""
        place = self.spec.layers.index(layer)
        return self.spec.sizes[self.spec.layers[place - 1].name] if place else (self.spec.input_px,) * 2

    def _at(self, name: str) -> str:
        return f"memory + {self.plan.offsets[name] // self.width_bytes}"

    def _to(self, layer: Layer) -> str:
        """Where a layer's output goes; the last before the mean keeps what it makes of either half."""
        kept = layer.name in self.spec.halved[-1:]
        return self._at(layer.name) + (f" + map * {prod(self.spec.shape(layer)[1:])}" if kept else "")

    def write_halves(self, layer: Layer, _: str) -> str:
        return f"hv_half(rgb, {self._to(layer)}, {self.spec.input_px}, {layer.kernel}, map);"

    def write_mean(self, layer: Layer, x: str) -> str:
        return f"hv_mean({self._at(x)}, {self._to(layer)}, {prod(self.spec.shape(layer))});"

    def write_add(self, layer: Layer, x: str) -> str:
        if layer.activation != "linear":
            raise ArtifactError(f"layer {layer.name}: the C writer knows no {layer.activation} addition")
        count = prod(self.spec.shape(layer)[1:])
        return f"hv_add({self._at(x)}, {self._at(layer.skip)}, {self._to(layer)}, {count});"

    def write_conv(self, layer: Layer, x: str) -> str:
        return self._weighted("hv_conv", layer, x, (2, 3, 1, 0))  # [out, in, k, k] to [k, k, in, out]

    def write_depthwise(self, layer: Layer, x: str) -> str:
        return self._weighted("hv_depthwise", layer, x, (2, 3, 1, 0))

    def write_dense(self, layer: Layer, x: str) -> str:
        if layer.out_channels != 1:
            raise ArtifactError(f"layer {layer.name}: the C writer knows a dense layer with one output only")
        return self._weighted("hv_dense", layer, x, (2, 3, 1, 0))  # [1, in, k, k] to [k, k, in], as the map lies

    def _weighted(self, kernel: str, layer: Layer, x: str, order: tuple[int, ...]) -> str:
        name = _identifier(layer.name).lower()
        size_in, size_out = self._size_before(layer), self.spec.sizes[layer.name]
        shape = [*size_in, layer.in_channels, *size_out, layer.out_channels,
                 layer.kernel, layer.stride, layer.padding]  # fmt: skip
        if self.precision == "int8":
            fields = [*shape, *self._integer_fields(name, layer, order)]
        else:
            weight = self.real[f"{layer.name}.weight"].transpose(order).ravel()
            self._array("float", f"{name}_weight", map(_float, weight.tolist()))
            self._array("float", f"{name}_bias", map(_float, self.real[f"{layer.name}.bias"].tolist()))
            clipped = int(layer.kind != "dense")
            fields = [*shape, int(layer.activation == "leaky"), clipped, f"{name}_weight", f"{name}_bias"]
        self.arrays.append(f"static const hv_layer {name} = {{{', '.join(map(str, fields))}}};\n")
        return f"{kernel}(&{name}, {self._at(x)}, {self._to(layer)});"

    def _integer_fields(self, name: str, layer: Layer, order: tuple[int, ...]) -> list[object]:
        q: QuantisedLayer = self.quantised[layer.name]
        multipliers, shifts = zip(*channel_factors(q), strict=True)
        self._array("int8_t", f"{name}_weight", map(str, q.weight.transpose(order).ravel().tolist()))
        self._array("int32_t", f"{name}_bias", map(str, q.bias.tolist()))
        self._array("int32_t", f"{name}_multiplier", map(str, multipliers))
        self._array("int32_t", f"{name}_shift", (str(shift - 32) for shift in shifts))
        pointers = [f"{name}_{part}" for part in ("weight", "bias", "multiplier", "shift")]
        return [q.input.zero, int(layer.activation == "leaky"), *pointers]

    def _array(self, kind: str, name: str, values: Iterable[str]) -> None:
        lines, line = [], "   "
        for value in values:
            if len(line) + len(value) + 2 > _LINE:
                lines.append(line)
                line = "   "
            line += f" {value},"
        body = "\n".join([*lines, line])
        self.arrays.append(f"static const {kind} {name}[] = {{\n{body}\n}};")


def _kernels(precision: str, views: str) -> str:
    """The precision's file, with the files that it names between @ in their places, and what reads the pixels."""
    text = "\n".join((KERNELS / f"{name}.c").read_text() for name in (precision, views))
    for part in ("common", "portable", "int8_x86", "vectors_avx512", "vectors_avx2", "int8_neon"):
        text = text.replace(f"@{part}@", (KERNELS / f"{part}.c").read_text().rstrip())
    return text


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name).upper()


def _float(value: float) -> str:
    """A C literal that reads back to exactly this float32."""
    text = repr(float(np.float32(value)))
    return (text if any(c in text for c in ".e") else f"{text}.0") + "f"
