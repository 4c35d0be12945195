"""One number of one loss next to the same number of the baseline."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pandas as pd

from pipeline.results.statistics import CONFIDENCE, Estimate, Limits, estimate, paired_difference

BASELINE = "standard"
Verdict = Literal["baseline", "identical", "one seed", "undecided", "higher", "lower"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One number of one loss over its seeds, and its paired difference from the baseline.

    difference: None for the baseline itself, and where the baseline has no such number.
    """

    value: Estimate
    difference: Estimate | None
    identical: bool

    @property
    def verdict(self) -> Verdict:
        if self.difference is None:
            return "baseline"
        if self.identical:
            return "identical"
        if self.difference.low is None:
            return "one seed"
        if not self.difference.excludes_zero or is_too_few(self.difference):
            return "undecided"
        return "higher" if self.difference.mean > 0 else "lower"

    @property
    def differs(self) -> bool:
        return self.verdict in ("higher", "lower")


def is_too_few(difference: Estimate) -> bool:
    """Whether the differences of all seeds are equal, and so few that this says little: only their signs can be tested.

    Scores are shares of some examples: of two or three seeds the differences are often equal, and the interval is then
    a point that excludes 0, whatever it is.
    """
    assert difference.low is not None
    assert difference.high is not None
    return difference.high - difference.low < 1e-12 and sign_test(difference.n) >= 1 - CONFIDENCE


def sign_test(n: int) -> float:
    """The chance that n differences lie on one side if both sides are as likely."""
    return float(2.0 ** (1 - n))


def compare(frame: pd.DataFrame, column: str, loss: str, identical: bool, limits: Limits = None) -> Quantity:
    """The estimate of one loss and of its difference from the baseline; `frame` has a row per loss and seed."""
    by_seed = {name: part.set_index("seed")[column] for name, part in frame.groupby("loss")}
    mine, base = by_seed[loss], by_seed.get(BASELINE)
    paired = loss != BASELINE and base is not None and len(mine.index.intersection(base.index)) > 0
    difference = paired_difference(mine, base) if paired and base is not None else None
    return Quantity(value=estimate(mine, limits), difference=difference, identical=identical)


def compared(frame: pd.DataFrame, column: str, loss: str, identical: bool) -> Quantity | None:
    """`compare`, or None where the loss has no row: its number does not exist."""
    return compare(frame, column, loss, identical) if (frame["loss"] == loss).any() else None
