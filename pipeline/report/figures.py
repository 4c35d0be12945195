"""Every figure of the report. A new one is a function (Results, Summary) -> Drawing, listed in `ALL`.

None is the drawing of what a study does not have.
"""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pipeline.report import attack_words, pictures, units, words
from pipeline.report.attack_figures import pairs, survival, waterfall
from pipeline.report.style import Drawing, curves, legend, reach, report_style, score_axis, styles
from pipeline.report.units import score
from pipeline.results.read import Results
from pipeline.results.robustness import WORST, on_all_examples
from pipeline.results.statistics import BASELINE, intervals
from pipeline.results.summary import Summary

COVERED = f"A line that runs inside the broad black one is the same as `{BASELINE}`."


def draw(results: Results, summary: Summary, folder: Path) -> list[Drawing]:
    """Draw all figures into `folder` as PNG files without dates or versions."""
    folder.mkdir()
    with report_style():
        drawings = [drawing for function in ALL if (drawing := function(results, summary)) is not None]
        for drawing in drawings:
            save(drawing.figure, folder / f"{drawing.name}.png")
    return drawings


def save(figure: Figure, file: Path) -> None:
    """Write a PNG of 256 colours, a third of the size: the page holds every figure, and git keeps some pages."""
    from PIL.Image import Dither
    from PIL.Image import open as open_image

    buffer = BytesIO()
    figure.savefig(buffer, format="png")
    with open_image(buffer) as image:
        image.convert("RGB").quantize(256, dither=Dither.NONE).save(file, optimize=True)


def score_curves(results: Results, summary: Summary) -> Drawing:
    threats = results.study.attack.threat_models
    figure = Figure(figsize=(4.4 * len(threats), 4))
    axes = figure.subplots(1, len(threats), squeeze=False)[0]
    for ax, threat in zip(axes, threats, strict=True):
        worst = results.scores[results.scores["attack"] == WORST]
        score_panel(ax, worst, threat, results)
        ax.set_title(f"{threat.norm}, worst case over attacks")
    legend(figure, results.losses)
    named = score(results.study.task)
    first = threats[0]
    values = [f"{row.name} {named.value(row.robust[0].value)}" for row in summary.rows]
    return Drawing(
        name="score_against_epsilon",
        title=f"Robust {named.name} against ε",
        caption=f"Per example the worst of all attacks; mean over seeds and 95 % interval, {words.seeds(summary.rows)},"
        f" {attack_words.examples(summary)}. {attack_words.attacks_run(results.study)} The dotted line is the study's"
        " ε. Look for a curve that lies apart from the broad black one, and at its start: what is lost without an"
        f" attack. {COVERED}",
        alt=f"Line chart of robust {named.name} against ε."
        f" At {words.threat(first.norm, first.epsilon)}: {', '.join(values)}.",
        figure=figure,
    )


def each_attack(results: Results, summary: Summary) -> Drawing:
    threats, names = results.study.attack.threat_models, on_all_examples(results.study)
    shape = len(threats), len(names)
    figure = Figure(figsize=(3.2 * shape[1] + 0.6, 2.9 * shape[0] + 0.6))
    panels = figure.subplots(*shape, squeeze=False, sharey=True)
    for row, threat in zip(panels, threats, strict=True):
        for ax, name in zip(row, names, strict=True):
            score_panel(ax, results.scores[results.scores["attack"] == name], threat, results)
            ax.set_title(f"{threat.norm}, {name}")
            if ax is not row[0]:
                ax.set_ylabel("")
    legend(figure, results.losses)
    named = score(results.study.task)
    return Drawing(
        name="score_by_attack",
        title="Each attack alone",
        caption="Those that see every example at every ε: mean over seeds and 95 % interval,"
        f" {words.seeds(summary.rows)}, {attack_words.examples(summary)}. A stronger attack lies on the harmful side of"
        " a weaker one; where it does not, it failed.",
        alt=f"Line charts of {named.name} against ε, one panel for each of {', '.join(names)} in each norm.",
        figure=figure,
    )


def score_panel(ax: Axes, scores: pd.DataFrame, threat: Any, results: Results) -> None:
    inside = scores[(scores["norm"] == threat.norm) & scores["epsilon"].isin([0.0, *threat.radii])]
    limits = results.study.task.limits
    table = intervals(inside.sort_values("epsilon"), ["loss", "epsilon"], "score", limits)
    ax.axvline(threat.epsilon, color="0.5", linestyle=":", linewidth=1)
    curves(ax, table, "epsilon", results.losses, marks=True)
    ax.set_xlabel(f"ε ({threat.norm}, {units.inputs(results.dataset)})")
    score_axis(ax.yaxis, results)
    if limits:
        ax.set_ylim(limits[0] - 0.03, limits[1] + 0.03)


