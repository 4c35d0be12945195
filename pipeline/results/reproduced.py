"""Published figures against ours: is each reproduced, by the rule that the study states for it?"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from pipeline.results.read import Results
from pipeline.results.robustness import WORST
from pipeline.results.statistics import Estimate, estimate
from pipeline.study.schema import Figure

Word = Literal["reproduced", "above", "below", "not run"]
"""Above, below: ours lies outside, on that side of the published figure."""


@dataclass(frozen=True, kw_only=True)
class Reproduction:
    """One published figure and ours.

    Attributes:
        figure: as the study states it.
        ours: mean over the seeds with its interval; None where the loss is not in the report.
        standard_error: of that mean; 0 for one seed, which has none: the rule is the stricter for it.
    """

    figure: Figure
    ours: Estimate | None
    standard_error: float

    @property
    def bounds(self) -> tuple[float, float]:
        """From where to where ours counts as the published figure."""
        value, error, factor = self.figure.value, self.figure.error, self.figure.factor
        if factor is not None:
            return value / factor, value * factor
        within = self.figure.within if error is None else 2 * math.hypot(error, self.standard_error)
        assert within is not None  # `checks` has looked that there is one of the three
        return value - within, value + within

    @property
    def word(self) -> Word:
        if self.ours is None:
            return "not run"
        low, high = self.bounds
        if self.ours.mean < low:
            return "below"
        return "above" if self.ours.mean > high else "reproduced"

    def metrics(self) -> dict[str, Any]:
        """What metrics.json holds of it."""
        ours = None if self.ours is None else self.ours._asdict()
        return {**self.figure.model_dump(mode="json"), "ours": ours, "word": self.word}


def reproductions(results: Results) -> list[Reproduction]:
    """Of every figure that the study states, in its order."""
    return [compared(figure, results) for figure in results.study.figures]


def compared(figure: Figure, results: Results) -> Reproduction:
    if figure.loss not in results.losses:
        return Reproduction(figure=figure, ours=None, standard_error=0.0)
    values = by_seed(figure, results)
    limits = results.study.task.limits if figure.metric in SCORES else None
    error = float(values.to_numpy().std(ddof=1)) / math.sqrt(len(values)) if len(values) > 1 else 0.0
    return Reproduction(figure=figure, ours=estimate(values, limits), standard_error=error)


SCORES = ("clean", "robust")
"""The metrics that every study has: the clean score, and the worst case at the headline ε."""


def by_seed(figure: Figure, results: Results) -> pd.Series[float]:
    """The metric of the loss, a value per seed."""
    if figure.metric not in SCORES:
        frame = results.measures[results.measures["measure"] == figure.metric]
        return frame.loc[frame["loss"] == figure.loss, "value"]
    frame, attack = results.scores[results.scores["loss"] == figure.loss], results.study.attack
    if figure.metric == "clean":
        return frame.loc[frame["attack"] == "clean", "score"]
    at_headline = (frame["norm"] == attack.norm) & (frame["epsilon"] == attack.epsilon)
    return frame.loc[(frame["attack"] == WORST) & at_headline, "score"]


def count(words: list[str]) -> str:
    """How many published figures are reproduced, of some figures' words."""
    return f"{words.count('reproduced')} of {len(words)} published figures reproduced"
