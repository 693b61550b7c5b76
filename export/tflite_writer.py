"""Write the verifier as TFLite, straight through the flatbuffer schema: fp32, int8, or int8 that takes the pixels.

Input [1, H, W, 3] RGB: fp32 (pixel - 128) / 128, int8 pixel - 128, or ("uint8") the pixels themselves. Output [1, 1]:
fp32, or int8 in steps of 1/128.
No TensorFlow and no tracing: the graph is known, so writing it takes milliseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from export.quantize import LEAKY, LINEAR, QuantisedLayer, Scale, layer_tensors, output_scale, quantise, summed
from models.spec import LEAKY_SLOPE, Layer, VerifierSpec
from toolkit.errors import ArtifactError

_FLOAT, _INT8 = schema.TensorType.FLOAT32, schema.TensorType.INT8
_INT32, _UINT8 = schema.TensorType.INT32, schema.TensorType.UINT8
_CLIP = schema.ActivationFunctionType.RELU_N1_TO_1
_NONE = schema.ActivationFunctionType.NONE

# Operator versions that accept int8; TFLite refuses an int8 operator declared at version 1.
_VERSIONS = {
    "CONV_2D": (1, 3),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 4),
    "ADD": (1, 2),
    "MUL": (1, 2),
    "STRIDED_SLICE": (1, 2),
    "CONCATENATION": (1, 2),
    "PAD": (1, 2),
    "LEAKY_RELU": (1, 2),
    "QUANTIZE": (1, 2),
}
PIXELS = Scale(1 / 128, 128)  # uint8: the same real values as int8 pixel - 128


class _SharingBuilder(flatbuffers.Builder):  # type: ignore[misc]
    """Writes equal vectors and equal strings once: a third of a file this small is zero points, scales and shapes."""

    def __init__(self) -> None:
        super().__init__(1 << 16)
        self.written: dict[object, int] = {}

    def once(self, key: object, write: Callable[[], int]) -> int:
        if key not in self.written:
            self.written[key] = write()
        return self.written[key]

    def CreateNumpyVector(self, x: np.ndarray) -> int:  # noqa: N802  (flatbuffers' name)
        return self.once((x.dtype.str, x.tobytes()), lambda: self._vector(x))

    def CreateString(self, s: str) -> int:  # noqa: N802
        return self.once(s, lambda: super(_SharingBuilder, self).CreateString(s))

    def _vector(self, x: np.ndarray) -> int:
        """The schema wants tensor data, the only uint8 vectors, on 16 bytes."""
        self.StartVector(x.itemsize, x.size, 16 if x.dtype == np.uint8 else x.itemsize)
        self.head -= x.nbytes
        self.Bytes[self.head : self.head + x.nbytes] = x.tobytes()
        self.vectorNumElems = x.size
        return int(self.EndVector())


class _Shared:
    """A table that may have several owners and is written once."""

    def __init__(self, table: Any):
        self.table = table

    def Pack(self, builder: _SharingBuilder) -> int:  # noqa: N802  (flatbuffers' name)
        return builder.once(id(self), lambda: self.table.Pack(builder))


class _Writer:
    """A model under construction. Tensors are referred to by their index; the layers' outputs have names as well."""

    def __init__(self, spec: VerifierSpec, theta: np.ndarray, precision: str):
        self.spec, self.integer, self.takes_pixels = spec, precision != "fp32", precision == "uint8"
        self.real = layer_tensors(spec, theta)
        self.quantised = quantise(spec, theta) if self.integer else {}
        self.tensors: list[Any] = []
        self.buffers: list[Any] = [schema.BufferT()]  # number 0 means "no data" to TFLite
        self.operators: list[Any] = []
        self.codes: list[str] = []
        self.tables: dict[object, _Shared] = {}
        self.values: dict[str, int] = {}

    def tensor(
        self, name: str, shape: tuple[int, ...], kind: int, data: np.ndarray | None = None,
        scales: np.ndarray | None = None, zero: int = 0, axis: int = 0,
    ) -> int:  # fmt: skip
        tensor = schema.TensorT()
        tensor.name, tensor.shape, tensor.type = name or None, np.array(shape, np.int32), kind
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
            tensor.buffer = len(self.buffers)
            self.buffers.append(buffer)
        if scales is not None:
            tensor.quantization = self.quantisation(np.asarray(scales, np.float32), zero, axis)
        self.tensors.append(tensor)
        return len(self.tensors) - 1

    def quantisation(self, scales: np.ndarray, zero: int, axis: int) -> _Shared:
        parameters = schema.QuantizationParametersT()
        parameters.scale, parameters.zeroPoint = scales, np.full(len(scales), zero, np.int64)
        parameters.quantizedDimension = axis
        return self.shared(parameters, (scales.tobytes(), zero, axis))

    def shared(self, table: Any, key: object) -> _Shared:
        return self.tables.setdefault(key, _Shared(table))

    def activation(self, name: str, shape: tuple[int, ...], scale: Scale) -> int:
        if not self.integer:
            return self.tensor(name, shape, _FLOAT)
        return self.tensor(name, shape, _INT8, scales=np.array([scale.scale]), zero=scale.zero)

    def operator(self, kind: str, inputs: list[int], output: int, options: Any) -> int:
        operator = schema.OperatorT()
        if kind not in self.codes:
            self.codes.append(kind)
        operator.opcodeIndex, operator.inputs, operator.outputs = self.codes.index(kind), inputs, [output]
        operator.builtinOptions = self.shared(options, (kind, *vars(options).values()))
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__.removesuffix("T"))
        self.operators.append(operator)
        return output

    def build(self) -> None:
        """Walk the layers; `values` maps a layer to the tensor that later layers read."""
        side, scale = self.spec.input_px, LINEAR
        x = (
            self._pixels((1, side, side, 3))
            if self.takes_pixels
            else self.activation("image", (1, side, side, 3), scale)
        )
        values = self.values
        for layer in self.spec.layers:
            write = getattr(self, f"write_{layer.kind}", None)
            if write is None:
                raise ArtifactError(f"layer {layer.name}: the TFLite writer does not know the kind {layer.kind}")
            x = values[layer.name] = write(layer, self._padded(layer, x, scale), values)
            scale = output_scale(layer, scale)

    def _pixels(self, shape: tuple[int, ...]) -> int:
        """uint8 input, tensor 0, and the int8 tensor that the layers read."""
        image = self.tensor("image", shape, _UINT8, scales=np.array([PIXELS.scale]), zero=PIXELS.zero)
        return self.operator("QUANTIZE", [image], self.activation("centred", shape, LINEAR), schema.QuantizeOptionsT())

    def _padded(self, layer: Layer, x: int, scale: Scale) -> int:
        """TFLite's SAME padding is not symmetric at stride 2, so padding is then a step of its own."""
        p = layer.padding
        if not p or _same(layer):
            return x
        maps, height, width, channels = self.tensors[x].shape
        amounts = np.array([[0, 0], [p, p], [p, p], [0, 0]], np.int32)
        paddings = self.tensor("", (4, 2), _INT32, amounts)
        output = self.activation("", (maps, height + 2 * p, width + 2 * p, channels), scale)
        return self.operator("PAD", [x, paddings], output, schema.PadOptionsT())

    def _parameters(self, layer: Layer, order: tuple[int, ...], axis: int) -> list[int]:
        """Weight (its axes in TFLite's order) and bias."""
        name = layer.name
        if not self.integer:
            weight = self.real[f"{name}.weight"].transpose(order)
            return [
                self.tensor("", weight.shape, _FLOAT, weight),
                self.tensor("", (layer.out_channels,), _FLOAT, self.real[f"{name}.bias"]),
            ]
        q: QuantisedLayer = self.quantised[name]
        weight = q.weight.transpose(order)
        return [
            self.tensor("", weight.shape, _INT8, weight, q.weight_scale, axis=axis),
            self.tensor("", (layer.out_channels,), _INT32, q.bias, q.weight_scale * np.float32(q.input.scale)),
        ]

    def _activated(self, layer: Layer, x: int) -> int:
        if layer.activation == "linear":
            return x
        options = schema.LeakyReluOptionsT()
        options.alpha = LEAKY_SLOPE
        output = self.activation("", self.spec.shape(layer), LEAKY)
        return self.operator("LEAKY_RELU", [x], output, options)

    def _part(self, x: int, begin: tuple[int, ...], end: tuple[int, ...], strides: tuple[int, ...]) -> int:
        """A slice of tensor x, as Python would take it."""
        given = [self.tensor("", (4,), _INT32, np.array(row, np.int32)) for row in (begin, end, strides)]
        whole = self.tensors[x]
        shape = tuple(len(range(*row)) for row in zip(begin, end, strides, strict=True))
        output = self.tensor("", shape, whole.type)
        self.tensors[output].quantization = whole.quantization
        return self.operator("STRIDED_SLICE", [x, *given], output, schema.StridedSliceOptionsT())

    def write_halves(self, layer: Layer, x: int, _: dict[str, int]) -> int:
        _, height, side, channels = self.tensors[x].shape
        # XNNPACK does not mirror. First, that one step leaves all others to one delegate.
        right = self._part(x, (0, 0, side - 1, 0), (1, height, side - 1 - layer.kernel, channels), (1, 1, -1, 1))
        left = self._part(x, (0, 0, 0, 0), (1, height, layer.kernel, channels), (1, 1, 1, 1))
        options = schema.ConcatenationOptionsT()
        options.axis, options.fusedActivationFunction = 0, _NONE
        output = self.activation(layer.name, self.spec.shape(layer), LINEAR)
        return self.operator("CONCATENATION", [left, right], output, options)

    def write_mean(self, layer: Layer, x: int, _: dict[str, int]) -> int:
        maps, *size = self.tensors[x].shape
        parts = [self._part(x, (i, 0, 0, 0), (i + 1, *size), (1, 1, 1, 1)) for i in range(maps)]
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _NONE
        shape = self.spec.shape(layer)
        if self.integer:
            return self.operator("ADD", parts, self.activation(layer.name, shape, summed(LEAKY)), options)
        added = self.operator("ADD", parts, self.activation("", shape, LINEAR), options)
        half = self.tensor("", (1,), _FLOAT, np.array([0.5], np.float32))
        halved = schema.MulOptionsT()
        halved.fusedActivationFunction = _NONE
        return self.operator("MUL", [added, half], self.activation(layer.name, shape, LINEAR), halved)

    def write_conv(self, layer: Layer, x: int, _: dict[str, int]) -> int:
        options = schema.Conv2DOptionsT()
        options.padding, options.strideW, options.strideH = _padding(layer), layer.stride, layer.stride
        options.fusedActivationFunction = _CLIP
        output = self.activation(layer.name, self.spec.shape(layer), LINEAR)
        self.operator("CONV_2D", [x, *self._parameters(layer, (0, 2, 3, 1), 0)], output, options)
        return self._activated(layer, output)

    def write_depthwise(self, layer: Layer, x: int, _: dict[str, int]) -> int:
        options = schema.DepthwiseConv2DOptionsT()
        options.padding, options.strideW, options.strideH = _padding(layer), layer.stride, layer.stride
        options.depthMultiplier, options.fusedActivationFunction = 1, _CLIP
        output = self.activation(layer.name, self.spec.shape(layer), LINEAR)
        self.operator("DEPTHWISE_CONV_2D", [x, *self._parameters(layer, (1, 2, 3, 0), 3)], output, options)
        return self._activated(layer, output)

    def write_add(self, layer: Layer, x: int, values: dict[str, int]) -> int:
        options = schema.AddOptionsT()
        options.fusedActivationFunction = _CLIP
        output = self.activation(layer.name, self.spec.shape(layer), LINEAR)
        self.operator("ADD", [x, values[layer.skip]], output, options)
        return self._activated(layer, output)

    def write_dense(self, layer: Layer, x: int, _: dict[str, int]) -> int:
        options = schema.FullyConnectedOptionsT()
        options.fusedActivationFunction = _NONE
        output = self.activation("score", (1, 1), LINEAR)
        weight, bias = self._parameters(layer, (0, 2, 3, 1), 0)
        row = np.array([layer.out_channels, self.tensors[weight].shape[1:].prod()], np.int32)
        self.tensors[weight].shape = row  # a row an output: the map's values as they lie in memory
        return self.operator("FULLY_CONNECTED", [x, weight, bias], output, options)

    def model(self, every_layer: bool) -> bytes:
        graph = schema.SubGraphT()
        graph.tensors, graph.operators, graph.name = self.tensors, self.operators, "verifier"
        score, *before = (self.values[layer.name] for layer in reversed(self.spec.layers))
        graph.inputs, graph.outputs = [0], [score, *reversed(before)] if every_layer else [score]
        model = schema.ModelT()
        model.version, model.subgraphs, model.description = 3, [graph], f"hyperverify {self.spec.hash}"
        model.buffers, model.operatorCodes = self.buffers, [self._code(name) for name in self.codes]
        builder = _SharingBuilder()
        builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
        return bytes(builder.Output())

    def _code(self, name: str) -> Any:
        code = schema.OperatorCodeT()
        code.builtinCode = getattr(schema.BuiltinOperator, name)
        code.deprecatedBuiltinCode = min(code.builtinCode, 127)  # readers from before 2020 look only here
        code.version = _VERSIONS[name][self.integer]
        return code


def _same(layer: Layer) -> bool:
    """Whether TFLite's SAME padding is the layer's."""
    return layer.stride == 1 and 2 * layer.padding == layer.kernel - 1


def _padding(layer: Layer) -> int:
    return int(schema.Padding.SAME if layer.padding and _same(layer) else schema.Padding.VALID)


def write_tflite(spec: VerifierSpec, theta: np.ndarray, precision: str = "fp32", every_layer: bool = False) -> bytes:
    """The file for θ float32 [P]; precision "fp32", "int8" or "uint8". Deterministic.

    Raises ArtifactError for a wrong θ.

    With `every_layer` the outputs are the score and then each layer before it, for comparing layer by layer.
    """
    writer = _Writer(spec, theta, precision)
    writer.build()
    return writer.model(every_layer)
