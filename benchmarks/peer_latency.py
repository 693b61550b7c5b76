"""The verifier in all its forms beside other face networks: one run, one machine, the same crops.

Latency is taken in rounds: each network in turn, again and again, so that a busy moment of the machine falls on all.
Cold start and memory come from a process of its own for each network (`benchmarks.peer_probe`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.graph_count import Count, count_onnx, count_tflite
from benchmarks.latency import Timing, measure
from benchmarks.parity import open_c_fp32
from benchmarks.tiny_embedding import SHIPPED, open_embedding
from device.alignment import shrink
from device.runtimes import installed_runtimes, open_verifier, quiet_stderr
from export.c_writer import write_c_single
from export.manifest import MODELS, Bundle
from export.onnx_writer import read_theta
from models.files import find_model
from models.spec import Framing
from toolkit.errors import HyperverifyError, MissingError

ROUNDS = 10
SLOW_MACS = 10_000_000  # networks beyond get fewer runs
DETECTION_PX = 320
EMBEDDINGS = ("sface", "dlib", "mobilefacenet", "embedding")  # the last one is of the verifier's size
NETWORKS = (*EMBEDDINGS, "yunet")


@dataclass(frozen=True)
class Peer:
    """`run` takes one aligned crop, uint8 RGB [112, 112, 3]; `faces` of them are worked on at once.

    `score`: f alone, on what it is shown of a crop.
    """

    name: str
    file_bytes: int
    count: Count
    run: Callable[[np.ndarray], object]
    faces: int = 1
    score: Callable[[np.ndarray], object] | None = None


def form_names() -> list[str]:
    """The forms of f that this machine can run, as "f c/int8"."""
    return [f"f {runtime}/{precision}" for runtime in installed_runtimes() for precision in ("int8", "fp32")]


def open_peer(name: str, bundle: Bundle, stack: ExitStack) -> Peer:
    """A network ready to run, one thread. Raises MissingError for one whose file is not here."""
    if name.startswith("f "):
        return _form(name, bundle, stack)
    return open_network(name)


def open_network(name: str, embedding: Path = SHIPPED) -> Peer:
    """One of NETWORKS, ready to run, one thread. Raises MissingError when its file is not here."""
    if name == "embedding":
        return _embedding(embedding)
    return {"mobilefacenet": _mobilefacenet, "sface": _sface, "dlib": _dlib, "yunet": _yunet}[name]()


def _form(name: str, bundle: Bundle, stack: ExitStack) -> Peer:
    runtime, precision = name.removeprefix("f ").split("/")
    spec = bundle.spec
    if (runtime, precision) == ("c", "fp32"):
        theta = read_theta(spec, bundle.read(MODELS["onnx", "fp32"]))
        verifier: Any = stack.enter_context(open_c_fp32(spec, theta))
        size = len(write_c_single(spec, theta, "fp32"))
    else:
        verifier = stack.enter_context(open_verifier(bundle, runtime, precision))
        kind = {"onnxruntime": "onnx", "c": "c"}.get(runtime, "tflite")
        size = len(bundle.read(MODELS[kind, precision]))

    def run(crop: np.ndarray) -> object:
        return verifier.score(shrink(crop, spec.framing))

    return Peer(name, size, Count(spec.params, spec.macs), run, score=verifier.score)


def _sface() -> Peer:
    from models.backbone import load_backbone
    from models.fold import fold_block_quantised

    path = find_model("sface")
    count = count_onnx(fold_block_quantised(path).SerializeToString())
    return Peer("sface", path.stat().st_size, count, load_backbone("sface").embed_one)


def _dlib() -> Peer:
    from models.backbone import load_backbone
    from models.dlib_resnet import dlib_onnx

    path = find_model("dlib")
    return Peer("dlib", path.stat().st_size, count_onnx(dlib_onnx(path).SerializeToString()),
                load_backbone("dlib").embed_one)  # fmt: skip


def _embedding(path: Path) -> Peer:
    network = open_embedding(path)
    framing = Framing(network.input_px)
    return Peer("embedding", network.file_bytes, network.count, lambda crop: network.embed_one(shrink(crop, framing)))


def _yunet() -> Peer:
    """Detection in a frame, not a judgement on a face: it runs before all of the others."""
    from device.detector import FaceDetector
    from models.fold import detector_file

    model = detector_file(find_model("yunet"))
    detector = FaceDetector(model, (DETECTION_PX,))
    frame = np.random.default_rng(0).integers(0, 256, (DETECTION_PX, DETECTION_PX, 3), np.uint8)
    count = count_onnx(model, {"height": DETECTION_PX, "width": DETECTION_PX})
    return Peer("yunet", len(model), count, lambda _: detector.detect(frame))


def mobilefacenet(threads: int = 1) -> tuple[Callable[[np.ndarray], np.ndarray], bytes]:
    """Crops uint8 RGB [2, 112, 112, 3] to vectors [2, 192], and the file. Its batch is fixed to two."""
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError as error:
        raise MissingError("MobileFaceNet needs LiteRT", do="run `pip install 'hyperverify[litert]'`") from error
    model = find_model("mobilefacenet").read_bytes()
    with quiet_stderr():
        interpreter = Interpreter(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
    place, result = interpreter.get_input_details()[0]["index"], interpreter.get_output_details()[0]["index"]

    def embed(crops: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(place, (crops.astype(np.float32) - 127.5) / 128)
        interpreter.invoke()
        return np.asarray(interpreter.get_tensor(result), np.float32)

    return embed, model


def _mobilefacenet() -> Peer:
    embed, model = mobilefacenet()
    count = count_tflite(model)
    per_face = Count(count.params, count.macs // 2)
    return Peer("mobilefacenet", len(model), per_face, lambda crop: embed(np.stack([crop, crop])), faces=2)


def compare_peers(bundle: Bundle, crops: np.ndarray, runs: int, probe: bool = True) -> list[dict[str, Any]]:
    """One row a network, p50, p90 and p99 in milliseconds a face; crops uint8 RGB [N, 112, 112, 3].

    Those of f include shrinking the crop to its size; `at_its_size` has them without, as a device works, which aligns
    faces to that size.
    """
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        peers = []
        for name in (*form_names(), *NETWORKS):
            try:
                peers.append(open_peer(name, bundle, stack))
            except MissingError as error:
                rows.append({"name": name, "missing": str(error)})
        shown = shrink(crops[0], bundle.spec.framing)
        twins = [replace(peer, run=partial(_always, peer.score, shown)) for peer in peers if peer.score]
        timings = interleaved([*peers, *twins], crops, runs)
        alone = {twin.name: timing.summary() for twin, timing in zip(twins, timings[len(peers) :], strict=True)}
        for peer, timing in zip(peers, timings, strict=False):
            row: dict[str, Any] = {"name": peer.name, "params": peer.count.params, "macs": peer.count.macs,
                   "file_bytes": peer.file_bytes, "faces_at_once": peer.faces, **timing.summary()}  # fmt: skip
            row |= {"at_its_size": alone[peer.name]} if peer.name in alone else {}
            rows.append(row | (_probe(peer.name, bundle.path) if probe else {}))
    return rows


def _always(score: Callable[[np.ndarray], object], shown: np.ndarray, _: np.ndarray) -> object:
    return score(shown)


def interleaved(peers: list[Peer], crops: np.ndarray, runs: int) -> list[Timing]:
    """Milliseconds a face of each, in rounds: `runs` in all, the large networks a tenth."""
    samples: list[list[float]] = [[] for _ in peers]
    for round_ in range(ROUNDS):
        for peer, collected in zip(peers, samples, strict=True):
            crop = crops[round_ % len(crops)]
            slow = peer.count.macs > SLOW_MACS
            count = max(2, runs // ROUNDS // (10 if slow else 1))
            timing = measure(partial(peer.run, crop), count, warm_up=2 if slow else 10)
            collected += [sample / peer.faces for sample in timing.samples_ms]
    return [Timing(tuple(collected)) for collected in samples]


def _probe(name: str, bundle: Path) -> dict[str, float]:
    command = [sys.executable, "-P", "-m", "benchmarks.peer_probe", str(bundle), name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise HyperverifyError(f"the probe of {name} failed", got=done.stderr.strip()[-300:])
    result: dict[str, float] = json.loads(done.stdout)
    return result
