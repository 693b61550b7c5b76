"""Everybody at everybody's door: `python -m benchmarks.visitors FACES OUT.json`, FACES as `toolkit train` takes them.

Each held-out person with two photos or more is enrolled from up to five, at most half of them. Everybody then comes to
the door once, on video made of a photo that was not enrolled (benchmarks/scenes.py), and all verifiers watch: the
person's own counts as genuine, every other as an impostor trial. The int8 files run in LiteRT, as on a device.

Nobody is measured with thresholds that were set on themselves: those of one half of the people come from the other.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import scenes
from benchmarks.enrolling import Generated
from benchmarks.facts import device_facts
from benchmarks.household import household_trials, operating_points
from benchmarks.metrics import Rate
from benchmarks.scoring import FileScorer
from device.decision import ACCEPTED, Decision, Rates, SequentialTest
from device.detector import FaceDetector
from device.pipeline import Pipeline
from device.runtimes import Verifier
from device.score_model import ScoreModel
from device.settings import DecisionSettings
from models.backbone import load_backbone
from models.faceset import FaceSet, load_faces
from models.facestream import face_files
from models.files import find_model
from models.fold import detector_file
from models.generator import Generator
from toolkit.atomic import write_atomically
from toolkit.progress import track

RATES = {"fmr1e-2": 1e-2, "fmr1e-3": 1e-3, "fmr1e-4": 1e-4}
PHOTOS = (1, 3, 5)  # enrolled at most; thresholds exist for these numbers
VISIT_S = 2.5
NEAR_PX = 100.0  # of the face on video: the aligned crops have no more detail
BORDER_PX = 48  # around a crop, its edge repeated: detectors expect something around a face
SOON_S = 0.5


@dataclass(frozen=True)
class Resident:
    """An enrolled person: number in the face set, enrolled rows, tests by operating point."""

    person: int
    rows: np.ndarray
    tests: dict[str, SequentialTest]


@dataclass(frozen=True)
class Outcome:
    """How one visit ended before one door."""

    point: str
    genuine: bool
    resident: int
    decision: Decision | None
    waited_s: float


def photos_to_enrol(rows: np.ndarray) -> np.ndarray:
    """The first five, three or one, at most half of them."""
    possible = [n for n in PHOTOS if n <= len(rows) // 2]
    return rows[: max(possible, default=0)]


def residents(faces: FaceSet, scorer: FileScorer, h: Generator) -> list[Resident]:
    """Everybody who can be enrolled, with the thresholds of the other half of the people."""
    people = np.unique(faces.identity[faces.identity >= 0])
    correlation = DecisionSettings().frame_correlation
    found = []
    for half in (0, 1):
        others = faces_of(faces, people[people % 2 != half])
        points = {n: operating_points(household_trials(others, Generated(h), scorer, n)) for n in PHOTOS}
        models = {
            n: ScoreModel.from_points({name: vars(p) for name, p in by_name.items()}, correlation)
            for n, by_name in points.items()
        }
        for person in people[people % 2 == half]:
            rows = photos_to_enrol(np.flatnonzero(faces.identity == person))
            if len(rows):
                user = {str(person): models[len(rows)]}
                tests = {name: SequentialTest(user, Rates(false_accept=rate)) for name, rate in RATES.items()}
                found.append(Resident(int(person), rows, tests))
    return found


def faces_of(faces: FaceSet, people: np.ndarray) -> FaceSet:
    rows = np.flatnonzero(np.isin(faces.identity, people))
    names = tuple(faces.names[row] for row in rows)
    return FaceSet(faces.pixels[rows], faces.templates[rows], faces.identity[rows], names, faces.people)


def film(crop: np.ndarray, finder: FaceDetector, seed: int) -> list[np.ndarray]:
    """A visit's frames of an aligned crop uint8 RGB [112, 112, 3]; none where no face is found in it."""
    rgb = np.pad(crop, ((BORDER_PX, BORDER_PX), (BORDER_PX, BORDER_PX), (0, 0)), mode="edge")
    found = finder.detect(rgb)
    if not found:
        return []
    subject, rng = scenes.Portrait(rgb, found[0]), np.random.default_rng(seed)
    views = scenes.visit(subject, VISIT_S, seed, near_px=NEAR_PX)
    return [scenes.render(subject, view, rng) for view in views]


