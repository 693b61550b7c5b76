"""How many genuine and impostor comparisons gave each score: all that error rates, DET, EER, d′ and Cllr depend on.

An int8 verifier has 256 different scores, so a hundred million comparisons are 256 rows. Counts of two parts add up,
which is how files larger than memory are read: there, scores keep 17 significant bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import isotonic_regression
from scipy.special import xlogy

from toolkit.errors import InputError

DROPPED_BITS = 6  # of float32's 23-bit mantissa, when scores are streamed
DET_POINTS_PER_DECADE = 50  # a curve's picture needs no more
_NO_NUMBER, _LEAVE_OUT = "a score is not a finite number", "leave that comparison out, or count it as an error"


@dataclass(frozen=True)
class ScoreCounts:
    """`scores` float64 [M], rising and distinct; `genuine` and `impostor` int64 [M] count the comparisons at each."""

    scores: np.ndarray
    genuine: np.ndarray
    impostor: np.ndarray
    rounded: bool = False  # each score stands for all from it up to the next of 17 bits

    @classmethod
    def of(cls, genuine: np.ndarray, impostor: np.ndarray) -> ScoreCounts:
        """Raises InputError without genuine or without impostor scores, or with one that is not a number."""
        if len(genuine) == 0 or len(impostor) == 0:
            raise InputError("error rates need genuine and impostor pairs", do="use a set with more photos or people")
        sides = [np.sort(np.asarray(side, np.float64)) for side in (genuine, impostor)]
        if not all(np.isfinite(side[[0, -1]]).all() for side in sides):  # sorting puts what is no number at the ends
            raise InputError(_NO_NUMBER, do=_LEAVE_OUT)
        both = np.sort(np.concatenate(sides))
        scores = both[np.flatnonzero(np.diff(both, prepend=-np.inf))]
        genuine_at, impostor_at = (np.diff(np.searchsorted(side, scores, "right"), prepend=0) for side in sides)
        return cls(scores, genuine_at, impostor_at)

    @classmethod
    def streamed(cls, score: np.ndarray, mated: np.ndarray) -> ScoreCounts:
        """One part of many: scores [N] rounded down to 17 significant bits, so that the sum of all parts stays small.

        A threshold that is a rounded score itself decides as on exact ones. Scores of an int8 file are kept exactly.
        """
        ordered = _ordered(np.asarray(score, np.float32)) >> DROPPED_BITS
        keys, counts = _counted_keys(ordered, mated)
        return cls(_unordered(keys << DROPPED_BITS), *counts, rounded=True)

    def __add__(self, other: ScoreCounts) -> ScoreCounts:
        scores = np.union1d(self.scores, other.scores)
        genuine, impostor = np.zeros(len(scores), np.int64), np.zeros(len(scores), np.int64)
        for part in (self, other):
            at = np.searchsorted(scores, part.scores)
            genuine[at] += part.genuine
            impostor[at] += part.impostor
        return ScoreCounts(scores, genuine, impostor, self.rounded or other.rounded)

    @property
    def genuine_total(self) -> int:
        return int(self.genuine.sum())

    @property
    def impostor_total(self) -> int:
        return int(self.impostor.sum())

    def errors_at(self, threshold: float) -> tuple[int, int]:
        """(false non-matches, false matches) when scores at or above the threshold are accepted."""
        cut = int(np.searchsorted(self.scores, threshold, "left"))
        return int(self.genuine[:cut].sum()), int(self.impostor[cut:].sum())

    def threshold_at_fmr(self, fmr: float) -> float:
        """The lowest threshold at which at most `fmr` of the impostor scores are accepted."""
        allowed = int(np.floor(fmr * self.impostor_total + 1e-9))
        accepted = self.impostor[::-1].cumsum()[::-1]  # when the threshold is this score
        refused = np.flatnonzero(accepted > allowed)
        if not len(refused):
            return float(self.scores[self.impostor > 0][0])
        highest = self.scores[refused[-1]]
        if self.rounded:  # exact scores that count as the highest refused one lie between it and the next of 17 bits
            key = (_ordered(np.array([highest], np.float32)) >> DROPPED_BITS) + 1
            return float(_unordered(key << DROPPED_BITS)[0])
        return float(np.nextafter(highest, np.inf))

    def curve(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(thresholds, FMR, FNMR) at every distinct score and beyond the last, rising: all points of the DET curve."""
        below_genuine = np.concatenate([[0], self.genuine.cumsum()])
        below_impostor = np.concatenate([[0], self.impostor.cumsum()])
        fmr = (below_impostor[-1] - below_impostor) / below_impostor[-1]
        return np.append(self.scores, np.inf), fmr, below_genuine / below_genuine[-1]

    def equal_error_rate(self) -> float:
        """Where FMR and FNMR cross, between the two scores that enclose the crossing."""
        _, fmr, fnmr = self.curve()
        gap = fmr - fnmr  # falls from ≥ 0
        after = int(np.argmax(gap <= 0))
        if after == 0 or gap[after] == 0:
            return float((fmr[after] + fnmr[after]) / 2)
        share = gap[after - 1] / (gap[after - 1] - gap[after])
        return float(fmr[after - 1] + share * (fmr[after] - fmr[after - 1]))

    def auc(self) -> float:
        """Area under the ROC curve: how often a genuine score exceeds an impostor one, ties counted half."""
        below = self.impostor.cumsum() - self.impostor / 2
        return float(self.genuine @ below / self.genuine_total / self.impostor_total)

    def d_prime(self) -> float:
        """Distance of the two means in units of the mean deviation (root of the mean variance). 0 without spread."""
        moments = []
        for counts in (self.genuine, self.impostor):
            mean = counts @ self.scores / counts.sum()
            moments.append((mean, counts @ (self.scores - mean) ** 2 / counts.sum()))
        (mean_genuine, spread_genuine), (mean_impostor, spread_impostor) = moments
        deviation = np.sqrt((spread_genuine + spread_impostor) / 2)
        return float((mean_genuine - mean_impostor) / deviation) if deviation else 0.0

    def min_cllr(self) -> float:
        """Cllr in bits of the best possible monotone calibration of these scores: what discrimination alone costs.

        By pooling adjacent violators, with both kinds of comparison weighing the same (Brümmer and du Preez, 2006).
        """
        genuine, impostor = self.genuine / self.genuine_total, self.impostor / self.impostor_total
        posterior = isotonic_regression(genuine / (genuine + impostor), weights=genuine + impostor).x
        cost = xlogy(genuine, posterior) + xlogy(impostor, 1 - posterior)
        return float(-cost.sum() / np.log(4))

    def separation(self) -> dict[str, float]:
        """How well the scores tell genuine from impostor, whatever the threshold."""
        return {"auc": self.auc(), "d_prime": self.d_prime(), "min_cllr": self.min_cllr()}

    def curves(self) -> dict[str, Any]:
        """What plots are drawn from."""
        return {"det": self.det_points(), "histogram": self.histogram()}

    def det_points(self) -> dict[str, list[float]]:
        """The curve for a picture with logarithmic axes: of points that would fall together, one is kept."""
        thresholds, fmr, fnmr = self.curve()
        smallest = np.log10(0.5 / max(self.genuine_total, self.impostor_total))
        grid = np.logspace(smallest, 0, int(-smallest * DET_POINTS_PER_DECADE))
        at = np.concatenate([np.searchsorted(-fmr, -grid), np.searchsorted(fnmr, grid)])
        chosen = np.unique(np.minimum(at, len(self.scores) - 1))
        columns = {"threshold": thresholds, "fmr": fmr, "fnmr": fnmr}
        return {name: [float(f"{v:.6g}") for v in column[chosen]] for name, column in columns.items()}

    def histogram(self, bins: int = 60) -> dict[str, list[float]]:
        """Share of the genuine and of the impostor comparisons in each of `bins` equal bins."""
        low, high = float(self.scores[0]), float(self.scores[-1])
        edges = np.linspace(low, high if high > low else low + 1, bins + 1)
        shares = {name: np.histogram(self.scores, edges, weights=counts)[0] / counts.sum()
                  for name, counts in (("genuine", self.genuine), ("impostor", self.impostor))}  # fmt: skip
        return {name: [float(f"{v:.6g}") for v in column] for name, column in {"edges": edges, **shares}.items()}


