"""Write the verifier as ONNX, directly from the spec: fp32, or int8 in QDQ form with int8 input and output.

Input `image` [1, 3, H, W] RGB: fp32 (pixel - 128) / 128, or int8 pixel - 128. Output `score` [1, 1]: fp32, or int8 in
steps of 1/128. Opset 17 and IR 8, which ONNX Runtime 1.14 and later on a Raspberry Pi read.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from export.quantize import LEAKY, LINEAR, QuantisedLayer, layer_tensors, quantise, summed
from models.spec import LEAKY_SLOPE, Layer, VerifierSpec
from toolkit.errors import ArtifactError

OPSET = 17
IR_VERSION = 8

# Four of the leaky function's 256 results lie exactly between two steps. QuantizeLinear takes the even one, every other
# form the upper one; moved up by this fraction, which is a thousand times less than any other result needs to change,
# they round as everywhere else.
ROUND_UP = 1e-6


class _Writer(ABC):
    """What both precisions share: nodes, initialisers, and one method per layer kind."""

    def __init__(self, spec: VerifierSpec):
        self.spec = spec
        self.nodes: list[onnx.NodeProto] = []
        self.initialisers: list[onnx.TensorProto] = []
        self.values: dict[str, str] = {}

    def node(self, kind: str, inputs: list[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    def tensor(self, name: str, value: np.ndarray | np.generic) -> str:
        self.initialisers.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def build(self) -> None:
        """Walk the layers; `values` maps a layer to the tensor that later layers read."""
        values = self.values
        self.begin()
        # Halves are cut from the picture in the file's own type.
        x = "image" if self.spec.halved else self.read("image")
        for layer in self.spec.layers:
            write = getattr(self, f"write_{layer.kind}", None)
            if write is None:
                raise ArtifactError(f"layer {layer.name}: the ONNX writer does not know the kind {layer.kind}")
            x = values[layer.name] = write(layer, x, values)
        self.end(x)

    @abstractmethod
    def begin(self) -> None:
        """Write what all layers need."""

    @abstractmethod
    def read(self, x: str) -> str:
        """The value of a tensor in the file's own type and the input's scale."""

    @abstractmethod
    def end(self, x: str) -> None:
        """Turn the last tensor into `score`."""

    @abstractmethod
    def stored(self, x: str) -> str:
        """The tensor in the file's own type that a layer's value comes from."""

    @abstractmethod
    def parameters(self, layer: Layer) -> list[str]:
        """Names of the layer's weight and bias."""

    @abstractmethod
    def finish(self, layer: Layer, x: str) -> str:
        """Clip and activate a layer's raw output."""

    def part(self, x: str, name: str, axis: int, begin: int, end: int, step: int = 1) -> str:
        given = [("starts", begin), ("ends", end), ("axes", axis), ("steps", step)]
        return self.node("Slice", [x, *(self.tensor(f"{name}.{k}", np.array([v])) for k, v in given)], name)

    def write_halves(self, layer: Layer, x: str, _: dict[str, str]) -> str:
        last, width, name = self.spec.input_px - 1, layer.kernel, layer.name
        left = self.part(x, f"{name}.left", 3, 0, width)
        right = self.part(x, f"{name}.right", 3, last, last - width, -1)
        return self.read(self.node("Concat", [left, right], name, axis=0))

    def write_mean(self, layer: Layer, x: str, _: dict[str, str]) -> str:
        left, right = (self.part(x, f"{layer.name}.{i}", 0, i, i + 1) for i in range(2))
        return self.averaged(layer, self.node("Add", [left, right], f"{layer.name}.sum"))

    @abstractmethod
    def averaged(self, layer: Layer, x: str) -> str:
        """What the layers after a mean read, from the sum x of two maps."""

    def write_conv(self, layer: Layer, x: str, _: dict[str, str]) -> str:
        name = f"{layer.name}.conv"
        self.node(
            "Conv", [x, *self.parameters(layer)], name,
            kernel_shape=[layer.kernel] * 2, strides=[layer.stride] * 2, pads=[layer.padding] * 4,
            group=layer.in_channels if layer.kind == "depthwise" else 1,
        )  # fmt: skip
        return self.finish(layer, name)

    write_depthwise = write_conv

    def write_add(self, layer: Layer, x: str, values: dict[str, str]) -> str:
        return self.finish(layer, self.node("Add", [x, values[layer.skip]], f"{layer.name}.sum"))

    def write_dense(self, layer: Layer, x: str, _: dict[str, str]) -> str:
        flat = self.node("Flatten", [x], f"{layer.name}.flat")
        return self.node("Gemm", [flat, *self.parameters(layer)], f"{layer.name}.gemm", transB=1)

    def shape(self, layer: Layer) -> list[int]:
        maps, height, width, channels = self.spec.shape(layer)
        return [maps, channels, height, width]

    def model(self, kind: int, precision: str, every_layer: bool) -> bytes:
        """Serialise, checked with full shape inference."""
        side = self.spec.input_px
        value = helper.make_tensor_value_info
        outputs = [value("score", kind, [1, 1])]
        if every_layer:
            outputs += [value(self.stored(self.values[x.name]), kind, self.shape(x)) for x in self.spec.layers[:-1]]
        graph = helper.make_graph(
            self.nodes, f"verifier_{precision}", [value("image", kind, [1, 3, side, side])], outputs, self.initialisers
        )
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="hyperverify")
        model.ir_version = IR_VERSION
        helper.set_model_props(
            model, {"spec_hash": self.spec.hash, "spec": json.dumps(self.spec.to_dict(), sort_keys=True)}
        )
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString(deterministic=True))


