"""Decisions that quantisation changes: the same pairs, people and threshold, fp32 files against int8 files."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np

from benchmarks.enrolling import Enrol
from benchmarks.metrics import Rate
from benchmarks.pairs import score_pairs
from benchmarks.protocols import Pairs
from benchmarks.scoring import FileScorer
from models.faceset import FaceSet
from models.generator import OperatingPoint


def evaluate_flips(
    faces: FaceSet, pairs: Pairs, enrol: Enrol, scorer: FileScorer, points: dict[str, OperatingPoint]
) -> dict[str, Any]:
    """At each operating point, whose threshold was set on other people: how many comparisons int8 decides otherwise.

    Each pair gives two comparisons, one a direction.
    """
    real, steps = (_both_directions(faces, pairs, enrol, replace(scorer, precision=p)) for p in ("fp32", "int8"))
    mated = np.concatenate([pairs.same, pairs.same])
    error = np.abs(steps - np.clip(real, -1, 127 / 128))  # int8 cannot say more than that
    return {
        "comparisons": {"genuine": int(mated.sum()), "impostor": int((~mated).sum())},
        "mean_error": float(error.mean()),
        "max_error": float(error.max()),
        "at": {name: _flips(real, steps, mated, point.threshold) for name, point in points.items()},
    }


def _both_directions(faces: FaceSet, pairs: Pairs, enrol: Enrol, scorer: FileScorer) -> np.ndarray:
    scores = score_pairs(faces, pairs, enrol, scorer)
    return np.concatenate([scores.forward, scores.backward])


def _flips(real: np.ndarray, steps: np.ndarray, mated: np.ndarray, threshold: float) -> dict[str, Any]:
    """All flips, and the two sorts that cost something: genuine ones lost and impostors let in, both by int8 alone."""
    flipped = (real >= threshold) != (steps >= threshold)
    lost, admitted = flipped & (real >= threshold), flipped & (steps >= threshold)
    return {
        "threshold": threshold,
        "flips": asdict(Rate.of(int(flipped.sum()), len(flipped))),
        "genuine_lost": int((lost & mated).sum()),
        "genuine_won": int((admitted & mated).sum()),
        "impostors_admitted": int((admitted & ~mated).sum()),
        "impostors_refused": int((lost & ~mated).sum()),
    }
