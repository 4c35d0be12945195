"""Mean, 95 % interval and paired difference over seeds: of a loss, from the baseline, of every pair of losses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from inputgrad.robustness.scores import CONFIDENCE, scores
from pipeline.study.schema import Study

Limits = tuple[float, float] | None
"""Between which a number must lie, as `Task.limits`; None: anywhere."""
BASELINE = "standard"
Verdict = Literal["baseline", "identical", "one seed", "undecided", "higher", "lower"]
PAIR_COLUMNS = [
    *("loss", "other", "difference", "low", "high", "p", "q", "holm", "n_seeds", "n_examples"),
    *("examples_low", "examples_high", "beyond_luck"),
]


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


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of one loss over its seeds, and its paired difference from the baseline.

    difference: None for the baseline itself, and where the baseline has no such number.
    p: of the paired t-test over seeds, after Holm's correction for all losses that are compared; None where the
        difference stands alone.
    """

    value: Estimate
    difference: Estimate | None
    identical: bool
    p: float | None = None

    @property
    def verdict(self) -> Verdict:
        if self.difference is None:
            return "baseline"
        if self.identical:
            return "identical"
        if self.difference.low is None:
            return "one seed"
        if not self.significant(self.difference):
            return "undecided"
        return "higher" if self.difference.mean > 0 else "lower"

    def significant(self, difference: Estimate) -> bool:
        """For one loss alone, p < 0.05 says the same as an interval without 0."""
        return difference.excludes_zero if self.p is None else self.p < 1 - CONFIDENCE

    @property
    def differs(self) -> bool:
        return self.verdict in ("higher", "lower")


def compare(
    frame: pd.DataFrame, column: str, identical: Mapping[str, bool], limits: Limits = None
) -> dict[str, Quantity]:
    """Of every loss in `frame`, which has a row per loss and seed, the estimate and its difference from the baseline.

    This is the one test of every statement on a loss: in the report, in its tables, and on the page of all studies.
    """
    by_seed = {str(loss): part.set_index("seed")[column] for loss, part in frame.groupby("loss", sort=False)}
    base = by_seed.get(BASELINE)
    paired = {}
    for loss, mine in by_seed.items():
        if loss != BASELINE and base is not None and len(seeds := mine.index.intersection(base.index)):
            paired[loss] = (mine[seeds], base[seeds])
    tested = {loss: p for loss, pair in paired.items() if not np.isnan(p := p_value(*pair))}
    corrected = dict(zip(tested, holm(np.array(list(tested.values()))), strict=True))
    return {
        loss: Quantity(
            value=estimate(mine, limits),
            difference=paired_difference(*paired[loss]) if loss in paired else None,
            identical=identical[loss],
            p=None if loss not in corrected else float(corrected[loss]),
        )
        for loss, mine in by_seed.items()
    }


def all_pairs(harm: pd.DataFrame, study: Study, losses: list[str]) -> pd.DataFrame:
    """Paired differences of the headline robust score, loss − other, a row per pair.

    low, high, p: Student's t over the seeds that both losses have (chance in training). q: p after Benjamini and
    Hochberg over all pairs. holm: p of the pairs with `standard` after Holm over them alone. examples_low,
    examples_high: Student's t over the examples, each the mean over seeds of its difference (chance in the test split):
    in whether it stands, or for a regression in its squared error.
    beyond_luck: q is small and neither interval holds 0.

    Args:
        harm: a row per loss and seed, a column per example: 1 where it is broken, or its squared error.
        study: says which.
        losses: in the order of the pairs.
    """
    score = scores(harm, study.task)
    good = study.task.parts_of_score(harm)
    rows = [pair(score, good, loss, other) for loss, other in combinations(losses, 2)]
    table = pd.DataFrame(rows, columns=[name for name in PAIR_COLUMNS if name not in ("q", "holm", "beyond_luck")])
    bounds = ["low", "high", "examples_low", "examples_high"]
    table[bounds] = table[bounds].astype(float)  # None where there is one seed
    tested = table["p"].notna()
    table["q"] = np.nan
    if tested.any():
        table.loc[tested, "q"] = stats.false_discovery_control(table.loc[tested, "p"], method="bh")
    with_baseline = tested & ((table["loss"] == BASELINE) | (table["other"] == BASELINE))
    table["holm"] = np.nan
    table.loc[with_baseline, "holm"] = holm(table.loc[with_baseline, "p"].to_numpy(float))
    same_sign = (table["examples_low"] > 0) & (table["low"] > 0) | (table["examples_high"] < 0) & (table["high"] < 0)
    table["beyond_luck"] = same_sign & (table["q"] < 1 - CONFIDENCE)
    return table[PAIR_COLUMNS]


def pair(score: pd.Series[float], good: pd.DataFrame, loss: str, other: str) -> dict[str, Any]:
    mine, theirs = (score.xs(name, level="loss") for name in (loss, other))
    seeds = mine.index.intersection(theirs.index)
    mine, theirs = mine[seeds], theirs[seeds]
    over_seeds = paired_difference(mine, theirs)
    by_example = pd.Series((good.loc[loss].loc[seeds] - good.loc[other].loc[seeds]).to_numpy().mean(0))
    over_examples = estimate(by_example)
    return {
        "loss": loss,
        "other": other,
        "difference": over_seeds.mean,
        "low": over_seeds.low,
        "high": over_seeds.high,
        "p": p_value(mine, theirs),
        "n_seeds": over_seeds.n,
        "n_examples": over_examples.n,
        "examples_low": over_examples.low,
        "examples_high": over_examples.high,
    }


def against_baseline(table: pd.DataFrame) -> dict[str, tuple[Estimate, float]]:
    """Of every loss, its difference from the baseline and Holm's p, from the table of `all_pairs`."""
    found = {}
    for row in table.to_dict("records"):
        mean, low, high = row["difference"], row["low"], row["high"]
        if row["loss"] == BASELINE:
            mean, low, high = -mean, -high, -low
        elif row["other"] != BASELINE:
            continue
        if np.isnan(low):
            low = high = None
        loss = row["other"] if row["loss"] == BASELINE else row["loss"]
        found[str(loss)] = (Estimate(mean, low, high, row["n_seeds"]), row["holm"])
    return found
