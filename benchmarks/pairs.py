"""Pair verification: enrol one photo, show the other, and the other way round."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.enrolling import Enrol
from benchmarks.metrics import NAMED_FMRS, equal_error_rate, fmr_at, fnmr_at, fold_accuracy, threshold_at_fmr
from benchmarks.protocols import Pairs
from benchmarks.scoring import FileScorer
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
    for enrolled, wanted in track(sorted(probes.items()), f"{scorer.precision} verifiers", len(probes)):
        theta = enrol(faces.pixels[[enrolled]], faces.templates[[enrolled]])
        scores = scorer.scores(theta, faces.pixels[[probe for probe, _, _ in wanted]])
        for (_, row, direction), score in zip(wanted, scores, strict=True):
            table[direction, row] = score
    return PairScores(table[0], table[1])


def summarise(scores: np.ndarray, pairs: Pairs) -> dict[str, Any]:
    """Accuracy by the fold protocol (when there are folds), EER, and FNMR at thresholds set on these same impostors."""
    genuine, impostor = scores[pairs.same], scores[~pairs.same]
    result: dict[str, Any] = {"genuine_pairs": len(genuine), "impostor_pairs": len(impostor)}
    if len(np.unique(pairs.fold)) > 1:
        accuracy, error = fold_accuracy(scores, pairs.same, pairs.fold)
        result |= {"accuracy": round(accuracy, 6), "standard_error": round(error, 6)}
    result["eer"] = round(equal_error_rate(genuine, impostor), 6)
    result["at_fmr"] = {}
    for name, fmr in NAMED_FMRS.items():
        if fmr * len(impostor) < 1:
            continue  # fewer impostors than one expected error: no such rate can be stated
        threshold = threshold_at_fmr(impostor, fmr)
        rate = fnmr_at(genuine, threshold)
        result["at_fmr"][name] = {
            "threshold": threshold,
            "tmr": 1 - rate.rate,
            "fmr": asdict(fmr_at(impostor, threshold)),
            "fnmr": asdict(rate),
        }
    return result


def evaluate_pairs(faces: FaceSet, pairs: Pairs, enrol: Enrol, scorer: FileScorer) -> tuple[dict[str, Any], PairScores]:
    """`one_sided` is forward alone; `both_sides` adds forward and backward."""
    scores = score_pairs(faces, pairs, enrol, scorer)
    return {
        "one_sided": summarise(scores.forward, pairs),
        "both_sides": summarise(scores.forward + scores.backward, pairs),
    }, scores
