"""A training that lasts is visible while it lasts."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import pandas as pd

from pipeline import layout
from pipeline.study.run import Run
from pipeline.study.schema import Study
from pipeline.tracking.results import history_points, loss_fingerprint, parameters
from pipeline.tracking.server import milliseconds, reason

EVERY = 10.0
"""Seconds between two looks. The first comes after as many: a short training pays nothing, not even MLflow's import."""
TIMEOUT = 5.0
"""Seconds that MLflow has to hear of an interrupt."""


@contextmanager
def following(study: Study, loss_name: str, runs: Sequence[Run], every: float = EVERY) -> Iterator[None]:
    """Mirror the epochs of unfinished runs into MLflow while the block runs, from a thread of its own.

    A failure is said once, in one line on stderr; the next update tries again, and the training goes on.
    """
    follower = Follower(study, loss_name, runs)

    def update(status: str) -> None:
        # the end of a training that went well is told from its folder
        if status == "RUNNING" or (status != "FINISHED" and follower.well):
            follower.attempt(status)

    with repeating(update, every):
        yield


@contextmanager
def repeating(update: Callable[[str], None], every: float) -> Iterator[None]:
    """`update("RUNNING")` every so many seconds from a thread of its own, and once at the end: how did the block end?

    A user who has interrupted the command does not wait long for a server that does not answer.
    """
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(every):
            update("RUNNING")
        update(status)

    thread = threading.Thread(target=watch, daemon=True)
    status = "FAILED"
    thread.start()
    try:
        yield
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    finally:
        stop.set()
        thread.join(TIMEOUT if status == "KILLED" else None)


class Follower:
    """What `following` does at every update; `well` if the last one found runs and reached MLflow."""

    def __init__(self, study: Study, loss_name: str, runs: Sequence[Run]) -> None:
        self.study, self.loss_name, self.runs = study, loss_name, runs
        self.well = self.complained = False
        self.told: list[tuple[int, int, bool]] = []

    def attempt(self, status: str) -> None:
        """One update; never raises."""
        try:
            self.well = self.update(status)
        except Exception as error:
            self.well = False
            if not self.complained and status != "KILLED":
                print(f"note: not followed in MLflow ({reason(error)}); the training goes on", file=sys.stderr)
            self.complained = True

    def update(self, status: str) -> bool:
        """Log the epochs that are new; unfinished runs get `status`. False if no run has an epoch behind it."""
        begun = [run for run in self.runs if (run.state / layout.HISTORY).exists()]
        news = [
            (run.seed, milliseconds(run.state / layout.HISTORY), (run.state / layout.MANIFEST).exists())
            for run in begun
        ]
        if not begun or (status == "RUNNING" and self.well and news == self.told):
            return bool(begun)  # MLflow is asked nothing where there is nothing new
        from pipeline.tracking import contents, server
        from pipeline.tracking.server import Mirror

        name = self.loss_name
        with server.connected() as client:
            where = contents.experiment(client, self.study)
            fingerprint = loss_fingerprint([run.fingerprint for run in self.runs])
            above = Mirror.of(client, where, contents.of_loss(name, fingerprint))
            above.log(parameters=parameters({**self.runs[0].settings, "seed": None}))
            current = {above.id}
            for run in begun:
                mirror = Mirror.of(client, where, contents.of_seed(name, run.seed, run.fingerprint, above.id))
                frame = pd.read_csv(run.state / layout.HISTORY)
                mirror.log(history_points(frame, self.moments(run, len(frame))), parameters(run.settings))
                mirror.set_status("FINISHED" if (run.state / layout.MANIFEST).exists() else status)
                current.add(mirror.id)
            above.set_status(status)
            server.keep_current(client, where, f"params.loss = '{name}'", current)
        self.told = news
        return True

    @staticmethod
    def moments(run: Run, epochs: int) -> list[int]:
        """Evenly between the start of the run and its last epoch."""
        start, now = (milliseconds(run.state / name) for name in ("lock", layout.HISTORY))
        return [start + (now - start) * (epoch + 1) // epochs for epoch in range(epochs)]
