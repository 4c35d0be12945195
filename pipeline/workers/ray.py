"""Ray: tasks on many machines. The only room that imports it.

Plain tasks with retries, not joblib's Ray backend: that is a pool of actors, and an actor that dies with its node takes
the whole call with it. A task may be run again at any time: its state lies in .state/FINGERPRINT and resumes there.
The machines share the project's folder; nothing but the tasks and their small results goes through Ray.
"""

from __future__ import annotations

import logging
import os
import socket
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, Generic

from inputgrad.errors import UserError
from pipeline import store
from pipeline.quiet import NO_TELEMETRY
from pipeline.workers import local
from pipeline.workers.local import Item, Result, Workers

RETRIES = 5
"""How often a task is started again when its process or its machine dies."""
PATIENCE = 5.0
"""Seconds in which a cluster's address has to answer; Ray's own patience is a minute and a page of warnings."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
ALONE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray keeps to 127.0.0.1; otherwise it turns that address into the machine's own and listens to everyone."""
MANNERS = {
    "RAY_NUM_REDIS_GET_RETRIES": "1",  # how often it tries half a minute to reach a cluster that does not answer
}
CARRIED = ("MLFLOW_TRACKING_URI", "OMP_NUM_THREADS")
"""What of this process's environment the tasks see as well."""


@contextmanager
def workers(jobs: int | None, address: str | None, gpus: float | None) -> Iterator[Workers]:
    """Workers of the cluster at `address`, or of a Ray that is started on this machine and ends with the block.

    Args:
        jobs: tasks at a time; default: as many as the cluster takes.
        address: HOST:PORT; default: RAY_ADDRESS, else none.
        gpus: what each task asks for.

    Raises:
        UserError: Ray is not installed, the cluster does not answer or is of another version, or it has no such GPU.
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    ray = connected(address, jobs)
    token = store.root() / ".state" / f"shared-{uuid.uuid4().hex}"
    try:
        held = ray.cluster_resources().get("GPU", 0)
        if gpus and held < gpus:
            raise UserError(
                f"--gpus-per-task {gpus:g}: the cluster has {held:g} GPUs; leave the option away for the CPU"
            )
        token.parent.mkdir(exist_ok=True)
        token.touch()
        options = {"num_cpus": 1, "num_gpus": gpus or 0, "max_retries": RETRIES}

        def work(task: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
            there = There(task, Path.cwd(), token, version("torch"))

            def run(item: Item) -> Result:
                return there(item)

            return collected(ray, ray.remote(**options)(run), items, jobs or len(items))

        yield work
    finally:
        token.unlink(missing_ok=True)
        ray.shutdown()  # what still runs is ended; it has its state on disk


def connected(address: str, jobs: int | None) -> Any:
    """The module ray, connected."""
    host, _, port = address.rpartition(":")
    if address != "local":
        reach(address, host, port)
    if address == "local" or host in LOOPBACK:
        os.environ.setdefault(ALONE, "0")
    for key, value in (NO_TELEMETRY | MANNERS).items():
        os.environ.setdefault(key, value)
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray: Ray is not installed; fix: pip install -r requirements-scale.txt") from error

    code = os.pathsep.join([str(Path(__file__).parents[2]), str(Path.cwd())])  # here lie one's own losses
    environment = {**NO_TELEMETRY, "DVC_ROOT": str(store.root())}
    environment |= {key: os.environ[key] for key in CARRIED if key in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    here: dict[str, Any] = {"num_cpus": jobs or local.cores(), "include_dashboard": False}
    try:
        ray.init(
            address=address,
            runtime_env={"env_vars": environment},
            log_to_driver=False,
            logging_level=logging.ERROR,
            **(here if address == "local" else {}),
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"--address {address}: no Ray cluster that takes us ({reason})") from error
    return ray


def reach(address: str, host: str, port: str) -> None:
    """Refuse an address that is none, or that nobody listens to."""
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(f"--address {address}: give HOST:PORT as `ray start --head` prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except (OSError, OverflowError) as error:
        fix = "start it with: ray start --head (docs/scale.md)"
        raise UserError(f"--address {address}: no Ray cluster answers there ({error}); {fix}") from error


@dataclass(frozen=True)
class There(Generic[Item, Result]):
    """A task as a worker on any machine runs it: in the project's folder, once it is sure that it is that folder."""

    task: Callable[[Item], Result]
    folder: Path
    token: Path
    torch: str

    def __call__(self, item: Item) -> Result:
        """Run it.

        Raises:
            UserError: this machine does not see the project's folder, or has another torch.
        """
        host = socket.gethostname()
        if not self.token.exists() or not self.folder.is_dir():
            raise UserError(f"{host} does not share {store.root()}; every machine must see it there (docs/scale.md)")
        if (here := version("torch")) != self.torch:
            raise UserError(f"{host} has torch {here}, this machine {self.torch}; install the same requirements.txt")
        os.chdir(self.folder)
        return self.task(item)


def collected(ray: Any, remote: Any, items: Sequence[Item], jobs: int) -> list[Any]:
    """Results in the order of the items, at most `jobs` tasks being in the cluster at a time."""
    results: dict[int, Any] = {}
    running: dict[Any, int] = {}
    while len(results) < len(items):
        while len(running) < jobs and len(results) + len(running) < len(items):
            number = len(results) + len(running)
            running[remote.remote(items[number])] = number
        (ready, *_), _ = ray.wait(list(running))
        results[running.pop(ready)] = result(ray, ready)
    return [results[number] for number in range(len(items))]


def result(ray: Any, reference: Any) -> Any:
    """Of a task that is done; its own error if it raised one."""
    try:
        return ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        raise (error.cause or error) from None
    except ray.exceptions.RayError as error:  # its process or machine died, again and again
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"a task died {RETRIES + 1} times ({reason}); run it again: it resumes") from error
