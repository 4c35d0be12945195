"""Rows of published tables that a study states, and on which side of each the losses lie."""

from __future__ import annotations

from typing import Any

from pipeline.report.measure import Measure
from pipeline.results.statistics import Estimate
from pipeline.results.summary import Summary
from pipeline.study.schema import Published


def section(summary: Summary, measure: Measure) -> dict[str, Any] | None:
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
