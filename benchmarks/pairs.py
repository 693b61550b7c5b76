"""Pair verification: enrol one photo, show the other, and the other way round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.comparisons import Comparisons
from benchmarks.enrolling import Enrol, each_alone
from benchmarks.metrics import equal_error_rate, fold_accuracy
from benchmarks.protocols import Pairs
from benchmarks.scoring import FileScorer
from benchmarks.summaries import at_fmrs, distribution
from models.faceset import FaceSet
from toolkit.progress import track


@dataclass(frozen=True)
class PairScores:
    """forward: the first photo enrolled, the second shown; backward: the other way round. float64 [N] each."""

    forward: np.ndarray
    backward: np.ndarray


def score_pairs(faces: FaceSet, pairs: Pairs, enrol: Enrol, scorer: FileScorer) -> PairScores:
    """Every photo that is enrolled gets a model file of its own, which scores all photos paired with it."""
    probes: dict[int, list[tuple[int, int, int]]] = {}
    for row, (a, b) in enumerate(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)):
        probes.setdefault(a, []).append((b, row, 0))
        probes.setdefault(b, []).append((a, row, 1))
    table = np.empty((2, len(pairs.first)))
    everyone = each_alone(enrol, faces, sorted(probes))
    for enrolled, theta in track(everyone, f"{scorer.precision} verifiers", len(probes)):
        wanted = probes[enrolled]
        scores = scorer.scores(theta, faces.pixels[[probe for probe, _, _ in wanted]])
        for (_, row, direction), score in zip(wanted, scores, strict=True):
            table[direction, row] = score
    return PairScores(table[0], table[1])


def comparisons_of(scores: np.ndarray, pairs: Pairs, identity: np.ndarray) -> Comparisons:
    """The pairs' scores as comparisons of people; who is unknown, or contradicts the list, is a person apart."""
    rows = np.arange(len(scores))
    enrolled = np.where(identity[pairs.first] >= 0, identity[pairs.first], -1 - rows)
    known = (identity[pairs.second] >= 0) & (identity[pairs.second] != enrolled)
    shown = np.where(pairs.same, enrolled, np.where(known, identity[pairs.second], -1 - len(scores) - rows))
    return Comparisons(scores, pairs.first, enrolled, shown, pairs.second)


def summarise(scores: np.ndarray, pairs: Pairs, identity: np.ndarray) -> dict[str, Any]:
    """Accuracy by the fold protocol (when there are folds), EER, and FNMR at thresholds set on these same impostors."""
    c = comparisons_of(scores, pairs, identity)
    result: dict[str, Any] = {"genuine_pairs": len(c.genuine), "impostor_pairs": len(c.impostor)}
    if len(np.unique(pairs.fold)) > 1:
        accuracy, error = fold_accuracy(scores, pairs.same, pairs.fold)
        result |= {"accuracy": round(accuracy, 6), "standard_error": round(error, 6)}
    result["eer"] = round(equal_error_rate(c.genuine, c.impostor), 6)
    result["at_fmr"] = {name: {"tmr": 1 - at["fnmr"]["rate"], **at} for name, at in at_fmrs(c).items()}
    return result | distribution(c)


def evaluate_pairs(faces: FaceSet, pairs: Pairs, enrol: Enrol, scorer: FileScorer) -> tuple[dict[str, Any], PairScores]:
    """`one_sided` is forward alone; `both_sides` adds forward and backward."""
    scores = score_pairs(faces, pairs, enrol, scorer)
    return {
        "one_sided": summarise(scores.forward, pairs, faces.identity),
        "both_sides": summarise(scores.forward + scores.backward, pairs, faces.identity),
    }, scores
