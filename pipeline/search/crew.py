"""Workers on this machine: started together, replaced when killed, ended together."""

from __future__ import annotations

import multiprocessing
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.context import BaseContext
from multiprocessing.process import BaseProcess

from optuna.study import Study
from optuna.trial import TrialState

from inputgrad.errors import UserError
from pipeline.search import slots, space
from pipeline.search.task import SearchTask
from pipeline.search.worker import run_trials
from pipeline.workers.process import die_with_parent, start_method

PATIENCE = 10
"""How many workers may be killed without a finished trial between them before the search stops."""
GLANCE = 0.5
"""Seconds between two looks at what has been done."""


def work(task: SearchTask, say: Connection) -> None:
    """A worker's process. Ctrl-C is the crew's business; what a user can fix is sent up as a sentence."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    try:
        run_trials(task)
    except UserError as error:
        say.send(str(error))
        sys.exit(2)


@dataclass
class Crew:
    """The workers of one search."""

    task: SearchTask
    study: Study
    processes: dict[BaseProcess, Connection] = field(default_factory=dict)
    deaths: int = 0
    done: int = -1

    def start(self, workers: int) -> None:
        """Start workers, before this process starts any thread: they may be forked."""
        multiprocessing.set_forkserver_preload(
            [run_trials.__module__]
        )  # a worker that replaces another is there at once
        for _ in range(workers):
            self.add(start_method())

    def add(self, context: BaseContext) -> None:
        """Start one worker. Ctrl-C waits while it does not yet know that it is none of its business."""
        hear, say = context.Pipe(duplex=False)
        process: BaseProcess = context.Process(target=work, args=(self.task, say))  # type: ignore[attr-defined]
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        say.close()
        self.processes[process] = hear

    def watch(self, glance: Callable[[], None]) -> None:
        """Until every slot is finished; `glance` is called a few times a second.

        Raises:
            UserError: a worker says so, or a slot kills one worker after the other.
        """
        while self.processes:
            ended = wait([process.sentinel for process in self.processes], timeout=GLANCE)
            for process in [p for p in self.processes if p.sentinel in ended]:
                self.bury(process)
            glance()

    def bury(self, process: BaseProcess) -> None:
        """See why a worker ended; replace it if it was killed."""
        hear = self.processes.pop(process)
        process.join()
        if hear.poll():
            try:
                raise UserError(hear.recv())
            except EOFError:
                pass
        if process.exitcode == 0:
            return
        if process.exitcode is not None and process.exitcode > 0:
            raise RuntimeError(f"a worker of {self.task.name} failed; its traceback is above")
        self.count_death(process)
        slots.sweep(self.study)
        self.add(multiprocessing.get_context("forkserver"))  # this process has threads by now: it must not be forked

    def count_death(self, process: BaseProcess) -> None:
        """Refuse to go on when one worker after the other is killed and nothing is finished meanwhile."""
        done = len(slots.finished(self.task, self.study))
        self.deaths, self.done = (self.deaths + 1 if done == self.done else 1), done
        if self.deaths >= PATIENCE:
            trials = self.study.get_trials(deepcopy=False, states=(TrialState.RUNNING, TrialState.FAIL))
            owned = [trial.params for trial in trials if trial.user_attrs["owner"]["pid"] == process.pid]
            what = ", ".join(f"{k} {space.rounded(v):g}" for k, v in owned[-1].items()) if owned else "before a trial"
            raise UserError(
                f"{self.task.name}: {PATIENCE} workers were killed one after the other and no trial was finished"
                f" (the last at: {what}; out of memory?); narrow search.ranges in {self.task.study.file},"
                " or take fewer --workers"
            )

    def end(self) -> None:
        """Kill the workers and give their slots back: what they were at is tried again by the next command."""
        for process in self.processes:
            process.kill()
        for process in self.processes:
            process.join()
        self.processes.clear()
        slots.sweep(self.study)
