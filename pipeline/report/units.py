"""How numbers are written: their units, found out from the training split, digits, intervals and differences."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from inputgrad.tasks import Task
from pipeline.data import Dataset
from pipeline.results.statistics import Estimate, Quantity

UNKNOWN = "not measured"
"""In the place of a time that would mean nothing."""


def inputs(dataset: Dataset) -> str:
    if bounds := dataset.context.bounds:
        return f"inputs span {bounds[0]:g} to {bounds[1]:g}"
    return "standard deviations" if standardised(dataset.inputs("train")) else "own units"


def targets(dataset: Dataset) -> str:
    return "standard deviations" if standardised(dataset.y["train"]) else "own units"


def standardised(values: Tensor) -> bool:
    """Whether every column has mean 0 and standard deviation 1 over the training split, to a hundredth.

    A column that is 0 everywhere was constant: it says nothing about the units of the others.
    """
    columns = values.double().flatten(1)
    columns = columns[:, columns.ne(0).any(0)]
    deviation = columns.std(0, correction=0)
    centred = bool((columns.mean(0).abs() < 0.01).all() and ((deviation - 1).abs() < 0.01).all())
    return centred and columns.shape[1] > 0


@dataclass(frozen=True, kw_only=True)
class Measure:
    """How numbers of one kind are written.

    Attributes:
        name: in sentences and table heads.
        factor: 100 for a share in percent.
        decimals: None for three significant digits.
        unit, difference_unit: written behind a value and behind a difference.
        good: +1 where larger is better, -1 where smaller is, 0 where neither is.
    """

    name: str
    factor: float = 1.0
    decimals: int | None = None
    unit: str = ""
    difference_unit: str = ""
    good: int = 0

    def number(self, x: float, form: str) -> str:
        """A bare number with a real minus sign; a rounded zero has no sign."""
        text = f"{self.factor * x:{form}}"
        return text.replace("-", "\N{MINUS SIGN}") if any(d in text for d in "123456789") else text.lstrip("+-")

    def form(self, estimate: Estimate) -> str:
        """The format of an estimate: with more decimals where a bound next to 0 would be rounded to it."""
        if self.decimals is None:
            return ".3g"
        decimals = self.decimals
        if estimate.excludes_zero:
            nearest = self.factor * min(abs(estimate.low or 0), abs(estimate.high or 0))
            while round(nearest, decimals) == 0 and decimals < self.decimals + 3:
                decimals += 1
        return f".{decimals}f"

    def value(self, estimate: Estimate) -> str:
        return self.number(estimate.mean, self.form(estimate)) + self.unit

    def difference(self, estimate: Estimate) -> str:
        return self.number(estimate.mean, "+" + self.form(estimate)) + self.difference_unit

    def interval(self, estimate: Estimate) -> str:
        """The bounds in brackets, empty where there is no interval."""
        if estimate.low is None or estimate.high is None:
            return ""
        low, high = (self.number(x, self.form(estimate)) for x in (estimate.low, estimate.high))
        return f"[{low}, {high}]"

    def bounds(self, estimate: Estimate) -> str:
        """The interval with its n, or why there is none."""
        interval = self.interval(estimate)
        return f"{interval}, n = {estimate.n}" if interval else f"n = {estimate.n}, no interval"

    def verdict(self, quantity: Quantity) -> str:
        if not quantity.differs:
            return {"undecided": "no difference found", "one seed": "one seed"}.get(quantity.verdict, quantity.verdict)
        up = quantity.verdict == "higher"
        if not self.good:
            return "larger" if up else "smaller"
        return "better" if up == (self.good > 0) else "worse"


DERIVATIVE = Measure(name="its root mean square error", good=-1)
"""Error of the gradient of the prediction, where the true one is known."""
GRADIENT = Measure(name="input-gradient norm")
DISTANCE = Measure(name="median distance", good=1)


def score(task: Task) -> Measure:
    return Measure(
        name=task.noun,
        factor=task.factor,
        decimals=task.decimals,
        unit=task.unit,
        difference_unit=task.difference_unit,
        good=task.better,
    )


def times(ratio: float | None) -> str:
    """How many times as much, with the digits that a time has: 1.4, 2.3, 15; nothing where it is not known."""
    if ratio is None:
        return ""
    return f"{ratio:.1f}" if ratio < 9.95 else f"{ratio:.0f}"
