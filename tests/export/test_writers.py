"""The files themselves: deterministic, private, refused when the weights are unusable."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests_support import share_read

from benchmarks.graph_count import count_onnx
from device.runtimes import load_verifier
from export.bundle import write_model
from export.onnx_writer import read_theta, write_onnx
from export.quantize import LEAKY, LINEAR, quantise
from models.spec import DEFAULT_SPEC, LEAKY_SLOPE
from toolkit.errors import ArtifactError

FORMATS = [("onnx", "fp32"), ("onnx", "int8"), ("tflite", "fp32"), ("tflite", "int8"),
           ("tflite", "uint8"), ("c", "int8")]  # fmt: skip


@pytest.mark.parametrize(("kind", "precision"), FORMATS)
def test_same_weights_same_bytes_in_another_process(
    kind: str, precision: str, theta: np.ndarray, tmp_path: Path
) -> None:
    np.save(tmp_path / "theta.npy", theta)
    code = (
        "import sys, numpy as np; from export.bundle import write_model; from models.spec import DEFAULT_SPEC;"
        "sys.stdout.buffer.write(write_model(DEFAULT_SPEC, np.load(sys.argv[1]), *sys.argv[2:]))"
    )
    arguments = [sys.executable, "-c", code, str(tmp_path / "theta.npy"), kind, precision]
    other = subprocess.run(arguments, capture_output=True, check=True).stdout
    assert other == write_model(DEFAULT_SPEC, theta, kind, precision)


@pytest.mark.parametrize(("kind", "precision"), FORMATS)
@pytest.mark.parametrize("bad", ["nan", "inf", "short"])
def test_unusable_weights_are_refused_naming_the_layer(kind: str, precision: str, bad: str, theta: np.ndarray) -> None:
    broken = theta[:-1] if bad == "short" else theta.copy()
    if bad != "short":
        broken[DEFAULT_SPEC.slots["block3.project.bias"].offset] = float(bad)
    with pytest.raises(ArtifactError, match="does not fit" if bad == "short" else r"block3\.project\.bias"):
        write_model(DEFAULT_SPEC, broken, kind, precision)


def test_onnx_counts_equal_the_spec(theta: np.ndarray) -> None:
    count = count_onnx(write_onnx(DEFAULT_SPEC, theta))
    assert (count.params, count.macs) == (DEFAULT_SPEC.params, DEFAULT_SPEC.macs)


def test_the_file_holds_theta_bit_by_bit(theta: np.ndarray) -> None:
    assert read_theta(DEFAULT_SPEC, write_onnx(DEFAULT_SPEC, theta)).tobytes() == theta.tobytes()
    for wrong in (b"no model", write_onnx(DEFAULT_SPEC, theta, "int8")):
        with pytest.raises(ArtifactError, match="not the spec's fp32 ONNX file"):
            read_theta(DEFAULT_SPEC, wrong)


def test_onnx_tells_its_spec_and_nothing_of_the_machine(theta: np.ndarray) -> None:
    model = onnx.load_from_string(write_onnx(DEFAULT_SPEC, theta))
    assert {p.key for p in model.metadata_props} == {"spec", "spec_hash"}
    assert not model.doc_string


def test_scales_cover_exactly_the_clipped_ranges() -> None:
    ends = np.array([-128, 127])
    np.testing.assert_allclose(LINEAR.real(ends), [-1, 127 / 128])
    np.testing.assert_allclose(LEAKY.real(ends), [-LEAKY_SLOPE, 1.0], atol=1e-6)


def test_quantised_weights_are_within_half_a_step(theta: np.ndarray) -> None:
    for name, q in quantise(DEFAULT_SPEC, theta).items():
        slot = DEFAULT_SPEC.slots[f"{name}.weight"]
        real = theta[slot.offset : slot.end].reshape(slot.shape) * share_read(DEFAULT_SPEC, name)
        scale = q.weight_scale.reshape(-1, *[1] * (real.ndim - 1))
        assert np.abs(q.weight * scale - real).max() <= scale.max() * 0.5001, name
        assert np.abs(q.weight.astype(int)).max() <= 127


def test_a_channel_of_zeros_keeps_its_bias(theta: np.ndarray) -> None:
    dead = theta.copy()
    weight, bias = DEFAULT_SPEC.slots["stem.weight"], DEFAULT_SPEC.slots["stem.bias"]
    dead[weight.offset : weight.offset + 27] = 0
    dead[bias.offset] = 0.5
    q = quantise(DEFAULT_SPEC, dead)["stem"]
    assert q.bias[0] * float(q.weight_scale[0]) * q.input.scale == pytest.approx(0.5, rel=1e-3)


def test_files_are_small(theta: np.ndarray) -> None:
    """Flash on a device is dear: the weights are 22.1 KB of it in int8."""
    assert len(write_model(DEFAULT_SPEC, theta, "tflite", "int8")) <= 45_000
    assert len(write_model(DEFAULT_SPEC, theta, "tflite", "fp32")) <= 100_000


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_xnnpack_takes_all_but_the_mirroring(precision: str, theta: np.ndarray) -> None:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=write_model(DEFAULT_SPEC, theta, "tflite", precision), num_threads=1)
    interpreter.allocate_tensors()
    plan = interpreter._get_ops_details()
    assert [op["op_name"] for op in plan].count("DELEGATE") == 1
    (delegate,) = (op for op in plan if op["op_name"] == "DELEGATE")
    details = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert [delegate["inputs"][0], delegate["outputs"][-1]] == [d["index"] for d in details]
    mirrored = next(op for op in plan if op["op_name"] == "STRIDED_SLICE")["outputs"]
    made = {output for op in plan if op["op_name"] != "DELEGATE" for output in op["outputs"]}
    assert made & set(delegate["inputs"]) == set(mirrored), "what is made outside of it"


def test_pixels_score_the_same_without_a_step_outside_the_file(theta: np.ndarray, noise_faces: np.ndarray) -> None:
    """uint8 in, int8 out. XNNPACK has no uint8 to int8: that one operator stays outside its one delegate."""
    from ai_edge_litert.interpreter import Interpreter

    model = write_model(DEFAULT_SPEC, theta, "tflite", "uint8")
    interpreter = Interpreter(model_content=model, num_threads=1)
    interpreter.allocate_tensors()
    plan = [op["op_name"] for op in interpreter._get_ops_details()]
    assert plan.count("DELEGATE") == 1
    image, score = interpreter.get_input_details()[0], interpreter.get_output_details()[0]
    assert (image["dtype"], image["quantization"], score["dtype"]) == (np.uint8, (1 / 128, 128), np.int8)
    extremes = np.stack([np.full_like(noise_faces[0], level) for level in (0, 127, 128, 255)])
    faces, found = np.concatenate([noise_faces, extremes]), []
    for face in faces:
        interpreter.set_tensor(image["index"], face[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(score["index"]).item())
    with load_verifier("litert", write_model(DEFAULT_SPEC, theta, "tflite", "int8"), "int8") as verifier:
        assert found == [round(verifier.score(face) * 128) for face in faces]
    assert len(model) <= 45_000


def test_tensor_data_lies_on_16_bytes(theta: np.ndarray) -> None:
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(write_model(DEFAULT_SPEC, theta, "tflite", "int8"))
    starts = [(b := model.Buffers(i))._tab.Vector(b._tab.Offset(4)) for i in range(1, model.BuffersLength())]
    assert starts
    assert all(start % 16 == 0 for start in starts)
