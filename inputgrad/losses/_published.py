"""How a source's strength of a loss becomes ours: a paper or code base scales its penalty its own way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """What a published strength was used with; None where the source does not need it.

    batch_size: N of the source's training. epsilon: its ε in [0, 1] units. alpha: its extra weight α.
    """

    batch_size: int | None = None
    epsilon: float | None = None
    alpha: float | None = None

    def of(self, name: str) -> float:
        """A part that the source needs; `strengths.convert` has made sure that it is there."""
        return float(getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Published:
    """One source of a loss: ours = published * factor(setting).

    Attributes:
        writes: what the source writes, and where it is from.
        formula: how λ here follows from w there.
        checked: how it was checked that this holds.
        factor: of the setting.
        needs: the parts of the setting that the factor reads.
        knobs: of our loss, that make it the source's.
    """

    writes: str
    formula: str
    checked: str
    factor: Callable[[Setting], float]
    needs: tuple[str, ...] = ()
    knobs: str = ""
