"""Nets that were trained elsewhere, beside the losses of a study."""

from __future__ import annotations

from typing import Any

from inputgrad.robustness.scores import wilson
from pipeline.report.measure import Measure
from pipeline.results.read import Results
from pipeline.results.statistics import Estimate
from pipeline.study.schema import Study


def section(results: Results, measure: Measure) -> dict[str, Any] | None:
    """The table; None where the study names no such net."""
    study, found = results.study, results.given_nets
    if not found:
        return None
    rows = [
        {
            "name": one.name,
            "source": one.source,
            "clean": written(one.clean, one.examples, study, measure),
            "robust": written(one.robust, one.examples, study, measure),
            "masking": f"⚑ {', '.join(one.flags)}" if one.flags else "every check is fine",
        }
        for one in found
    ]
    return {"rows": rows, "examples": found[0].examples, "notes": [f"{o.name}: {n}" for o in found for n in o.notes]}


def written(value: float, n: int, study: Study, measure: Measure) -> str:
    """For classes with the 95 % interval over the examples."""
    low, high = wilson(value, n) if study.task.has_classes else (None, None)
    estimate = Estimate(value, low, high, n)
    return f"{measure.value(estimate)} {measure.interval(estimate)}".strip()
