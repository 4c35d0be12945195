"""`python -m pipeline search`: says what it will do, does it, says what it found."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

from optuna.study import Study as OptunaStudy

from inputgrad.errors import UserError
from pipeline import layout
from pipeline.search import space
from pipeline.search.apply import apply, line
from pipeline.search.figures import draw
from pipeline.search.loop import Loop, slot
from pipeline.search.record import Record, facts, knobs
from pipeline.search.storage import GONE, SEEDS, opened
from pipeline.search.task import SearchTask
from pipeline.stages import before, runner
from pipeline.stages.runner import check_device
from pipeline.study.checks import listed
from pipeline.study.read import read_study
from pipeline.tracking.search import following
from pipeline.tracking.server import shown
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
    if not layout.data(study_name).exists():
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
        conduct(Loop(task, study, workers))
        record = Record.of(task, study)
        print(conclusion(record))
    if record.best is None:
        raise UserError(impossible(record))
    back_into_the_study(record, writes)
    return record


def conduct(loop: Loop) -> None:
    """Run the loop, show how far it is, and leave the files up to date however it ends.

    What is stopped says the best so far at once: pictures and MLflow take seconds more, and may be cut off.
    """
    task, study = loop.task, loop.study
    with following(task.folder), keeping_files(task, study):
        try:
            with display(Record.of(task, study)) as shown:
                show = showing(task, study, shown)
                loop.run(show)
                show()
        except KeyboardInterrupt:
            print(f"\nstopped; {conclusion(Record.of(task, study))}", flush=True)
            raise


def showing(task: SearchTask, study: OptunaStudy, shown: Callable[[Record], None]) -> Callable[[], None]:
    """Show how far a search is, and write its files now and then."""
    written = time.monotonic()

    def show() -> None:
        nonlocal written
        record = Record.of(task, study)
        shown(record)
        if record.finished and time.monotonic() - written > WRITE:
            record.write()
            written = time.monotonic()

    return show


@contextmanager
def keeping_files(task: SearchTask, study: OptunaStudy) -> Iterator[None]:
    """At the end, however it comes, the files say what is known, unless the storage does not answer any more."""
    reached = True
    try:
        yield
    except GONE:
        reached = False
        raise
    finally:
        if reached and (record := Record.of(task, study)).finished:
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


@contextmanager
def display(first: Record) -> Iterator[Callable[[Record], None]]:
    """A function that shows a record while the block runs; it does nothing where stderr is no terminal.

    Args:
        first: what was known before, which is not this command's speed.
    """
    if not sys.stderr.isatty():
        yield lambda record: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("search {task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
    )
    start, before = time.monotonic(), len(first.finished)
    # drawn by the caller's looks: a thread of its own would be in the way of starting processes
    with Progress(*columns, console=Console(stderr=True), auto_refresh=False) as shown:
        bar = shown.add_task(f"{first.task.study.name} {first.task.loss}", total=first.task.trials, words="")

        def show(record: Record) -> None:
            done = len(record.finished)
            shown.update(bar, completed=done, words=words(record, done - before, time.monotonic() - start))
            shown.refresh()

        show(first)
        yield show


def words(record: Record, done: int, seconds: float) -> str:
    """Such as: best 62.2 % (trial 17) · 43 % pruned · 4.1/min · 3 min left"""
    parts = [best(record)]
    if record.finished:
        parts.append(f"{record.pruned / len(record.finished):.0%} pruned")
    if done:
        left = (record.task.trials - len(record.finished)) * seconds / done
        parts += [f"{60 * done / seconds:.1f}/min", f"{duration(left)} left"]
    return " · ".join(parts)


def best(record: Record) -> str:
    if record.best is None:
        return "no trial meets the constraint yet"
    return f"best {record.task.study.task.written(facts(record.best)['robust'])} (trial {slot(record.best)})"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


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
    written = record.task.study.task.written
    found = {name: written(facts(record.best)[name]) for name in ("clean", "robust")}
    base = {name: written(value) for name, value in record.standard.items()}
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
    written, better = task.study.task.written, max if task.higher_is_better else min
    closest = better(float(facts(trial)["clean"]) for trial in record.complete)
    drop = task.shortfall(closest, record.limit) + task.study.search.max_clean_drop
    return (
        f"{task.name}: 0 of {len(record.complete)} complete trials meet the constraint (clean score"
        f" {written(record.limit)}, the best has {written(closest)}); raise search.max_clean_drop in"
        f" {task.study.file} to {math.ceil(1000 * drop) / 1000:g} or more, or narrow search.ranges"
    )
