"""The same pairs for other systems: an embedding network on the device, and the cosine of two embeddings.

That is what a personal verifier replaces: it is hundreds of times larger, but one network serves everybody, and one
embedding of a face can be compared with many people at next to no cost. Both sides of this are counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.enrolling import Enrol
from benchmarks.graph_count import count_onnx
from benchmarks.pairs import score_pairs, summarise
from benchmarks.protocols import Pairs
from benchmarks.scoring import FileScorer
from device.runtimes import RUNTIMES
from export.bundle import write_model
from models.backbone import GRAPHS, load_backbone
from models.facedata import read_faces, templates_of
from models.faceset import FaceSet


def evaluate_peers(
    path: Path, faces: FaceSet, pairs: Pairs, peers: list[str], enrol: Enrol, scorer: FileScorer, threads: int
) -> dict[str, Any]:
    """Accuracy and cost of the personal verifier and of each peer, on the same pairs of the face file at `path`."""
    scores = score_pairs(faces, pairs, enrol, scorer)
    spec = scorer.spec
    theta = enrol(faces.pixels[:1], faces.templates[:1])
    own = {
        "params": spec.params, "macs": spec.macs, "flops": spec.flops,
        "file_bytes": len(write_model(spec, theta, RUNTIMES[scorer.runtime].kind, scorer.precision)),
    }  # fmt: skip
    result: dict[str, Any] = {
        "verifier, one-sided": own | summarise(scores.forward, pairs, faces.identity),
        "verifier, both sides": own | summarise(scores.forward + scores.backward, pairs, faces.identity),
    }
    for name in peers:
        cost = _cost(name)
        cost["people_from_which_one_search_is_cheaper"] = _break_even(cost["macs"], spec.macs)
        templates = templates_of(read_faces(path), load_backbone(name, threads=threads))
        summary = summarise(cosines(templates, pairs), pairs, faces.identity)
        result[f"{name}, cosine"] = cost | summary
    return result


def cosines(templates: np.ndarray, pairs: Pairs) -> np.ndarray:
    """Cosine of each pair's two unit templates, of [N, D]: float64 [pairs]."""
    wide = templates.astype(np.float64)
    return np.asarray((wide[pairs.first] * wide[pairs.second]).sum(1))


def _cost(name: str) -> dict[str, int]:
    """Counted from the float graph that is run; its parameters are those of convolutions and dense layers."""
    graph = GRAPHS[name]()
    count = count_onnx(graph)
    return {"params": count.params, "macs": count.macs, "flops": 2 * count.macs, "file_bytes": len(graph)}


def _break_even(peer_macs: int, verifier_macs: int) -> int:
    """Enrolled people from which one embedding and a search cost less than asking everybody's verifier in turn."""
    return -(-peer_macs // verifier_macs)
