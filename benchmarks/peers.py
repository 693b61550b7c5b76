"""The same pairs for other systems: an embedding network on the device, and the cosine of two embeddings.

That is what a personal verifier replaces: it is hundreds of times larger, but one network serves everybody, and one
embedding of a face can be compared with many people at next to no cost. Both sides of this are counted. The embedding
network of the verifier's own size tells what is due to being personal, and what to being small.
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.enrolling import Enrol
from benchmarks.graph_count import Count
from benchmarks.pairs import score_pairs, summarise
from benchmarks.peer_latency import ROUNDS, Peer, interleaved, mobilefacenet, open_network
from benchmarks.protocols import Pairs
from benchmarks.scoring import FileScorer
from benchmarks.tiny_embedding import SHIPPED, open_embedding
from device.alignment import shrink
from device.runtimes import RUNTIMES, load_verifier
from export.bundle import write_model
from models.backbone import load_backbone, unit
from models.facedata import FaceFile, read_faces, templates_of
from models.faceset import FaceSet
from models.files import MODEL_FILES, find_model
from models.spec import Framing
from toolkit.errors import MissingError

GALLERIES = (1, 10, 100, 1000)  # enrolled people that one shown face is compared with
TIMED_RUNS = 100
VERIFIER = "verifier"


def evaluate_peers(
    path: Path,
    faces: FaceSet,
    pairs: Pairs,
    peers: list[str],
    enrol: Enrol,
    scorer: FileScorer,
    threads: int,
    embedding: Path = SHIPPED,
) -> dict[str, Any]:
    """Accuracy and cost of the personal verifier and of each peer, on the same pairs of the face file at `path`.

    Times are of one thread, all networks in turn. Raises MissingError for a peer whose file is not here.
    """
    source = read_faces(path)
    with ExitStack() as stack:
        theta = enrol(faces.pixels[:1], faces.templates[:1])
        networks = [_verifier(scorer, theta, stack), *(open_network(name, embedding) for name in peers)]
        timings = interleaved(networks, source.some(list(range(min(ROUNDS, len(source))))).crops(), TIMED_RUNS)
        milliseconds = [timing.summary()["p50_ms"] for timing in timings]
    own, *others = networks
    scores = score_pairs(faces, pairs, enrol, scorer)
    cost = _cost(own, milliseconds[0]) | _search(own, milliseconds[0], dim=None)
    result = {
        "verifier, one-sided": cost | summarise(scores.forward, pairs, faces.identity),
        "verifier, both sides": cost | summarise(scores.forward + scores.backward, pairs, faces.identity),
    }
    for network, face_ms in zip(others, milliseconds[1:], strict=True):
        templates = embeddings(network.name, source, threads, embedding)
        cost = _cost(network, face_ms) | _search(network, face_ms, templates.shape[1])
        cost["people_from_which_one_search_is_cheaper"] = -(-network.count.macs // own.count.macs)
        cost["people_from_which_one_search_is_faster"] = int(-(-face_ms // milliseconds[0]))
        if network.name == "embedding":
            cost["trained"] = open_embedding(embedding).about
        result[f"{network.name}, cosine"] = cost | summarise(cosines(templates, pairs), pairs, faces.identity)
    return result


def cosines(templates: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Cosine of each pair's two unit templates, of [N, D]: float64 [pairs]."""
    wide = templates.astype(np.float64)
    return np.asarray((wide[pairs.first] * wide[pairs.second]).sum(1))


def embeddings(name: str, source: FaceFile, threads: int, embedding: Path = SHIPPED) -> np.ndarray:
    """Unit vectors [N, D] that a network makes of every crop. Raises MissingError."""
    if name == "embedding":
        network = open_embedding(embedding)
        return network.embed(source.crops(Framing(network.input_px)))
    if name != "mobilefacenet":
        return templates_of(source, load_backbone(name, None, threads))
    return templates_of(source, MobileFaceNet(threads))


class MobileFaceNet:
    """A `models.backbone.Backbone`, for comparing only; so its templates are cached as theirs are."""

    name, dim, sha256 = "mobilefacenet", 192, MODEL_FILES["mobilefacenet"].sha256

    def __init__(self, threads: int):
        self._embed, _ = mobilefacenet(threads)

    def embed(self, crops: np.ndarray) -> np.ndarray:
        even = np.concatenate([crops, crops[-1:]]) if len(crops) % 2 else crops  # its batch is two
        rows = [self._embed(even[i : i + 2]) for i in range(0, len(even), 2)]
        return unit(np.concatenate(rows))[: len(crops)]

    def embed_one(self, crop: np.ndarray) -> np.ndarray:
        return self._embed(np.stack([crop, crop]))[:1]


def present(names: tuple[str, ...], embedding: Path = SHIPPED) -> tuple[list[str], dict[str, str]]:
    """Which of these networks are here, and for the others what is missing."""
    here, missing = [], {}
    for name in names:
        try:
            _find(name, embedding)
            here.append(name)
        except MissingError as error:
            missing[name] = str(error)
    return here, missing


def _find(name: str, embedding: Path) -> None:
    """Raises MissingError."""
    if name == "embedding":
        open_embedding(embedding)
    elif name == "mobilefacenet":
        mobilefacenet()
    else:
        find_model(name)


def _verifier(scorer: FileScorer, theta: np.ndarray, stack: ExitStack) -> Peer:
    """One person's verifier, as deployed."""
    spec = scorer.spec
    data = write_model(spec, theta, RUNTIMES[scorer.runtime].kind, scorer.precision)
    verifier = stack.enter_context(load_verifier(scorer.runtime, data, scorer.precision))
    count = Count(spec.params, spec.macs)
    return Peer(VERIFIER, len(data), count, lambda crop: verifier.score(shrink(crop, spec.framing)))


def _cost(network: Peer, face_ms: float) -> dict[str, Any]:
    """Counted from the graph that is run; parameters are those of convolutions and dense layers."""
    count = network.count
    return {"params": count.params, "macs": count.macs, "flops": 2 * count.macs, "file_bytes": network.file_bytes,
            "face_ms": face_ms}  # fmt: skip


def _search(network: Peer, face_ms: float, dim: int | None) -> dict[str, Any]:
    """One face against N people: N verifiers (`dim` None), or one embedding and N products of `dim` numbers."""
    rows = {}
    for people in GALLERIES:
        if dim is None:
            macs, ms, size = people * network.count.macs, people * face_ms, people * network.file_bytes
        else:
            macs, ms, size = network.count.macs + people * dim, face_ms, network.file_bytes + 4 * people * dim
        rows[str(people)] = {"macs": macs, "ms": ms, "bytes": size}
    return {"search": rows}
