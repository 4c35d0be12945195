"""The slots of a search and their trials: which one is next, and what became of a trial that nobody finished."""

from __future__ import annotations

from optuna.distributions import FloatDistribution
from optuna.study import Study as OptunaStudy
from optuna.trial import FrozenTrial, Trial, TrialState

from pipeline.search import space
from pipeline.search.task import SearchTask

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
"""What counts. A failed trial does not: its slot is open again."""
KEPT = ("slot", "looks")
"""What the next trial of a slot takes over from one that was not finished."""


def slot(trial: FrozenTrial) -> int:
    return int(trial.user_attrs["slot"])


def finished(task: SearchTask, study: OptunaStudy) -> list[FrozenTrial]:
    """One trial for every finished slot, in the order of the slots."""
    found = study.get_trials(deepcopy=False, states=FINISHED)
    return sorted((trial for trial in found if slot(trial) < task.trials), key=slot)


def release(study: OptunaStudy) -> None:
    """Fail every trial that was begun and not finished: its slot is open again. Only for the search's one command."""
    while study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
        study.ask()  # only a running trial can be told
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)


def begin(task: SearchTask, study: OptunaStudy) -> Trial | None:
    """A trial of the first open slot, with its values; None when every slot is finished or has a running trial.

    A slot that was begun before is tried again with the same values, and keeps what was seen at its rungs. The first
    slot tries what the study states now: a search does not end below it.
    """
    all_of_them = study.get_trials(deepcopy=False)
    taken = {slot(trial) for trial in all_of_them if trial.state != TrialState.FAIL}
    number = next((number for number in range(task.trials) if number not in taken), None)
    if number is None:
        return None
    values, attributes = (space.present(task.study, task.loss) if number == 0 else None) or {}, {"slot": number}
    before = [trial for trial in all_of_them if slot(trial) == number and trial.params]
    if before:
        values = before[-1].params
        attributes = {key: value for key, value in before[-1].user_attrs.items() if key in KEPT}
    study.enqueue_trial(values, user_attrs=attributes)
    return study.ask({name: FloatDistribution(r.low, r.high, log=r.log) for name, r in task.space.items()})
