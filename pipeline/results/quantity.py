"""One number of one loss next to the same number of the baseline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from inputgrad.robustness.scores import CONFIDENCE
from pipeline.results.statistics import (
    Estimate,
    Limits,
    estimate,
    holm,
    p_value,
    paired_difference,
)

BASELINE = "standard"
Verdict = Literal["baseline", "identical", "one seed", "undecided", "higher", "lower"]


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
