"""Evidence over frames: how scores of visits are spread, and what it takes to decide."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from device.decision import ACCEPTED, REJECTED, UNKNOWN, Rates, SequentialTest
from device.score_model import NORMAL, Levels, ScoreModel
from models.generator import Generator
from toolkit.errors import ArtifactError

MODEL = ScoreModel(Levels.normal(-0.2, 0.18), Levels.normal(0.5, 0.18), 0.09)
# Strangers' levels with a heavy tail, as measured: three in a thousand lie where a normal distribution has one.
HEAVY = ScoreModel(Levels(MODEL.impostor.probabilities, MODEL.impostor.quantiles, (0.06, 0.12)), MODEL.genuine, 0.09)


def points(thresholds: tuple[float, ...], low: float, high: float, spread: float) -> dict[str, dict[str, Any]]:
    """What a manifest would say of normal scores of strangers and of an enrolled person."""
    return {
        str(t): {"threshold": t, "fmr": 1 - NORMAL.cdf((t - low) / spread), "fnmr": NORMAL.cdf((t - high) / spread)}
        for t in thresholds
    }


def told(levels: Levels) -> dict[str, Any]:
    return {"probabilities": levels.probabilities, "quantiles": levels.quantiles, "tails": levels.tails}


def visits(levels: Levels, noise: float, number: int, frames: int) -> np.ndarray:
    """Mean scores [number, frames] of the first frames of visits: levels drawn by their own distribution."""
    rng = np.random.default_rng(2)
    axis = np.linspace(*levels.ends(1e-9), 20_000)
    level = np.interp(rng.uniform(size=(number, 1)), levels.lower(axis), axis)
    return np.cumsum(level + noise * rng.standard_normal((number, frames)), 1) / np.arange(1, frames + 1)


def test_levels_are_told_by_their_quantiles_and_tails() -> None:
    levels = HEAVY.impostor
    quantiles, probabilities = np.array(levels.quantiles), np.array(levels.probabilities)
    assert levels.lower(quantiles) == pytest.approx(probabilities)
    assert levels.higher(quantiles) == pytest.approx(1 - probabilities)
    tail = levels.higher(quantiles[-1] + 0.12 * np.arange(30))
    assert tail[1:] / tail[:-1] == pytest.approx(np.exp(-1), rel=2e-3)
    low, high = levels.ends(1e-6)
    assert (float(levels.lower(np.array(low))), float(levels.higher(np.array(high)))) == pytest.approx(
        (1e-6, 1e-6), rel=0.01
    )


@given(st.floats(-1, 0.2), st.floats(0.5, 4), st.floats(0.05, 0.3))
@settings(max_examples=25, deadline=None)
def test_without_visits_error_rates_of_photos_are_taken_for_normal(low: float, far: float, spread: float) -> None:
    gap = far * spread
    thresholds = tuple(low + gap / 2 + spread * k for k in (-0.5, 0.3, 1.0))
    found = ScoreModel.from_manifest({"operating_points": points(thresholds, low, low + gap, spread)})
    middle = len(found.impostor.quantiles) // 2
    assert found.impostor.quantiles[middle] == pytest.approx(low, abs=1e-6)
    assert found.genuine.quantiles[middle] == pytest.approx(low + gap, abs=1e-6)
    shared = found.impostor.quantiles[-1] - low
    assert (shared / -NORMAL.inv_cdf(0.002)) ** 2 + found.noise**2 == pytest.approx(spread**2)


def test_what_the_bundle_tells_of_visits_goes_before_its_photos() -> None:
    manifest: dict[str, Any] = {"operating_points": points((0.2, 0.35, 0.5), -0.9, 0.9, 0.1)}
    manifest["visits"] = {"impostor": told(HEAVY.impostor), "genuine": told(HEAVY.genuine), "noise": 0.09}
    assert ScoreModel.from_manifest(manifest) == HEAVY


def test_manifests_that_tell_too_little_are_refused() -> None:
    one = {"fmr1e-2": {"threshold": 0.3, "fmr": 0.01, "fnmr": 0.2}}
    for bad, message in (
        (one, "too few operating points"),
        ({"a": {"threshold": 0.3}}, "does not tell its error rates"),
        ({**one, "x": {"threshold": 0.5, "fmr": 0.1, "fnmr": 0.5}}, "too few operating points"),
        (points((0.2, 0.35, 0.5), 0.5, -0.5, 0.2), "cannot tell its person from strangers"),
    ):
        with pytest.raises(ArtifactError, match=message):
            ScoreModel.from_points(bad)


@pytest.mark.parametrize(
    "damage",
    [
        {"quantiles": [0.1, 0.2]}, {"quantiles": [0.3, 0.2, 0.1]}, {"probabilities": [0.1, 0.1, 0.5]}, {"tails": [0.1]},
        {"tails": [0.1, -1]}, {"quantiles": [0.1, 0.2, float("nan")]}, {"quantiles": "abc"},
        {"probabilities": [0, 0.5, 1]}, {"quantiles": [0.1, 0.1, 0.1]}, {"tails": [1e-300, 1]}, {"tails": [1, 10**400]},
    ],
)  # fmt: skip
def test_damaged_tables_of_visits_are_refused(damage: dict[str, Any]) -> None:
    good = {"probabilities": [0.1, 0.5, 0.9], "quantiles": [0.1, 0.2, 0.3], "tails": [0.1, 0.1]}
    high = good | {"quantiles": [0.4, 0.5, 0.6]}
    assert ScoreModel.from_visits({"impostor": good, "genuine": high, "noise": 0.1})
    for told_wrong in (
        {"impostor": good | damage, "genuine": high, "noise": 0.1},
        {"impostor": good, "genuine": high, "noise": 0},
        {"impostor": good, "noise": 0.1},
        {"impostor": high, "genuine": good, "noise": 0.1},
    ):
        with pytest.raises(ArtifactError, match=r"visits|noise|cannot tell"):
            ScoreModel.from_visits(told_wrong)


@pytest.mark.parametrize("noise", [0.01, 0.09, 0.3])
@pytest.mark.parametrize("rate", [1e-1, 1e-2, 1e-3])
def test_strangers_pass_as_often_as_was_asked_and_no_more(noise: float, rate: float) -> None:
    """Heavy tails and all: here strangers themselves are simulated, and counted."""
    model, number = replace(HEAVY, noise=noise), 50_000
    bound = model.bound(rate, 30)
    means = visits(model.impostor, noise, number, 30)
    ratios = np.stack([model.log_likelihood_ratio(means[:, n], n + 1) for n in range(30)], 1)
    passed = (ratios >= bound).any(1).mean()
    # 0 is the lowest bound: with people so far apart, one in ten strangers is not reached by it.
    assert passed <= rate * 1.1 + 3 * np.sqrt(rate / number)
    assert bound == pytest.approx(0, abs=1e-2) or passed >= rate * 0.9 - 3 * np.sqrt(rate / number)


def test_a_normal_tail_would_let_too_many_in() -> None:
    """What the tail is for: the bound of thin tails, before strangers with heavy ones."""
    bound = MODEL.bound(1e-4, 30)
    means = HEAVY._means_at(HEAVY.bound(1e-4, 30), 30)
    assert (means > MODEL._means_at(bound, 30)).all()


def test_enrolled_people_are_rejected_as_often_as_was_asked() -> None:
    close = ScoreModel(Levels.normal(0.0, 0.18), Levels.normal(0.3, 0.18), 0.09)
    floor = close.floor(0.1, 30)
    means = visits(close.genuine, close.noise, 50_000, 30)
    ratios = np.stack([close.log_likelihood_ratio(means[:, n], n + 1) for n in range(30)], 1)
    assert floor < 0
    assert (ratios <= floor).any(1).mean() == pytest.approx(0.1, abs=0.01)


def test_the_likelihood_ratio_is_that_of_the_densities() -> None:
    """Between the outermost quantiles, of normal levels: those of a single frame are normal, too."""
    variance = 0.18**2 + 0.09**2

    def log_density(x: float, mean: float) -> float:
        return -((x - mean) ** 2) / (2 * variance)

    for score in (-0.1, 0.15, 0.4):
        expected = log_density(score, 0.5) - log_density(score, -0.2)
        assert MODEL.log_likelihood_ratio(score, 1) == pytest.approx(expected, rel=0.1, abs=0.4)


@given(st.floats(-3, 3), st.floats(-3, 3), st.integers(1, 40))
@settings(max_examples=50, deadline=None)
def test_more_score_is_never_less_evidence(one: float, other: float, frames: int) -> None:
    low, high = sorted((one, other))
    assert HEAVY.log_likelihood_ratio(low, frames) <= HEAVY.log_likelihood_ratio(high, frames)


def test_frames_of_a_visit_are_not_so_many_proofs() -> None:
    """Evidence comes to an end with the noise that frames average out."""
    ratios = [MODEL.log_likelihood_ratio(0.4, n) for n in (1, 3, 30, 300)]
    assert ratios == sorted(ratios)
    assert ratios[3] - ratios[2] < 0.1 * ratios[2]
    assert ratios[2] < 2 * ratios[0]


def test_a_test_accepts_rejects_or_ends_without_knowing() -> None:
    test = SequentialTest({"anna": MODEL}, Rates(1e-3, 0.05, frames=10))
    for score, outcome in ((0.9, ACCEPTED), (-0.5, REJECTED), (0.3, UNKNOWN)):
        evidence = test.begin()
        made = None
        while made is None:
            made = evidence.add({"anna": score})
        assert made.outcome == outcome
        assert made.user == "anna"
        assert made.score == pytest.approx(score)
    assert made.frames == 10


def test_more_users_ask_for_more_evidence_and_one_is_named() -> None:
    rates = Rates(1e-3, 0.05)
    alone, house = (
        SequentialTest({"anna": MODEL}, rates),
        SequentialTest(dict.fromkeys(("anna", "ben", "cem"), MODEL), rates),
    )
    assert house.accept["anna"] > alone.accept["anna"]
    assert house.accept["anna"] == pytest.approx(MODEL.bound(1e-3 / 3, 30))
    made = house.begin().add({"anna": -0.4, "ben": 0.95, "cem": 0.9})
    assert made is not None
    assert (made.outcome, made.user) == (ACCEPTED, "ben")
    assert house.begin().add({"anna": -0.4, "ben": 0.3, "cem": -0.4}) is None, "rejected only by all"


def test_the_shipped_calibration_makes_models() -> None:
    """Strict settings ask for higher scores than loose ones, by visits and by photos alone."""
    info = Generator().info
    for photos, by_name in info.operating_points.items():
        shipped = {name: vars(point) for name, point in by_name.items()}
        for model in (
            ScoreModel.from_points(shipped),
            ScoreModel.from_manifest({"operating_points": shipped, "visits": info.visits_for(photos)}),
        ):
            needed = [float(model._means_at(model.bound(rate, 30), 30)[0]) for rate in (1e-2, 1e-3, 1e-4)]
            assert shipped["fmr1e-2"]["threshold"] - 0.1 < needed[0] < needed[1] < needed[2] < 1.2
