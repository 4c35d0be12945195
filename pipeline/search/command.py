"""`python -m pipeline search`: says what it will do, does it, says what it found."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from inputgrad.errors import UserError
from pipeline import data, store
from pipeline.search import space
from pipeline.search.apply import apply, line
from pipeline.search.crew import Crew
from pipeline.search.display import display, score
from pipeline.search.figures import draw
from pipeline.search.fleet import Fleet
from pipeline.search.record import Record, facts, knobs
from pipeline.search.storage import open_study, said_plainly
from pipeline.search.task import SearchTask
from pipeline.stages import commands
from pipeline.study.read import read_study
from pipeline.tracking.address import shown
from pipeline.tracking.search import following
from pipeline.workers import Engine
from pipeline.workers.local import cores

WRITE = 3.0
"""Seconds between two writings of the files while a search runs."""


def tasks(
    study_name: str, loss: str | None, everything: bool, trials: int | None, **options: object
) -> list[SearchTask]:
    """The searches that a command asks for, all of them with the same budget.

    Raises:
        UserError: no loss, an unknown one, one without a strength, or no trials.
    """
    study = read_study(study_name)
    if (loss is None) != everything:
        raise UserError("give a loss or --all: python -m pipeline search STUDY LOSS, or: search STUDY --all")
    names = [name for name in study.losses if type(study.losses[name]).search] if loss is None else [loss]
    count = study.search.trials if trials is None else trials
    if count < 1:
        raise UserError(f"--trials {count}: a search needs at least one trial")
    found = [SearchTask(study=study, loss=name, trials=count, **options) for name in names]  # type: ignore[arg-type]
    for task in found:
        _ = task.space  # what is missing is said before anything runs
    if not data.path(study_name).exists():
        commands.prepare(study_name)
    for task in found:
        _ = task.settings
    return found


def run(task: SearchTask, workers: int | None, writes: bool = False, engine: Engine | None = None) -> Record:
    """Search one loss to its end and say what was found; `writes` puts it into the study.

    Raises:
        UserError: the search cannot run, or no trial meets the constraint.
        KeyboardInterrupt: after the best so far was said; the same command continues.
    """
    engine = engine or Engine()
    workers = workers or cores()
    if task.storage.startswith("sqlite") and workers > 1:
        raise UserError("sqlite does not stand several workers; leave --storage out (a journal file), or: --workers 1")
    study = open_study(task)
    crew = Crew(task, study) if engine.name == "local" else Fleet(task, study, engine)
    with said_plainly(task.storage):
        introduce(task, Record.of(task, study))
        try:
            conduct(crew, workers)
        except KeyboardInterrupt:
            print(f"\nstopped; {conclusion(Record.of(task, study))}")
            raise
        record = Record.of(task, study)
    print(conclusion(record))
    if record.best is None:
        raise UserError(impossible(record))
    back_into_the_study(record, writes)
    return record


def conduct(crew: Crew | Fleet, workers: int) -> None:
    """Let the workers work, show how far they are, and leave the files up to date however it ends."""
    task, study = crew.task, crew.study
    first = Record.of(task, study)
    missing = task.trials - len(first.finished)
    crew.start(min(workers, missing))  # may fork: no thread has been started yet
    with following(task.folder), keeping_files(crew), display(first) as show:
        written = time.monotonic()

        def glance() -> None:
            nonlocal written
            record = Record.of(task, study)
            show(record)
            if record.finished and time.monotonic() - written > WRITE:
                record.write()
                written = time.monotonic()

        crew.watch(glance)
        show(Record.of(task, study))


@contextmanager
def keeping_files(crew: Crew | Fleet) -> Iterator[None]:
    """At the end, however it comes: no worker is left, and the files say what is known."""
    try:
        yield
    finally:
        crew.end()
        record = Record.of(crew.task, crew.study)
        if record.finished:
            with store.locked(crew.task.state):  # another command may be at the same search
                record.write()
                draw(record)


def introduce(task: SearchTask, record: Record) -> None:
    """What is searched, how it is judged, with which budget, and where the trials are kept."""
    study, epochs = task.study, task.run.epochs
    drop, noun = study.search.max_clean_drop, "accuracy" if task.higher_is_better else "RMSE"
    judged = (
        f"robust validation {noun} under {space.listed(task.judges)}, {study.attack.norm} ε = {study.attack.epsilon:g}"
    )
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
    """What the finished trials say."""
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
        f"{said}; best: trial {record.best.number}, {values}: robust {found['robust']} (standard {base['robust']}),"
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


def back_into_the_study(record: Record, writes: bool) -> None:
    """Write the best knobs into the study, or print the line."""
    task, best = record.task, record.best
    assert best is not None
    comment = f"search: trial {best.number} of {task.trials}"
    if writes:
        apply(task.study.file, task.loss, knobs(best), comment)
        print(f"written into {task.study.file}; next: dvc repro report@{task.study.name}")
    else:
        print(f"for {task.study.file} (--apply writes it): {line(task.study.file, task.loss, knobs(best), comment)}")


def search(
    study: str,
    loss: str | None,
    everything: bool,
    workers: int | None,
    writes: bool,
    trials: int | None,
    engine: Engine | None = None,
    **options: object,
) -> None:
    """Every search that was asked for, one after the other; one that finds nothing does not stop the next."""
    asked = tasks(study, loss, everything, trials, **options)
    if workers is not None and workers < 1:
        raise UserError(f"--workers {workers}: a search needs at least one")
    engine = engine or Engine()
    engine.check()
    failures = []
    for task in asked:
        Fleet.check_storage(task, engine)
    for task in asked:
        # an earlier --apply of this command has changed the file, not what this loss is searched with
        try:
            run(replace(task), workers, writes, engine)
        except UserError as error:
            if len(asked) == 1:
                raise
            failures.append(str(error))
            print(f"not found: {error}", file=sys.stderr)
    if failures:
        raise UserError(f"{len(failures)} of {len(asked)} searches found nothing to apply; their lines are above")
