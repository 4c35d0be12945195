"""Every slot is finished once, whichever process dies, and nobody takes what is somebody else's."""

import os
import subprocess
import sys
import time

import pytest
from optuna.trial import TrialState, create_trial

from pipeline.search import slots, storage, worker
from tests.pipeline.search.conftest import found, task


@pytest.fixture
def search(searchable):
    """A search of four trials, and its storage."""
    of = task(trials=4)
    return of, storage.open_study(of)


def states(study):
    return [(slots.slot(trial), trial.state.name) for trial in study.get_trials(deepcopy=False)]


def suggest(of, trial):
    return trial.suggest_float("strength", of.space["strength"].low, of.space["strength"].high, log=True)


def finish(study, trial):
    trial.set_user_attr("facts", {"clean": 0.9, "robust": 0.5, "epochs": 8, "seconds": 1.0})
    study.tell(trial, 0.5)


def killed_process():
    """The mark of a process of this machine that has ended."""
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    return {**slots.me(), "pid": process.pid}


def test_slots_are_claimed_in_order_until_none_is_open(search):
    of, study = search
    claimed = [slots.claim(of, study) for _ in range(4)]
    assert [trial.user_attrs["slot"] for trial in claimed] == [0, 1, 2, 3]
    assert slots.claim(of, study) is None
    for trial in claimed:
        finish(study, trial)
    assert slots.claim(of, study) is None
    assert len(slots.finished(of, study)) == 4


def test_the_first_slot_tries_what_the_study_states(search):
    of, study = search
    assert suggest(of, slots.claim(of, study)) == 0.3
    assert suggest(of, slots.claim(of, study)) != 0.3


@pytest.mark.parametrize("suggested", [True, False])
def test_a_dead_process_s_trial_is_tried_again_with_its_values(search, suggested):
    of, study = search
    slots.claim(of, study)
    lost = slots.claim(of, study)
    value = suggest(of, lost) if suggested else None
    lost.set_user_attr("owner", killed_process())
    again = slots.claim(of, study)
    assert again.user_attrs["slot"] == 1
    assert again.user_attrs["owner"] == slots.me()
    assert not suggested or again.params == {"strength": value}
    assert states(study) == [(0, "RUNNING"), (1, "FAIL"), (1, "RUNNING")]
    finish(study, again)
    assert [slots.slot(trial) for trial in slots.finished(of, study)] == [1]


def test_a_retried_trial_that_had_no_value_yet_gets_the_one_it_would_have_had(search):
    of, study = search
    slots.claim(of, study)
    first = suggest(of, slots.claim(of, study))
    other = task(trials=4, url="other.log")
    elsewhere = storage.open_study(other)
    slots.claim(other, elsewhere)
    slots.claim(other, elsewhere).set_user_attr("owner", killed_process())
    assert suggest(other, slots.claim(other, elsewhere)) == first


def test_a_living_process_keeps_its_trial(search):
    of, study = search
    sleeper = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        import psutil

        trial = slots.claim(of, study)
        trial.set_user_attr(
            "owner", {**slots.me(), "pid": sleeper.pid, "born": psutil.Process(sleeper.pid).create_time()}
        )
        assert slots.sweep(study) == []
        assert slots.claim(of, study).user_attrs["slot"] == 1
    finally:
        sleeper.communicate(b"\n")
    assert [slots.slot(t) for t in slots.sweep(study)] == [0]


def test_a_reused_process_number_is_another_process(search):
    assert not slots.is_dead(slots.me())
    assert slots.is_dead({**slots.me(), "born": 1.0})


def test_of_another_machine_nothing_is_known(search):
    assert not slots.is_dead({"host": "elsewhere", "pid": 1, "born": 1.0})


def test_two_machines_that_open_a_slot_at_once(search, monkeypatch):
    """The other one's trial is there first, after we looked: we give way and take the next slot."""
    of, study = search
    honest = slots.open_slot
    elsewhere = {"host": "elsewhere", "pid": 1, "born": 1.0}

    def late(of, study):
        number = honest(of, study)
        if number == 0:
            other = {"slot": 0, "owner": elsewhere}
            study.add_trial(create_trial(state=TrialState.RUNNING, user_attrs=other))
        return number

    monkeypatch.setattr(slots, "open_slot", late)
    assert slots.claim(of, study).user_attrs["slot"] == 1
    assert states(study) == [(0, "RUNNING"), (0, "FAIL"), (1, "RUNNING")]


def test_fewer_trials_than_before_leave_the_rest_alone(searchable):
    worker.run_trials(task(trials=4))
    study = storage.open_study(task(trials=4))
    assert worker.run_trials(task(trials=2)) == 0
    assert len(found(task(trials=2))) == 2
    assert len(study.trials) == 4


def test_failed_trials_do_not_count(searchable, monkeypatch):
    """A bug in a trial ends the worker; the slot is open again."""
    honest = worker.objective.train

    def broken(run, *rest):
        if run.loss.strength == 0.3:
            raise ZeroDivisionError
        return honest(run, *rest)

    monkeypatch.setattr(worker.objective, "train", broken)
    with pytest.raises(ZeroDivisionError):
        worker.run_trials(task(trials=2, prunes=False))
    study = storage.open_study(task(trials=2, prunes=False))
    assert states(study) == [(0, "FAIL")]
    monkeypatch.setattr(worker.objective, "train", honest)
    assert worker.run_trials(task(trials=2, prunes=False)) == 2
    assert states(study) == [(0, "FAIL"), (0, "COMPLETE"), (1, "COMPLETE")]


def test_a_lock_of_a_killed_process_stops_nobody(searchable):
    """Optuna's own lock on a journal would make everybody wait for 30 seconds."""
    code = (
        "import os, signal; from pipeline.search.storage import connect\n"
        "connect('journal.log')._backend._lock.acquire(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(__file__)))
    assert subprocess.run([sys.executable, "-c", code], env=os.environ | {"PYTHONPATH": root}).returncode == -9
    start = time.monotonic()
    assert storage.open_study(task(url="journal.log")).trials == []
    assert time.monotonic() - start < 20
