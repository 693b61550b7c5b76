"""Error rates against scikit-learn, scipy and counting by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from benchmarks.metrics import (
    Rate,
    best_threshold,
    equal_error_rate,
    fmr_at,
    fnmr_at,
    fold_accuracy,
    rule_of_three,
    threshold_at_fmr,
)
from toolkit.errors import InputError

scores = st.lists(st.integers(-128, 127).map(lambda q: q / 128), min_size=2, max_size=60).map(np.array)


@given(impostor=scores, fmr=st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_threshold_is_the_lowest_that_keeps_the_rate(impostor: np.ndarray, fmr: float) -> None:
    threshold = threshold_at_fmr(impostor, fmr)
    assert (impostor >= threshold).mean() <= fmr
    lower = impostor[impostor < threshold]
    if len(lower):
        assert (impostor >= lower.max()).mean() > fmr


def test_rates_at_a_threshold_count_by_hand() -> None:
    assert fmr_at(np.array([0.1, 0.5, 0.5, 0.9]), 0.5).errors == 3
    assert fnmr_at(np.array([0.1, 0.5, 0.5, 0.9]), 0.5).errors == 1


@pytest.mark.parametrize(("errors", "trials"), [(0, 50), (3, 50), (50, 50), (1, 1)])
def test_interval_is_clopper_pearson(errors: int, trials: int) -> None:
    rate = Rate.of(errors, trials)
    reference = binomtest(errors, trials).proportion_ci(0.95, "exact")
    assert (rate.low, rate.high) == pytest.approx((reference.low, reference.high), abs=1e-9)


def test_rule_of_three() -> None:
    assert rule_of_three(3000) == pytest.approx(3 / 3000, rel=2e-3)
    assert rule_of_three(50) == pytest.approx(binomtest(0, 50, alternative="less").proportion_ci(0.95).high, abs=1e-9)


def test_no_trials_are_refused() -> None:
    with pytest.raises(InputError, match="at least one trial"):
        Rate.of(0, 0)
    with pytest.raises(InputError, match="genuine and impostor"):
        equal_error_rate(np.array([1.0]), np.array([]))


def test_equal_error_rate_of_normal_scores() -> None:
    rng = np.random.default_rng(0)
    genuine, impostor = rng.normal(1, 1, 200_000), rng.normal(-1, 1, 200_000)
    assert equal_error_rate(genuine, impostor) == pytest.approx(0.158655, abs=2e-3)  # the normal tail beyond one
    assert equal_error_rate(np.array([2.0, 3.0]), np.array([0.0, 1.0])) == 0
    assert equal_error_rate(np.array([0.0, 1.0]), np.array([2.0, 3.0])) == 1
    assert equal_error_rate(np.array([4.0, 5.0]), np.array([5.0, 5.0])) == pytest.approx(2 / 3)


@given(values=scores, data=st.data())
def test_best_threshold_beats_every_other(values: np.ndarray, data: st.DataObject) -> None:
    same = np.array(data.draw(st.lists(st.booleans(), min_size=len(values), max_size=len(values))))
    found = ((values >= best_threshold(values, same)) == same).mean()
    others = [((values >= t) == same).mean() for t in (*values, values.max() + 1)]
    assert found == pytest.approx(max(others))


def test_fold_accuracy_uses_the_other_folds_threshold() -> None:
    scores = np.array([0.0, 1.0, 0.0, 1.0, 0.6, 0.9])
    same = np.array([False, True, False, True, False, True])
    fold = np.array([0, 0, 1, 1, 2, 2])
    accuracy, error = fold_accuracy(scores, same, fold)
    assert accuracy == pytest.approx((1 + 1 + 0.5) / 3)  # 0.6 lies above the 0.5 that the first two folds choose
    assert error == pytest.approx(np.std([1, 1, 0.5], ddof=1) / np.sqrt(3))
    with pytest.raises(InputError, match="two folds"):
        fold_accuracy(scores, same, np.zeros(6))
