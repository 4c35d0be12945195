"""One page over all kept reports: which loss does what in which study, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from inputgrad import tasks
from inputgrad.tasks import Task
from pipeline.report import words
from pipeline.report.page import environment
from pipeline.report.units import score, times
from pipeline.results import statistics
from pipeline.results.statistics import BASELINE, Estimate, Quantity

Metrics = Mapping[str, Any]
"""What metrics.json of a report holds."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One kept report: its metrics.json, its kept.json and its pairwise.csv."""

    metrics: Metrics
    facts: Mapping[str, Any]
    pairs: pd.DataFrame

    @property
    def task(self) -> Task:
        return tasks.named(self.metrics["task"])

    @cached_property
    def robust(self) -> dict[str, Quantity]:
        """Of every loss, the robust score beside that of the baseline, with the report's own test."""
        differences = statistics.against_baseline(self.pairs)
        found = {}
        for loss, numbers in self.metrics["losses"].items():
            difference, p = differences.get(loss, (None, None))
            value = Estimate(**numbers[f"robust_{self.task.key}"])
            found[loss] = Quantity(value=value, difference=difference, identical=False, p=p)
        return found


def page(kept: Mapping[str, Kept]) -> str:
    """The page, from every kept report by the name of its study."""
    names = dict.fromkeys(loss for one in kept.values() for loss in one.metrics["losses"])
    facts = {
        "studies": [head(one) for one in kept.values()],
        "rows": [{"name": name, "cells": [cell(one, name) for one in kept.values()]} for name in names],
    }
    return environment(Path()).get_template("comparison.html.jinja").render(facts)


def head(kept: Kept) -> dict[str, Any]:
    task, epsilon = kept.task, f"{kept.metrics['epsilon']:g}"
    return {
        "name": kept.metrics["study"],
        "noun": f"robust {task.noun}{f', {task.unit.strip()}' if task.unit else ''}",
        "epsilon": epsilon,
        "n": kept.robust[BASELINE].value.n,
        "answer": words.best_under_attack(kept.robust, score(task), f"ε = {epsilon}"),
        "date": kept.facts["date"],
        "commit": kept.facts["commit"][:7],
    }


def cell(kept: Kept, loss: str) -> dict[str, str] | None:
    """What a study says of a loss; None where it was not run."""
    numbers, measure = kept.metrics["losses"].get(loss), score(kept.task)
    if numbers is None:
        return None
    robust, verdict = kept.robust[loss].value, measure.verdict(kept.robust[loss])
    time = numbers.get("step_time", {}).get("ratio")
    return {
        "robust": measure.value(robust),
        "interval": measure.interval(robust),
        "clean": measure.value(Estimate(**numbers[f"clean_{kept.task.key}"])),
        "time": "" if loss == BASELINE else times(time),
        "verdict": verdict if verdict in ("better", "worse") else "",
        "flags": ", ".join(name for name, check in numbers["masking"].items() if not check["ok"]),
    }
