"""A worker: takes one open slot after the other until there is none."""

from __future__ import annotations

import time

import optuna
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.study import Study
from optuna.trial import Trial, TrialState

from pipeline.data import Dataset
from pipeline.search import objective, slots, space, storage
from pipeline.search.objective import Diverged, Scores
from pipeline.search.task import SearchTask
from pipeline.study.run import Run


def run_trials(task: SearchTask) -> int:
    """Run trials of a search until no slot is open; returns how many this worker has finished.

    Any number of these may run at once, on any machine that reaches the storage and holds the prepared data.

    Raises:
        UserError: the storage or the data cannot be used, or the loss cannot be trained at any strength.
    """
    study = storage.open_study(task)
    dataset = objective.read(task.study)
    objective.refuse_unusable(task.run, dataset)
    standard(task, study, dataset)
    done = 0
    while (trial := slots.claim(task, study)) is not None:
        with get_heartbeat_thread(trial._trial_id, study._storage):
            run_trial(task, study, trial, dataset)
        done += 1
    return done


def standard(task: SearchTask, study: Study, dataset: Dataset) -> Scores:
    """What `standard` reaches, kept in the storage; the first worker that comes trains it, the others wait."""
    if "standard" not in study.user_attrs:
        study.set_user_attr("standard", objective.standard(task.study, dataset)._asdict())
    return Scores(**study.user_attrs["standard"])


def run_trial(task: SearchTask, study: Study, trial: Trial, dataset: Dataset) -> None:
    """Train one trial and tell the storage; only then it is finished.

    Pruning compares robust scores alone: the strengths that are best in the end have the lowest clean scores half way,
    so a constraint asked there would prune them.
    """
    limit = task.limit(standard(task, study, dataset).clean)
    start = time.monotonic()

    def look(epoch: int, found: Scores) -> None:
        note(trial, epoch, found, start)
        if task.objective == "robust":
            trial.report(found.robust, epoch)
            if trial.should_prune():
                raise optuna.TrialPruned

    values = {name: trial.suggest_float(name, r.low, r.high, log=r.log) for name, r in task.space.items()}
    changed = space.with_knobs(task.run.study, task.loss, {k: space.rounded(v) for k, v in values.items()})
    run = Run(changed, task.loss, task.run.seed)
    try:
        found = objective.train(run, dataset, look)
        note(trial, run.epochs, found, start)
        if task.objective == "robust" and "clean" not in trial.constraints:
            # a trial that is tried again may bring it along; a sum of floats may miss the limit by its last bit
            trial.set_constraint("clean", round(task.shortfall(found.clean, limit), 9))
        study.tell(trial, found.robust if task.objective == "robust" else found)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except Diverged as error:
        trial.set_user_attr("facts", {"epochs": error.epochs, "seconds": round(time.monotonic() - start, 3)})
        trial.set_user_attr("reason", str(error))
        study.tell(trial, state=TrialState.PRUNED)
    except Exception as error:
        trial.set_user_attr("reason", f"{type(error).__name__}: {error}")
        study.tell(trial, state=TrialState.FAIL)
        raise


def note(trial: Trial, epoch: int, found: Scores, start: float) -> None:
    """Keep both scores and the cost beside Optuna's value."""
    facts = {**found._asdict(), "epochs": epoch, "seconds": round(time.monotonic() - start, 3)}
    looks = trial.user_attrs.get("looks", {}) | {str(epoch): found._asdict()}
    trial.set_user_attr("facts", facts)
    trial.set_user_attr("looks", looks)
