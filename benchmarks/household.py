"""The household protocol: enrol each person from K photos; their others are genuine, everyone else's impostors."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.metrics import NAMED_FMRS, Rate, equal_error_rate, fmr_at, fnmr_at, threshold_at_fmr
from benchmarks.scoring import FileScorer
from models.faceset import FaceSet
from models.generator import Generator, OperatingPoint, fuse_templates
from toolkit.errors import InputError
from toolkit.progress import track

Enrol = Callable[[np.ndarray, np.ndarray], np.ndarray]  # photos [K, H, W, 3] and their templates [K, D] to θ [P]


@dataclass(frozen=True)
class Trials:
    """All scores of one protocol run, and whose verifier gave each."""

    genuine: np.ndarray
    genuine_person: np.ndarray
    impostor: np.ndarray
    impostor_person: np.ndarray
    people: tuple[str, ...]
    enrolments: int


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


def household_trials(
    faces: FaceSet, h: Generator, scorer: FileScorer, photos: int, repeats: int = 1, enrol: Enrol | None = None
) -> Trials:
    """Run the protocol, enrolling with `enrol` instead of `h` alone where it is given.

    Faces of unknown people are left out. Raises InputError when nobody has enough photos.
    """
    sets = enrolment_sets(faces.identity, photos, repeats)
    if not can_enrol(faces, photos):
        raise InputError(
            f"enrolling from {photos} photos needs two people with more than {photos}", do="use a larger set"
        )
    genuine, impostor = [], []
    for person, rows in track(sets, f"{scorer.precision} verifiers of {photos} photos", len(sets)):
        theta = (enrol or generated(h))(faces.pixels[rows], faces.templates[rows])
        mine = np.setdiff1d(np.flatnonzero(faces.identity == person), rows)
        others = np.flatnonzero((faces.identity >= 0) & (faces.identity != person))
        scores = scorer.scores(theta, faces.pixels[np.concatenate([mine, others])])
        genuine.append((person, scores[: len(mine)]))
        impostor.append((person, scores[len(mine) :]))
    return Trials(*_flat(genuine), *_flat(impostor), faces.people, len(sets))


def generated(h: Generator) -> Enrol:
    """Enrolment by the generator alone."""
    return lambda _, templates: h.weights(fuse_templates(templates)[None])[0]


def _flat(parts: list[tuple[int, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([s for _, s in parts]), np.concatenate([np.full(len(s), p) for p, s in parts])


def summarise(trials: Trials, shipped: dict[str, OperatingPoint] | None = None) -> dict[str, Any]:
    """Error rates at thresholds set on these impostors, and at the generator's shipped thresholds."""
    result: dict[str, Any] = {
        "people": len(np.unique(trials.genuine_person)),
        "enrolments": trials.enrolments,
        "genuine_pairs": len(trials.genuine),
        "impostor_pairs": len(trials.impostor),
        "eer": round(equal_error_rate(trials.genuine, trials.impostor), 6),
        "at_fmr": {},
        "at_shipped_threshold": {},
    }
    for name, fmr in NAMED_FMRS.items():
        if fmr * len(trials.impostor) >= 1:
            threshold = threshold_at_fmr(trials.impostor, fmr)
            result["at_fmr"][name] = _rates(trials, threshold)
    for name, point in (shipped or {}).items():
        result["at_shipped_threshold"][name] = _rates(trials, point.threshold)
    return result


def _rates(trials: Trials, threshold: float) -> dict[str, Any]:
    return {
        "threshold": threshold,
        "fnmr": asdict(fnmr_at(trials.genuine, threshold)),
        "fmr": asdict(fmr_at(trials.impostor, threshold)),
        "per_person": _spread(trials, threshold),
    }


def _spread(trials: Trials, threshold: float) -> dict[str, Any]:
    """How unevenly errors fall on people: quantiles of each person's FNMR and FMR, and the share with any error."""
    spread: dict[str, Any] = {}
    for name, person, wrong in (
        ("fnmr", trials.genuine_person, trials.genuine < threshold),
        ("fmr", trials.impostor_person, trials.impostor >= threshold),
    ):
        rates = np.array([wrong[person == p].mean() for p in np.unique(person)])
        quantiles = np.quantile(rates, [0.5, 0.9, 1.0])
        spread[name] = {"median": quantiles[0], "p90": quantiles[1], "worst": quantiles[2],
                        "people_with_errors": float((rates > 0).mean())}  # fmt: skip
    return spread


def operating_points(trials: Trials) -> dict[str, OperatingPoint]:
    """Thresholds at the named FMRs, with the trials they were set on."""
    points = {}
    for name, fmr in NAMED_FMRS.items():
        if fmr * len(trials.impostor) < 1:
            continue  # fewer trials than one expected error: no such rate can be stated
        threshold = threshold_at_fmr(trials.impostor, fmr)
        false, miss = fmr_at(trials.impostor, threshold), fnmr_at(trials.genuine, threshold)
        points[name] = OperatingPoint(
            name, threshold, _short(false), _short(miss), false.trials, miss.trials,
            len(np.unique(trials.genuine_person)),
        )  # fmt: skip
    return points


def _short(rate: Rate) -> float:
    return round(rate.rate, 8)


def evaluate_household(
    faces: FaceSet, h: Generator, scorer: FileScorer, counts: Iterable[int], enrol: Enrol | None = None
) -> tuple[dict[str, Any], dict[int, Trials]]:
    """Summary and trials by number of enrolment photos."""
    trials = {count: household_trials(faces, h, scorer, count, enrol=enrol) for count in counts}
    return {str(n): summarise(t, h.info.points_for(n)[1]) for n, t in trials.items()}, trials
