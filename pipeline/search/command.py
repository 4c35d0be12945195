"""`python -m pipeline search`: says what it will do, does it, says what it found."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from optuna.study import Study as OptunaStudy

from inputgrad.errors import UserError
from pipeline import data
from pipeline.search.apply import apply, line
from pipeline.search.display import display
from pipeline.search.figures import draw
from pipeline.search.loop import Loop
from pipeline.search.record import Record, knobs
from pipeline.search.sampler import SEEDS
from pipeline.search.storage import opened
from pipeline.search.task import SearchTask
from pipeline.search.trials import slot
from pipeline.search.words import conclusion, impossible, introduce
from pipeline.stages import before, runner
from pipeline.stages.runner import check_device
from pipeline.study.read import read_study
from pipeline.tracking.search import following
from pipeline.workers import Engine
from pipeline.workers.local import Workers

WRITE = 3.0
"""Seconds between two writings of the files while a search runs."""


def tasks(
    study_name: str, loss: str | None, everything: bool, trials: int | None, seed: int = 0, **options: object
) -> list[SearchTask]:
    """The searches that a command asks for, all of them with the same budget."""
    study = read_study(study_name)
    if (loss is None) != everything:
        raise UserError("give a loss or --all: python -m pipeline search STUDY LOSS, or: search STUDY --all")
    names = [name for name in study.losses if type(study.losses[name]).search] if loss is None else [loss]
    count = study.search.trials if trials is None else trials
    if count < 1:
        raise UserError(f"--trials {count}: a search needs at least one trial")
    if not 0 <= seed < SEEDS:
        raise UserError(f"--seed {seed}: no seed of a sampler; fix: a whole number from 0 to {SEEDS - 1}")
    found = [SearchTask(study=study, loss=name, trials=count, seed=seed, **options) for name in names]  # type: ignore[arg-type]
    for task in found:
        _ = task.space  # what is missing is said before anything runs
    if not data.path(study_name).exists():
        runner.prepare(study_name)
    before.check(study)
    for task in found:
        _ = task.settings
    return found


def run(task: SearchTask, workers: Workers, writes: bool = False) -> Record:
    """Search one loss to its end and say what was found; `writes` puts it into the study.

    Raises:
        UserError: the search cannot run, or no trial meets the constraint.
        KeyboardInterrupt: after the best so far was said; the same command continues.
    """
    with opened(task) as study:
        introduce(task, Record.of(task, study))
        try:
            conduct(Loop(task, study, workers))
        except KeyboardInterrupt:
            print(f"\nstopped; {conclusion(Record.of(task, study))}", flush=True)
            raise
        record = Record.of(task, study)
        print(conclusion(record))
    if record.best is None:
        raise UserError(impossible(record))
    back_into_the_study(record, writes)
    return record


def conduct(loop: Loop) -> None:
    """Run the loop, show how far it is, and leave the files up to date however it ends."""
    task, study = loop.task, loop.study
    first = Record.of(task, study)
    with following(task.folder), keeping_files(task, study), display(first) as shown:
        written = time.monotonic()

        def show() -> None:
            nonlocal written
            record = Record.of(task, study)
            shown(record)
            if record.finished and time.monotonic() - written > WRITE:
                record.write()
                written = time.monotonic()

        loop.run(show)
        show()


@contextmanager
def keeping_files(task: SearchTask, study: OptunaStudy) -> Iterator[None]:
    """At the end, however it comes, the files say what is known."""
    try:
        yield
    finally:
        record = Record.of(task, study)
        if record.finished:
            record.write()
            draw(record)


def back_into_the_study(record: Record, writes: bool) -> None:
    task, best = record.task, record.best
    assert best is not None
    comment = f"search: trial {slot(best)} of {task.trials}"
    if writes:
        apply(task.study.file, task.loss, knobs(best), comment)
        print(f"written into {task.study.file}; next: dvc repro report@{task.study.name}")
    else:
        print(f"for {task.study.file} (--apply writes it): {line(task.study.file, task.loss, knobs(best), comment)}")


def search(
    study: str,
    loss: str | None,
    everything: bool,
    writes: bool,
    trials: int | None,
    engine: Engine | None = None,
    **options: object,
) -> None:
    """Every search that was asked for, one after the other; one that finds nothing does not stop the next."""
    engine = engine or Engine()
    if engine.jobs is not None and engine.jobs < 1:
        raise UserError(f"--workers {engine.jobs}: a search needs at least one")
    engine.check()
    asked = tasks(study, loss, everything, trials, **options)  # type: ignore[arg-type]
    for task in asked:
        check_device(task.run, engine)
    failures = []
    # workers first: a process that has threads of its own must not be forked any more
    with engine.open() as workers:
        for task in asked:
            # an earlier --apply of this command has changed the file, not what this loss is searched with
            try:
                run(replace(task), workers, writes)
            except UserError as error:
                if len(asked) == 1:
                    raise
                failures.append(str(error))
                print(f"not found: {error}", file=sys.stderr)
    if failures:
        raise UserError(f"{len(failures)} of {len(asked)} searches found nothing to apply; their lines are above")
