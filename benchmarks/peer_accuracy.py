"""Accuracy of the verifier and of its peers by one pair list: threshold from the other folds, one photo against one."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.enrolling import Generated
from benchmarks.metrics import fold_accuracy
from benchmarks.pairs import score_pairs
from benchmarks.peer_latency import EMBEDDINGS
from benchmarks.peers import cosines, embeddings
from benchmarks.protocols import read_pairs
from benchmarks.scoring import FileScorer
from models.backbone import load_backbone
from models.facedata import read_faces
from models.faceset import load_faces
from models.generator import Generator
from toolkit.errors import InputError, MissingError


def peer_accuracy(faces: Path, pairs: Path, threads: int) -> dict[str, float]:
    """ "f fp32", "f int8" (the LiteRT files of the shipped generator) and each network that is here: accuracy.

    Raises InputError for a list without folds.
    """
    source = read_faces(faces)
    h = Generator()
    loaded = load_faces([faces], "", h.info.spec.framing, load_backbone(h.info.backbone, None, threads))
    protocol = read_pairs(pairs, loaded)
    if len(np.unique(protocol.fold)) < 2:
        raise InputError(f"{pairs} has no folds", expected="a list of several folds, such as LFW's pairs.txt")
    found = {}
    for name in EMBEDDINGS:
        try:
            scores = cosines(embeddings(name, source, threads), protocol)
        except MissingError:
            continue
        found[name] = fold_accuracy(scores, protocol.same, protocol.fold)[0]
    for precision in ("fp32", "int8"):
        scores = score_pairs(loaded, protocol, Generated(h), FileScorer(h.info.spec, precision, "litert")).forward
        found[f"f {precision}"] = fold_accuracy(scores, protocol.same, protocol.fold)[0]
    return found
