"""Counts of scores against scikit-learn and closed forms, and sums of parts against the whole."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.calibration import calibration_curve
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_auc_score, roc_curve

from benchmarks.comparisons import Comparisons
from benchmarks.metrics import threshold_at_fmr
from benchmarks.score_counts import ScoreCounts, cllr, reliability
from benchmarks.score_files import count_scores
from benchmarks.summaries import distribution
from benchmarks.zoo import zoo
from toolkit.errors import HyperverifyError, InputError

int8_scores = st.lists(st.integers(-128, 127).map(lambda q: q / 128), min_size=2, max_size=60).map(np.array)


def labelled(genuine: np.ndarray, impostor: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[np.ones(len(genuine)), np.zeros(len(impostor))], np.r_[genuine, impostor]


def normal(genuine: int = 2000, impostor: int = 3000, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(2, 1, genuine), rng.normal(0, 1, impostor)


@given(genuine=int8_scores, impostor=int8_scores)
def test_curve_and_area_equal_scikit_learn(genuine: np.ndarray, impostor: np.ndarray) -> None:
    counts = ScoreCounts.of(genuine, impostor)
    thresholds, fmr, fnmr = counts.curve()
    labels, scores = labelled(genuine, impostor)
    false, true, cuts = roc_curve(labels, scores, drop_intermediate=False)
    order = np.argsort(cuts)
    np.testing.assert_array_equal(thresholds, cuts[order])
    np.testing.assert_allclose(fmr, false[order], atol=1e-12)
    np.testing.assert_allclose(1 - fnmr, true[order], atol=1e-12)
    assert counts.auc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)


@given(genuine=int8_scores, impostor=int8_scores, fmr=st.sampled_from([0.0, 0.01, 0.3]))
def test_thresholds_are_those_of_the_scores_themselves(genuine: np.ndarray, impostor: np.ndarray, fmr: float) -> None:
    threshold = ScoreCounts.of(genuine, impostor).threshold_at_fmr(fmr)
    assert threshold == threshold_at_fmr(impostor, fmr)
    missed, false = ScoreCounts.of(genuine, impostor).errors_at(threshold)
    assert (missed, false) == ((genuine < threshold).sum(), (impostor >= threshold).sum())


@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_scikit_learn_on_normal_scores(seed: int) -> None:
    genuine, impostor = normal(seed=seed)
    counts, (labels, scores) = ScoreCounts.of(genuine, impostor), labelled(genuine, impostor)
    weights = np.where(labels == 1, 0.5 / len(genuine), 0.5 / len(impostor))
    assert counts.auc() == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    fitted = IsotonicRegression(y_min=0, y_max=1).fit_transform(scores, labels, sample_weight=weights)
    with np.errstate(divide="ignore"):
        ideal = log_loss(labels, np.clip(fitted, 1e-300, 1), sample_weight=weights) / np.log(2)
    assert counts.min_cllr() == pytest.approx(ideal, abs=1e-9)
    ratios = 2 * scores - 2
    claimed = 1 / (1 + np.exp(-ratios))
    reference = log_loss(labels, claimed, sample_weight=weights) / np.log(2)
    assert cllr(ratios[labels == 1], ratios[labels == 0]) == pytest.approx(reference, abs=1e-9)
    spread = np.sqrt((genuine.var() + impostor.var()) / 2)
    assert counts.d_prime() == pytest.approx((genuine.mean() - impostor.mean()) / spread, abs=1e-9)


def test_large_samples_approach_the_closed_forms() -> None:
    counts = ScoreCounts.of(*normal(400_000, 400_000))
    assert counts.equal_error_rate() == pytest.approx(norm.cdf(-1), abs=2e-3)
    assert counts.auc() == pytest.approx(norm.cdf(np.sqrt(2)), abs=2e-3)
    assert counts.d_prime() == pytest.approx(2, abs=1e-2)
    assert counts.threshold_at_fmr(1e-3) == pytest.approx(norm.ppf(0.999), abs=2e-2)


def test_reliability_equals_scikit_learn_for_equal_priors() -> None:
    genuine, impostor = normal(3000, 3000)
    rows = reliability(2 * genuine - 2, 2 * impostor - 2)
    labels, scores = labelled(genuine, impostor)
    observed, claimed = calibration_curve(labels, 1 / (1 + np.exp(2 - 2 * scores)), n_bins=10)
    np.testing.assert_allclose([row["observed"] for row in rows], observed, atol=1e-9)
    np.testing.assert_allclose([row["claimed"] for row in rows], claimed, atol=1e-9)
    assert sum(row["comparisons"] for row in rows) == 6000


def test_perfect_and_useless_scores() -> None:
    perfect = ScoreCounts.of(np.array([2.0, 3.0]), np.array([0.0, 1.0]))
    assert (perfect.auc(), perfect.equal_error_rate(), perfect.min_cllr()) == (1, 0, 0)
    useless = ScoreCounts.of(np.zeros(5), np.zeros(9))
    assert (useless.auc(), useless.equal_error_rate(), useless.d_prime()) == (0.5, 0.5, 0)
    assert useless.min_cllr() == pytest.approx(1)
    for wrong in ([np.nan, 1.0], [1.0, np.inf]):
        with pytest.raises(InputError, match="not a finite number"):
            ScoreCounts.of(np.array(wrong), np.zeros(2))


@given(genuine=int8_scores, impostor=int8_scores, data=st.data())
def test_int8_scores_in_parts_are_exactly_the_whole(
    genuine: np.ndarray, impostor: np.ndarray, data: st.DataObject
) -> None:
    labels, scores = labelled(genuine, impostor)
    cut = data.draw(st.integers(1, len(scores) - 1))
    parts = [ScoreCounts.streamed(scores[part], labels[part] == 1) for part in (slice(0, cut), slice(cut, None))]
    total, whole = parts[0] + parts[1], ScoreCounts.of(genuine, impostor)
    for name in ("scores", "genuine", "impostor"):
        np.testing.assert_array_equal(getattr(total, name), getattr(whole, name))


@given(values=st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1, max_size=50).map(np.array))
def test_streamed_scores_are_rounded_down_a_little(values: np.ndarray) -> None:
    kept = ScoreCounts.streamed(values, np.ones(len(values), bool)).scores
    values = np.sort(values)
    nearest = kept[np.searchsorted(kept, values, "right") - 1]
    assert (nearest <= values).all()
    assert (values - nearest <= np.maximum(np.abs(values) * 2.0**-16, 1e-42)).all()


@given(
    values=st.lists(st.floats(-2.0, 1000.0, width=32), min_size=20, max_size=300).map(np.array),
    fmr=st.sampled_from([0.0, 0.05, 0.3]),
)
def test_thresholds_of_streamed_scores_keep_to_their_rate_on_exact_ones(values: np.ndarray, fmr: float) -> None:
    counts = ScoreCounts.streamed(values, np.arange(len(values)) == 0)
    threshold = counts.threshold_at_fmr(fmr)
    accepted = int((values[1:] >= threshold).sum())
    assert accepted <= fmr * (len(values) - 1)
    assert accepted == counts.errors_at(threshold)[1], "what is told is what happens"


def test_det_points_follow_the_curve() -> None:
    counts = ScoreCounts.of(*normal(20_000, 20_000))
    points = counts.det_points()
    assert 100 < len(points["fmr"]) < 800
    _, fmr, fnmr = counts.curve()
    for target in (1e-3, 1e-2, 1e-1):
        at = int(np.argmin(np.abs(np.array(points["fmr"]) - target)))
        true = fnmr[np.argmin(np.abs(fmr - points["fmr"][at]))]
        assert points["fnmr"][at] == pytest.approx(true, rel=1e-3)
        assert points["fmr"][at] == pytest.approx(target, rel=0.05)
    histogram = counts.histogram()
    assert sum(histogram["genuine"]) == pytest.approx(1, abs=1e-4)


def with_goat_and_lamb() -> Comparisons:
    """20 people, 20 photos each: person 3 is recognised badly, person 5's verifier accepts everybody."""
    enrolled = np.repeat(np.arange(20), 400)
    shown = np.tile(np.repeat(np.arange(20), 20), 20)
    score = np.random.default_rng(0).normal(size=8000) + 4 * (enrolled == shown)
    score += np.where((enrolled == 5) & (shown != 5), 3, 0) - np.where((enrolled == 3) & (shown == 3), 4, 0)
    return Comparisons(score, enrolled, enrolled, shown, np.tile(np.arange(400), 20))


