"""Visits to many doors at once: what is recorded, what calibrates the test, and how decisions are counted."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import scenes
from benchmarks.calibration import calibrate_visits
from benchmarks.visitors import GROUPS, NONE, decide, group_of, models_without, outcomes, quantiles
from benchmarks.visits import (
    LEVEL_FRAMES,
    Visits,
    describe,
    distribution,
    film,
    levels,
    noise_of,
    photos_to_enrol,
    watch,
)
from device.alignment import align
from device.decision import Rates, SequentialTest
from device.detector import FaceDetector
from device.pipeline import Pipeline
from device.runtimes import Verifier
from device.score_model import Levels, ScoreModel
from export.bundle import bundle_manifest
from models.backbone import load_backbone
from models.faceset import FaceSet
from models.generator import SHIPPED, Generator
from models.spec import Framing
from toolkit.commands.enroll import content_of

MODEL = ScoreModel(Levels.normal(-0.2, 0.18), Levels.normal(0.5, 0.18), 0.09)
FRAMES = 12


class Fixed(Verifier):
    """A verifier of one mind, who counts what it was shown."""

    def __init__(self, score: float):
        super().__init__("fixed", "int8")
        self.value, self.shown = score, 0

    def score(self, pixels: np.ndarray) -> float:
        assert pixels.shape == (64, 64, 3)
        self.shown += 1
        return self.value


def test_at_most_half_of_the_photos_are_enrolled() -> None:
    assert [len(photos_to_enrol(np.arange(n))) for n in (1, 2, 3, 6, 9, 10, 30)] == [0, 1, 1, 3, 3, 5, 5]


def test_a_visit_is_recorded_from_its_first_usable_frame(photos: Path, detector_bytes: bytes) -> None:
    subject = scenes.portrait(photos / "obama.jpg", finder := scenes.portrait_detector(detector_bytes))
    verifiers = {"anna": Fixed(0.5), "ben": Fixed(-0.5)}
    pipeline = Pipeline(FaceDetector(detector_bytes), verifiers, Framing(64))
    scores, times = watch(film(align(subject.rgb, subject.face.landmarks), finder, seed=1), pipeline, 6)
    assert scores.tolist() == [[0.5, -0.5]] * 6
    assert verifiers["anna"].shown == 6, "nobody looks on once there are enough frames"
    assert times[0] == 0
    assert (np.diff(times) > 0).all()


def test_a_crop_without_a_face_makes_no_visit(detector_bytes: bytes) -> None:
    assert list(film(np.full((112, 112, 3), 90, np.uint8), scenes.portrait_detector(detector_bytes), 1)) == []


def made_up(people: int = 60, seed: int = 4) -> Visits:
    """Everybody before everybody's door; strangers' levels are exponential above their middle, heavier than normal."""
    rng = np.random.default_rng(seed)
    level = -0.2 + 0.12 * rng.laplace(size=(people, people, 1))
    level[np.arange(people), np.arange(people)] = 0.6 + 0.15 * rng.standard_normal((people, 1))
    scores = (level + 0.08 * rng.standard_normal((people, people, FRAMES))).astype(np.float32)
    scores[0, :, 3:] = np.nan  # leaves early
    scores[1] = np.nan  # shows no usable frame
    time_s = np.tile(np.arange(FRAMES, dtype=np.float32) / 15, (people, 1))
    time_s[np.isnan(scores[:, 0])] = np.nan
    owners = {n: scores[np.arange(people), np.arange(people)] for n in (1, 3, 5)}
    everybody = np.arange(people)
    return Visits(scores, owners, time_s, everybody, everybody, np.array([1, 3, 5])[everybody % 3])


def test_levels_and_noise_of_visits_are_found_again() -> None:
    rng = np.random.default_rng(3)
    level = 0.3 * rng.standard_normal(4000)
    scores = level[:, None] + 0.06 * rng.standard_normal((4000, FRAMES))
    assert levels(scores) == pytest.approx(scores[:, :LEVEL_FRAMES].mean(1))
    assert noise_of(scores) == pytest.approx(0.06, rel=0.03)
    clipped = (scores - 0.6).clip(-1, 127 / 128)
    assert (clipped[:, :LEVEL_FRAMES] == -1).any(1).mean() > 0.1
    assert noise_of(clipped) == pytest.approx(0.06, rel=0.03), "what strays beyond the range is not seen"
    scores[0, 2:] = np.nan
    assert len(levels(scores)) == 3999, "too short a visit has no level"
    told = distribution(rng.exponential(0.1, 100_000))
    assert told["tails"][1] == pytest.approx(0.1, rel=0.2), "an exponential tail's mean excess is its mean"
    assert distribution(np.array([0.0, 0.5, 1.0]))["tails"] > [0, 0], "too few for a tail of their own"


def test_a_calibration_is_that_of_the_people_who_were_asked() -> None:
    visits = made_up()
    some = describe(visits, np.arange(0, 60, 2))
    assert some[1]["impostor"]["visits"] == 29 * 29, "without oneself, and who left early"
    changed = visits.scores.copy()
    changed[1::2] += 5
    changed[:, 1::2] += 5
    others = Visits(changed, visits.owners, visits.time_s, visits.visitor, visits.resident, visits.photos)
    assert describe(others, np.arange(0, 60, 2)) == some


def test_families_share_a_group_and_no_group_judges_itself() -> None:
    people = tuple(f"F{n // 3:04}/MID{n % 3}" for n in range(60))
    group = group_of(people)
    assert (group.reshape(-1, 3) == group[::3, None]).all()
    assert set(group) == set(range(GROUPS))
    visits = made_up()
    moved = visits.scores + np.where((group == 0)[:, None, None] | (group == 0)[None, :, None], 0.2, 0)
    shifted = Visits(moved, visits.owners, visits.time_s, visits.visitor, visits.resident, visits.photos)
    before, after = models_without(visits, group), models_without(shifted, group)
    assert all((before[pair] == after[pair]) == (0 in pair) for pair in before), "0 has a part where it is not judged"


def test_many_visits_are_decided_as_a_device_decides_one() -> None:
    test = SequentialTest({"anna": MODEL}, Rates(1e-3, 0.1, frames=10))
    rng = np.random.default_rng(5)
    scores = rng.normal(0.15, 0.35, (300, 1)) + 0.15 * rng.standard_normal((300, FRAMES))
    scores[:20, 4:] = np.nan
    outcome, last = decide(scores, test)
    for row, ended, frame in zip(scores, outcome, last, strict=True):
        evidence, made = test.begin(), None
        for score in row[~np.isnan(row)]:
            if made := evidence.add({"anna": float(score)}):
                break
        assert ended == (made.outcome if made else NONE)
        assert made is None or made.frames == frame + 1
    assert set(outcome) == {"accepted", "rejected", "unknown", NONE}


def test_decisions_are_counted_by_side_and_relation() -> None:
    people = tuple(f"F{n // 3:04}/MID{n % 3}" for n in range(60))
    found = outcomes(made_up(), SimpleNamespace(people=people))  # type: ignore[arg-type]
    strict, loose = found["fmr1e-4"], found["fmr1e-2"]
    for point in (strict, loose):
        assert point["genuine"]["trials"] == 59, "who shows no usable frame is no trial"
        assert point["impostor"]["trials"] == 59 * 59
        assert sum(point["impostor"]["outcomes"].values()) == 59 * 59
        assert point["impostor"]["relatives_accepted"]["trials"] == 2 * 59
        assert sum(r["trials"] for r in point["genuine"]["by_photos"].values()) == 59
    assert strict["impostor"]["accepted"]["errors"] <= loose["impostor"]["accepted"]["errors"]
    assert loose["impostor"]["accepted"]["rate"] == pytest.approx(1e-2, abs=8e-3)
    assert loose["genuine"]["accepted"]["rate"] > 0.8


def test_who_is_never_let_in_waits_for_ever() -> None:
    assert quantiles(np.array([0.0, 0.1, 0.2, np.inf, np.inf])) == {"p50": 200, "p90": None, "p95": None}
    assert quantiles(np.array([])) == {"p50": None, "p90": None, "p95": None}


def test_a_calibration_is_written_beside_the_generator(photos: Path, detector_bytes: bytes, tmp_path: Path) -> None:
    """Real photos, real video, the shipped generator: from visits to the file and into a bundle's content."""
    for file in (SHIPPED, SHIPPED.with_suffix(".json")):
        shutil.copy(file, tmp_path)
    finder = scenes.portrait_detector(detector_bytes)
    seen = [scenes.portrait(photos / name, finder) for name in ("obama.jpg", "obama2.jpg", "obama3.jpg", "biden.jpg")]
    crops, small = (np.stack([align(one.rgb, one.face.landmarks, Framing(side)) for one in seen]) for side in (112, 64))
    crops, small = (np.concatenate([faces, faces[-1:, :, ::-1]]) for faces in (crops, small))
    before = Generator(tmp_path / "h.onnx").info
    templates = load_backbone(before.backbone).embed(crops)
    faces = FaceSet(small, templates, np.array([0, 0, 0, 1, 1]), tuple("abcde"), ("obama", "biden"))
    calibrate_visits(tmp_path / "h.onnx", faces, crops)
    h = Generator(tmp_path / "h.onnx")
    assert replace(h.info, visits=before.visits) == before, "the rest stays as it was"
    model = ScoreModel.from_visits(h.info.visits[1])
    assert model.noise > 0
    assert (h.info.visits[1]["genuine"]["visits"], h.info.visits[1]["impostor"]["visits"]) == (2, 2)
    content = content_of("anna", h, h.weights(templates[:1])[0], 1, b"")
    assert bundle_manifest(content, {})["visits"] == h.info.visits[1]