def watch(
    frames: list[np.ndarray], visitor: int, homes: list[Resident], verifiers: dict[str, Verifier],
    detector: FaceDetector, input_px: int,
) -> list[Outcome]:  # fmt: skip
    """One visit before every door, each until it has decided at every operating point."""
    pipeline = Pipeline(detector, verifiers, input_px)
    open_: dict[str, dict[str, Any]] = {
        str(home.person): {name: test.begin() for name, test in home.tests.items()} for home in homes
    }
    numbers, outcomes, followed, first = {str(h.person): i for i, h in enumerate(homes)}, [], 0, 0
    for number, frame in enumerate(frames):
        pipeline.verifiers = {user: verifiers[user] for user, tests in open_.items() if tests}
        seen = pipeline.follow(frame)[0]
        if not seen.scores:
            continue
        if seen.track != followed:  # no evidence passes to another face
            first, followed = first or number, seen.track
            open_ = {u: {n: homes[numbers[u]].tests[n].begin() for n in tests} for u, tests in open_.items()}
        for user, tests in open_.items():
            for name in list(tests):
                if made := tests[name].add({user: seen.scores[user]}):
                    genuine = homes[numbers[user]].person == visitor
                    outcomes.append(Outcome(name, genuine, numbers[user], made, (number - first) / scenes.FPS))
                    del tests[name]
    undecided = [(user, name) for user, tests in open_.items() for name in tests]
    return outcomes + [
        Outcome(name, homes[numbers[user]].person == visitor, numbers[user], None, np.inf) for user, name in undecided
    ]


def summary(outcomes: list[Outcome], homes: list[Resident]) -> dict[str, Any]:
    """Accepts and refusals by operating point; impostor trials also by door, since trials at one door are alike."""
    result: dict[str, Any] = {}
    for point in RATES:
        sides: dict[str, Any] = {}
        for side in ("genuine", "impostor"):
            mine = [o for o in outcomes if o.point == point and o.genuine == (side == "genuine")]
            accepted = [o for o in mine if o.decision and o.decision.outcome == ACCEPTED]
            ends = Counter(o.decision.outcome if o.decision else "none" for o in mine)
            sides[side] = {
                "trials": len(mine),
                "outcomes": dict(sorted(ends.items())),
                "accepted": vars(Rate.of(len(accepted), len(mine))),
            }
            if side == "genuine":
                soon = sum(o.waited_s <= SOON_S for o in accepted)
                sides[side]["within_500_ms"] = vars(Rate.of(soon, len(mine)))
            else:
                sides[side]["doors_with_an_accept"] = len({o.resident for o in accepted})
                sides[side]["doors"] = len(homes)
                sides[side]["rule_of_three"] = 3 / max(1, len(mine))
        result[point] = sides
    return result


def measure(paths: list[Path], limit: int = 0) -> dict[str, Any]:
    """`limit`: only so many visits, for a test."""
    h = Generator()
    spec, backbone = h.info.spec, load_backbone(h.info.backbone, threads=2)
    faces = load_faces(paths, "val", spec.input_px, backbone)
    scorer, enrol = FileScorer(spec, "int8", "litert"), Generated(h)
    homes = residents(faces, scorer, h)
    enrolled = {int(row) for home in homes for row in home.rows}
    verifiers = {str(o.person): scorer.open(enrol(faces.pixels[o.rows], faces.templates[o.rows])) for o in homes}
    crops, visits, outcomes, unseen = load_faces(paths, "val", 112, backbone).pixels, [], [], 0
    for person in np.unique(faces.identity[faces.identity >= 0]):
        rows = [row for row in np.flatnonzero(faces.identity == person) if int(row) not in enrolled]
        visits += [(int(person), rows[-1])] if rows else []
    visits = visits[:limit] if limit else visits
    model = detector_file(find_model("yunet"))
    finder = scenes.portrait_detector(model)
    for seed, (person, row) in enumerate(track(visits, "visits", len(visits))):
        frames = film(crops[row], finder, seed)
        unseen += not frames
        outcomes += watch(frames, person, homes, verifiers, FaceDetector(model), spec.input_px) if frames else []
    return {
        "schema_version": 1,
        "generator": {"version": h.info.version, "sha256": h.sha256},
        "people": len(visits),
        "enrolled": dict(sorted(Counter(len(home.rows) for home in homes).items())),
        "visits": len(visits) - unseen,
        "visits_without_a_face": unseen,
        "visit_s": VISIT_S,
        "sequential": summary(outcomes, homes),
        "device": device_facts(),
    }


def main(faces: Path, out: Path) -> None:
    result = measure(face_files([faces]))
    write_atomically(out, (json.dumps(result, indent=2) + "\n").encode(), mode=0o644)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
