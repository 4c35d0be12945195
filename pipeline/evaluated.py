"""The page of `python -m pipeline evaluate`: it holds its figures and asks no other server for anything."""

from __future__ import annotations

import base64
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from inputgrad import files
from inputgrad.robustness import text as table
from inputgrad.robustness.evaluation import Evaluation
from inputgrad.robustness.scores import wilson
from pipeline.report.page import environment

FILE = "evaluation.html"


def write(found: Evaluation, title: str, folder: Path) -> Path:
    """Write the page into the folder of the evaluation; returns its path."""
    attack, task = found.attack, found.task
    facts = {
        "title": title,
        "examples": found.outcomes["example"].nunique(),
        "threat": f"{attack.norm} ε = {attack.epsilon:g}",
        "noun": task.noun,
        "clean": table.score(found, 0.0),
        "robust": table.score(found, attack.epsilon),
        "distance": " ".join(table.distance(found)),
        "trusted": found.trusted,
        "flags": [name for name, check in found.masking.items() if not check["ok"]],
        "checks": found.findings,
        "left": [(name, found.task.written(value)) for name, value in table.left(found)],
        "radii": [(epsilon, table.score(found, epsilon)) for epsilon in attack.radii],
        "gradient": [(name, f"{value:.4g}") for name, value in found.descriptors.mean().items()],
        "notes": found.notes,
        "settings": attack.model_dump(mode="json", exclude_none=True),
        "curve": encoded(curve(found)),
    }
    with files.replacing(folder / FILE) as temporary:
        text = environment(folder).get_template("evaluated.html.jinja").render(facts)
        temporary.write_text(text, encoding="utf-8")
    return folder / FILE


def curve(found: Evaluation) -> Figure:
    """The score against ε; for classes with the 95 % interval over the examples."""
    task, attack = found.task, found.attack
    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    ax = figure.subplots()
    values = [found.robust_at(epsilon) for epsilon in attack.radii]
    if task.has_classes:
        n = found.outcomes["example"].nunique()
        low, high = zip(*(wilson(value, n) for value in values), strict=True)
        ax.fill_between(attack.radii, low, high, alpha=0.2, linewidth=0)
        ax.set_ylim(-0.03, 1.03)
        ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    ax.plot(attack.radii, values, marker="o")
    ax.axvline(attack.epsilon, color="0.5", linestyle=":", linewidth=1)
    ax.set(xlabel=f"ε ({attack.norm})", ylabel=f"{task.noun}, worst case over all attacks")
    return figure


def encoded(figure: Figure) -> str:
    buffer = BytesIO()
    figure.savefig(buffer, format="png", dpi=150, metadata={"Software": None})
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