def test_the_zoo_finds_goats_and_lambs_but_no_wolves() -> None:
    animals = zoo(with_goat_and_lamb(), 2.2)
    assert animals["goats"]["share_of_worst_tenth"] > 0.4
    assert animals["lambs"]["share_of_worst_tenth"] > 0.6
    assert animals["goats"]["kruskal_wallis_p"] < 1e-6
    assert animals["lambs"]["kruskal_wallis_p"] < 1e-6
    assert animals["wolves"]["kruskal_wallis_p"] > 1e-3
    assert animals["wolves"]["share_of_worst_tenth"] < 0.3
    assert min(animals["people"]["genuine"]) == animals["people"]["genuine"][0]


def test_the_zoo_of_one_person_of_a_kind_compares_nobody() -> None:
    enrolled, shown = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 5, 6, 5, 6])  # only person 0 is ever genuine
    animals = zoo(Comparisons(np.arange(6.0), enrolled, enrolled, shown, np.arange(6)), 2.5)
    assert animals["goats"]["kruskal_wallis_p"] == 1.0
    assert animals["goats"]["people"] == 1
    assert animals["lambs"]["people"] == 2


def test_distribution_of_comparisons_is_complete() -> None:
    found = distribution(with_goat_and_lamb())
    assert found["min_cllr"] <= found["cllr"] < 0.5
    assert set(found["curves"]) == {"det", "histogram", "reliability"}


