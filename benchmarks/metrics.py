"""Verification error rates from genuine and impostor scores, in the terms of ISO/IEC 19795-1.

FMR: share of impostor scores at or above the threshold. FNMR: share of genuine scores below it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from benchmarks.score_counts import ScoreCounts
from toolkit.errors import InputError

NAMED_FMRS = {"fmr1e-2": 1e-2, "fmr1e-3": 1e-3, "fmr1e-4": 1e-4}


@dataclass(frozen=True)
class Rate:
    """`errors` of `trials`, and the Clopper-Pearson interval of that share."""

    errors: int
    trials: int
    rate: float
    low: float
    high: float

    @classmethod
    def of(cls, errors: int, trials: int, confidence: float = 0.95) -> Rate:
        """Raises InputError when there are no trials."""
        if trials <= 0:
            raise InputError("a rate needs at least one trial", do="use a set with more photos or people")
        tail = (1 - confidence) / 2
        low = 0.0 if errors == 0 else float(stats.beta.ppf(tail, errors, trials - errors + 1))
        high = 1.0 if errors == trials else float(stats.beta.ppf(1 - tail, errors + 1, trials - errors))
        return cls(errors, trials, errors / trials, low, high)


def threshold_at_fmr(impostor: np.ndarray, fmr: float) -> float:
    """The lowest threshold at which at most `fmr` of the impostor scores are accepted."""
    allowed = int(np.floor(fmr * len(impostor) + 1e-9))
    if allowed >= len(impostor):
        return float(impostor.min())
    # With `allowed` scores above it, the next one must fall below: the threshold is the next number after it.
    highest_refused = np.partition(impostor, len(impostor) - 1 - allowed)[len(impostor) - 1 - allowed]
    return float(np.nextafter(np.float64(highest_refused), np.inf))


def fmr_at(impostor: np.ndarray, threshold: float) -> Rate:
    return Rate.of(int((impostor >= threshold).sum()), len(impostor))


def fnmr_at(genuine: np.ndarray, threshold: float) -> Rate:
    return Rate.of(int((genuine < threshold).sum()), len(genuine))


def equal_error_rate(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Where FMR and FNMR cross. Raises InputError without genuine or impostor scores."""
    return ScoreCounts.of(genuine, impostor).equal_error_rate()


def rule_of_three(trials: int, confidence: float = 0.95) -> float:
    """Upper limit of a rate of which `trials` showed no error, one-sided: about three over the trials."""
    return float(1 - (1 - confidence) ** (1 / trials))


def fold_accuracy(scores: np.ndarray, same: np.ndarray, fold: np.ndarray) -> tuple[float, float]:
    """(mean, standard error) of the accuracy over folds, each at the threshold that is best on all the others.

    LFW's protocol (Huang et al., 2007). Raises InputError with fewer than two folds.
    """
    numbers = np.unique(fold)
    if len(numbers) < 2:
        raise InputError("this protocol needs at least two folds", got=len(numbers))
    accuracies = []
    for number in numbers:
        inside = fold == number
        threshold = best_threshold(scores[~inside], same[~inside])
        accuracies.append(float(((scores[inside] >= threshold) == same[inside]).mean()))
    return float(np.mean(accuracies)), float(np.std(accuracies, ddof=1) / np.sqrt(len(numbers)))


def best_threshold(scores: np.ndarray, same: np.ndarray) -> float:
    """The threshold of highest accuracy, midway between two scores so that it favours neither side."""
    order = np.argsort(scores, kind="stable")
    sorted_scores, sorted_same = scores[order].astype(np.float64), same[order]
    # Cutting before position i accepts everything from i on.
    right = (
        np.concatenate([[0], np.cumsum(~sorted_same)])
        + sorted_same.sum()
        - np.concatenate([[0], np.cumsum(sorted_same)])
    )
    cut_allowed = np.concatenate([[True], np.diff(sorted_scores) > 0, [True]])
    best = int(np.argmax(np.where(cut_allowed, right, -1)))
    if best == 0:
        return float(sorted_scores[0])
    if best == len(scores):
        return float(np.nextafter(sorted_scores[-1], np.inf))
    return float((sorted_scores[best - 1] + sorted_scores[best]) / 2)
