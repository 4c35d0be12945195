"""One look per loss in every figure, the marks and axes that all figures share, and what a figure hands over."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import pandas as pd
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import PercentFormatter

from pipeline.report import units
from pipeline.results.read import Results
from pipeline.results.statistics import BASELINE, Estimate

BLACK, ORANGE, SKY, GREEN, _YELLOW, BLUE, VERMILLION, PURPLE = mpl.color_sequences["okabe_ito"]
COLORS = (BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY)  # yellow is too pale for a line on white
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)))
MARKS = "osD^vPX"

SETTINGS: dict[Any, Any] = {
    "figure.dpi": 150,
    "savefig.dpi": 150,
    "figure.constrained_layout.use": True,
    "font.size": 10,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "0.4",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "0.92",
    "legend.frameon": False,
    "lines.markersize": 4.5,
}


@contextmanager
def report_style() -> Iterator[None]:
    """Matplotlib's own defaults with the changes above, whatever the user's matplotlibrc says."""
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(SETTINGS)
        yield


@dataclass(frozen=True, kw_only=True)
class Style:
    color: Any
    dashes: Any
    mark: str
    baseline: bool

    @property
    def line(self) -> dict[str, Any]:
        """For a curve. The baseline lies broad below the others, so that a loss identical to it stays visible."""
        width, order = (5, 2) if self.baseline else (1.6, 3)
        return {"color": self.color, "linestyle": self.dashes, "linewidth": width, "zorder": order}

    @property
    def curve_mark(self) -> str:
        """The baseline's breadth is mark enough."""
        return "" if self.baseline else self.mark

    @property
    def point(self) -> dict[str, Any]:
        """For a point with error bars; the baseline is a ring around whatever coincides with it."""
        shape = {"markersize": 14, "markerfacecolor": "none"} if self.baseline else {"markersize": 7}
        return {"color": self.color, "marker": self.mark, "linestyle": "none", **shape}


def styles(losses: list[str]) -> dict[str, Style]:
    """A look for every loss by its place in the list; up to 18 losses differ in colour or dashes, and in mark."""
    compared = [name for name in losses if name != BASELINE]
    cycle = [c for dashes in DASHES for c in cycler(color=COLORS, dashes=[dashes] * len(COLORS))]
    found = {
        name: Style(**cycle[i % len(cycle)], mark=MARKS[i % len(MARKS)], baseline=False)
        for i, name in enumerate(compared)
    }
    found[BASELINE] = Style(color=BLACK, dashes="-", mark="o", baseline=True)
    return {name: found[name] for name in losses}


def curves(ax: Axes, table: pd.DataFrame, x: str, losses: list[str], *, marks: bool = False) -> None:
    """A line with its 95 % band for every loss.

    Args:
        ax: drawn into.
        table: columns loss, `x`, mean, low, high.
        x: the column along the axis.
        losses: in the order of the legend.
        marks: whether every point is marked; for few points.
    """
    for name, style in styles(losses).items():
        part = table[table["loss"] == name]
        ax.plot(part[x], part["mean"], marker=style.curve_mark if marks else "", **style.line)
        low, high = part["low"].to_numpy(), part["high"].to_numpy()
        ax.fill_between(part[x], low, high, color=style.color, alpha=0.15, linewidth=0, zorder=1)


def legend(figure: Figure, losses: list[str], *, points: bool = False) -> None:
    handles = [
        Line2D([], [], label=name, **(style.point if points else style.line | {"marker": style.curve_mark}))
        for name, style in styles(losses).items()
    ]
    columns = max(1, int(figure.get_figwidth() / 1.9))
    figure.legend(handles=handles, loc="outside upper left", ncols=min(len(losses), columns))


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
