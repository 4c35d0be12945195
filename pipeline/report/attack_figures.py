"""The figures about the attacks: what each adds, how far the boundary is, every loss against every other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure

from inputgrad.robustness.scores import SMALLER
from pipeline.report import attack_words, units, words
from pipeline.report.style import Drawing, curves, legend, score_axis
from pipeline.report.units import Measure, score
from pipeline.results import robustness
from pipeline.results.read import Results
from pipeline.results.statistics import intervals
from pipeline.results.summary import Summary

POINTS = 300
"""Distances at which the share of standing examples is drawn."""


def waterfall(results: Results, summary: Summary) -> Drawing | None:
    """A panel per threat model: rows are losses, columns attacks in their order, cells what an attack adds."""
    if results.steps.empty:
        return None
    measure, norms = score(summary.study.task), list(results.steps["norm"].unique())
    steps = list(results.steps["step"].unique())
    size = 0.72 * (len(steps) + 1) + 1.9, (0.3 * len(results.losses) + 1.0) * len(norms) + 0.2
    figure = Figure(figsize=size)
    panels = figure.subplots(len(norms), 1, squeeze=False)[:, 0]
    for ax, norm in zip(panels, norms, strict=True):
        waterfall_panel(ax, results.steps[results.steps["norm"] == norm], results.losses, measure)
        threat = next(t for t in summary.study.attack.threat_models if t.norm == norm)
        ax.set_title(words.threat(norm, threat.epsilon), pad=4)
    last = steps[-1]
    first = results.steps[results.steps["norm"] == norms[0]]
    adds = ", ".join(f"{name} {measure.number(-x, '.3g')}" for name, x in means(first, "change")[last].items())
    return Drawing(
        name="what_each_attack_adds",
        title="What each attack adds",
        caption=f"From left to right the clean {measure.name}, by how much each attack moves the worst case over all"
        f" before it, and what is left, the robust score. Mean over seeds, {words.seeds(summary.rows)},"
        f" {attack_words.examples(summary)}; the table of the same name has the intervals. A zero means that the attack"
        f" broke nothing that still stood, not that it is weak. `{SMALLER}`: what was found inside a smaller ball only,"
        " which is inside this one too.",
        alt=f"Table of changes of {measure.name}, one row a loss, one column an attack: {', '.join(steps[1:])}."
        f" What {last} takes at {norms[0]}: {adds}.",
        figure=figure,
    )


def means(steps: pd.DataFrame, value: str) -> pd.DataFrame:
    """Mean over seeds: a row per loss, a column per step."""
    table = steps.pivot_table(index="loss", columns="step", values=value, aggfunc="mean", sort=False, dropna=False)
    return table.reindex(columns=steps["step"].unique())


def waterfall_panel(ax: Axes, steps: pd.DataFrame, losses: list[str], measure: Measure) -> None:
    """One matrix; the colour is the harm of a step (its root, so that a small one shows), scores have none."""
    reached, change = means(steps, "score").loc[losses], means(steps, "change").loc[losses]
    harm = change.iloc[:, 1:].abs().to_numpy()
    blank = np.full((len(losses), 1), np.nan)
    top = float(np.nanmax(harm)) or 1.0
    ax.imshow(np.hstack([blank, harm, blank]), cmap="Oranges", norm=PowerNorm(0.5, 0, 2 * top), aspect="auto")
    form = ".1f" if measure.factor == 100 else ".3f"
    for row, loss in enumerate(losses):
        scores, changes = reached.loc[loss].to_numpy(float), change.loc[loss].to_numpy(float)[1:]
        numbers = [measure.number(scores[0], form)]
        numbers += [measure.number(x, "+" + form) if abs(x) > 1e-12 else "0" for x in changes]
        numbers += [measure.number(scores[-1], form)]
        for column, text in enumerate(numbers):
            outer = column in (0, len(numbers) - 1)
            color = "0.6" if text == "0" else "black"
            weight = "bold" if outer else "normal"
            ax.text(column, row, text, ha="center", va="center", fontsize=8, color=color, weight=weight)
    matrix_axes(ax, [*steps["step"].unique(), "robust"], losses)


def matrix_axes(ax: Axes, columns: list[str], rows: list[str]) -> None:
    ax.set_xticks(range(len(columns)), columns, rotation=35, ha="left", fontsize=8, rotation_mode="anchor")
    ax.set_yticks(range(len(rows)), rows, fontsize=8)
    ax.tick_params(length=0, labeltop=True, labelbottom=False)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)


def survival(results: Results, summary: Summary) -> Drawing | None:
    if results.distances.empty:
        return None
    threats = results.study.attack.threat_models
    figure = Figure(figsize=(4.4 * len(threats), 4))
    for ax, threat in zip(figure.subplots(1, len(threats), squeeze=False)[0], threats, strict=True):
        points = np.linspace(0, max(threat.radii), POINTS)
        standing = robustness.survival(results.distances, threat.norm, points)
        table = intervals(standing, ["loss", "distance"], "standing", (0.0, 1.0))
        ax.axvline(threat.epsilon, color="0.5", linestyle=":", linewidth=1)
        curves(ax, table, "distance", results.losses)
        ax.set(title=f"{threat.norm}, still standing", ylim=(-0.03, 1.03))
        ax.set_xlabel(f"size of the perturbation ({threat.norm}, {units.inputs(results.dataset)})")
        score_axis(ax.yaxis, results)
        ax.set_ylabel("share of examples")
    legend(figure, results.losses)
    norm = threats[0].norm
    values = [f"{row.name} {attack_words.distance(row.distances[norm])}" for row in summary.rows]
    return Drawing(
        name="distance_to_boundary",
        title="How far is the nearest wrong answer?",
        caption="Share of test examples that no attack broke with a perturbation of at most that size: mean over seeds"
        f" and 95 % interval, {words.seeds(summary.rows)}, {attack_words.examples(summary)}. An upper bound, as every"
        " other robust number here: the boundary may be nearer than any attack got. Attacks that go to the rim of their"
        " ball make steps at the radii of the grid.",
        alt=f"Line charts of the share of examples still standing against distance. Median {norm} distance:"
        f" {', '.join(values)}.",
        figure=figure,
    )


def pairs(results: Results, summary: Summary) -> Drawing | None:
    names, table = results.losses, summary.pairs
    if len(names) < 2:
        return None
    measure, threat = score(summary.study.task), summary.study.attack
    size = len(names)
    figure = Figure(figsize=(0.66 * size + 1.9, 0.4 * size + 1.3))
    ax = figure.subplots()
    values, marked = np.full((size, size), np.nan), np.zeros((size, size), dtype=bool)
    for found in table.itertuples():
        i, j = names.index(str(found.loss)), names.index(str(found.other))
        values[i, j], values[j, i] = found.difference, -found.difference  # type: ignore[operator]
        marked[i, j] = marked[j, i] = found.beyond_luck
    reach = float(np.nanmax(np.abs(values))) or 1.0
    ax.imshow(measure.good * values, cmap="RdBu", vmin=-1.7 * reach, vmax=1.7 * reach, aspect="auto")
    form = "+.1f" if measure.factor == 100 else "+.3f"
    for (i, j), value in np.ndenumerate(values):
        font: dict[str, Any] = {"weight": "bold"} if marked[i, j] else {"color": "0.35"}
        text = "" if i == j else measure.number(value, form) + "*" * int(marked[i, j])
        ax.text(j, i, text, ha="center", va="center", fontsize=8, **font)
    matrix_axes(ax, names, names)
    points = " in points" if measure.factor == 100 else ""
    beyond = int(table["beyond_luck"].sum())
    return Drawing(
        name="pairwise",
        title="Every loss against every other",
        caption=f"Robust {measure.name} of the row minus that of the column{points}, on the same seeds and examples"
        f" (worst case over attacks at {words.threat(threat.norm, threat.epsilon)}); blue: the row is better."
        f" {attack_words.pairs_tested(summary)}",
        alt=f"Matrix of paired differences of robust {measure.name} between {size} losses; {beyond} of {len(table)}"
        " pairs differ significantly.",
        figure=figure,
    )
