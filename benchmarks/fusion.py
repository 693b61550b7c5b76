"""Several probes of one person to one score: the sum of their log-likelihood ratios, or their mean as devices take it.

A score's likelihood ratio is how much likelier a genuine comparison gives it than an impostor comparison. For probes
that are independent given the person, the sum of its logarithms is the best possible fusion (Neyman and Pearson).
Frames of one person are not quite independent, so the gain is measured and not assumed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import isotonic_regression

from benchmarks.comparisons import Comparisons

BINS = 256  # an int8 score has no more values
SMOOTHING_BINS = 2.0
PEOPLE_FOLDS = 5


@dataclass(frozen=True)
class LikelihoodRatio:
    """log(p(score | genuine) / p(score | impostor)), a rising curve through `scores`, constant beyond its ends."""

    scores: np.ndarray
    log_ratio: np.ndarray

    @classmethod
    def fit(cls, genuine: np.ndarray, impostor: np.ndarray) -> LikelihoodRatio:
        """Smoothed histograms, half a count added to every bin, made monotone by isotonic regression."""
        edges = np.linspace(min(genuine.min(), impostor.min()), max(genuine.max(), impostor.max()) + 1e-9, BINS + 1)
        counts = [np.histogram(s, edges)[0].astype(np.float64) for s in (genuine, impostor)]
        smooth = [gaussian_filter1d(c, SMOOTHING_BINS, mode="nearest") + 0.5 for c in counts]
        raw = np.log(smooth[0] / smooth[0].sum()) - np.log(smooth[1] / smooth[1].sum())
        rising = isotonic_regression(raw, weights=smooth[0] + smooth[1]).x
        return cls((edges[:-1] + edges[1:]) / 2, np.asarray(rising))

    def __call__(self, scores: np.ndarray) -> np.ndarray:
        return np.asarray(np.interp(scores, self.scores, self.log_ratio))


def log_likelihood_ratios(comparisons: Comparisons) -> np.ndarray | None:
    """Each score's log-likelihood ratio float64 [N], by a curve fitted on the verifiers of other people only.

    None when there are too few other people.
    """
    people = np.unique(comparisons.enrolled)
    fold = np.searchsorted(people, comparisons.enrolled) % min(PEOPLE_FOLDS, len(people))
    ratios = np.zeros(len(comparisons))
    for number in np.unique(fold):
        inside = fold == number
        others = comparisons.where(~inside)
        if not len(others.genuine) or not len(others.impostor):
            return None
        ratios[inside] = LikelihoodRatio.fit(others.genuine, others.impostor)(comparisons.score[inside])
    return ratios


def fuse(comparisons: Comparisons, probes: int) -> Comparisons:
    """Mean score of each verifier over `probes` faces of one person: disjoint groups in the set's order.

    Faces left over, and people without a name, take no part.
    """
    c = comparisons.where(comparisons.shown >= 0)
    c = c.where(np.lexsort((c.probe, c.shown, c.verifier)))
    starts = np.flatnonzero((np.diff(c.verifier, prepend=-1) != 0) | (np.diff(c.shown, prepend=-1) != 0))
    sizes = np.diff(starts, append=len(c))
    position = np.arange(len(c)) - np.repeat(starts, sizes)  # within its verifier and person
    whole = position < np.repeat(sizes // probes * probes, sizes)
    c = c.where(whole)
    means = c.score.reshape(-1, probes).mean(1)
    return c.where(np.arange(0, len(c), probes)).scored(means)
