"""Where MLflow is, whether it answers, and the conversation with it: log what is new, nothing twice.

A server that does not answer costs its time-out once, not once for every stage of a `dvc repro`. A database that is no
database is said at once too: MLflow itself tries for two minutes to open a folder.
"""

from __future__ import annotations

import gc
import logging
import os
import re
import sqlite3
import time
import warnings
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import layout, store
from pipeline.quiet import NO_TELEMETRY
from pipeline.tracking import moved

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

OLD = " (superseded)"
"""At the end of a run's name: its settings are no longer those of the study."""
FIX = "fix the server or MLFLOW_TRACKING_URI, or delete mlflow.db, and run: python -m pipeline track"
ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # by itself it tries a server that is down for four minutes
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
}
SQLITE = "sqlite:///"
WAIT = 5.0
"""Seconds that a server may take to say that it is there, and a database to be free."""
DELETE = "fix: delete it, then: python -m pipeline track"
FREE = "fix: end what holds it, or make it writable, then: python -m pipeline track"
REMEMBERED = 600.0
"""Seconds after which a server that was silent is asked again."""


@contextmanager
def connected() -> Iterator[MlflowClient]:
    """A client that has MLflow to itself: the first touch of a database creates its tables, and only one may do that.

    The same lock keeps two processes from creating one run twice.
    """
    for name, value in {**NO_TELEMETRY, **ENVIRONMENT}.items():
        os.environ.setdefault(name, value)
    with store.locked(layout.state("mlflow")), collector_paused(), warnings.catch_warnings():
        for kind in (FutureWarning, DeprecationWarning):  # MLflow's own; its errors are exceptions
            warnings.simplefilter("ignore", kind)
        from mlflow import MlflowClient

        for name in ("mlflow", "alembic"):
            logging.getLogger(name).setLevel(logging.ERROR)
        # it logs every error of the database with its traceback, and then raises it
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
        check()
        yield MlflowClient(uri())


@contextmanager
def collector_paused() -> Iterator[None]:
    """No garbage collection for the few seconds of a mirroring: it spends a third of MLflow's imports on counting."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def experiment_id(client: MlflowClient, name: str, tags: dict[str, str]) -> str:
    """The experiment of a study, made if need be; one that was deleted in the UI comes back."""
    found = client.get_experiment_by_name(name)
    if found is None:
        return str(client.create_experiment(name, None if is_remote() else moved.artifacts(), tags))
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    for key, value in tags.items():
        if found.tags.get(key) != value:
            client.set_experiment_tag(found.experiment_id, key, value)
    return str(found.experiment_id)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which run it is, and what it is called when it has to be made.

    The two fingerprints together identify it: a new attack on the same weights is a new run, since a metric cannot be
    taken back. A run that has not been attacked yet takes any attack.
    """

    kind: str
    name: str
    fingerprint: str
    attack_fingerprint: str | None = None
    parent: str | None = None
    started: int | None = None
    note: str = ""

    @property
    def tags(self) -> dict[str, str]:
        tags = {
            "kind": self.kind,
            "fingerprint": self.fingerprint,
            "attack_fingerprint": self.attack_fingerprint,
            "mlflow.parentRunId": self.parent,
            "mlflow.source.name": "python -m pipeline",
            "mlflow.note.content": self.note,
        }
        return {key: value for key, value in tags.items() if value}


class Mirror:
    """One run in MLflow and what it already holds."""

    def __init__(self, client: MlflowClient, run: Run) -> None:
        self.client, self.run = client, run
        self.parts = set(run.data.tags.get("mirrored", "").split())

    @classmethod
    def of(cls, client: MlflowClient, experiment: str, wanted: Wanted) -> Mirror:
        condition = f"tags.fingerprint = '{wanted.fingerprint}' and tags.kind = '{wanted.kind}'"
        run = best_match(client.search_runs([experiment], condition), wanted.attack_fingerprint)
        if run is None:
            tags = {**wanted.tags, "current": "true"}
            run = client.create_run(experiment, start_time=wanted.started, tags=tags, run_name=wanted.name)
        found = cls(client, run)
        found.tag(wanted.tags)
        return found

    @property
    def id(self) -> str:
        return str(self.run.info.run_id)

    def tag(self, tags: dict[str, str]) -> None:
        for key, value in tags.items():
            if self.run.data.tags.get(key) != value:
                self.client.set_tag(self.id, key, value)
                self.run.data.tags[key] = value

    @contextmanager
    def once(self, part: str) -> Iterator[bool]:
        """False if this part was logged before; otherwise it counts as logged when the block has ended well."""
        fresh = part not in self.parts
        yield fresh
        if fresh:
            self.parts.add(part)
            self.tag({"mirrored": " ".join(sorted(self.parts))})

    def log(self, points: Iterable[Point] = (), parameters: dict[str, str] | None = None) -> None:
        """Log the parameters that are not there and, of every metric, the points beyond its last step."""
        from mlflow.entities import Metric, Param

        known = self.run.data.params
        fresh = [Param(key, value) for key, value in (parameters or {}).items() if key not in known]
        points = list(points)
        last = {name: self.last_step(name) for name in {p.name for p in points} & set(self.run.data.metrics)}
        new = [Metric(p.name, p.value, p.moment, p.step) for p in points if p.step > last.get(p.name, -1)]
        for some in batches(fresh, 100):
            self.client.log_batch(self.id, params=some)
        for some in batches(new, 1000):
            self.client.log_batch(self.id, metrics=some)
        known |= {param.key: param.value for param in fresh}
        self.run.data.metrics.update({metric.key: metric.value for metric in new})

    def last_step(self, metric: str) -> int:
        return max(point.step for point in self.client.get_metric_history(self.id, metric))

    def set_status(self, status: str, moment: int | None = None) -> None:
        """RUNNING, FINISHED, FAILED or KILLED, and when it came to its end; a run that has finished stays so."""
        if self.run.info.status in (status, "FINISHED"):
            return
        if status == "RUNNING":
            self.client.update_run(self.id, status=status)
        else:
            # files that came out of DVC's cache may be older than a run that was begun while they were made
            self.client.set_terminated(self.id, status, moment and max(moment, self.run.info.start_time))


