"""The processes of this machine as an Executor, and what every engine's workers have in common."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from itertools import islice
from queue import SimpleQueue
from threading import Lock
from typing import Any, ParamSpec, TypeVar

from inputgrad.errors import UserError
from pipeline.interrupts import end_processes
from pipeline.workers.process import Killed, Process, start_method

Item = TypeVar("Item")
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

ATTEMPTS = 6
"""How often a task is started when its process is killed, or its machine dies, before its future fails."""


class Workers(Executor):
    """An Executor for tasks that can be run again at any time: what a task has reached, it keeps on disk.

    Attributes:
        jobs: tasks at a time.
    """

    jobs: int


def each(
    workers: Workers, task: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[tuple[Item, Future[Result]]]:
    """Run `task` of every item, at most `workers.jobs` at a time; yield each item with its future as soon as it ends.

    A caller that lets an exception of a future out of the workers' block stops the tasks that are running.
    """
    waiting = iter(items)
    running: dict[Future[Result], Item] = {}
    while True:
        for item in islice(waiting, max(0, workers.jobs - len(running))):
            running[workers.submit(task, item)] = item
        if not running:
            return
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            yield running.pop(future), future


def cores() -> int:
    """The cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def local(jobs: int | None = None) -> Iterator[Workers]:
    """Processes of this machine, as many as `jobs` or as there are cores; one needs no process but this one.

    They are started on entry: before the caller starts threads or runs anything of torch. When the block is left by an
    exception, an interrupt included, they are ended at once.
    """
    jobs = jobs or cores()
    with Here() if jobs == 1 else Processes(jobs) as workers:
        yield workers


class Here(Workers):
    """This process: a task is done when `submit` returns."""

    jobs = 1

    def submit(
        self, task: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        """Run a task; an interrupt is not kept in its future."""
        future: Future[Result] = Future()
        try:
            future.set_result(task(*args, **kwargs))
        except Exception as error:
            future.set_exception(error)
        return future


class Processes(ThreadPoolExecutor, Workers):
    """Processes of this machine, each asked by one thread; a process that is killed is replaced, its task run again."""

    def __init__(self, jobs: int) -> None:
        super().__init__(jobs)
        self.jobs = jobs
        self.lock, self.ended = Lock(), False
        self.idle: SimpleQueue[Process] = SimpleQueue()
        context = start_method()
        self.all = [Process(context) for _ in range(jobs)]  # the executor starts its threads later, with the tasks
        for process in self.all:
            self.idle.put(process)

    def submit(
        self, task: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        return super().submit(self.attempt, task, *args, **kwargs)

    def attempt(self, task: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
        for _ in range(ATTEMPTS):
            process = self.idle.get()
            try:
                answer: Result = process.ask(task, *args, **kwargs)
                return answer
            except Killed:
                process = self.replaced(process)
            finally:
                self.idle.put(process)
        at = "".join(f" at {item.name}" for item in args[:1] if hasattr(item, "name"))
        raise UserError(
            f"a worker process was killed {ATTEMPTS} times{at} (out of memory?);"
            " fix: run it again, it resumes; take fewer --jobs"
        )

    def replaced(self, dead: Process) -> Process:
        """A new process in the place of a dead one; this process has threads by now, so that it must not be forked."""
        with self.lock:
            if self.ended:
                raise CancelledError
            process = Process(multiprocessing.get_context("forkserver"))
            self.all[self.all.index(dead)] = process
            return process

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more tasks; with `wait`, end the processes once those that were taken are done."""
        super().shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self.kill()

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is not None:
            self.shutdown(wait=False, cancel_futures=True)
            self.kill()
        self.shutdown()

    def kill(self) -> None:
        """End every process at once, whatever it is at: its task has its state on disk."""
        with self.lock:
            self.ended = True
        end_processes(process.process for process in self.all)
