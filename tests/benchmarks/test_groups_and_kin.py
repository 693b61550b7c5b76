"""Relatives, groups, fused probes and intervals over people: on made-up scores whose answer is known, and on faces."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from benchmarks import groups, kin
from benchmarks.comparisons import Comparisons
from benchmarks.enrolling import Generated
from benchmarks.fusion import LikelihoodRatio, fuse, log_likelihood_ratios
from benchmarks.resampling import interval_over_people
from benchmarks.scoring import FileScorer
from models.faceset import FaceSet
from models.generator import Generator, fuse_templates
from toolkit.errors import InputError


def comparisons(score: list[float], enrolled: list[int], shown: list[int]) -> Comparisons:
    return Comparisons(np.array(score), np.array(enrolled), np.array(enrolled), np.array(shown), np.arange(len(score)))


def normal_scores(people: int, photos: int, seed: int = 0, distance: float = 2.0) -> Comparisons:
    """Everybody against everybody's photos: genuine scores N(distance, 1), impostors N(0, 1)."""
    enrolled = np.repeat(np.arange(people), people * photos)
    shown = np.tile(np.repeat(np.arange(people), photos), people)
    score = np.random.default_rng(seed).normal(size=len(enrolled)) + distance * (enrolled == shown)
    return Comparisons(score, enrolled, enrolled, shown, np.tile(np.arange(people * photos), people))


def test_people_of_two_sets_are_one_person_by_name_alone() -> None:
    """By number, somebody of the one set would be somebody of the other."""

    def faces(people: tuple[str, ...], identity: list[int]) -> FaceSet:
        count = len(identity)
        return FaceSet(
            np.zeros((count, 2, 2, 3), np.uint8), np.eye(count, dtype=np.float32), np.array(identity), (), people
        )

    class Scorer:
        precision = "int8"

        def scores(self, theta: np.ndarray, pixels: np.ndarray) -> np.ndarray:
            return np.zeros(len(pixels))

    enrolled = faces(("ann", "bob"), [0, 0, 1, 1])
    shown = faces(("bob", "cid"), [0, 1, 1, -1, -1])
    c = groups.group_trials(enrolled, shown, lambda *_: np.zeros(1), Scorer(), 1, 2)  # type: ignore[arg-type]
    assert len(c) == 2 * 5 - 1, "Bob is no stranger to his own verifier"
    assert len(np.unique(c.shown)) == 4
    assert set(c.shown[c.shown >= 0]) & {0} == set(), "Cid is not Ann"


def test_fusing_takes_whole_groups_of_one_person_by_one_verifier() -> None:
    c = comparisons([1, 3, 9, 5, 7, 4, 2], [0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 1, 1, 0, -1])
    fused = fuse(c, 2)
    assert fused.score.tolist() == [2, 6]
    assert fused.mated.tolist() == [True, False]
    assert fuse(c, 1).score.tolist() == [1, 3, 9, 5, 7, 4], "nameless probes cannot be grouped"


def test_likelihood_ratio_of_normal_scores_is_the_closed_form() -> None:
    rng = np.random.default_rng(0)
    ratio = LikelihoodRatio.fit(rng.normal(2, 1, 200_000), rng.normal(0, 1, 200_000))
    at = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
    np.testing.assert_allclose(ratio(at), 2 * at - 2, atol=0.1)  # log N(s; 2, 1) - log N(s; 0, 1)
    assert (np.diff(ratio.log_ratio) >= 0).all()


def test_fused_scores_separate_better() -> None:
    c = normal_scores(people=40, photos=10)
    single = (c.genuine < np.quantile(c.impostor, 0.99)).mean()
    fused = fuse(c.scored(log_likelihood_ratios(c)), 5)
    assert (fused.genuine < np.quantile(fused.impostor, 0.99)).mean() < single / 5


def test_nobodys_curve_is_fitted_on_their_own_scores() -> None:
    c = normal_scores(people=10, photos=4)
    mine = c.enrolled == 3
    changed = c.scored(np.where(mine, c.score + 0.3 * c.mated, c.score))
    same = mine & ~c.mated  # their scores did not change, those their verifier gave the person did
    assert np.array_equal(log_likelihood_ratios(c)[same], log_likelihood_ratios(changed)[same])


