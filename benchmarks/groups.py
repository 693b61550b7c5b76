"""False matches by age, sex and ethnicity of the stranger, at one threshold for all.

Strangers come from a set whose file names start `AGE_SEX_ETHNICITY_`, in UTKFace's coding; its words for the codes are
used as they are. The groups are those of the person shown, not of the person enrolled.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from benchmarks.comparisons import Comparisons
from benchmarks.enrolling import Enrol
from benchmarks.household import compare, enrolment_sets
from benchmarks.metrics import NAMED_FMRS, threshold_at_fmr
from benchmarks.scoring import FileScorer
from benchmarks.summaries import rate_of
from models.faceset import FaceSet
from models.generator import GeneratorInfo
from toolkit.errors import InputError

SEXES = ("male", "female")
ETHNICITIES = ("white", "black", "asian", "indian", "other")
AGES = {"0-12": 0, "13-19": 13, "20-39": 20, "40-59": 40, "60+": 60}  # name: youngest
_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_")

Labels = dict[str, np.ndarray]  # "age", "sex", "ethnicity" → group names [N], "" where unknown


def labels_of(names: tuple[str, ...]) -> Labels:
    """Groups of each face by its file name. Raises InputError when no name tells any."""
    found = [_NAME.match(name) for name in names]
    if not any(found):
        raise InputError(
            "the negatives' file names tell no groups",
            got=names[0] if names else "no file",
            expected="names such as 34_1_2_….jpg: age, sex, ethnicity",
        )
    bands = list(AGES)
    youngest = np.array(list(AGES.values()))
    return {
        "age": np.array([bands[int((youngest <= int(m[1])).sum()) - 1] if m else "" for m in found]),
        "sex": np.array([SEXES[int(m[2])] if m else "" for m in found]),
        "ethnicity": np.array([ETHNICITIES[int(m[3])] if m else "" for m in found]),
    }


def group_trials(
    faces: FaceSet, negatives: FaceSet, enrol: Enrol, scorer: FileScorer, photos: int, people: int
) -> Comparisons:
    """Enrol evenly spread `people` of `faces`; show each verifier every negative of somebody else.

    Raises InputError without anybody to enrol.
    """
    sets = enrolment_sets(faces.identity, photos, 1)
    if len(sets) < 2:
        raise InputError(f"enrolling from {photos} photos needs two people with more than {photos}")
    chosen = np.unique(np.linspace(0, len(sets) - 1, min(people, len(sets))).astype(int))
    c = compare(faces, [sets[i] for i in chosen], np.arange(len(negatives)), negatives, enrol, scorer)
    return c.where(~c.mated)


def summarise(c: Comparisons, labels: Labels, shipped: dict[str, float]) -> dict[str, Any]:
    """FMR overall and by group, and the worst group's FMR over the overall one, at each threshold."""
    own = {name: fmr for name, fmr in NAMED_FMRS.items() if fmr * len(c) >= 1}

    def at(threshold: float) -> dict[str, Any]:
        wrong = c.score >= threshold
        overall = rate_of(wrong, c)
        by: dict[str, Any] = {}
        for kind, group in labels.items():
            names = [name for name in (*AGES, *SEXES, *ETHNICITIES) if name in set(group)]
            inside = {name: group[c.probe] == name for name in names}
            by[kind] = {name: rate_of(wrong[mask], c.where(mask)) for name, mask in inside.items()}
        return {"threshold": threshold, "fmr": overall, "by": by, "worst": _worst(by, overall["rate"])}

    return {
        "people": c.people,
        "negatives": len(np.unique(c.probe)),
        "impostor_pairs": len(c),
        "at_fmr": {name: at(threshold_at_fmr(c.score, fmr)) for name, fmr in own.items()},
        "at_shipped_threshold": {name: at(threshold) for name, threshold in shipped.items()},
    }


def _worst(by: dict[str, Any], overall: float) -> dict[str, Any]:
    """For each kind of group, the one with the highest FMR and how many times the overall FMR that is."""
    found = {}
    for kind, rates in by.items():
        name = max(rates, key=lambda group: rates[group]["rate"])
        found[kind] = {"group": name, "times_overall": rates[name]["rate"] / overall if overall else None}
    return found


def evaluate_groups(
    faces: FaceSet, negatives: FaceSet, info: GeneratorInfo, enrol: Enrol, scorer: FileScorer, photos: int, people: int
) -> dict[str, Any]:
    """Raises InputError when the negatives' names tell no groups, before any verifier is made."""
    labels = labels_of(negatives.names)
    shipped = {name: point.threshold for name, point in info.points_for(photos)[1].items()}
    trials = group_trials(faces, negatives, enrol, scorer, photos, people)
    return {"enrolment_photos": photos, **summarise(trials, labels, shipped)}
