"""Whom the errors fall on: Doddington's animals ("Sheep, goats, lambs and wolves", 1998).

Goats are people whose own verifier scores them low; lambs are people whose verifier scores others high; wolves are
people who score high in others' verifiers. Everybody is a little of each: what counts is whether people differ by more
than chance (Kruskal and Wallis's test) and how many of the errors the worst tenth of people carry.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import stats

from benchmarks.comparisons import Comparisons

TENTH = 0.1


def zoo(c: Comparisons, threshold: float) -> dict[str, Any]:
    """Goats, lambs and wolves at a threshold, and each enrolled person's mean scores, without names. {} for one."""
    if c.people < 2 or not len(c.genuine) or not len(c.impostor):
        return {}
    mated, other = c.where(c.mated), c.where(~c.mated)
    named = other.where(other.shown >= 0)
    animals = {
        "goats": _animal(mated.score, mated.enrolled, mated.score < threshold),
        "lambs": _animal(other.score, other.enrolled, other.score >= threshold),
    }
    if len(np.unique(named.shown)) > 1:
        animals["wolves"] = _animal(named.score, named.shown, named.score >= threshold)
    return {"threshold": threshold, **animals, "people": _means(mated, other)}


def _animal(score: np.ndarray, person: np.ndarray, wrong: np.ndarray) -> dict[str, Any]:
    people, index = np.unique(person, return_inverse=True)
    errors = np.sort(np.bincount(index, wrong, len(people)))[::-1]
    worst = max(1, round(TENTH * len(people)))
    ends = np.flatnonzero(np.diff(np.sort(index))) + 1
    samples = np.split(score[np.argsort(index, kind="stable")], ends)
    differ = len(people) > 1 and np.ptp(score) > 0
    return {
        "people": len(people),
        "errors": int(errors.sum()),
        "share_of_worst_tenth": float(errors[:worst].sum() / errors.sum()) if errors.sum() else None,
        "kruskal_wallis_p": float(stats.kruskal(*samples).pvalue) if differ else 1.0,
    }


def _means(mated: Comparisons, other: Comparisons) -> dict[str, list[float]]:
    """Mean genuine and mean impostor score of everybody who has both, in the order of the former."""
    people = np.intersect1d(mated.enrolled, other.enrolled)
    columns = []
    for side in (mated, other):
        inside = side.where(np.isin(side.enrolled, people))
        index = np.searchsorted(people, inside.enrolled)
        columns.append(np.bincount(index, inside.score) / np.bincount(index))
    order = np.argsort(columns[0], kind="stable")
    genuine, impostor = ([round(float(v), 5) for v in column[order]] for column in columns)
    return {"genuine": genuine, "impostor": impostor}
