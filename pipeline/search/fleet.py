"""Workers on a Ray cluster: each takes slots until none is open, as those of this machine do."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import FIRST_EXCEPTION, wait
from dataclasses import dataclass, field

from optuna.study import Study

from inputgrad.errors import UserError
from pipeline.search import slots
from pipeline.search.crew import GLANCE
from pipeline.search.task import SearchTask
from pipeline.search.worker import run_trials
from pipeline.workers import Engine


@dataclass
class Fleet:
    """The workers of one search, with the holes of a `Crew`: start, watch, end.

    A worker whose machine dies is started again elsewhere. Its trial is known to be dead by its missing heartbeat,
    which a journal file does not have: several machines need a database.
    """

    task: SearchTask
    study: Study
    engine: Engine
    workers: int = field(default=0, init=False)

    @staticmethod
    def check_storage(task: SearchTask, engine: Engine) -> None:
        """Refuse what would lose trials.

        Raises:
            UserError: a cluster, and trials in a file.
        """
        if engine.address and "://" not in task.storage:
            raise UserError(
                "--engine ray --address needs a database: a journal file cannot tell that another machine has died;"
                " add --storage postgresql://user@host/searches (docs/search.md)"
            )

    def start(self, workers: int) -> None:
        """How many are wanted; they start when they are watched."""
        self.workers = workers

    def watch(self, glance: Callable[[], None]) -> None:
        """Until every slot is finished; `glance` is called a few times a second."""
        with self.engine.open() as workers:
            running = {workers.submit(run_trials, self.task) for _ in range(self.workers)}
            while running:
                done, running = wait(running, timeout=GLANCE, return_when=FIRST_EXCEPTION)
                for future in done:
                    future.result()
                glance()

    def end(self) -> None:
        """Closing the engine has ended them; what this machine's were at is tried again by the next command."""
        slots.sweep(self.study)
