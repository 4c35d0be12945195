"""Ray: tasks on many machines. The only module that imports it.

Plain tasks with retries, not joblib's Ray backend: that is a pool of actors, and an actor that dies with its node takes
the whole call with it. A task may be run again at any time: its state lies in .state/FINGERPRINT and resumes there.
The machines share the project's folder; nothing but the tasks and their small results goes through Ray.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from inputgrad.errors import UserError
from pipeline import layout
from pipeline.quiet import NO_TELEMETRY
from pipeline.workers import local
from pipeline.workers.local import ATTEMPTS, Parameters, Result, Workers

MOST = 512
"""Tasks at a time, whatever the size of the cluster."""
POLL = 0.5
"""Seconds after which a thread that waits for its task sees that the command ends."""
TIMEOUT = 5.0
"""Seconds in which a cluster's address has to answer; Ray by itself waits a minute and prints a page of warnings."""
LOOPBACK = ("127.0.0.1", "localhost", "::1")
LOCAL_ONLY = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""Set to 0, Ray keeps to 127.0.0.1; otherwise it turns that address into the machine's own and listens to everyone."""
ENVIRONMENT = {
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
    """
    address = address or os.environ.get("RAY_ADDRESS") or "local"
    ray = connected(address, jobs)
    token = layout.state(f"shared-{uuid.uuid4().hex}")
    try:
        held = ray.cluster_resources().get("GPU", 0)
        if gpus and held < gpus:
            raise UserError(
                f"--gpus-per-task {gpus:g}: the cluster has {held:g} GPUs; leave the option away for the CPU"
            )
        token.parent.mkdir(exist_ok=True)
        token.touch()
        with Cluster(ray, jobs, gpus or 0, There(Path.cwd(), token, version("torch"))) as cluster:
            yield cluster
    finally:
        token.unlink(missing_ok=True)
        ray.shutdown()  # what still runs is ended; it has its state on disk


class Cluster(ThreadPoolExecutor, Workers):
    """A Ray cluster; one thread for each task that it has. Ray itself places no more tasks than the machines take."""

    def __init__(self, ray: Any, jobs: int | None, gpus: float, there: There) -> None:
        super().__init__(jobs or MOST)
        self.ray, self.asked, self.gpus, self.ended = ray, jobs, gpus, False

        def run(task: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
            return there(task, *args, **kwargs)

        self.remote = ray.remote(num_cpus=1, num_gpus=gpus, max_retries=ATTEMPTS - 1)(run)

    @property
    def jobs(self) -> int:  # type: ignore[override]
        """Tasks at a time: as asked for, or what the machines take that are in the cluster at this moment."""
        resources = self.ray.cluster_resources()
        take = min(resources.get("CPU", 0), resources.get("GPU", 0) / self.gpus if self.gpus else MOST)
        return self.asked or min(MOST, max(1, int(take)))

    def submit(
        self, task: Callable[Parameters, Result], /, *args: Parameters.args, **kwargs: Parameters.kwargs
    ) -> Future[Result]:
        return super().submit(self.result, task, *args, **kwargs)

    def result(self, task: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
        """Of a task, once it is done; its own error if it raised one."""
        reference = self.remote.remote(task, *args, **kwargs)
        while not self.ray.wait([reference], timeout=POLL)[0]:
            if self.ended:
                raise CancelledError
        try:
            result: Result = self.ray.get(reference)
            return result
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause or error) from None
        except self.ray.exceptions.RayError as error:  # its process or machine died, again and again
            reason = " ".join(str(error).split())[:200]
            raise UserError(f"a task died {ATTEMPTS} times ({reason}); fix: run it again, it resumes") from error

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        self.ended = kind is not None
        self.shutdown(cancel_futures=self.ended)


def connected(address: str, jobs: int | None) -> Any:
    host, _, port = address.rpartition(":")
    if address != "local":
        reach(address, host, port)
    if address == "local" or host in LOOPBACK:
        os.environ.setdefault(LOCAL_ONLY, "0")
    for key, value in (NO_TELEMETRY | ENVIRONMENT).items():
        os.environ.setdefault(key, value)
    try:
        import ray
    except ImportError as error:
        raise UserError("--engine ray: Ray is not installed; fix: pip install -r requirements-scale.txt") from error

    code = os.pathsep.join([str(Path(__file__).parents[2]), str(Path.cwd())])  # here lie one's own losses
    environment = {**NO_TELEMETRY, "DVC_ROOT": str(layout.root())}
    environment |= {key: os.environ[key] for key in CARRIED if key in os.environ}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, [code, os.environ.get("PYTHONPATH")]))
    here: dict[str, Any] = {"num_cpus": jobs or local.cores(), "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
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
    except SystemExit:  # Ray's own way to take SIGTERM
        raise KeyboardInterrupt from None
    finally:
        signal.signal(signal.SIGTERM, before)
    return ray


def reach(address: str, host: str, port: str) -> None:
    """Refuse an address that is none, or that nobody listens to."""
    if not host or not port.isdecimal() or "/" in host:
        raise UserError(f"--address {address}: give HOST:PORT as `ray start --head` prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=TIMEOUT).close()
    except (OSError, OverflowError) as error:
        fix = "start it with: ray start --head (docs/scale.md)"
        raise UserError(f"--address {address}: no Ray cluster answers there ({error}); {fix}") from error


@dataclass(frozen=True)
class There:
    """How a worker on any machine runs a task: in the project's folder, once it is sure that it is that folder."""

    folder: Path
    token: Path
    torch: str

    def __call__(self, task: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Result:
        host = socket.gethostname()
        if not self.token.exists() or not self.folder.is_dir():
            raise UserError(f"{host} does not share {layout.root()}; every machine must see it there (docs/scale.md)")
        if (here := version("torch")) != self.torch:
            raise UserError(f"{host} has torch {here}, this machine {self.torch}; install the same requirements.txt")
        os.chdir(self.folder)
        return task(*args, **kwargs)
