"""Where Optuna keeps the trials: a journal file by default, no server; or any of Optuna's storage URLs.

One command at a time is at a search: it alone writes to the storage.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from filelock import FileLock, Timeout
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning, StorageInternalError
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock, JournalRedisBackend, JournalStorage
from optuna.study import Study as OptunaStudy
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from inputgrad.errors import UserError
from pipeline.fingerprint import hash_of
from pipeline.search.task import SearchTask
from pipeline.tracking.server import shown

optuna.logging.set_verbosity(optuna.logging.ERROR)  # what happens is shown by the display

MALFORMED = (ValueError, KeyError, AssertionError, AttributeError, TypeError, ArgumentError)
"""What Optuna raises for an address that is none, and for a journal that is none."""


REMOVED = "its last line was not written to its end, and is removed"
HELD = 60.0
"""Seconds that a file of SQLite may be held by another program, such as a backup, before a search ends."""
GONE = (SQLAlchemyError, StorageInternalError)
"""What is raised where a database does not answer, or not within `HELD`."""
SEEDS = 2**32
"""Optuna's samplers take seeds from 0 up to this number, without it."""


class Held(JournalFileOpenLock):
    """No lock of Optuna's: the command holds the journal. Theirs stays behind when its process is killed."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        """It stays held."""


def connect(url: str) -> BaseStorage:
    """The storage at an address; a database's tables are made if need be.

    Without heartbeat: Optuna sends it inside `Study.optimize` only, and the one command knows which trials it runs.
    """
    if "://" not in url:
        Path(url).parent.mkdir(parents=True, exist_ok=True)
        return JournalStorage(JournalFileBackend(url, lock_obj=Held(url)))
    if url.startswith("redis"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return JournalStorage(JournalRedisBackend(url))
    waits = {"connect_args": {"timeout": HELD}} if url.startswith("sqlite") else {}
    return RDBStorage(url, engine_kwargs={"pool_pre_ping": True, **waits})


@contextmanager
def said_plainly(url: str) -> Iterator[None]:
    """A database that cannot be reached, now or after a while, as one line without the password of its address."""
    try:
        yield
    except GONE as error:
        cause = error if isinstance(error, SQLAlchemyError) else error.__cause__ or error
        if "database is locked" in str(cause):
            kept = "what is finished is kept; fix: end what holds it, and run the same command again"
            raise UserError(f"--storage {shown(url)} was held by another program for {HELD:g} s; {kept}") from error
        raise UserError(f"--storage {shown(url)} cannot be reached ({words(cause)}); is the server running?") from error


def words(error: BaseException) -> str:
    """An error on one line, without passwords and without SQLAlchemy's advertisement."""
    text = " ".join(str(error).partition("(Background on this error")[0].split())
    return shown(text)[:200] or type(error).__name__


@contextmanager
def opened(task: SearchTask) -> Iterator[optuna.Study]:
    """The search in its storage, for this command alone while the block runs."""
    task.lock.mkdir(parents=True, exist_ok=True)
    lock = FileLock(task.lock / "lock", timeout=0)
    try:
        lock.acquire()
    except Timeout as error:
        fix = "wait for its end, or stop it and give more --workers or --engine ray"
        raise UserError(f"another command is at work in {shown(task.storage)}; fix: {fix}") from error
    try:
        if task.in_file:
            repair(Path(task.storage))
        with said_plainly(task.storage):
            yield open_study(task)
    finally:
        lock.release()


def repair(journal: Path) -> None:
    """Cut off a last line whose writer was killed: the next line would be appended to it, and both be lost.

    Raises:
        UserError: the file is no journal; it is left as it is.
    """
    content = journal.read_bytes() if journal.is_file() else b""
    start = b'{"op_code":'
    if content[: len(start)] != start[: len(content)]:
        raise UserError(f"{journal} is not a readable journal of Optuna; fix: give another with --storage")
    last = content.rfind(b"\n", 0, -1) + 1
    try:
        whole = content.endswith(b"\n") and bool(json.loads(content[last:]))
    except ValueError:
        whole = False
    if content and not whole:
        os.truncate(journal, last)
        print(f"note: {journal}: {REMOVED}", file=sys.stderr)


