"""The progress of a search on stderr: best so far, share of pruned trials, rate and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from pipeline.search.record import Record, facts
from pipeline.search.trials import slot


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
    return f"best {score(record, facts(record.best)['robust'])} (trial {slot(record.best)})"


def score(record: Record, value: float) -> str:
    task = record.task.study.task
    return f"{task.factor * value:.{task.decimals}f}{task.unit}"


def duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
