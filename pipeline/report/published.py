"""Published numbers next to ours: whole rows of a table, and single figures that are reproduced or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.units import Measure
from pipeline.results.reproduced import SCORES, count
from pipeline.results.statistics import Estimate
from pipeline.results.summary import Summary
from pipeline.study.schema import Published

RULE = (
    "Ours: mean over the seeds with its 95 % interval. Reproduced: with a published standard error (±), no further away"
    " than twice the standard error of the difference, over our seeds; else within the stated factor or distance."
)
"""When a figure counts as reproduced."""


def published_section(summary: Summary, measure: Measure) -> dict[str, Any] | None:
    """The table of the published rows and a sentence for each; None where the study states none."""
    stated = summary.study.published
    if not stated:
        return None
    rows = [
        {
            "name": row.name,
            "clean": "–" if row.clean is None else plain(row.clean, measure),
            "robust": plain(row.robust, measure) + (", certified" if row.certified else ""),
            "source": row.source,
        }
        for row in stated
    ]
    return {"rows": rows, "sentences": [compared(row, summary, measure) for row in stated]}


def plain(value: float, measure: Measure) -> str:
    return measure.value(Estimate(value, None, None, 1))


def compared(published: Published, summary: Summary, measure: Measure) -> str:
    """Which losses lie above it, below it, and too near to tell: by the interval over the seeds."""
    sides: dict[str, list[str]] = {"above": [], "below": [], "too near to tell": []}
    if summary.baseline.robust[0].value.low is None:
        sides = {"one seed, which cannot tell": []}
    for row in summary.rows:
        low, high = row.robust[0].value[1:3]
        if low is None or high is None:
            side = "one seed, which cannot tell"
        else:
            side = "above" if low > published.robust else "below" if high < published.robust else "too near to tell"
        sides[side].append(f"`{row.name}`")
    line = f"{published.name}, {plain(published.robust, measure)}{' (certified)' if published.certified else ''}"
    return f"{line}: " + "; ".join(f"{side} {', '.join(names) or 'none'}" for side, names in sides.items()) + "."


def figures_section(figures: Sequence[Mapping[str, Any]], measure: Measure) -> dict[str, Any] | None:
    """The table of single figures and how many are reproduced; None where the study states none.

    Args:
        figures: as metrics.json has them, so that a kept report says the same.
        measure: how the study's score is written.
    """
    if not figures:
        return None
    return {"rows": [figure_row(one, measure) for one in figures], "count": counted(figures)}


def counted(figures: Sequence[Mapping[str, Any]]) -> str:
    return count([one["word"] for one in figures])


def figure_row(figure: Mapping[str, Any], score: Measure) -> dict[str, str]:
    metric = figure["metric"]
    measure = score if metric in SCORES else Measure(name=metric)
    ours = None if figure["ours"] is None else Estimate(**figure["ours"])
    return {
        "metric": f"{metric} {score.name}" if metric in SCORES else metric,
        "loss": figure["loss"],
        "published": plain(figure["value"], measure) + margin(figure, measure),
        "ours": "–" if ours is None else f"{measure.value(ours)} {measure.bounds(ours)}",
        "word": figure["word"],
        "source": figure["source"],
    }


def margin(figure: Mapping[str, Any], measure: Measure) -> str:
    """Behind the published figure: its standard error, or how far from it ours may lie."""
    if figure["error"] is not None:
        return f" ± {measure.number(figure['error'], '.3g')}{measure.difference_unit}"
    if figure["factor"] is not None:
        return f" (within a factor {figure['factor']:g})"
    return f" (within {measure.number(figure['within'], '.3g')}{measure.difference_unit})"
