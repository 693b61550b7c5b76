"""Parameters and multiply-accumulates counted from a written ONNX file, knowing nothing of the spec."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import onnx
from onnx import numpy_helper, shape_inference


@dataclass(frozen=True)
class Count:
    params: int
    macs: int


def count_onnx(data: bytes) -> Count:
    """Weights and biases of Conv and Gemm nodes, and their multiply-accumulates for one input, by shape inference."""
    graph = shape_inference.infer_shapes(onnx.load_from_string(data), strict_mode=True).graph
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in (*graph.value_info, *graph.output)}
    params = macs = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        tensors = [weights[name] for name in node.input[1:]]
        params += sum(t.size for t in tensors)
        positions = prod(shapes[node.output[0]][2:]) if node.op_type == "Conv" else 1
        macs += tensors[0].size * positions  # a convolution uses each of its weights once at every output position
    return Count(params, macs)
