"""Turn block-quantised ONNX files into plain float ones.

The OpenCV zoo's `int8bq` files store each weight as int8 blocks behind DequantizeLinear (and Reshape). ONNX Runtime
refuses some of them and OpenCV others, so those nodes are computed once here and replaced by float initialisers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def _dequantise(node: Any, values: dict[str, np.ndarray]) -> np.ndarray:
    """Blocked DequantizeLinear: scale and zero point repeat `block_size` times along `axis`."""
    quantised, scale, zero = (values[name] for name in node.input)
    attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    axis, block = attributes.get("axis", 1), attributes.get("block_size", 0)
    if block:
        length = quantised.shape[axis]
        scale = np.repeat(scale, block, axis)
        zero = np.repeat(zero, block, axis)
        scale, zero = (np.take(t, range(length), axis) for t in (scale, zero))
    elif scale.ndim == 1 and quantised.ndim > 1:
        shape = [1] * quantised.ndim
        shape[axis] = -1
        scale, zero = scale.reshape(shape), zero.reshape(shape)
    return np.asarray((quantised.astype(np.float32) - zero.astype(np.float32)) * scale, np.float32)


def fold_block_quantised(path: Path, *, batch: bool = False) -> onnx.ModelProto:
    """Load `path` and return it with float weights. `batch` makes the first dimension of input and output free.

    Unused initialisers, and initialisers listed as graph inputs, are dropped.
    """
    model = onnx.load(str(path))
    graph = model.graph
    values = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    kept: list[Any] = []
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and all(name in values for name in node.input):
            values[node.output[0]] = _dequantise(node, values)
        elif node.op_type == "Reshape" and all(name in values for name in node.input):
            data, shape = (values[name] for name in node.input)
            values[node.output[0]] = data.reshape(shape)
        else:
            kept.append(node)
    used = {name for node in kept for name in node.input}
    inputs = [i for i in graph.input if i.name in used and i.name not in values]
    del graph.node[:], graph.initializer[:], graph.input[:], graph.value_info[:]
    graph.node.extend(kept)
    graph.input.extend(inputs)
    graph.initializer.extend(numpy_helper.from_array(values[n], n) for n in sorted(used & set(values)))
    if batch:
        for io in (*graph.input, *graph.output):
            io.type.tensor_type.shape.dim[0].dim_param = "batch"
    return model


def detector_file(path: Path) -> bytes:
    """YuNet as the device gets it: float weights, free height and width, deterministic bytes."""
    model = fold_block_quantised(path)
    height, width = model.graph.input[0].type.tensor_type.shape.dim[2:]
    height.dim_param, width.dim_param = "height", "width"
    for output in model.graph.output:
        output.type.tensor_type.shape.dim[1].dim_param = f"cells_{output.name}"
    return bytes(model.SerializeToString(deterministic=True))