def test_interval_over_people_covers_as_often_as_it_says() -> None:
    """Errors that fall on people, not on pairs: the interval over pairs is far too narrow, this one is not."""
    rng = np.random.default_rng(5)
    covered = 0
    for _ in range(200):
        rate = rng.beta(2, 8, 60)  # each person's own error rate, mean 0.2
        person = np.repeat(np.arange(60), 50)
        wrong = rng.random(3000) < rate[person]
        low, high = interval_over_people(wrong, person, person, rounds=200)
        assert low is not None
        assert high is not None
        covered += low <= 0.2 <= high
    assert 178 <= covered <= 199  # 95 % of 200, and three standard deviations of that


def test_interval_over_pairs_of_people_is_wider_than_over_pairs() -> None:
    rng = np.random.default_rng(1)
    lamb = rng.random(80) < 0.1  # everybody passes for these people
    a, b = (x.ravel() for x in np.meshgrid(np.arange(80), np.arange(80)))
    a, b = a[a != b], b[a != b]
    wrong = lamb[a]
    low, high = interval_over_people(wrong, a, b)
    assert low is not None
    assert high is not None
    assert low < wrong.mean() < high
    assert high - low > 4 * 2 * 1.96 * np.sqrt(wrong.mean() * (1 - wrong.mean()) / len(wrong))
    assert interval_over_people(wrong, a, b) == (low, high), "seeded"
    assert interval_over_people(np.zeros(len(a), bool), a, b) == (None, None)


def test_families_are_what_stands_before_the_last_slash() -> None:
    found = kin.families(("F1/MID1", "F1/MID2", "F2/MID1", "anna", "bo")).tolist()
    assert found[0] == found[1] != found[2]
    assert len(set(found)) == 4


def test_relatives_and_strangers_are_counted_apart() -> None:
    family = kin.families(("F1/A", "F1/B", "F2/A"))
    c = comparisons([0.9, 0.8, *[0.1] * 99, 0.7], [0] * 102, [0, 1, *[2] * 100])
    result = kin.summarise(c, family, {"fmr1e-2": 0.85})
    assert (result["genuine_pairs"], result["relatives_pairs"], result["strangers_pairs"]) == (1, 1, 100)
    at = result["at_stranger_fmr"]["fmr1e-2"]
    assert at["threshold"] == pytest.approx(0.1)
    assert at["threshold"] > 0.1, "one of a hundred strangers may pass"
    assert at["fmr_strangers"]["errors"] == 1
    assert at["fmr_relatives"]["errors"] == 1
    assert at["relatives_over_strangers"] == pytest.approx(100)
    shipped = result["at_shipped_threshold"]["fmr1e-2"]
    assert shipped["fmr_relatives"]["errors"] == 0
    assert shipped["fnmr"]["errors"] == 0
    assert shipped["relatives_over_strangers"] is None


def some_faces(noise_faces: np.ndarray, people: tuple[str, ...], identity: list[int]) -> FaceSet:
    templates = np.random.default_rng(0).standard_normal((len(identity), Generator().template_dim)).astype(np.float32)
    templates /= np.linalg.norm(templates, axis=1, keepdims=True)
    names = tuple(f"{20 + i}_0_{i % 5}_x.jpg" for i in range(len(identity)))
    return FaceSet(noise_faces[: len(identity)], templates, np.array(identity), names, people)


def test_kin_leaves_out_photos_with_two_names(noise_faces: np.ndarray) -> None:
    faces = some_faces(noise_faces, ("F1/A", "F1/B", "F2/A", "F2/B"), [0, 0, 1, 1, 2, 2, 3, 3])
    faces.templates[3] = faces.templates[0]
    assert kin.labelled_twice(faces).tolist() == [True, False, False, True, False, False, False, False]
    h = Generator()
    trials = kin.kin_trials(faces, Generated(h), FileScorer(h.info.spec, "int8"), 1)
    assert sorted(set(trials.enrolled.tolist())) == [2, 3], "A and B of family 1 have one photo left each"
    assert not {0, 3} & set(trials.probe.tolist())
    with pytest.raises(InputError, match="FAMILY/PERSON"):
        kin.kin_trials(
            some_faces(noise_faces, ("a", "b"), [0, 0, 0, 1, 1, 1, 1, 1]), Generated(h),
            FileScorer(h.info.spec, "int8"), 1,
        )  # fmt: skip


