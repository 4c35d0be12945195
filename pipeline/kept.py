"""Reports that git keeps: docs/results/STUDY/, each with commit, date and what it was made from; a page over all."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from inputgrad import files, tasks
from inputgrad.errors import UserError
from inputgrad.tasks import Task
from pipeline import layout, store
from pipeline.fingerprint import Origin, closure, code_of, hash_of_file
from pipeline.report import published, words
from pipeline.report.page import environment
from pipeline.report.units import score, times
from pipeline.results import statistics
from pipeline.results.opened import OpenStudy
from pipeline.results.reproduced import count
from pipeline.results.statistics import BASELINE, Estimate, Quantity
from pipeline.study import origins
from pipeline.study.code import modules
from pipeline.study.read import read_study
from pipeline.study.schema import Study

FOLDER = Path("docs/results")
FACTS = "kept.json"
README = Path("README.md")
BEGIN, END = "<!-- results: python -m pipeline keep -->", "<!-- end of results -->"
FIGURES_BEGIN, FIGURES_END = "<!-- figures: python -m pipeline keep -->", "<!-- end of figures -->"
WRITTEN = (":!docs/results", ":!README.md")
"""What this command itself changes, in git's words for "all but"."""
HEADLINE = "digits"
"""The study whose table and figure the README shows."""
Metrics = Mapping[str, Any]
"""What metrics.json of a report holds."""


def keep(study_name: str) -> Path:
    """Copy the report of a study to docs/results/STUDY/; README and index are brought up to all kept reports.

    Raises:
        UserError: the report is not that of the study as it stands, or git has changes that its commit would not name.
    """
    if changed := git("status", "--porcelain", "--untracked-files=no", "--", ".", *WRITTEN):
        raise UserError(f"git has changes that are not committed ({changed.split()[-1]}); fix: commit them, then keep")
    study = read_study(study_name)
    if unknown := git("ls-files", "--others", "--exclude-standard", "--", str(study.file), *own_code(study)):
        raise UserError(f"git does not know {unknown.split()[0]}, which made this report; fix: git add, commit, keep")
    report, target = OpenStudy(study).report(), FOLDER / study.name
    made = datetime.fromtimestamp((report / layout.MANIFEST).stat().st_mtime, UTC)
    facts = {"commit": git("rev-parse", "HEAD"), "date": made.date().isoformat(), "origin": asdict(origin(study))}
    with files.replacing(target) as folder:
        store.copy(report, folder)
        files.write_json(folder / FACTS, facts)
    text = README.read_text(encoding="utf-8") if README.exists() else ""
    new = with_figures(with_results(text) if study.name == HEADLINE else text)
    if new != text:
        with files.replacing(README) as temporary:
            temporary.write_text(new, encoding="utf-8")
    files.write_text(FOLDER / "README.md", overview())
    files.write_text(FOLDER / "index.html", side_by_side())
    return target


def own_code(study: Study) -> list[str]:
    """The files in this folder that make the results of a study."""
    here = Path.cwd()
    found = closure(all_modules(study)).ours.values()
    return [str(file.relative_to(here)) for file in found if file.is_relative_to(here)]


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8")
    if done.returncode:
        raise UserError(f"git {arguments[0]} failed ({' '.join(done.stderr.split())}); fix: keep in a git repository")
    return done.stdout.strip()


def origin(study: Study) -> Origin:
    """All settings, data, code and libraries of a study from its first stage to its report, without any result."""
    code, versions = code_of(*all_modules(study))
    hashes = {str(layout.data(study.name)): hash_of_file(layout.data(study.name))}
    return Origin(settings=origins.settings_of(study), data=hashes, code=code, versions=versions)


def all_modules(study: Study) -> list[str]:
    """With which all stages of a study begin."""
    stages = ("train", "measured", "attack")
    used = {module for loss in study.losses for stage in stages for module in modules(stage, study.parts, loss)}
    return [*sorted(used), *modules("report", study.parts)]


def moved_on(study_name: str) -> str:
    """In what the study as it stands differs from the kept report, in words; empty where it does not."""
    facts = facts_of(study_name)
    now, then = origin(read_study(study_name)), facts["origin"]
    return "" if asdict(now) == then else now.difference(then)


def facts_of(study_name: str) -> dict[str, Any]:
    return dict(store.read_json(FOLDER / study_name / FACTS, f"fix: python -m pipeline keep {study_name}"))


def metrics_of(study_name: str) -> dict[str, Any]:
    return dict(store.read_json(FOLDER / study_name / layout.METRICS, f"fix: python -m pipeline keep {study_name}"))


def there() -> list[str]:
    """The studies whose reports are kept."""
    return sorted(path.name for path in FOLDER.iterdir() if (path / FACTS).exists())


