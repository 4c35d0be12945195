"""How far a command is, for people who look at a terminal."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


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
