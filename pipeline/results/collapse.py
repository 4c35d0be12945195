"""Did a training collapse: was a robust validation score that it once had lost at its end?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

FALL = 0.1
"""A score that ends further than this below its best earlier one has collapsed: ten points of accuracy."""
COLUMN = "robust_validation_score"
"""Of the history; it has it where the study asks for `training.robust_validation`."""


class Collapses(NamedTuple):
    """In how many of `of` seeds the training of a loss collapsed."""

    seeds: int
    of: int


def has_collapsed(scores: Sequence[float]) -> bool:
    """Of the robust validation score after each epoch, in their order: a fall that is made good again is none."""
    if len(scores) < 2:
        return False
    *earlier, last = scores
    return round(max(earlier) - last, 9) > FALL  # scores are shares of some examples: 0.8 - 0.7 is 0.1


def collapses(history: pd.DataFrame) -> Collapses | None:
    """Over the seeds of one loss; `history` has a row per seed and epoch. None: no robust score was taken."""
    if COLUMN not in history:
        return None
    found = [has_collapsed(one.sort_values("epoch")[COLUMN].tolist()) for _, one in history.groupby("seed")]
    return Collapses(sum(found), len(found))