def with_results(text: str) -> str:
    """The README with the table of the kept report of `digits` between its two marks."""
    return between(text, BEGIN, END, table(HEADLINE))


def with_figures(text: str) -> str:
    """The README with how many published figures are reproduced between its two marks; nothing where none is stated."""
    found = [one for figures in all_figures().values() for one in figures]
    if not found and FIGURES_BEGIN not in text:
        return text
    line = (
        f"{published.counted(found)}: [each next to ours](docs/results/README.md#published-figures)." if found else ""
    )
    return between(text, FIGURES_BEGIN, FIGURES_END, line)


def between(text: str, begin: str, end: str, new: str) -> str:
    """A text with something new between two lines that mark the place."""
    before, found, rest = text.partition(begin)
    _, closed, after = rest.partition(end)
    if not found or not closed:
        raise UserError(f"{README}: the lines '{begin}' and '{end}' are missing; fix: put them back")
    return f"{before}{begin}\n{new}\n{end}{after}"


def all_figures() -> dict[str, list[Metrics]]:
    """Of every kept study that states some, its published figures with ours, as its metrics.json has them."""
    found = {name: metrics_of(name).get("figures", []) for name in there()}
    return {name: figures for name, figures in found.items() if figures}


def figures_of_all() -> list[dict[str, str]]:
    """A row for each of them, with the name of its study."""
    found = []
    for name, figures in all_figures().items():
        measure = score(tasks.named(metrics_of(name)["task"]))
        found += [{"study": name, **published.figure_row(one, measure)} for one in figures]
    return found


def figures_table() -> list[str]:
    """The section on published figures of docs/results/README.md; empty where no kept study states one."""
    rows = figures_of_all()
    if not rows:
        return []
    keys = ("metric", "loss", "published", "ours", "word")
    lines = [f"| [{row['study']}]({row['study']}/report.md) | {' | '.join(row[key] for key in keys)} |" for row in rows]
    head = "| study | metric | loss | published | ours | |\n|:---|:---|:---|---:|---:|:---|"
    total = count([row["word"] for row in rows])
    return ["\n".join(["## Published figures\n", f"**{total}**\n", head, *lines, "", published.RULE, ""])]


def table(study_name: str) -> str:
    """Clean and robust score of every loss, with intervals, from metrics.json."""
    metrics, facts = metrics_of(study_name), facts_of(study_name)
    task = tasks.named(metrics["task"])
    unit = f",{task.unit}" if task.unit else ""
    lines = [
        f"| loss | clean {task.noun}{unit} | robust {task.noun}{unit}, ε = {metrics['epsilon']:g} |",
        "|:---|---:|---:|",
    ]
    measure = replace(score(task), unit="")
    for loss, numbers in metrics["losses"].items():
        found = [Estimate(**numbers[f"{kind}_{task.key}"]) for kind in ("clean", "robust")]
        cells = (f"{measure.value(one)} {measure.interval(one)}".strip() for one in found)
        lines.append(" | ".join([f"| `{loss}`", *cells]) + " |")
    n = next(iter(metrics["losses"].values()))[f"clean_{task.key}"]["n"]
    source = f"[report](docs/results/{study_name}/report.md)"
    said = f"Means with 95 % intervals over {n} seeds" if n > 1 else "One seed, no intervals"
    lines.append(f"\n{said}; {source} of {facts['date']}, commit {facts['commit'][:7]}.")
    return "\n".join(lines)


def side_by_side() -> str:
    """docs/results/index.html: all kept studies on one page, those with most losses first."""
    found = {
        name: Kept(metrics=metrics_of(name), facts=facts_of(name), pairs=pd.read_csv(FOLDER / name / "pairwise.csv"))
        for name in there()
    }
    return page(dict(sorted(found.items(), key=lambda one: -len(one[1].metrics["losses"]))), figures_of_all())


def overview() -> str:
    """docs/results/README.md: the tables of all kept studies."""
    parts = [
        "# Results\n\nWritten by `python -m pipeline keep`; each report is also a page, `report.html`, and `index.html`"
        " holds all studies side by side.\n",
        *figures_table(),
    ]
    for name in there():
        here = table(name).replace(f"docs/results/{name}/", f"{name}/")
        parts.append(f"## [{name}]({name}/report.md)\n\n{here}\n")
    return "\n".join(parts)


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


def page(kept: Mapping[str, Kept], figures: list[dict[str, str]]) -> str:
    """The page, from every kept report by the name of its study, and the published figures of all."""
    names = dict.fromkeys(loss for one in kept.values() for loss in one.metrics["losses"])
    facts = {
        "studies": [head(one) for one in kept.values()],
        "reproduced": figures,
        "count": count([row["word"] for row in figures]),
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
