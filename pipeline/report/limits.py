"""What a reader must not conclude from the report: written from the study, so that it changes with it."""

from __future__ import annotations

import inspect

from pipeline.report.attack_words import changed, examples, missing, named
from pipeline.results.summary import Summary


def limitations(summary: Summary, searched: bool, repeated: int = 0) -> list[str]:
    """A sentence each."""
    study, seeds = summary.study, len(summary.study.training.seeds)
    said = [
        f"One data set, one split, one net (`{study.model['name']}`) and {study.training.epochs} epochs: on others the"
        " losses may stand in another order.",
        f"{of_seeds(seeds)}; {examples(summary)} were attacked.",
        "A robust score is an upper bound: a stronger attack may find more. Nothing here is certified.",
    ]
    if study.task.has_classes and (absent := missing(study)):
        said.append(f"Of the standard ensemble {named(absent)} did not run.")
    if study.task.has_classes and (other := changed(study)):
        said.append(f"Of the standard ensemble {named(other)} ran with other settings than the standard's.")
    if repeated:
        said.append(
            f"{repeated} of the {summary.available} examples of the test split have the same input as one of the"
            " training split: there a score says what was learnt by heart, and nothing about new data."
        )
    if not searched:
        said.append("No search of strengths belongs to this report: another strength may serve a loss better.")
    return said


def of_seeds(seeds: int) -> str:
    if seeds == 1:
        return "One seed has no interval: another training may order the losses otherwise, as may other test examples"
    return f"Intervals over {seeds} seeds say what another training would change, not what other test examples would"


def data_source(summary: Summary) -> str:
    """What the data set's own file says of it in its first line: origin and licence."""
    return (inspect.getdoc(summary.study.data_module) or "").partition("\n")[0]
