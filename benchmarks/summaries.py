"""Error rates of comparisons at thresholds: with intervals, pair counts, and how they spread over people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from benchmarks.comparisons import Comparisons
from benchmarks.fusion import log_likelihood_ratios
from benchmarks.metrics import NAMED_FMRS, Rate, threshold_at_fmr
from benchmarks.resampling import interval_over_people
from benchmarks.score_counts import ScoreCounts, cllr, reliability
from benchmarks.zoo import zoo


def rate_of(wrong: np.ndarray, c: Comparisons) -> dict[str, Any]:
    """The share of `wrong` [N] among the comparisons: Clopper-Pearson interval, and that of the people's bootstrap."""
    return rate_between(wrong, c.enrolled, c.shown)


def rate_between(wrong: np.ndarray, a: np.ndarray, b: np.ndarray) -> dict[str, Any]:
    """The same for comparisons of people `a` [N] with people `b` [N]."""
    rate = asdict(Rate.of(int(wrong.sum()), len(wrong)))
    low, high = interval_over_people(wrong, a, b)
    return rate | {"people_low": low, "people_high": high}


def rates_at(c: Comparisons, threshold: float) -> dict[str, Any]:
    """FNMR and FMR at a threshold, whichever has comparisons, and their spread over enrolled people."""
    result: dict[str, Any] = {"threshold": threshold, "per_person": {}}
    for name, side in (("fnmr", c.where(c.mated)), ("fmr", c.where(~c.mated))):
        if len(side):
            wrong = (side.score < threshold) if name == "fnmr" else (side.score >= threshold)
            result[name] = rate_of(wrong, side)
            result["per_person"][name] = spread(wrong, side.enrolled)
    return result


def at_fmrs(c: Comparisons) -> dict[str, Any]:
    """Rates at thresholds set on these same impostors, for every named FMR that one impostor or more stands for."""
    named = {name: fmr for name, fmr in NAMED_FMRS.items() if fmr * len(c.impostor) >= 1}
    return {name: rates_at(c, threshold_at_fmr(c.impostor, fmr)) for name, fmr in named.items()}


def at_thresholds(c: Comparisons, thresholds: dict[str, float]) -> dict[str, Any]:
    """Rates at thresholds that come from elsewhere."""
    return {name: rates_at(c, threshold) for name, threshold in thresholds.items()}


def distribution(c: Comparisons) -> dict[str, Any]:
    """What no threshold is needed for: AUC, d′, Cllr, the curves for plots, and the zoo at FMR 1e-2 of these impostors.

    Cllr and the reliability curve are those of log-likelihood ratios fitted on other people's verifiers.
    """
    counts = ScoreCounts.of(c.genuine, c.impostor)
    ratios = log_likelihood_ratios(c)
    result: dict[str, Any] = {**counts.separation(), "cllr": None, "curves": counts.curves()}
    if ratios is not None:
        result["cllr"] = cllr(ratios[c.mated], ratios[~c.mated])
        result["curves"]["reliability"] = reliability(ratios[c.mated], ratios[~c.mated])
    return result | {"zoo": zoo(c, counts.threshold_at_fmr(1e-2))}


def spread(wrong: np.ndarray, person: np.ndarray) -> dict[str, Any]:
    """How unevenly errors fall on people: quantiles of each person's rate, and the share of people with any error."""
    people, index = np.unique(person, return_inverse=True)
    rates = np.bincount(index, wrong, len(people)) / np.bincount(index, minlength=len(people))
    median, p90, worst = np.quantile(rates, [0.5, 0.9, 1.0]).tolist()
    return {"median": median, "p90": p90, "worst": worst, "people_with_errors": float((rates > 0).mean())}
