"""Slots: every one is finished exactly once. A trial whose process died gives its slot, and its values, to another."""

from __future__ import annotations

import os
import socket
import warnings
from collections.abc import Mapping
from typing import Any

import optuna
import psutil
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.storages._heartbeat import is_heartbeat_enabled
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from pipeline import store
from pipeline.search import space
from pipeline.search.storage import retry
from pipeline.search.task import SearchTask

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""What counts. A failed trial does not: its slot is open again."""


def me() -> dict[str, Any]:
    """This process, told apart from a later one that gets its number."""
    return {"host": socket.gethostname(), "pid": os.getpid(), "born": psutil.Process().create_time()}


def is_dead(owner: Mapping[str, Any]) -> bool:
    """Whether that process of this machine has ended; of another machine's nothing is known here."""
    if owner["host"] != socket.gethostname():
        return False
    try:
        process = psutil.Process(owner["pid"])
        return bool(process.status() == psutil.STATUS_ZOMBIE or abs(process.create_time() - owner["born"]) > 1)
    except psutil.NoSuchProcess:
        return True


def slot(trial: FrozenTrial) -> int:
    """Which slot a trial is of."""
    return int(trial.user_attrs["slot"])


def trials_of(task: SearchTask, study: Study, *states: TrialState) -> list[FrozenTrial]:
    """The trials of this search's slots in those states."""
    found = study.get_trials(deepcopy=False, states=states)
    return [trial for trial in found if slot(trial) < task.trials]


def finished(task: SearchTask, study: Study) -> list[FrozenTrial]:
    """One trial for every finished slot, in the order of the slots."""
    by_slot = {slot(trial): trial for trial in reversed(trials_of(task, study, *FINISHED))}
    return [by_slot[s] for s in sorted(by_slot)]


def claim(task: SearchTask, study: Study) -> Trial | None:
    """A trial to run, marked as this process's; None when every slot is finished or someone else's.

    Dead trials are tried again first, with their values. Two processes of one machine take turns; two machines that
    open the same slot at once find out afterwards, and the later one gives way.
    """
    with store.locked(task.state):
        sweep(study)
        waiting = sorted(trials_of(task, study, TrialState.WAITING), key=lambda t: (slot(t), t.number))
        for trial in waiting:
            if taken := take(study, trial):
                return taken
        while (number := open_slot(task, study)) is not None:
            trial_id = study._storage.create_new_trial(study._study_id, template_trial=fresh(task, number))
            opened = study._storage.get_trial(trial_id)
            busy = trials_of(task, study, TrialState.RUNNING, *FINISHED)
            if not any(slot(t) == number and t.number < opened.number for t in busy):
                return Trial(study, trial_id)
            study._storage.set_trial_state_values(trial_id, TrialState.FAIL)
    return None


def take(study: Study, waiting: FrozenTrial) -> Trial | None:
    """That trial, unless another machine was faster."""
    try:
        if not study._storage.set_trial_state_values(waiting._trial_id, TrialState.RUNNING):
            return None
        study._storage.set_trial_user_attr(waiting._trial_id, "owner", me())
        return Trial(study, waiting._trial_id)
    except UpdateFinishedTrialError:
        return None


def open_slot(task: SearchTask, study: Study) -> int | None:
    """The first slot that nobody has finished, runs or is waited for in."""
    taken = {slot(t) for t in trials_of(task, study, TrialState.RUNNING, TrialState.WAITING, *FINISHED)}
    return next((number for number in range(task.trials) if number not in taken), None)


def fresh(task: SearchTask, number: int) -> FrozenTrial:
    """A new trial of a slot. The first slot tries what the study states now: a search does not end below it."""
    values = (space.present(task.study, task.loss) if number == 0 else None) or {}
    return create_trial(
        state=TrialState.RUNNING,
        params=values,
        distributions={name: distribution(task, name) for name in values},
        user_attrs={"slot": number, "owner": me()},
    )


def distribution(task: SearchTask, name: str) -> FloatDistribution:
    """The range of a knob, as Optuna has it."""
    found = task.space[name]
    return FloatDistribution(found.low, found.high, log=found.log)


def sweep(study: Study) -> list[FrozenTrial]:
    """Fail the trials whose process is dead and enqueue them again; returns them.

    A journal has no heartbeat, so this is what frees a killed trial; with a database it is only faster for the trials
    of this machine, and those of others are known by their heartbeat.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        if is_heartbeat_enabled(study._storage):
            optuna.storages.fail_stale_trials(study)
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    dead = [trial for trial in running if is_dead(trial.user_attrs["owner"])]
    return [trial for trial in dead if give_up(study, trial)]


def give_up(study: Study, trial: FrozenTrial) -> bool:
    """Fail a trial and enqueue it again; False if somebody else has ended it meanwhile."""
    try:
        study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
    except UpdateFinishedTrialError:
        return False
    retry()(study, study._storage.get_trial(trial._trial_id))
    return True
