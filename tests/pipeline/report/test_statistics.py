"""Intervals and paired differences against scipy and against numbers computed by hand."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from pipeline.results import statistics
from pipeline.results.statistics import Estimate, estimate, intervals, paired_difference


def test_estimate_by_hand() -> None:
    # mean 2, standard deviation 1, t(0.975, 2) = 4.302653
    found = estimate(pd.Series([1.0, 2.0, 3.0]))
    assert found.mean == 2
    assert found.low == pytest.approx(2 - 4.302653 / 3**0.5, abs=1e-6)
    assert found.high == pytest.approx(2 + 4.302653 / 3**0.5, abs=1e-6)
    assert found.n == 3


def test_estimate_agrees_with_scipy() -> None:
    values = np.random.default_rng(0).normal(3, 2, 7)
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert estimate(pd.Series(values))[1:3] == pytest.approx((expected.low, expected.high))


def test_one_seed_has_no_interval() -> None:
    assert estimate(pd.Series([0.7])) == Estimate(0.7, None, None, 1)
    assert not estimate(pd.Series([0.7])).excludes_zero


def test_equal_values_have_an_interval_without_width() -> None:
    assert estimate(pd.Series([0.5, 0.5, 0.5])) == Estimate(0.5, 0.5, 0.5, 3)


def test_paired_difference_pairs_by_seed_not_by_position() -> None:
    values = pd.Series({2: 0.33, 0: 0.11, 7: 9.0, 1: 0.22})
    baseline = pd.Series({0: 0.1, 1: 0.2, 2: 0.3, 3: -5.0})
    expected = estimate(pd.Series([0.01, 0.02, 0.03]))
    assert paired_difference(values, baseline) == pytest.approx(expected)


@pytest.mark.parametrize(("low", "high", "excludes"), [(0.1, 0.2, True), (-0.2, -0.1, True), (-0.1, 0.1, False)])
def test_excludes_zero(low: float, high: float, excludes: bool) -> None:
    assert Estimate((low + high) / 2, low, high, 3).excludes_zero is excludes


def test_intervals_are_the_estimates_of_the_groups() -> None:
    frame = pd.DataFrame({"loss": list("bbbaab"), "epoch": [1, 1, 1, 1, 1, 2], "score": [1.0, 2, 6, 5, 7, 3]})
    table = intervals(frame, ["loss", "epoch"], "score").set_index(["loss", "epoch"])
    assert list(table.index) == [("b", 1), ("a", 1), ("b", 2)]
    assert tuple(table.loc[("b", 1)]) == pytest.approx(tuple(estimate(pd.Series([1.0, 2, 6]))))
    assert np.isnan(table.loc[("b", 2), "low"])
    assert table.loc[("b", 2), "n"] == 1


def test_an_interval_of_an_accuracy_stays_between_0_and_1():
    values = pd.Series([0.5, 0.9, 0.99])
    free, bound = estimate(values), estimate(values, (0.0, 1.0))
    assert free.high > 1
    assert (bound.mean, bound.low, bound.high) == (free.mean, free.low, 1.0)
    frame = pd.DataFrame({"loss": ["a"] * 3, "score": values})
    table = intervals(frame, ["loss"], "score", (0.0, 1.0))
    assert float(table["high"].iloc[0]) == 1.0
    assert float(table["low"].iloc[0]) == pytest.approx(bound.low)


def test_holm_is_bonferroni_for_the_smallest_and_never_falls():
    p = np.array([0.01, 0.04, 0.03, 0.5])
    assert statistics.holm(p) == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert statistics.holm(np.array([0.9, 0.8])) == pytest.approx([1.0, 1.0])
    assert len(statistics.holm(np.array([]))) == 0