def best_match(found: Iterable[Run], attack: str | None) -> Run | None:
    """The run with this attack, else one without any; when nothing was attacked, the current one."""
    found = sorted(found, key=lambda run: run.data.tags.get("current") != "true")
    if attack is None:
        return next(iter(found), None)
    for wanted in (attack, None):
        for run in found:
            if run.data.tags.get("attack_fingerprint") == wanted:
                return run
    return None


def keep_current(client: MlflowClient, experiment: str, condition: str, current: set[str]) -> None:
    """Mark `current` as such and all other runs that meet `condition` as superseded, in their tags and names."""
    found = client.search_runs([experiment], condition)
    for now in (True, False):
        mark(client, [run for run in found if (run.info.run_id in current) is now], now)


def mark(client: MlflowClient, runs: Iterable[Run], now: bool) -> None:
    """Say of runs that they are current `now`, or superseded."""
    for run in runs:
        if run.data.tags.get("current") != str(now).lower():
            client.set_tag(run.info.run_id, "current", str(now).lower())
        if (name := (run.info.run_name or "").removesuffix(OLD) + ("" if now else OLD)) != run.info.run_name:
            client.update_run(run.info.run_id, name=name)


def is_foreign(error: Exception) -> bool:
    """Whether MLflow or its database refused, rather than this project's code."""
    return type(error).__module__.partition(".")[0] in ("mlflow", "sqlalchemy", "requests", "urllib3")


def batches(items: list[Any], size: int) -> Iterator[list[Any]]:
    """`items` in parts of at most `size`: MLflow refuses more at once."""
    for start in range(0, len(items), size):
        yield items[start : start + size]


def uri() -> str:
    """MLFLOW_TRACKING_URI, or mlflow.db in the project's root."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{layout.database()}"


def database() -> Path | None:
    """The file of a database that is one, which need not be there yet; else None."""
    return Path(uri().removeprefix(SQLITE)) if uri().startswith(SQLITE) else None


def is_remote() -> bool:
    """Whether a server keeps the runs, and therefore also the artifacts."""
    return uri().startswith(("http:", "https:", "databricks", "uc:"))


def shown(text: str) -> str:
    """`text` without the passwords of addresses in it."""
    return re.sub(r"//[^/@\s]+@", "//…@", text)


def reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if isinstance(error, UserError):
        return shown(text)
    if "out-of-date database schema" in text:
        fix = f"fix: mlflow db upgrade {shown(uri())}, or, where that fails, delete it"
        return f"its tables are of another version of MLflow; {fix}"
    if "Max retries exceeded" in text:  # else requests tells the story of its connection pool
        return f"no answer from {shown(uri())}"
    return shown(f"{type(error).__name__}: {text}")[:200]


class Point(NamedTuple):
    """One value of a metric. `moment` is in milliseconds since 1970, as MLflow has it."""

    name: str
    value: float
    moment: int
    step: int = 0


def milliseconds(file: Path) -> int:
    """When a file was last written, as MLflow counts time."""
    return file.stat().st_mtime_ns // 1_000_000


class NoAnswer(UserError):
    """A server that was asked, now or a moment ago, and said nothing; or a file that is no database or is held."""


def check() -> None:
    """Ask a server whether it is there, or a database whether it can be written.

    Raises:
        NoAnswer: it is not, or was not a moment ago, when another command or stage asked.
    """
    if (file := database()) is not None:
        refuse_file(file)
        moved.bring_here(file)
    if not uri().startswith(("http:", "https:")):
        return
    if remembered():
        raise NoAnswer(f"no answer from {shown(uri())} a moment ago; it is asked again in {REMEMBERED / 60:g} minutes")
    import requests

    try:
        requests.get(f"{uri().rstrip('/')}/health", timeout=WAIT)
    except requests.RequestException as error:
        files.write_text(mark_of_silence(), shown(uri()))
        raise NoAnswer(f"no answer from {shown(uri())}") from error


def refuse_file(file: Path) -> None:
    if not file.exists():  # MLflow makes it
        return
    if file.is_dir():
        raise NoAnswer(f"{file} is a folder, no database; {DELETE}")
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=rw", uri=True, timeout=WAIT)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("SELECT count(*) FROM sqlite_master")
            connection.rollback()
    except sqlite3.Error as error:
        # what is no database is of no use; one that is held, read-only or on a full disk must not be deleted
        whole = isinstance(error, sqlite3.OperationalError)
        raise NoAnswer(f"{file}: {error}; {FREE if whole else DELETE}") from error


def mark_of_silence() -> Path:
    return layout.state("mlflow-silent")


def remembered() -> bool:
    """Whether this server, and no other, was silent a moment ago."""
    try:
        fresh = 0 <= time.time() - mark_of_silence().stat().st_mtime < REMEMBERED
        return fresh and mark_of_silence().read_text(encoding="utf-8") == shown(uri())
    except FileNotFoundError:
        return False


def forget() -> None:
    """Ask again at once: a person says that it is there now."""
    mark_of_silence().unlink(missing_ok=True)
