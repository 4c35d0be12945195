"""The pictures of a search: its history, clean against robust score, every knob against the score, importance."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.axes import Axes
from optuna.exceptions import ExperimentalWarning
from optuna.importance import get_param_importances
from optuna.trial import FrozenTrial, TrialState

from inputgrad import files
from pipeline.report.style import BLACK, BLUE, ORANGE, VERMILLION, report_style
from pipeline.search.loop import slot
from pipeline.search.record import Record, facts, knobs

PALE = "0.7"


def draw(record: Record) -> list[Path]:
    """Write the figures that the trials suffice for: history.png, front.png, slice.png, importance.png."""
    figures: dict[str, Callable[[Record], None]] = {}
    if record.finished:
        figures |= {"history": history, "slice": slices}
    if record.complete:
        figures["front"] = front
    if importances(record):
        figures["importance"] = importance
    written = []
    for name, paint in figures.items():
        with report_style(), files.replacing(record.task.folder / f"{name}.png") as temporary:
            paint(record)
            plt.savefig(temporary, format="png", metadata={"Software": None})
            plt.close()
        written.append(record.task.folder / f"{name}.png")
    return written


def noun(record: Record) -> str:
    return f"validation {record.task.study.task.noun}"


def robust(record: Record) -> str:
    attack = record.task.study.attack
    return f"robust {noun(record)}, {attack.norm} ε = {attack.epsilon:g}"


def kinds(record: Record) -> dict[str, tuple[list[FrozenTrial], dict[str, Any]]]:
    """The trials by what became of them, each with its mark; a trial that diverged has no score to show."""
    seen = [trial for trial in record.finished if "robust" in facts(trial)]
    done = [trial for trial in seen if trial.state == TrialState.COMPLETE]
    dots = {"linestyle": "none", "markersize": 6}
    return {
        "pruned (score when it was ended)": (
            [t for t in seen if t.state == TrialState.PRUNED],
            {**dots, "marker": "x", "color": PALE},
        ),
        "loses too much clean score": (
            [t for t in done if not record.meets(t)],
            {**dots, "marker": "v", "color": ORANGE},
        ),
        "meets the constraint": ([t for t in done if record.meets(t)], {**dots, "marker": "o", "color": BLUE}),
    }


def points(ax: Axes, record: Record, x: Callable[[FrozenTrial], float], y: Callable[[FrozenTrial], float]) -> None:
    for label, (trials, mark) in kinds(record).items():
        if trials:
            ax.plot([x(t) for t in trials], [y(t) for t in trials], label=label, **mark)
    if record.best is not None:
        ring: dict[str, Any] = {
            "marker": "o",
            "markersize": 13,
            "markerfacecolor": "none",
            "color": VERMILLION,
            "linestyle": "none",
        }
        ax.plot([x(record.best)], [y(record.best)], label=f"best: trial {slot(record.best)}", **ring)


def robust_of(trial: FrozenTrial) -> float:
    return float(facts(trial)["robust"])


def baseline(ax: Axes, record: Record) -> None:
    if record.standard:
        ax.axhline(record.standard["robust"], color=BLACK, linewidth=1, linestyle=":", label="standard")


def history(record: Record) -> None:
    figure, ax = plt.subplots(figsize=(9, 4))
    points(ax, record, lambda t: t.user_attrs["slot"], robust_of)
    feasible = [trial for trial in record.complete if record.meets(trial)]
    if feasible:
        better = np.maximum if record.task.higher_is_better else np.minimum
        slots = [t.user_attrs["slot"] for t in feasible]
        ax.step(slots, better.accumulate([robust_of(t) for t in feasible]), where="post", color=VERMILLION)
    baseline(ax, record)
    ax.set(xlabel="trial, in the order of the search", ylabel=robust(record), title=record.task.name)
    figure.legend(loc="outside right upper")


def front(record: Record) -> None:
    figure, ax = plt.subplots(figsize=(9, 5))
    points(ax, record, lambda t: float(facts(t)["clean"]), robust_of)
    edge = record.front
    step: Literal["post", "pre"] = "post" if record.task.higher_is_better else "pre"
    ax.step([facts(t)["clean"] for t in edge], [robust_of(t) for t in edge], where=step, color="0.4", label="front")
    if record.standard and record.limit is not None:
        ax.plot([record.standard["clean"]], [record.standard["robust"]], "k*", markersize=12, label="standard")
        ax.axvline(record.limit, color=ORANGE, linestyle="--", linewidth=1, label=f"limit {record.limit:.3f}")
    ax.set(xlabel=f"clean {noun(record)}", ylabel=robust(record), title=record.task.name)
    figure.legend(loc="outside right upper")


def slices(record: Record) -> None:
    space = record.task.space
    figure, axes = plt.subplots(1, len(space), figsize=(3 + 5 * len(space), 4), squeeze=False, sharey=True)
    for ax, (name, found) in zip(axes[0], space.items(), strict=True):
        points(ax, record, lambda t, name=name: knobs(t)[name], robust_of)  # type: ignore[misc]
        baseline(ax, record)
        ax.set(xlabel=name, xscale="log" if found.log else "linear")
    axes[0, 0].set(ylabel=robust(record), title=record.task.name)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside right upper")


def importances(record: Record) -> dict[str, float]:
    """How much of the robust score's spread each knob explains; empty with one knob or too few trials."""
    if len(record.task.space) < 2 or len({robust_of(trial) for trial in record.complete}) < 4:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        warnings.simplefilter("ignore", UserWarning)  # it says that it looks for low values: they get a sign for that
        sign = -1 if record.task.higher_is_better else 1
        return get_param_importances(record.study, target=lambda t: sign * robust_of(t))


def importance(record: Record) -> None:
    found = importances(record)
    _, ax = plt.subplots(figsize=(6, 1.2 + 0.5 * len(found)))
    ax.barh(list(found), list(found.values()), color=BLUE)
    ax.invert_yaxis()
    ax.set(xlabel="importance for the robust score (PED-ANOVA)", title=record.task.name)
