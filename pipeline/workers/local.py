"""Independent tasks side by side over the cores, with a progress display for people."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Protocol, TypeVar

from inputgrad.errors import UserError

Item = TypeVar("Item")
Result = TypeVar("Result")

fresh = False
"""True in a command's own process, which has run nothing of torch: it may be forked, and the workers share its imports.

A process that has used autograd or a GPU must not be forked; its workers are started afresh.
"""


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Workers(Protocol):
    """Processes, here or on other machines, that take a list of tasks."""

    def __call__(self, task: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        """`task` of every item, results in the order of the items.

        A UserError that a task raises reaches the caller, and the other tasks are stopped.
        """


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
        task: a picklable function; a UserError it raises reaches the caller, and the other tasks are stopped.
        items: its arguments, picklable.
        label: what the display says is being done.
        total: how much there is to do.
        unit: of `total`.
        done: how much of `total` is done by now; called a few times a second.
        jobs: processes; default: the cores.
    """
    with local(min(jobs or cores(), len(items))) as workers, progress(label, total, done, unit):
        return workers(task, items)


@contextmanager
def local(jobs: int | None = None) -> Iterator[Workers]:
    """Processes of this machine, as many as `jobs` or as there are cores; one needs no process beside this one.

    They are started on entry: before the caller starts threads or runs anything of torch.
    """
    jobs = jobs or cores()
    if jobs == 1:
        yield lambda task, items: [task(item) for item in items]
        return
    with ProcessPoolExecutor(jobs, mp_context=start_method(), initializer=die_with_parent) as pool:
        pool.submit(int)  # a forking pool starts all its processes with the first task
        try:
            yield lambda task, items: [f.result() for f in [pool.submit(task, item) for item in items]]
        except BrokenProcessPool as error:
            raise UserError("a worker process was killed (out of memory?); run it again: it resumes") from error
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for worker in multiprocessing.active_children():
                worker.terminate()
            raise


def start_method() -> multiprocessing.context.BaseContext:
    """How workers are started: forked from a fresh process without a GPU, else each from a clean server."""
    import torch

    forked = fresh and sys.platform == "linux" and not torch.cuda.is_available()
    return multiprocessing.get_context("fork" if forked else "forkserver" if sys.platform != "win32" else "spawn")


def die_with_parent() -> None:
    """A worker whose parent is killed ends too, instead of waiting for work for ever."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if sys.platform == "linux":
        pr_set_pdeathsig = 1
        ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGKILL)


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
