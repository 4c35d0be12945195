"""Independent tasks side by side over the cores, with a progress display for people."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_all(
    task: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    label: str,
    total: float,
    done: Callable[[], float],
    unit: str,
    jobs: int | None = None,
) -> list[Result]:
    """`task` of every item, in as many processes as there are cores; results in the order of the items.

    Args:
        task: a picklable function; a UserError it raises reaches the caller.
        items: its arguments, picklable.
        label: what the display says is being done.
        total: how much there is to do.
        unit: of `total`.
        done: how much of `total` is done by now; called a few times a second.
        jobs: processes; default: the cores.
    """
    from joblib import Parallel, delayed

    with progress(label, total, done, unit):
        return list(Parallel(n_jobs=min(jobs or cores(), len(items)))(delayed(task)(item) for item in items))


@contextmanager
def progress(label: str, total: float, done: Callable[[], float], unit: str) -> Iterator[None]:
    """A bar with rate and time left on stderr while the block runs; nothing where stderr is no terminal."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(f"{unit}  {{task.fields[rate]}}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    stop = threading.Event()
    with Progress(*columns, console=Console(stderr=True)) as display:
        bar = display.add_task(label, total=total, rate="")

        def watch() -> None:
            while not stop.wait(0.25):
                speed = display.tasks[bar].speed
                display.update(bar, completed=done(), rate=f"{speed:.1f}/s" if speed else "")

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
            display.update(bar, completed=total)
        finally:
            stop.set()
            watcher.join()
