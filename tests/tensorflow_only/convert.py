"""Run in TensorFlow's own environment: the verifier in TensorFlow's operators, written by TensorFlow's converter.

    convert.py FOLDER     spec.json, theta.npy and faces.npy there to fp32.tflite and int8.tflite

Nothing of `export` is used: only the spec's layers and their places in θ.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from models.spec import LEAKY_SLOPE, Layer, VerifierSpec

folder = Path(sys.argv[1])
spec = VerifierSpec.from_dict(json.loads((folder / "spec.json").read_text()))
theta, faces = np.load(folder / "theta.npy"), np.load(folder / "faces.npy")


def parameter(name: str) -> np.ndarray:
    slot = spec.slots[name]
    return theta[slot.offset : slot.end].reshape(slot.shape)


def convolve(x: tf.Tensor, layer: Layer) -> tf.Tensor:
    weight, bias = parameter(f"{layer.name}.weight"), parameter(f"{layer.name}.bias")
    p, steps = layer.padding, [1, layer.stride, layer.stride, 1]
    x = tf.pad(x, [[0, 0], [p, p], [p, p], [0, 0]])
    if layer.kind == "depthwise":
        return tf.nn.depthwise_conv2d(x, weight.transpose(2, 3, 0, 1), steps, "VALID") + bias
    return tf.nn.conv2d(x, weight.transpose(2, 3, 1, 0), steps, "VALID") + bias


@tf.function(input_signature=[tf.TensorSpec([1, spec.input_px, spec.input_px, 3], tf.float32)])
def verify(x: tf.Tensor) -> tf.Tensor:
    outputs: dict[str, tf.Tensor] = {}
    for layer in spec.layers:
        if layer.kind == "halves":
            x = tf.concat([x[:, :, : layer.kernel], tf.reverse(x, [2])[:, :, : layer.kernel]], 0)
        elif layer.kind == "mean":
            x = tf.reduce_mean(x, 0, keepdims=True)
        else:
            x = x + outputs[layer.skip] if layer.kind == "add" else convolve(x, layer)
        if layer.kind != "dense":
            x = tf.clip_by_value(x, -1.0, 1.0)
        if layer.activation == "leaky":
            x = tf.nn.leaky_relu(x, LEAKY_SLOPE)
        outputs[layer.name] = x
    return tf.reshape(x, [1, 1])


def examples() -> Iterator[list[np.ndarray]]:
    for face in faces:
        yield [(face[None].astype(np.float32) - 128) / 128]


for precision in ("fp32", "int8"):
    converter = tf.lite.TFLiteConverter.from_concrete_functions([verify.get_concrete_function()])
    if precision == "int8":
        converter.optimizations, converter.representative_dataset = [tf.lite.Optimize.DEFAULT], examples
    (folder / f"{precision}.tflite").write_bytes(converter.convert())
