"""The place for an anti-spoofing network: both formats, what their outputs mean, and what cannot be used."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks import scenes
from device.detector import Face
from device.liveness import SPOOF, Liveness, LivenessSettings, Network, attack_probability
from device.runtimes import load_verifier
from device.settings import Settings
from device.watch import Equipment, find_bundles
from export.bundle import write_model
from models.spec import DEFAULT_SPEC
from toolkit.errors import ArtifactError, MissingError, UsageError

FACE = Face(100.0, 80.0, 60.0, 60.0, 0.9, np.zeros((5, 2), np.float32))


def brightness_network(path: Path) -> Path:
    """A network that takes bright pictures for attacks."""
    onnx = pytest.importorskip("onnx")
    helper, number = onnx.helper, onnx.TensorProto.FLOAT
    node = helper.make_node("ReduceMean", ["picture"], ["attack"], keepdims=0)
    picture = helper.make_tensor_value_info("picture", number, [1, 3, 80, 80])
    graph = helper.make_graph([node], "brightness", [picture], [helper.make_tensor_value_info("attack", number, [])])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def test_the_network_sees_the_face_and_its_surroundings(tmp_path: Path) -> None:
    network = Network(brightness_network(tmp_path / "n.onnx"), 0.5)
    dark = np.full((240, 320, 3), 40, np.uint8)
    bright = dark.copy()
    bright[29:191, 49:211] = 220  # 2.7 face widths around the middle of the face, and nothing beyond
    assert not network(dark, FACE)
    assert network(bright, FACE)
    assert not network(255 - bright, FACE), "what lies beyond does not count"


@pytest.mark.parametrize("kind", ["onnx", "tflite"])
def test_both_formats_are_run_as_they_are(kind: str, theta: np.ndarray, tmp_path: Path) -> None:
    """A verifier is a network of one output too: it must give what it gives elsewhere."""
    data = write_model(DEFAULT_SPEC, theta, kind, "fp32")
    path = tmp_path / f"n.{kind}"
    path.write_bytes(data)
    x = np.random.default_rng(2).integers(0, 256, (64, 64, 3), np.uint8)
    runtime = "onnxruntime" if kind == "onnx" else "litert"
    with load_verifier(runtime, data, "fp32") as verifier:
        expected = verifier.score(x)
    network = Network(path, 0.5)
    assert network._side == 64
    assert network._run(((x.astype(np.float32) - 128) / 128)[None]).item() == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize(
    ("output", "attack"),
    [([0.7], 0.7), ([0.1, 0.8, 0.1], 0.2), ([0.9, 0.1], 0.9), ([0.0, np.log(3.0)], 0.25), ([-1.0, 9.0, -1.0], 0.0)],
)
def test_outputs_are_probabilities_or_logits(output: list[float], attack: float) -> None:
    assert attack_probability(np.array(output, np.float32)) == pytest.approx(attack, abs=1e-3)


def test_networks_that_cannot_be_used_say_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="unknown format"):
        Network(tmp_path / "n.pt", 0.5)
    with pytest.raises(MissingError, match="there is no anti-spoofing network"):
        Network(tmp_path / "n.onnx", 0.5)
    for name in ("n.onnx", "n.tflite"):
        (tmp_path / name).write_bytes(b"not a network")
        with pytest.raises(ArtifactError, match="cannot be loaded"):
            Liveness(LivenessSettings(network=str(tmp_path / name)))


def test_what_the_network_takes_for_an_attack_is_not_let_in(
    bundle: Path, photos: Path, detector_bytes: bytes, tmp_path: Path
) -> None:
    subject = scenes.portrait(photos / "obama3.jpg", scenes.portrait_detector(detector_bytes))
    path = brightness_network(tmp_path / "n.onnx")
    for threshold, expected in ((0.0, SPOOF), (1.0, "accepted")):
        liveness = LivenessSettings(network=str(path), network_threshold=threshold)
        with Equipment(replace(Settings(), liveness=liveness), find_bundles(bundle)) as door:
            for number, frame in enumerate(scenes.film(subject, 3.0, 1)):
                status = door.session.update(door.pipeline.follow(frame), number / scenes.FPS, frame)
                if status.decision:
                    break
        assert status.decision is not None
        assert status.decision.outcome == expected