def test_groups_come_from_utkface_names() -> None:
    found = groups.labels_of(("5_0_0_x.jpg", "19_1_4_x.jpg", "60_0_2_x.jpg", "100_1_1_x.jpg", "holiday.jpg"))
    assert found["age"].tolist() == ["0-12", "13-19", "60+", "60+", ""]
    assert found["sex"].tolist() == ["male", "female", "male", "female", ""]
    assert found["ethnicity"].tolist() == ["white", "other", "asian", "black", ""]
    with pytest.raises(InputError, match="tell no groups"):
        groups.labels_of(("holiday.jpg",))


def test_the_worst_group_is_named_with_its_factor() -> None:
    labels = groups.labels_of(tuple(["5_0_0_x"] * 50 + ["30_1_1_x"] * 50 + ["70_0_2_x"] * 100))
    score = np.r_[np.ones(4), np.zeros(46), np.ones(1), np.zeros(149)]
    shown = -1 - np.arange(200)
    two = [comparisons(score.tolist(), [person] * 200, shown.tolist()) for person in (0, 1)]
    c = Comparisons(**{k: np.concatenate([vars(t)[k] for t in two]) for k in vars(two[0])})
    at = groups.summarise(c, labels, {"fmr1e-2": 0.5})["at_shipped_threshold"]["fmr1e-2"]
    assert at["fmr"]["rate"] == pytest.approx(5 / 200)
    assert at["by"]["age"]["0-12"]["errors"] == 8
    assert at["worst"]["age"] == {"group": "0-12", "times_overall": pytest.approx((4 / 50) / (5 / 200))}
    assert at["worst"]["ethnicity"]["group"] == "white"
    assert at["worst"]["sex"]["group"] == "male"


def test_another_way_to_enrol_fits_the_same_seam(noise_faces: np.ndarray) -> None:
    """A refined verifier gets the photos' pixels too; what it returns is what is written and scored."""
    faces = some_faces(noise_faces, ("F1/A", "F1/B", "F2/A", "F2/B"), [0, 0, 1, 1, 2, 2, 3, 3])
    h, seen = Generator(), []

    class Halved:
        method = "halved"

        def __call__(self, pixels: np.ndarray, templates: np.ndarray) -> np.ndarray:
            seen.append((pixels.shape, templates.shape))
            return np.asarray(h.weights(fuse_templates(templates)[None])[0] * 0.5)

    scorer = FileScorer(h.info.spec)
    usual = kin.kin_trials(faces, Generated(h), scorer, 1)
    halved = kin.kin_trials(faces, Halved(), scorer, 1)
    assert seen[0] == ((1, 64, 64, 3), (1, h.template_dim))
    assert not np.allclose(usual.score, halved.score)


@pytest.fixture(scope="module")
def few(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Some families of Families in the Wild, and some faces of UTKFace."""
    folder = tmp_path_factory.mktemp("few")
    fiw = pq.read_table(data / "faces" / "fiw-00.parquet")
    rows = [i for i, s in enumerate(fiw["split"].to_pylist()) if s == "val"][:80]
    pq.write_table(fiw.take(rows), folder / "fiw.parquet")
    utk = pq.read_table(data / "faces" / "utk-00.parquet")
    pq.write_table(utk.take(list(range(0, len(utk), 70))), folder / "utk.parquet")
    return folder / "fiw.parquet", folder / "utk.parquet"


def test_kin_and_groups_over_the_command_line(few: tuple[Path, Path], toolkit: Callable[..., Any]) -> None:
    fiw, utk = few
    done = toolkit("eval", "kin", "--faces", fiw, "--enrol", "1", "--precision", "int8", "--json")
    assert done.code == 0, done.err
    at = done.json["enrolment_photos"]["1"]["at_stranger_fmr"]["fmr1e-2"]
    assert at["fmr_strangers"]["rate"] <= 0.01
    assert at["fmr_relatives"]["low"] <= at["fmr_relatives"]["rate"] <= at["fmr_relatives"]["high"]
    done = toolkit("eval", "groups", "--faces", fiw, "--negatives", utk, "--photos", "1", "--people", "5")
    assert done.code == 0, done.err
    assert "ethnicity asian" in done.out
    assert toolkit("eval", "groups", "--faces", fiw, "--negatives", fiw, "--photos", "1").code == 4
    assert toolkit("eval", "kin", "--faces", utk).code == 4