class _Float(_Writer):
    def __init__(self, spec: VerifierSpec, theta: np.ndarray):
        super().__init__(spec)
        self.tensors = layer_tensors(spec, theta)

    def begin(self) -> None:
        self.tensor("low", np.float32(-1.0))
        self.tensor("high", np.float32(1.0))

    def read(self, x: str) -> str:
        return x

    def averaged(self, layer: Layer, x: str) -> str:
        return self.node("Mul", [x, self.tensor("half", np.float32(0.5))], layer.name)

    def end(self, x: str) -> None:
        self.node("Identity", [x], "score")

    def stored(self, x: str) -> str:
        return x

    def parameters(self, layer: Layer) -> list[str]:
        weight, bias = f"{layer.name}.weight", f"{layer.name}.bias"
        return [self.tensor(weight, _shaped(layer, self.tensors[weight])), self.tensor(bias, self.tensors[bias])]

    def finish(self, layer: Layer, x: str) -> str:
        clipped = self.node("Clip", [x, "low", "high"], f"{layer.name}.clip")
        if layer.activation == "linear":
            return clipped
        return self.node("LeakyRelu", [clipped], f"{layer.name}.leaky", alpha=LEAKY_SLOPE)


class _Int8(_Writer):
    def __init__(self, spec: VerifierSpec, theta: np.ndarray):
        super().__init__(spec)
        self.layers = quantise(spec, theta)

    def begin(self) -> None:
        for name, s in (("linear", LINEAR), ("leaky", LEAKY)):
            self.tensor(f"{name}.scale", np.float32(s.scale))
            self.tensor(f"{name}.zero", np.int8(s.zero))
        self.tensor("leaky.scale.up", np.float32(LEAKY.scale * (1 - ROUND_UP)))

    def read(self, x: str) -> str:
        return self.dequantised(x, "linear")

    def averaged(self, layer: Layer, x: str) -> str:
        total = summed(LEAKY)
        self.tensor("sum.scale", np.float32(total.scale))
        # Every second sum lies between two steps: moved up by a thousandth of one, it rounds up as everywhere else.
        up = self.tensor("sum.up", np.float32(total.scale / 1000))
        q = self.node("QuantizeLinear", [self.node("Add", [x, up], f"{x}.up"), "sum.scale", "leaky.zero"], layer.name)
        return self.node("DequantizeLinear", [q, "sum.scale", "leaky.zero"], f"{q}.real")

    def end(self, x: str) -> None:
        self.node("QuantizeLinear", [x, "linear.scale", "linear.zero"], "score")

    def stored(self, x: str) -> str:
        return x.removesuffix(".real")

    def dequantised(self, x: str, kind: str) -> str:
        return self.node("DequantizeLinear", [x, f"{kind}.scale", f"{kind}.zero"], f"{x}.real")

    def requantised(self, x: str, kind: str) -> str:
        scale = "leaky.scale.up" if kind == "leaky" else f"{kind}.scale"
        q = self.node("QuantizeLinear", [x, scale, f"{kind}.zero"], f"{x}.q")
        return self.dequantised(q, kind)

    def parameters(self, layer: Layer) -> list[str]:
        q = self.layers[layer.name]
        name = f"{layer.name}.weight"
        # A dense layer has one output, hence one scale: per-tensor, which is the form that runtimes fuse.
        per_channel = layer.kind != "dense"
        scale = q.weight_scale if per_channel else np.float32(q.weight_scale[0])
        zero = np.zeros_like(scale, np.int8)
        axis = {"axis": 0} if per_channel else {}
        inputs = [
            self.tensor(f"{name}.q", _shaped(layer, q.weight)),
            self.tensor(f"{name}.scale", scale),
            self.tensor(f"{name}.zero", zero),
        ]
        weight = self.node("DequantizeLinear", inputs, name, **axis)
        return [weight, self._bias(layer, q, per_channel)]

    def _bias(self, layer: Layer, q: QuantisedLayer, per_channel: bool) -> str:
        name = f"{layer.name}.bias"
        scale = q.weight_scale * np.float32(q.input.scale)
        inputs = [
            self.tensor(f"{name}.q", q.bias),
            self.tensor(f"{name}.scale", scale if per_channel else scale[0]),
            self.tensor(f"{name}.zero", np.zeros_like(scale if per_channel else scale[0], np.int32)),
        ]
        return self.node("DequantizeLinear", inputs, name, **({"axis": 0} if per_channel else {}))

    def finish(self, layer: Layer, x: str) -> str:
        x = self.requantised(x, "linear")
        if layer.activation == "linear":
            return x
        alpha = LEAKY_SLOPE * (1 - 4 * ROUND_UP)
        return self.requantised(self.node("LeakyRelu", [x], f"{layer.name}.leaky", alpha=alpha), "leaky")


