"""Every layer's output of every form of one verifier, as map × height × width × channel, in the form's own type.

A form that usually shows its score alone is written, or compiled, a second time with all layers as outputs.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np

from device.c_runtime import TracedVerifier
from device.onnx_session import onnx_session
from device.runtimes import RUNTIMES, quiet_stderr
from export.c_writer import write_c_single
from export.integer import IntegerVerifier
from export.onnx_writer import write_onnx
from export.quantize import output_scales
from export.tflite_writer import write_tflite
from models.spec import VerifierSpec

Layers = dict[str, np.ndarray]
Trace = Callable[[np.ndarray], Layers]  # one face, uint8 RGB [H, W, 3]


def own_input(pixels: np.ndarray, precision: str) -> np.ndarray:
    """uint8 RGB [H, W, 3] to the input of the ONNX and TFLite files, [1, H, W, 3]."""
    if precision == "int8":
        return (pixels.astype(np.int16) - 128).astype(np.int8)[None]
    return ((pixels.astype(np.float32) - 128.0) / 128.0)[None]


def trace_of(runtime: str, precision: str, spec: VerifierSpec, theta: np.ndarray) -> Trace:
    """Raises MissingError (C without a compiler)."""
    if runtime == "integer reference":
        return _integer(spec, theta)
    if runtime == "torch":
        return _torch(spec, theta)
    if runtime == "onnxruntime":
        return _onnx(spec, theta, precision)
    if runtime == "c":
        return TracedVerifier(spec, write_c_single(spec, theta, precision), precision).layers
    return _tflite(runtime, spec, theta, precision)


def _integer(spec: VerifierSpec, theta: np.ndarray) -> Trace:
    verifier = IntegerVerifier(spec, theta)

    def run(pixels: np.ndarray) -> Layers:
        trace: Layers = {}
        verifier.scores(pixels[None], trace)
        return trace

    return run


def _torch(spec: VerifierSpec, theta: np.ndarray) -> Trace:
    import torch

    from models.verifier import run_layers, to_input, verify_users

    def run(pixels: np.ndarray) -> Layers:
        with torch.no_grad():
            x = to_input(torch.from_numpy(pixels)).permute(2, 0, 1)[None]  # [1, 3, H, W]
            users = torch.from_numpy(theta)[None]
            layers = {
                layer.name: run_layers(spec, users, x, end).permute(0, 2, 3, 1).numpy()
                for end, layer in enumerate(spec.layers[:-1], 1)
            }
            return layers | {spec.head.name: verify_users(spec, users, x[None]).numpy()}

    return run


def _onnx(spec: VerifierSpec, theta: np.ndarray, precision: str) -> Trace:
    session = onnx_session(write_onnx(spec, theta, precision, every_layer=True))
    names = [spec.head.name, *(layer.name for layer in spec.layers[:-1])]

    def run(pixels: np.ndarray) -> Layers:
        image = np.ascontiguousarray(own_input(pixels, precision).transpose(0, 3, 1, 2))  # the file is NCHW
        values = session.run(None, {"image": image})
        return {n: v.transpose(0, 2, 3, 1) if v.ndim == 4 else v for n, v in zip(names, values, strict=True)}

    return run


def _tflite(runtime: str, spec: VerifierSpec, theta: np.ndarray, precision: str) -> Trace:
    module = importlib.import_module(RUNTIMES[runtime].module)
    with quiet_stderr():
        interpreter: Any = module.Interpreter(
            model_content=write_tflite(spec, theta, precision, every_layer=True), num_threads=1
        )
        interpreter.allocate_tensors()
    names = [spec.head.name, *(layer.name for layer in spec.layers[:-1])]
    places = [detail["index"] for detail in interpreter.get_output_details()]
    start = interpreter.get_input_details()[0]["index"]

    def run(pixels: np.ndarray) -> Layers:
        interpreter.set_tensor(start, own_input(pixels, precision))
        interpreter.invoke()
        return {name: interpreter.get_tensor(place) for name, place in zip(names, places, strict=True)}

    return run


def real_layers(spec: VerifierSpec, layers: Layers) -> Layers:
    """int8 outputs in the spec's own unit; the last layer's are steps of 1/128."""
    scales = output_scales(spec)
    return {name: scales[name].real(values) for name, values in layers.items()}
