"""Results and figures -> report.html and report.md."""

from __future__ import annotations

import base64
import re
from io import StringIO
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from ruamel.yaml import YAML

from pipeline import data, layout
from pipeline.report import attack_words, published, searches, tables, units, words
from pipeline.report.figures import draw
from pipeline.report.units import score
from pipeline.results.read import Results
from pipeline.results.statistics import BASELINE
from pipeline.results.summary import Summary


def write(results: Results, summary: Summary, folder: Path) -> None:
    """Write figures/, report.html (which holds the figures) and report.md (which points at them) into `folder`."""
    drawings = draw(results, summary, folder / "figures")
    facts = context(results, summary) | {"figures": drawings}
    for name in (layout.PAGE, "report.md"):
        text = environment(folder).get_template(f"{name}.j2").render(facts)
        (folder / name).write_text(text, encoding="utf-8")


def environment(folder: Path) -> Environment:
    """Jinja with the filters of the templates; a name that a template misspells is an error."""
    made = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=lambda name: bool(name) and ".html" in str(name),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters["code"] = code
    made.filters["data_uri"] = lambda name: data_uri(folder / "figures" / f"{name}.png")
    return made


def context(results: Results, summary: Summary) -> dict[str, Any]:
    """Everything that the templates say, as text. A new section starts with its words here."""
    study, measure = summary.study, score(summary.study.task)
    input_unit = units.inputs(results.dataset)
    target_unit = "" if study.task.unit else units.targets(results.dataset)
    ordered = [summary.baseline, *summary.others]
    search = searches.section(study, results.losses)
    return {
        "study": study,
        "question": words.QUESTION,
        "answer": words.answer(summary),
        "measure": measure,
        "masking": tables.masking_table(summary),
        "descriptors": tables.descriptor_table(summary),
        "measures": tables.measure_table(summary),
        "waterfall": tables.waterfall_tables(results, summary),
        "same": same(summary),
        "timed": timed(summary),
        "untimed": untimed(summary),
        "seeds": words.seeds(summary.rows),
        "counted": f"{words.seeds(summary.rows)} seeds, {attack_words.examples(summary)}",
        "norms": list(summary.baseline.distances),
        "threats": [words.threat(threat.norm, threat.epsilon) for threat in study.attack.threat_models],
        "rule": published.RULE,
        "rows": [tables.table_row(row, measure) for row in ordered],
        "about": [words.about(row, summary) for row in summary.others],
        "collapsed": words.collapsed(summary),
        "collapse_rule": words.collapse_rule(study),
        "comparisons": words.comparisons(summary),
        "reading": attack_words.reading(summary, input_unit, target_unit),
        "baseline": BASELINE,
        "void": words.VOID,
        "right": words.RIGHT,
        "settings": settings(summary),
        "search": search,
        "published": published.published_section(summary, measure),
        "reproduced": published.figures_section([one.metrics() for one in summary.reproduced], measure),
        "checkpoints": tables.given_nets_section(results, measure),
        "iterations": tables.iteration_tables(results, summary),
        "limits": attack_words.limitations(summary, search is not None, data.repeated(results.dataset)),
        "source": attack_words.data_source(summary),
    }


def same(summary: Summary) -> set[str]:
    """Counts that stand below the tables once, since every row has them."""
    seeds = {row.clean.value.n for row in summary.rows}
    steps = {row.cost["n"] for row in summary.rows}
    return {f"n = {only:g}" for counts in (seeds, steps) if len(counts) == 1 and (only := max(counts)) > 1}


def timed(summary: Summary) -> str:
    steps = {row.cost["n"] for row in summary.rows}
    return f", {max(steps):g} steps timed" if len(steps) == 1 else ""


def untimed(summary: Summary) -> str:
    """Which times are left out, and how they are measured again."""
    names = [row.name for row in summary.others if row.cost["ratio"] is None]
    if not names:
        return ""
    study = summary.study.name
    again = " ".join(f"train@{study}-{name}" for name in names)
    return (
        f"Time per step not measured for {', '.join(f'`{name}`' for name in names)}: the machine was too busy; fix:"
        f" `dvc repro -f {again} && dvc repro report@{study}`"
    )


def settings(summary: Summary) -> str:
    """The study as YAML, with every default filled in, and the reported losses only."""
    study = summary.study
    dumped = study.model_dump(mode="json", include={"data", "model", "training", "attack"})
    dumped["losses"] = {row.name: study.stated(row.name) for row in summary.rows}
    yaml = YAML(typ="safe")
    yaml.default_flow_style, yaml.width = None, 200
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    yaml.dump({key: dumped[key] for key in ("data", "model", "training", "losses", "attack")}, text)
    return text.getvalue()


def code(text: str) -> Markup:
    """Escaped text with `names` as code."""
    return Markup(re.sub(r"`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def data_uri(file: Path) -> str:
    return f"data:image/png;base64,{base64.b64encode(file.read_bytes()).decode()}"
