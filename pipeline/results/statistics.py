"""Mean, 95 % interval and paired difference over seeds."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from inputgrad.robustness.scores import CONFIDENCE

Limits = tuple[float, float] | None
"""Between which a number must lie, as `Task.limits`; None: anywhere."""


class Estimate(NamedTuple):
    """A mean over n seeds with its 95 % interval; one seed has no interval."""

    mean: float
    low: float | None
    high: float | None
    n: int

    @property
    def excludes_zero(self) -> bool:
        """Whether 0 lies outside; an interval without length says no more than the signs of its few differences.

        Scores are shares of some examples: of two or three seeds the differences are often equal.
        """
        if self.low is None or self.high is None or self.low <= 0 <= self.high:
            return False
        return self.high - self.low >= 1e-12 or sign_test(self.n) < 1 - CONFIDENCE


def interval(mean: Any, sem: Any, n: Any) -> tuple[Any, Any]:
    """Bounds of Student's t interval, elementwise; NaN where n is 1.

    Args:
        mean: sample means.
        sem: standard errors of the means.
        n: numbers of seeds.
    """
    low, high = stats.t.interval(CONFIDENCE, np.asarray(n) - 1)  # scaled here: scipy refuses a scale of 0
    return mean + low * sem, mean + high * sem


def estimate(values: pd.Series[float], limits: Limits = None) -> Estimate:
    n = len(values)
    if n == 1:
        return Estimate(float(values.iloc[0]), None, None, 1)
    low, high = inside(interval(values.mean(), values.sem(), n), limits)
    return Estimate(float(values.mean()), float(low), float(high), n)


def inside(bounds: tuple[Any, Any], limits: Limits) -> tuple[Any, Any]:
    """The part of an interval where the number can lie, 0 to 1 for an accuracy: it covers the mean as often."""
    return bounds if limits is None else (np.clip(bounds[0], *limits), np.clip(bounds[1], *limits))


def paired_difference(values: pd.Series[float], baseline: pd.Series[float]) -> Estimate:
    """Mean of value - baseline over the seeds that both have; both are indexed by seed.

    A seed fixes the initial weights and the order of the batches, so what two losses share cancels out.
    """
    return estimate((values - baseline).dropna())


def intervals(frame: pd.DataFrame, by: list[str], value: str, limits: Limits = None) -> pd.DataFrame:
    """`estimate` of every group: columns `by`, then mean, low, high (NaN where n is 1), n; order of appearance."""
    grouped = frame.groupby(by, sort=False)[value]
    table = grouped.agg(["mean", "sem", "count"]).rename(columns={"count": "n"}).reset_index()
    table["low"], table["high"] = inside(interval(table["mean"], table["sem"], table["n"]), limits)
    return table[[*by, "mean", "low", "high", "n"]]


def p_value(mine: pd.Series[float], theirs: pd.Series[float]) -> float:
    """Of the paired t-test over seeds; NaN for one seed.

    Differences that are all equal have no spread for a t-test, and are no certainty: their signs alone are tested.
    """
    if len(mine) < 2:
        return float("nan")
    difference = (mine - theirs).to_numpy()
    if np.allclose(difference, difference[0], rtol=0, atol=1e-12):
        return 1.0 if np.isclose(difference[0], 0, atol=1e-12) else sign_test(len(difference))
    return float(stats.ttest_rel(mine, theirs).pvalue)


def sign_test(n: int) -> float:
    """The chance that n differences lie on one side if both sides are as likely."""
    return float(2.0 ** (1 - n))


def holm(p: np.ndarray) -> np.ndarray:
    """p-values of m tests after Holm's correction (1979), in their order: the chance of any false find is held."""
    order = p.argsort()
    steps = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    found = np.empty_like(p)
    found[order] = np.minimum(steps, 1.0)
    return found
