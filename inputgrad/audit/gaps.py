"""Slopes by autograd against slopes by a difference, and what makes such a comparison impossible."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median_high

import torch

from inputgrad.audit.subject import Subject


class NotMeasuredError(Exception):
    """The reason why a row has no figure."""


@dataclass
class Gaps:
    """Slopes by autograd against differences, over several directions; those that cross a kink do not count.

    Attributes:
        bound: a larger relative gap is a fault.
        smooth: the gaps of the directions that count.
        small: a smaller one is none; between both, `found` asks what may be behind it.
    """

    bound: float
    smooth: list[float] = field(default_factory=list)
    small: float = 0.0

    def add(self, up: float, down: float, h: float, along: float, nearby: Callable[[], list[float]]) -> bool:
        """Whether this direction settles it: both slopes agree. `nearby` gives those by autograd at the ends."""
        slope = (up - down) / (2 * h)
        largest = max(abs(slope), abs(along), 1e-9)
        gap = abs(slope - along) / largest
        if gap < self.bound or all(abs(near - along) < self.bound * largest for near in nearby()):
            self.smooth.append(gap)
        return gap < (self.small or self.bound)

    def found(self, s: Subject, fault: Callable[[], bool] = lambda: False) -> tuple[bool | None, str]:
        """Whether the slopes agree, and the figure.

        Args:
            s: what is audited.
            fault: whether there is one behind a gap that is neither small nor large.
        """
        if not self.smooth:
            raise NotMeasuredError("every step crosses a kink, as of a ReLU")
        precise = s.precision == torch.float64
        settled = self.smooth[-1] < (self.small or self.bound)
        gap = self.smooth[-1] if settled else median_high(self.smooth)
        right = gap < self.bound and not (0 < self.small < gap and fault())
        return right, f"relative gap {gap:.1e}" + ("" if precise else f", in {name_of(s.precision)}")


def name_of(precision: torch.dtype) -> str:
    return str(precision).removeprefix("torch.")
