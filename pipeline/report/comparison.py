"""One page over all kept reports: which loss does what in which study, at what cost."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from inputgrad import tasks
from inputgrad.tasks import Task
from pipeline.report.measure import times
from pipeline.report.page import environment
from pipeline.results.quantity import BASELINE

Metrics = Mapping[str, Any]
"""What metrics.json of a report holds."""


def page(kept: Mapping[str, tuple[Metrics, Mapping[str, Any]]]) -> str:
    """The page, from metrics.json and kept.json of every study, by its name."""
    names = dict.fromkeys(loss for metrics, _ in kept.values() for loss in metrics["losses"])
    facts = {
        "studies": [head(metrics, facts) for metrics, facts in kept.values()],
        "rows": [{"name": name, "cells": [cell(metrics, name) for metrics, _ in kept.values()]} for name in names],
    }
    return environment(Path()).get_template("comparison.html.jinja").render(facts)


def head(metrics: Metrics, facts: Mapping[str, Any]) -> dict[str, Any]:
    task = tasks.named(metrics["task"])
    return {
        "name": metrics["study"],
        "noun": f"robust {task.noun}{f', {task.unit}' if task.unit else ''}",
        "epsilon": f"{metrics['epsilon']:g}",
        "n": metrics["losses"][BASELINE][f"robust_{task.key}"]["n"],
        "answer": answer(metrics, task),
        "date": facts["date"],
        "commit": facts["commit"][:7],
    }


def answer(metrics: Metrics, task: Task) -> str:
    """The loss with the best robust score, if its interval does not meet that of `standard`."""
    found = {name: numbers[f"robust_{task.key}"] for name, numbers in metrics["losses"].items()}
    best = max(found, key=lambda name: task.better * found[name]["mean"])
    if side(found[best], found[BASELINE], task) != "better":
        return f"no loss lies clear of {BASELINE}'s {shown(found[BASELINE]['mean'], task)}."
    return f"{best} stands best, {shown(found[best]['mean'], task)} against {shown(found[BASELINE]['mean'], task)}."


def cell(metrics: Metrics, loss: str) -> dict[str, str] | None:
    """What a study says of a loss; None where it was not run."""
    numbers, task = metrics["losses"].get(loss), tasks.named(metrics["task"])
    if numbers is None:
        return None
    robust, clean = (numbers[f"{kind}_{task.key}"] for kind in ("robust", "clean"))
    ends = [robust["low"], robust["high"]]
    return {
        "robust": shown(robust["mean"], task),
        "interval": "" if None in ends else f"[{', '.join(number(end, task) for end in ends)}]",
        "clean": shown(clean["mean"], task),
        "time": "" if loss == BASELINE else times(numbers.get("step_time", {}).get("ratio")),
        "verdict": side(robust, metrics["losses"][BASELINE][f"robust_{task.key}"], task),
        "flags": ", ".join(name for name, check in numbers["masking"].items() if not check["ok"]),
    }


def side(one: Mapping[str, Any], baseline: Mapping[str, Any], task: Task) -> str:
    """Better or worse where the two intervals do not meet, else nothing."""
    if None in (one["low"], baseline["low"]) or (one["low"] <= baseline["high"] and baseline["low"] <= one["high"]):
        return ""
    return "better" if task.better * (one["mean"] - baseline["mean"]) > 0 else "worse"


def shown(value: float, task: Task) -> str:
    return f"{number(value, task)}{f' {task.unit}' if task.unit else ''}"


def number(value: float, task: Task) -> str:
    return f"{task.factor * value:.{task.decimals}f}"
