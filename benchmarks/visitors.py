"""Everybody at everybody's door: `python -m benchmarks.visitors FACES OUT.json`, FACES as `toolkit train` takes them.

The visits are those of benchmarks/visits.py: the person's own verifier counts as genuine, every other as an impostor
trial. The int8 files run in LiteRT, as on a device.

Nobody is measured with a test that was calibrated on themselves. People are in four groups, by their family's name, and
a visit of one group before a door of another is decided with what the rest of the people gave.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from itertools import combinations_with_replacement
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np

from benchmarks.enrolling import Generated
from benchmarks.facts import device_facts
from benchmarks.metrics import Rate
from benchmarks.scoring import FileScorer
from benchmarks.visits import VISIT_S, Visits, describe, record
from device.decision import ACCEPTED, REJECTED, UNKNOWN, Rates, SequentialTest
from device.score_model import ScoreModel
from models.backbone import load_backbone
from models.faceset import FaceSet, load_faces
from models.generator import Generator
from models.spec import WHOLE
from toolkit.atomic import write_atomically

RATES = {f"fmr1e-{k}": 10.0**-k for k in (2, 3, 4, 5, 6)}
GROUPS = 4
SOON_S = 0.5
Models = dict[tuple[int, int], dict[int, ScoreModel]]
NONE = "none"  # the visitor has left before a decision


@dataclass(frozen=True)
class Decided:
    """How V visits ended before D doors."""

    outcome: np.ndarray  # str [V, D]
    waited_s: np.ndarray  # float [V, D], from the first usable frame to the decision


def family(person: str) -> str:
    """`F0033/MID1` is of the family F0033; anybody else is alone."""
    return person.split("/")[0]


def group_of(people: tuple[str, ...]) -> np.ndarray:
    """int [P]: each person's group, the same for a whole family, since relatives resemble each other."""
    return np.array([crc32(family(person).encode()) % GROUPS for person in people])


def decide(scores: np.ndarray, test: SequentialTest) -> tuple[np.ndarray, np.ndarray]:
    """`test`, of one user, on scores [..., F]: outcomes and the numbers of the frames that decide [...].

    What `device.decision.Evidence` decides frame by frame, for many visits at once.
    """
    (user, model), most = next(iter(test.models.items())), test.rates.frames
    outcome, last = np.full(scores.shape[:-1], NONE, "<U8"), np.zeros(scores.shape[:-1], np.int64)
    total = np.zeros(scores.shape[:-1])
    for number in range(min(most, scores.shape[-1])):
        total += scores[..., number]
        ratio = model.log_likelihood_ratio(total / (number + 1), number + 1)
        made = np.where(ratio >= test.accept[user], ACCEPTED, np.where(ratio <= test.reject[user], REJECTED, NONE))
        made = np.where((made == NONE) & (number + 1 == most), UNKNOWN, made)
        now = (outcome == NONE) & ~np.isnan(total) & (made != NONE)
        outcome[now], last[now] = made[now], number
    return outcome, last


def models_without(visits: Visits, group: np.ndarray) -> Models:
    """By the groups that must have no part in them: models by number of photos enrolled."""
    return {
        (i, j): {
            n: ScoreModel.from_visits(told)
            for n, told in describe(visits, np.flatnonzero((group != i) & (group != j))).items()
        }
        for i, j in combinations_with_replacement(range(GROUPS), 2)
    }


def decide_all(visits: Visits, group: np.ndarray, models: Models, false_accept: float) -> Decided:
    """Every visit before every door, by tests that neither the visitor nor the resident had a part in."""
    came, lives = group[visits.visitor], group[visits.resident]
    outcome = np.full(visits.strange.shape, NONE, "<U8")
    waited_s = np.full(visits.strange.shape, np.inf)
    for pair, by_photos in models.items():
        for photos in np.unique(visits.photos):
            test = SequentialTest({"": by_photos[int(photos)]}, Rates(false_accept=false_accept))
            for i, j in {pair, pair[::-1]}:
                cells = np.ix_(came == i, (lives == j) & (visits.photos == photos))
                outcome[cells], last = decide(visits.scores[cells], test)
                waited_s[cells] = np.take_along_axis(visits.time_s[came == i], last, 1)
    waited_s[outcome == NONE] = np.inf
    return Decided(outcome, waited_s)