def open_study(task: SearchTask) -> optuna.Study:
    """The search in its storage, made if it is not there yet."""
    url, direction = task.storage, StudyDirection.MAXIMIZE if task.higher_is_better else StudyDirection.MINIMIZE
    try:
        study = optuna.create_study(
            storage=connect(url),
            study_name=task.name,
            directions=[direction] * (1 if task.objective == "robust" else 2),
            sampler=BySlot(task.sampler, task.seed),
            pruner=Halving() if task.prunes else NopPruner(),
            load_if_exists=True,
        )
    except ImportError as error:
        fix = "fix: pip install -r requirements-scale.txt"
        raise UserError(f"--storage {shown(url)} needs a driver ({error}); {fix}") from error
    except MALFORMED as error:
        if not task.in_file:
            raise UserError(f"--storage {shown(url)} is no storage of Optuna ({words(error)})") from error
        fix = "fix: give another with --storage, or delete it to search anew"
        raise UserError(f"{url} is not a readable journal of Optuna ({words(error)}); {fix}") from error
    known = study.user_attrs.get("settings")
    if known is None:
        study.set_user_attr("settings", task.settings)
    elif known != task.settings:
        raise UserError(f"{shown(url)} holds {task.name} with other settings ({difference(known, task)}")
    return study


def difference(known: dict[str, Any], task: SearchTask) -> str:
    """The first setting that differs, and what to do."""
    there, here = (dict(flattened(settings)) for settings in (known, task.settings))
    key = next(k for k in {**here, **there} if there.get(k) != here.get(k))
    delete = f"delete {task.storage}" if task.in_file else f"optuna delete-study --study-name {task.name}"
    return f"{key}: {there.get(key)} there, {here.get(key)} here); undo the change, or search anew: {delete}"


def flattened(value: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """`a.b` keys of nested settings."""
    if not isinstance(value, dict):
        yield key, value
        return
    for name, inner in value.items():
        yield from flattened(inner, f"{key}.{name}" if key else name)


SAMPLERS: dict[str, Callable[[int], BaseSampler]] = {
    "tpe": lambda seed: TPESampler(seed=seed),
    "random": lambda seed: RandomSampler(seed=seed),
}


class BySlot(BaseSampler):
    """A fresh sampler for every trial, seeded by the search's seed and the trial's slot.

    One sampler with one seed would begin its random numbers anew whenever a search is continued, and suggest again what
    it suggested first. Here a suggestion depends on nothing but the slot and the finished trials.
    """

    def __init__(self, kind: str, seed: int) -> None:
        self.kind, self.seed = kind, seed
        self.inner = SAMPLERS[kind](seed)

    def before_trial(self, study: OptunaStudy, trial: FrozenTrial) -> None:
        slot = trial.user_attrs["slot"]
        self.inner = SAMPLERS[self.kind](int(hash_of([self.seed, slot])[:8], 16))
        self.inner.before_trial(study, trial)

    def infer_relative_search_space(self, study: OptunaStudy, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self.inner.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: OptunaStudy, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self.inner.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: OptunaStudy, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return self.inner.sample_independent(study, trial, name, distribution)

    def after_trial(
        self, study: OptunaStudy, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self.inner.after_trial(study, trial, state, values)


class Halving(BasePruner):
    """Successive halving: at every rung the better half of the trials that have come that far goes on.

    Optuna's own pruner also counts failed trials, so that a trial that was killed and tried again would count twice.
    """

    def prune(self, study: OptunaStudy, trial: FrozenTrial) -> bool:
        rung = trial.last_step
        if rung is None:
            return False
        value = trial.intermediate_values[rung]
        others = [
            other.intermediate_values[rung]
            for other in study.get_trials(deepcopy=False)
            if other.number != trial.number and other.state != TrialState.FAIL and rung in other.intermediate_values
        ]
        sign = -1 if study.direction == StudyDirection.MAXIMIZE else 1
        ranked = sorted(sign * each for each in [value, *others])
        return sign * value > ranked[max(len(ranked) // 2, 1) - 1]