def cllr(genuine: np.ndarray, impostor: np.ndarray) -> float:
    """Cost of log-likelihood ratios (natural logarithm) in bits: 0 is perfect, 1 is knowing nothing (Brümmer, 2006)."""
    cost = np.logaddexp(0, -genuine).mean() + np.logaddexp(0, impostor).mean()
    return float(cost / np.log(4))


def reliability(genuine: np.ndarray, impostor: np.ndarray, bins: int = 10) -> list[dict[str, float]]:
    """Of comparisons whose log-likelihood ratio claims a probability, how many were genuine; equal priors.

    One row for each of `bins` equal ranges of the claimed probability that holds anything.
    """
    claimed = 1 / (1 + np.exp(-np.clip(np.concatenate([genuine, impostor]), -700, 700)))
    truth = np.repeat([1.0, 0.0], [len(genuine), len(impostor)])
    weight = np.repeat([0.5 / len(genuine), 0.5 / len(impostor)], [len(genuine), len(impostor)])
    place = np.minimum((claimed * bins).astype(int), bins - 1)
    rows = []
    for number in np.unique(place):
        inside = place == number
        share = weight[inside] / weight[inside].sum()
        rows.append({"claimed": float(share @ claimed[inside]), "observed": float(share @ truth[inside]),
                     "comparisons": int(inside.sum())})  # fmt: skip
    return rows


def _counted_keys(keys: np.ndarray, mated: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    distinct, place = np.unique(keys, return_inverse=True)
    genuine = np.bincount(place[mated], minlength=len(distinct))
    return distinct, (genuine, np.bincount(place[~mated], minlength=len(distinct)))


def _ordered(values: np.ndarray) -> np.ndarray:
    """float32 to int32 of the same order: the bits of the magnitude, with the number's sign."""
    if not np.isfinite(values).all():
        raise InputError(_NO_NUMBER, do=_LEAVE_OUT)
    magnitude = np.abs(values).view(np.int32)
    return np.asarray(np.where(values < 0, -magnitude, magnitude))


def _unordered(ordered: np.ndarray) -> np.ndarray:
    magnitude = np.abs(ordered).astype(np.int32).view(np.float32)
    return np.asarray(np.where(ordered < 0, -magnitude, magnitude), np.float64)
