"""What every figure hands over, and the axes that figures share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from pipeline.report import units
from pipeline.results.read import Results
from pipeline.results.statistics import Estimate


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """A figure with its words: file name without suffix, title, caption, alternative text with the numbers."""

    name: str
    title: str
    caption: str
    alt: str
    figure: Figure


def score_axis(axis: Any, results: Results, what: str = "") -> None:
    task = results.study.task
    if task.factor == 100:
        axis.set_major_formatter(PercentFormatter(1, decimals=None))
    unit = "" if task.unit else f" ({units.targets(results.dataset)})"
    axis.set_label_text(f"{what}{task.noun}{unit}")


def reach(estimate: Estimate) -> list[list[float]] | None:
    """Lengths of an error bar below and above the mean."""
    if estimate.low is None or estimate.high is None:
        return None
    return [[estimate.mean - estimate.low], [estimate.high - estimate.mean]]
