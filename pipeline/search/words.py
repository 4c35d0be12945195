"""What `python -m pipeline search` says: what it will do, and what it found."""

from __future__ import annotations

import math

from pipeline.search import space
from pipeline.search.display import score
from pipeline.search.record import Record, facts, knobs
from pipeline.search.task import SearchTask
from pipeline.search.trials import slot
from pipeline.study.parts import listed
from pipeline.tracking.address import shown


def introduce(task: SearchTask, record: Record) -> None:
    study, epochs = task.study, task.run.epochs
    drop, noun = study.search.max_clean_drop, study.task.noun
    judged = f"robust validation {noun} under {listed(task.judges)}, {study.attack.norm} ε = {study.attack.epsilon:g}"
    if task.objective == "robust":
        judged += (
            f"; clean validation {noun} at most {drop:g} {'below' if task.higher_is_better else 'above'} standard's"
        )
    else:
        judged = f"clean and {judged}, together"
    lines = [
        f"search {task.name}: {'; '.join(space.described(name, r) for name, r in task.space.items())}",
        f"judged by: {judged}",
        f"budget: {task.trials} trials of {epochs} epochs = {task.trials * epochs} epochs, the same for every loss;"
        f" trials train with seed {task.run.seed}, which no reported run has",
        f"trials are kept in {shown(task.storage)}",
    ]
    if record.finished:
        lines.append(f"{len(record.finished)} trials are there already")
    print("\n".join(lines), flush=True)


def conclusion(record: Record) -> str:
    task, done = record.task, len(record.finished)
    pruned = f", {record.pruned} pruned" if record.pruned else ""
    said = f"{done} of {task.trials} trials{pruned}, {record.epochs_used} of {task.trials * task.run.epochs} epochs"
    if record.best is None or record.standard is None:
        return f"{said}; no trial meets the constraint yet"
    values = ", ".join(f"{name} {value:g}" for name, value in knobs(record.best).items())
    found = {name: score(record, facts(record.best)[name]) for name in ("clean", "robust")}
    base = {name: score(record, value) for name, value in record.standard.items()}
    edges = record.at_edge(record.best)
    beyond = f"; {' and '.join(edges)} at an end of the range: better may lie beyond" if edges else ""
    return (
        f"{said}; best: trial {slot(record.best)}, {values}: robust {found['robust']} (standard {base['robust']}),"
        f" clean {found['clean']} (standard {base['clean']}){beyond}"
    )


def impossible(record: Record) -> str:
    """Why there is nothing to apply, and what would help."""
    task = record.task
    if not record.complete or record.limit is None:
        return f"{task.name}: no trial came to its end; narrow search.ranges in {task.study.file}"
    better = max if task.higher_is_better else min
    closest = better(float(facts(trial)["clean"]) for trial in record.complete)
    drop = task.shortfall(closest, record.limit) + task.study.search.max_clean_drop
    return (
        f"{task.name}: 0 of {len(record.complete)} complete trials meet the constraint (clean score"
        f" {score(record, record.limit)}, the best has {score(record, closest)}); raise search.max_clean_drop in"
        f" {task.study.file} to {math.ceil(1000 * drop) / 1000:g} or more, or narrow search.ranges"
    )