def summary(visits: Visits, decided: Decided, relatives: np.ndarray) -> dict[str, Any]:
    """Accepts and refusals; strangers' also by door, since trials at one door are alike, and those of relatives."""
    there = ~np.isnan(visits.time_s[:, 0])
    sides: dict[str, Any] = {}
    for side, mine in (("genuine", ~visits.strange & there[:, None]), ("impostor", visits.strange & there[:, None])):
        accepted = mine & (decided.outcome == ACCEPTED)
        trials = int(mine.sum())
        sides[side] = {
            "trials": trials,
            "outcomes": dict(sorted(Counter(decided.outcome[mine].tolist()).items())),
            "accepted": vars(Rate.of(int(accepted.sum()), trials)),
        }
        if side == "genuine":
            waits = np.where(decided.outcome == ACCEPTED, decided.waited_s, np.inf)[mine]
            sides[side] |= {
                "within_500_ms": vars(Rate.of(int((waits <= SOON_S).sum()), trials)),
                "wait_ms": {"everybody": quantiles(waits), "accepted": quantiles(waits[np.isfinite(waits)])},
                "by_photos": {str(n): _own(accepted, mine, visits.photos == n) for n in np.unique(visits.photos)},
            }
        else:
            sides[side] |= {
                "relatives_accepted": vars(Rate.of(int((accepted & relatives).sum()), int((mine & relatives).sum()))),
                "doors_with_an_accept": int(accepted.any(0).sum()),
                "doors": visits.scores.shape[1],
                "rule_of_three": 3 / max(1, trials),
            }
    return sides


def _own(accepted: np.ndarray, mine: np.ndarray, doors: np.ndarray) -> dict[str, Any]:
    return vars(Rate.of(int(accepted[:, doors].sum()), int(mine[:, doors].sum())))


def quantiles(waits_s: np.ndarray) -> dict[str, float | None]:
    """Waits that occurred, in milliseconds; None where that is for ever."""
    found = np.quantile(waits_s, (0.5, 0.9, 0.95), method="higher") if len(waits_s) else [np.inf] * 3
    names = ("p50", "p90", "p95")
    return {name: round(float(s) * 1000) if np.isfinite(s) else None for name, s in zip(names, found, strict=True)}


def measure(paths: list[Path]) -> dict[str, Any]:
    h = Generator()
    spec, backbone = h.info.spec, load_backbone(h.info.backbone, threads=2)
    faces, whole = (load_faces(paths, "val", framing, backbone) for framing in (spec.framing, WHOLE))
    visits = record(faces, whole.pixels, Generated(h), FileScorer(spec, "int8", "litert"), Rates().frames)
    return {
        "schema_version": 1,
        "generator": {"version": h.info.version, "sha256": h.sha256},
        "people": len(visits.visitor),
        "enrolled": {str(n): int((visits.photos == n).sum()) for n in np.unique(visits.photos)},
        "visits": int((~np.isnan(visits.time_s[:, 0])).sum()),
        "visits_without_a_usable_frame": int(np.isnan(visits.time_s[:, 0]).sum()),
        "visit_s": VISIT_S,
        "groups": GROUPS,
        "sequential": outcomes(visits, faces),
        "device": device_facts(),
    }


def outcomes(visits: Visits, faces: FaceSet) -> dict[str, Any]:
    """By operating point."""
    group, names = group_of(faces.people), np.array([family(person) for person in faces.people])
    relatives = (names[visits.visitor][:, None] == names[visits.resident]) & visits.strange
    models = models_without(visits, group)
    return {name: summary(visits, decide_all(visits, group, models, rate), relatives) for name, rate in RATES.items()}


def main(faces: Path, out: Path) -> None:
    result = measure([faces])
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode(), mode=0o644)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
