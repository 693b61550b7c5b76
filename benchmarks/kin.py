"""Relatives: how often a person's verifier accepts the family, at the threshold that keeps strangers out.

An identity of the form `FAMILY/PERSON` (Families in the Wild: `F0001/MID2`) names the family; others have none.
"""

from __future__ import annotations

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

ONE_PHOTO_COSINE = 0.95  # templates this close are one photograph; different photos of one person are mostly below 0.9


def families(people: tuple[str, ...]) -> np.ndarray:
    """Number of each person's family int64 [P]; those without one get negative numbers, all different."""
    names = [person.rpartition("/")[0] for person in people]
    known = {name: i for i, name in enumerate(sorted(set(names) - {""}))}
    return np.array([known.get(name, -1 - i) for i, name in enumerate(names)], np.int64)


def labelled_twice(faces: FaceSet) -> np.ndarray:
    """Faces [N] bool that are there under another identity too: the label is wrong, and no error could be counted."""
    marked = np.zeros(len(faces), bool)
    for block in np.array_split(np.arange(len(faces)), max(1, len(faces) // 512)):
        same_photo = faces.templates[block] @ faces.templates.T >= ONE_PHOTO_COSINE
        other = faces.identity[block][:, None] != faces.identity[None, :]
        marked[block] = (same_photo & other).any(1)
    return marked


def kin_trials(faces: FaceSet, enrol: Enrol, scorer: FileScorer, photos: int) -> Comparisons:
    """Enrol everyone with a relative in the set; show each verifier all faces. Raises InputError without families."""
    family = families(faces.people)
    usable = np.flatnonzero((faces.identity >= 0) & ~labelled_twice(faces))
    identity = np.full(len(faces), -1)
    identity[usable] = faces.identity[usable]
    members = np.unique(identity[usable])
    sizes = {number: int((family[members] == number).sum()) for number in np.unique(family[members])}
    sets = [(p, rows) for p, rows in enrolment_sets(identity, photos, 1) if sizes[int(family[p])] > 1]
    if not sets or len(sizes) < 2:
        raise InputError(
            f"no family with a member to enrol from {photos} photos",
            expected="identities FAMILY/PERSON, two families or more, and members with more photos than that",
            do="use a set such as Families in the Wild, or a smaller --enrol",
        )
    return compare(faces, sets, usable, faces, enrol, scorer)


def summarise(c: Comparisons, family: np.ndarray, shipped: dict[str, float]) -> dict[str, Any]:
    """FMR of relatives and of strangers, and FNMR, at thresholds set on strangers and at the shipped ones."""
    related = (family[c.enrolled] == family[c.shown]) & ~c.mated
    strangers = c.where(family[c.enrolled] != family[c.shown])
    own = {name: fmr for name, fmr in NAMED_FMRS.items() if fmr * len(strangers) >= 1}
    groups = {"strangers": strangers, "relatives": c.where(related), "genuine": c.where(c.mated)}
    if not len(groups["relatives"]):
        raise InputError("no relative is among the faces shown", do="use a larger set")

    def at(threshold: float) -> dict[str, Any]:
        wrong = {name: (g.score >= threshold) != (name == "genuine") for name, g in groups.items()}
        rates = {name: rate_of(wrong[name], g) for name, g in groups.items() if len(g)}
        ratio = rates["relatives"]["rate"] / rates["strangers"]["rate"] if rates["strangers"]["rate"] else None
        genuine = {"fnmr": rates["genuine"]} if "genuine" in rates else {}
        return {"threshold": threshold, "fmr_strangers": rates["strangers"], "fmr_relatives": rates["relatives"],
                "relatives_over_strangers": ratio, **genuine}  # fmt: skip

    return {
        "people": c.people,
        "families": len(np.unique(family[c.enrolled])),
        **{f"{name}_pairs": len(g) for name, g in groups.items()},
        "at_stranger_fmr": {name: at(threshold_at_fmr(strangers.score, fmr)) for name, fmr in own.items()},
        "at_shipped_threshold": {name: at(threshold) for name, threshold in shipped.items()},
    }


def evaluate_kin(
    faces: FaceSet, info: GeneratorInfo, enrol: Enrol, scorer: FileScorer, counts: list[int]
) -> dict[str, Any]:
    """Summary by number of enrolment photos."""
    family = families(faces.people)
    result: dict[str, Any] = {"left_out_labelled_twice": int(labelled_twice(faces).sum()), "enrolment_photos": {}}
    for count in counts:
        shipped = {name: point.threshold for name, point in info.points_for(count)[1].items()}
        trials = kin_trials(faces, enrol, scorer, count)
        result["enrolment_photos"][str(count)] = summarise(trials, family, shipped)
    return result