def training_curves(results: Results, summary: Summary) -> Drawing:
    figure = Figure(figsize=(7.4, 8))
    panels = figure.subplots(3, 1, sharex=True)
    columns = ("validation_score", "input_gradient_norm", "term_gradient_ratio")
    for ax, column in zip(panels, columns, strict=True):
        curves(ax, intervals(results.history, ["loss", "epoch"], column), "epoch", results.losses)
    score_axis(panels[0].yaxis, results)
    named = score(results.study.task).name
    panels[0].set_title(f"validation {named}")
    panels[0].set_ylim(*settled(results.history))
    panels[1].set(title="mean norm of the input gradient, validation split", ylabel="mean ‖g‖₂")
    panels[2].set(title="how strongly the term pulls at the parameters", ylabel="‖λ·∇term‖ / ‖c·∇task‖", xlabel="epoch")
    legend(figure, results.losses)
    pulls = ", ".join(f"{row.name} {row.pull.mean:.2g}" for row in summary.rows)
    return Drawing(
        name="training_curves",
        title="Training",
        caption=f"Mean over seeds and 95 % interval, {words.seeds(summary.rows)}; the first epochs may start outside"
        " the top panel. The bottom panel compares the term's gradient with the task's: a term that stays at 0 never"
        f" reaches a parameter, whatever its printed value does. {COVERED}",
        alt=f"Line charts over epochs of validation {named}, input-gradient norm and gradient ratio."
        f" Mean gradient ratio: {pulls}.",
        figure=figure,
    )


def trade_off(results: Results, summary: Summary) -> Drawing:
    figure = Figure(figsize=(6.4, 4.6))
    ax = figure.subplots()
    for name, style in styles(results.losses).items():
        row = next(r for r in summary.rows if r.name == name)
        clean, robust = row.clean.value, row.robust[0].value
        ax.errorbar(clean.mean, robust.mean, xerr=reach(clean), yerr=reach(robust), elinewidth=1.2, **style.point)
    named, attack = score(results.study.task), results.study.attack
    score_axis(ax.xaxis, results, "clean ")
    score_axis(ax.yaxis, results, "robust ")
    ax.set_title(words.threat(attack.norm, attack.epsilon))
    legend(figure, results.losses, points=True)
    corner = "upper right" if named.good > 0 else "lower left"
    return Drawing(
        name="clean_against_robust",
        title=f"Clean against robust {named.name}",
        caption=f"Mean over seeds and 95 % interval on both axes, {words.seeds(summary.rows)},"
        f" {attack_words.examples(summary)}. The best place is the"
        f" {corner} corner; a point inside the black ring is the same as `{BASELINE}`.",
        alt=f"Scatter plot of clean and robust {named.name}: "
        + ", ".join(f"{r.name} {named.value(r.clean.value)} and {named.value(r.robust[0].value)}" for r in summary.rows)
        + ".",
        figure=figure,
    )


def gradient_panel(results: Results, summary: Summary) -> Drawing:
    figure, how = pictures.panel(results)
    return Drawing(
        name="input_gradients",
        title="Input gradients of the same test examples",
        caption=f"The gradient of the task loss with respect to the input, trained with seed {results.shown_seed}"
        f" (n = 1 run of each loss). {how}",
        alt=f"Grid of pictures: the inputs of {len(results.pictures[BASELINE]['x'])} test examples, and their input"
        f" gradients under {', '.join(results.losses)}.",
        figure=figure,
    )


def settled(history: pd.DataFrame) -> tuple[float, float]:
    """Limits that show where the training ends: the range after the first tenth of the epochs, with a margin."""
    late = history.loc[history["epoch"] > history["epoch"].max() / 10, "validation_score"]
    margin = 0.05 * (late.max() - late.min()) or 0.01
    return late.min() - margin, late.max() + margin


ALL: tuple[Callable[[Results, Summary], Drawing | None], ...] = (
    score_curves,
    trade_off,
    pairs,
    waterfall,
    survival,
    gradient_panel,
    training_curves,
    each_attack,
)
