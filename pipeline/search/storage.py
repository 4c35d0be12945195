"""Where Optuna keeps the trials: a journal file by default, no server; or any of Optuna's storage URLs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock
from optuna.exceptions import ExperimentalWarning
from optuna.storages import BaseStorage, RDBStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend, JournalRedisBackend, JournalStorage
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.study import StudyDirection
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from inputgrad.errors import UserError
from pipeline import store
from pipeline.search.objective import rungs
from pipeline.search.sampler import BySlot, pruner
from pipeline.search.task import SearchTask
from pipeline.tracking.address import shown

HEARTBEAT, PATIENCE = 10, 60
"""Seconds between two signs of life of a trial in a database, and after how many without one it counts as dead."""

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what happens is shown by the display


class KernelLock(BaseJournalFileLock):
    """A lock on the journal that the system takes back when its holder is killed.

    Optuna's own locks are files: one that a killed worker leaves behind stops everybody for 30 seconds.
    """

    def __init__(self, journal: str) -> None:
        self.lock = FileLock(f"{journal}.lock")

    def acquire(self) -> bool:
        """Wait for it."""
        self.lock.acquire()
        return True

    def release(self) -> None:
        """Let go."""
        self.lock.release()

    def __getstate__(self) -> str:
        return self.lock.lock_file

    def __setstate__(self, file: str) -> None:
        self.lock = FileLock(file)


def is_file(url: str) -> bool:
    """Whether the trials lie in a journal file."""
    return "://" not in url


def retry() -> RetryHeartbeatStaleTrialCallback:
    """Enqueues a dead trial's values, slot and history again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return RetryHeartbeatStaleTrialCallback()


def connect(url: str) -> BaseStorage:
    """The storage at an address; a database's tables are made if need be."""
    if is_file(url):
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(url, lock_obj=KernelLock(url)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if url.startswith("redis"):
            return JournalStorage(JournalRedisBackend(url))
        return RDBStorage(
            url,
            engine_kwargs={"pool_pre_ping": True},
            heartbeat_interval=HEARTBEAT,
            grace_period=PATIENCE,
            heartbeat_stale_trial_callback=retry(),
        )


@contextmanager
def said_plainly(url: str) -> Iterator[None]:
    """What a storage complains about as one line, without the password of its address."""
    try:
        yield
    except (ImportError, ModuleNotFoundError) as error:
        fix = "fix: pip install -r requirements-scale.txt"
        raise UserError(f"--storage {shown(url)} needs a driver ({error}); {fix}") from error
    except (ValueError, KeyError, AssertionError, AttributeError, TypeError, ArgumentError) as error:
        if not is_file(url):
            raise UserError(f"--storage {shown(url)} is no storage of Optuna ({words(error)})") from error
        fix = "give another with --storage, or delete it to search anew"
        raise UserError(f"{url} is not a readable journal of Optuna ({words(error)}); {fix}") from error
    except (SQLAlchemyError, OSError) as error:
        if isinstance(error, OSError) and is_file(url):
            raise
        raise UserError(f"--storage {shown(url)} cannot be reached ({words(error)}); is the server running?") from error


def words(error: BaseException) -> str:
    """An error on one line, without passwords and without SQLAlchemy's advertisement."""
    text = " ".join(str(error).partition("(Background on this error")[0].split())
    return shown(text)[:200] or type(error).__name__


def open_study(task: SearchTask) -> optuna.Study:
    """The search in its storage, made if it is not there yet.

    Raises:
        UserError: the storage cannot be reached or read, or holds this search with other settings.
    """
    # tables and the search itself are made by one process at a time
    with said_plainly(task.storage), store.locked(task.state):
        first = rungs(task.run.epochs)[:1]
        direction = StudyDirection.MAXIMIZE if task.higher_is_better else StudyDirection.MINIMIZE
        study = optuna.create_study(
            storage=connect(task.storage),
            study_name=task.name,
            directions=[direction] * (1 if task.objective == "robust" else 2),
            sampler=BySlot(task.sampler, task.seed),
            pruner=pruner(task.prunes and task.objective == "robust", first[0] if first else 0),
            load_if_exists=True,
        )
        known = study.user_attrs.get("settings")
        if known is None:
            study.set_user_attr("settings", task.settings)
    if known is not None and known != task.settings:
        raise UserError(f"{shown(task.storage)} holds {task.name} with other settings ({difference(known, task)})")
    return study


def difference(known: dict[str, Any], task: SearchTask) -> str:
    """The first setting that differs, and what to do."""
    there, here = (dict(flattened(settings)) for settings in (known, task.settings))
    key = next(k for k in {**here, **there} if there.get(k) != here.get(k))
    delete = f"delete {task.storage}" if is_file(task.storage) else f"optuna delete-study --study-name {task.name}"
    return f"{key}: {there.get(key)} there, {here.get(key)} here); undo the change, or search anew: {delete}".rstrip(
        ")"
    )


def flattened(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """`a.b` keys of nested settings."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        yield from flattened(inner, f"{key}.{name}" if key else name)
