"""Parameters and multiply-accumulates, counted from a written file or by its runtime, knowing nothing of the spec."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from math import prod
from pathlib import Path

import onnx
from onnx import numpy_helper, shape_inference


@dataclass(frozen=True)
class Count:
    params: int
    macs: int


def count_onnx(data: bytes, sizes: dict[str, int] | None = None) -> Count:
    """Weights and biases of Conv and Gemm nodes, and their multiply-accumulates for one input, by shape inference.

    `sizes` gives values to the input's free dimensions.
    """
    model = onnx.load_from_string(data)
    for dim in (dim for value in model.graph.input for dim in value.type.tensor_type.shape.dim):
        if dim.dim_param in (sizes or {}):
            dim.dim_value = (sizes or {})[dim.dim_param]
    graph = shape_inference.infer_shapes(model, strict_mode=True).graph
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.input, *graph.value_info, *graph.output)
    }
    faces = shapes[graph.input[0].name][0] or 1
    params = macs = 0
    for node in graph.node:
        if node.op_type not in ("Conv", "Gemm"):
            continue
        tensors = [weights[name] for name in node.input[1:]]
        params += sum(t.size for t in tensors)
        maps, _, *size = shapes[node.output[0]]
        positions = max(1, maps // faces) * prod(size)  # some networks see more than one picture of a face
        macs += tensors[0].size * positions  # a convolution uses each of its weights once at every output position
    return Count(params, macs)


def count_profiled(data: bytes) -> Count:
    """The same from the shapes that ONNX Runtime's profiler saw while it ran the file on one float input of zeros."""
    import numpy as np
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.enable_profiling, options.log_severity_level, options.intra_op_num_threads = True, 3, 1
    # Further optimisation would pad channels for the processor at hand, and count what nobody asked for.
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.add_session_config_entry("session.disable_prepacking", "1")  # packed weights have no shape to see
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        image = session.get_inputs()[0]
        session.run(None, {image.name: np.zeros(image.shape, np.float32)})
        events = json.loads(Path(session.end_profiling()).read_text())
    params = macs = 0
    for event in events:
        arguments = event.get("args", {})
        if arguments.get("op_name") in ("Conv", "FusedConv", "Gemm", "FusedGemm") and "input_type_shape" in arguments:
            _, weight, *bias = (prod(*shape.values()) for shape in arguments["input_type_shape"])
            output = next(iter(arguments["output_type_shape"][0].values()))
            params += weight + sum(bias)
            macs += weight * output[0] * prod(output[2:])
    return Count(params, macs)


def count_tflite(data: bytes) -> Count:
    """The same from a TFLite file, for the batch that it is written for."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data)
    graph, codes = model.subgraphs[0], model.operatorCodes
    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    params = macs = 0
    for operator in graph.operators:
        code = codes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]  # files from before 2020 have the latter only
        if name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"):
            continue
        weight, *bias = (graph.tensors[i].shape for i in operator.inputs[1:] if i >= 0)
        output = graph.tensors[operator.outputs[0]].shape
        params += prod(weight) + sum(prod(shape) for shape in bias)
        macs += prod(weight) * prod(output[:-1])
    return Count(int(params), int(macs))
