"""Where tasks run: in this machine's processes, or on a Ray cluster. Code that has tasks asks an Engine for workers."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from inputgrad.errors import UserError, nearest
from pipeline.workers import local
from pipeline.workers.local import Workers

NAMES = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Engine:
    """The options of a command that has many tasks.

    Attributes:
        name: `local`, or `ray`.
        jobs: tasks at a time; default: as many as there are cores, here or in the cluster.
        address: of a Ray cluster, HOST:PORT; default: a Ray of this machine alone, for as long as it lasts.
        gpus_per_task: what a task asks of Ray: a share of one GPU, or a number of them.
    """

    name: str = "local"
    jobs: int | None = None
    address: str | None = None
    gpus_per_task: float | None = None

    def check(self) -> None:
        """Refuse what cannot work before anything is started."""
        if self.name not in NAMES:
            raise UserError(f"--engine: no '{self.name}'; {nearest(self.name, NAMES)}")
        if self.name == "local":
            for option, value in (("--address", self.address), ("--gpus-per-task", self.gpus_per_task)):
                if value is not None:
                    raise UserError(f"{option} {value} needs --engine ray; the local engine uses what this machine has")
        share = self.gpus_per_task
        if share is not None and not (0 < share <= 1 or (share > 1 and share % 1 == 0)):
            raise UserError(f"--gpus-per-task {share:g}: give a share between 0 and 1, or a whole number of GPUs")

    @contextmanager
    def open(self) -> Iterator[Workers]:
        self.check()
        if self.name == "local":
            with local.local(self.jobs) as workers:
                yield workers
            return
        from pipeline.workers import ray

        with ray.workers(self.jobs, self.address, self.gpus_per_task) as workers:
            yield workers
