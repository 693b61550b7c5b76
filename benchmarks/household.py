"""The household protocol: enrol each person from K photos; their others are genuine, everyone else's impostors."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from benchmarks.comparisons import Comparisons, joined
from benchmarks.enrolling import Enrol
from benchmarks.fusion import fuse, log_likelihood_ratios
from benchmarks.metrics import NAMED_FMRS, equal_error_rate, fmr_at, fnmr_at, threshold_at_fmr
from benchmarks.scoring import FileScorer
from benchmarks.summaries import at_fmrs, at_thresholds, distribution
from models.faceset import FaceSet
from models.generator import GeneratorInfo, OperatingPoint
from toolkit.errors import InputError
from toolkit.progress import track


def enrolment_sets(identity: np.ndarray, photos: int, repeats: int) -> list[tuple[int, np.ndarray]]:
    """(person, rows enrolled): up to `repeats` sets of `photos` photos a person, disjoint, in order.

    A person takes part with at least one photo left to verify.
    """
    sets = []
    for person in np.unique(identity[identity >= 0]):
        rows = np.flatnonzero(identity == person)
        for start in range(0, min(repeats * photos, len(rows)), photos):
            chosen = rows[start : start + photos]
            if len(chosen) == photos and len(rows) > photos:
                sets.append((int(person), chosen))
    return sets


def can_enrol(faces: FaceSet, photos: int) -> bool:
    """Whether two people have more than `photos` photos: one alone has no impostors."""
    return len(enrolment_sets(faces.identity, photos, 1)) >= 2


def household_trials(faces: FaceSet, enrol: Enrol, scorer: FileScorer, photos: int, repeats: int = 1) -> Comparisons:
    """Run the protocol. Faces of unknown people are left out. Raises InputError when nobody has enough photos."""
    if not can_enrol(faces, photos):
        raise InputError(
            f"enrolling from {photos} photos needs two people with more than {photos}", do="use a larger set"
        )
    sets = enrolment_sets(faces.identity, photos, repeats)
    return compare(faces, sets, np.flatnonzero(faces.identity >= 0), faces, enrol, scorer)


def compare(
    faces: FaceSet, sets: list[tuple[int, np.ndarray]], probes: np.ndarray, shown: FaceSet, enrol: Enrol,
    scorer: FileScorer,
) -> Comparisons:  # fmt: skip
    """Enrol every (person, rows of `faces`), and show each verifier the rows `probes` of the set `shown`.

    Photos that were enrolled are not shown to their own verifier. Nameless people of `shown` count as one each.
    """
    person_of = _people_shown(faces, shown)
    parts = []
    for number, (person, rows) in enumerate(track(sets, f"{scorer.precision} verifiers", len(sets))):
        theta = enrol(faces.pixels[rows], faces.templates[rows])
        wanted = np.setdiff1d(probes, rows) if shown is faces else probes
        scores = scorer.scores(theta, shown.pixels[wanted])
        count = len(wanted)
        parts.append(Comparisons(scores, np.full(count, number), np.full(count, person), person_of[wanted], wanted))
    return joined(parts)


def _people_shown(faces: FaceSet, shown: FaceSet) -> np.ndarray:
    """Who each face of `shown` is, in the numbers of `faces`. Others have numbers of their own, nameless ones < 0."""
    identity = shown.identity
    if shown is not faces:
        known, beyond = {name: i for i, name in enumerate(faces.people)}, faces.identity.max(initial=-1) + 1
        people = shown.people or ("",) * (identity.max(initial=-1) + 1)  # training's own sets do not name them
        numbers = [known.get(name, beyond + i) for i, name in enumerate(people)]
        identity = np.where(identity >= 0, np.array([*numbers, -1])[identity], -1)
    return np.where(identity >= 0, identity, -1 - np.arange(len(shown)))


def summarise(
    c: Comparisons, shipped: dict[str, OperatingPoint] | None = None, fused_probes: int = 0
) -> dict[str, Any]:
    """Error rates at thresholds set on these impostors, at the generator's shipped thresholds, and of fused probes."""
    thresholds = {name: point.threshold for name, point in (shipped or {}).items()}
    result: dict[str, Any] = {
        "people": c.people,
        "enrolments": c.verifiers,
        "genuine_pairs": len(c.genuine),
        "impostor_pairs": len(c.impostor),
        "eer": round(equal_error_rate(c.genuine, c.impostor), 6),
        "at_fmr": at_fmrs(c),
        "at_shipped_threshold": at_thresholds(c, thresholds),
    }
    if fused_probes:
        result["fused"] = {"probes": fused_probes, **_fused(c, fused_probes, thresholds)}
    return result | distribution(c)


def _fused(c: Comparisons, probes: int, thresholds: dict[str, float]) -> dict[str, Any]:
    """Fused by likelihood ratio and by mean; {} when nobody has enough photos left."""
    mean = fuse(c, probes)
    ratios = log_likelihood_ratios(c)
    if not len(mean.genuine) or not len(mean.impostor) or ratios is None:
        return {}
    ratio = fuse(c.scored(ratios), probes)
    return {
        name: {
            "people": len(np.unique(fused.enrolled[fused.mated])),
            "genuine_trials": len(fused.genuine),
            "impostor_trials": len(fused.impostor),
            "eer": round(equal_error_rate(fused.genuine, fused.impostor), 6),
            "at_fmr": at_fmrs(fused),
            "at_shipped_threshold": at_thresholds(fused, at),
        }
        for name, fused, at in (("likelihood_ratio", ratio, {}), ("mean", mean, thresholds))
    }


def operating_points(c: Comparisons) -> dict[str, OperatingPoint]:
    """Thresholds at the named FMRs, with the trials they were set on."""
    points = {}
    for name, fmr in NAMED_FMRS.items():
        if fmr * len(c.impostor) < 1:
            continue  # fewer trials than one expected error: no such rate can be stated
        threshold = threshold_at_fmr(c.impostor, fmr)
        false, miss = fmr_at(c.impostor, threshold), fnmr_at(c.genuine, threshold)
        points[name] = OperatingPoint(
            name, threshold, round(false.rate, 8), round(miss.rate, 8), false.trials, miss.trials, c.people
        )
    return points


def evaluate_household(
    faces: FaceSet, info: GeneratorInfo, enrol: Enrol, scorer: FileScorer, counts: Iterable[int], fused_probes: int = 0
) -> tuple[dict[str, Any], dict[int, Comparisons]]:
    """Summary and comparisons by number of enrolment photos. Thresholds that travel with `info` are evaluated too."""
    trials = {count: household_trials(faces, enrol, scorer, count) for count in counts}
    return {str(n): summarise(t, info.points_for(n)[1], fused_probes) for n, t in trials.items()}, trials