def table(count: int = 50_000) -> pa.Table:
    genuine, impostor = normal(count // 10, count - count // 10)
    labels, scores = labelled(genuine, impostor)
    return pa.table({"score": scores, "mated": labels == 1})


def test_scores_from_files_over_the_command_line(tmp_path: Path, toolkit: Callable[..., Any]) -> None:
    whole = table()
    pq.write_table(whole.slice(0, 20_000), tmp_path / "a.parquet")
    pyarrow.csv.write_csv(whole.slice(20_000), tmp_path / "b.csv")
    done = toolkit("eval", "scores", tmp_path / "a.parquet", tmp_path / "b.csv", "--json")
    assert done.code == 0, done.err
    exact = ScoreCounts.of(*normal(5000, 45_000))
    assert done.json["genuine_pairs"] == 5000
    assert done.json["eer"] == pytest.approx(exact.equal_error_rate(), abs=1e-4)
    assert done.json["at_fmr"]["fmr1e-3"]["fmr"]["errors"] == 45
    assert done.json["d_prime"] == pytest.approx(exact.d_prime(), abs=1e-4)


@pytest.mark.parametrize(
    ("name", "columns", "message"),
    [
        ("a.parquet", {"score": [1.0], "mated": [True]}, "mated and other"),
        ("a.parquet", {"scores": [1.0], "mated": [True]}, "readable score file"),
        ("a.parquet", {"score": [1.0, None], "mated": [True, False]}, "lacks its score"),
        ("a.parquet", {"score": [1.0, float("nan")], "mated": [True, False]}, "not a finite"),
        ("a.parquet", {"score": ["x"], "mated": [True]}, "readable score file"),
        ("a.txt", {"score": [1.0], "mated": [True]}, "no score file"),
    ],
)
def test_score_files_that_cannot_be_used_say_so(
    name: str, columns: dict[str, list[Any]], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / name)
    with pytest.raises(InputError, match=message):
        count_scores([tmp_path / name])


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.binary(max_size=200), suffix=st.sampled_from([".csv", ".parquet"]))
def test_junk_score_files_never_crash(data: bytes, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"junk{suffix}"
    path.write_bytes(data)
    with pytest.raises(HyperverifyError):
        count_scores([path])
