"""What a reader must not conclude from the report: written from the study, so that it changes with it."""

from __future__ import annotations

import inspect

from pipeline.report.attack_words import STANDARD, examples, named
from pipeline.results.summary import Summary


def limitations(summary: Summary, searched: bool) -> list[str]:
    """A sentence each."""
    study, attack = summary.study, summary.study.attack
    seeds = len(study.training.seeds)
    said = [
        f"One data set, one split, one net (`{study.model['name']}`) and {study.training.epochs} epochs: on others the"
        " losses may stand in another order.",
        f"Intervals over {seeds} seeds say what another training would change, not what other test examples would;"
        f" {examples(summary)} were attacked.",
        "A robust score is an upper bound: a stronger attack may find more. Nothing here is certified.",
    ]
    missing = [name for name in STANDARD if name not in attack.at_epsilon and name not in attack.attacks]
    if study.task.has_classes and missing:
        said.append(f"Of the standard ensemble {named(missing)} did not run.")
    if not searched:
        said.append("No search of strengths belongs to this report: another strength may serve a loss better.")
    return said


def data_source(summary: Summary) -> str:
    """What the data set's own file says of it in its first line: origin and licence."""
    return (inspect.getdoc(summary.study.data_module) or "").partition("\n")[0]