def _shaped(layer: Layer, weight: np.ndarray) -> np.ndarray:
    """A dense layer's weight as the matrix that Gemm takes, [out, in * side * side]."""
    return weight.reshape(layer.out_channels, -1) if layer.kind == "dense" else weight


def write_onnx(spec: VerifierSpec, theta: np.ndarray, precision: str = "fp32", every_layer: bool = False) -> bytes:
    """The file for θ float32 [P]; precision "fp32" or "int8". Deterministic. Raises ArtifactError for a wrong θ.

    With `every_layer` the outputs are the score and then each layer before it, for comparing layer by layer.
    """
    if precision == "int8":
        integer = _Int8(spec, theta)
        integer.build()
        return integer.model(TensorProto.INT8, "int8", every_layer)
    real = _Float(spec, theta)
    real.build()
    return real.model(TensorProto.FLOAT, "fp32", every_layer)


def read_theta(spec: VerifierSpec, data: bytes) -> np.ndarray:
    """The θ float32 [P] that `write_onnx` made this fp32 file from. Raises ArtifactError."""
    try:
        model = onnx.load_from_string(data)
        tensors = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        theta = np.concatenate([tensors[slot.name].reshape(slot.size) for slot in spec.slots.values()])
    except (KeyError, ValueError, DecodeError) as error:
        raise ArtifactError("this is not the spec's fp32 ONNX file", got=str(error)[:200]) from error
    found = {p.key: p.value for p in model.metadata_props}.get("spec_hash")
    if found != spec.hash:
        raise ArtifactError("the ONNX file is of another spec", got=found, expected=spec.hash, do="enrol again")
    return theta
