"""Killed workers, killed commands, Ctrl-C, two commands at once: nothing finished is lost, the total is exact."""

import os
import random
import re
import signal
import time

import pandas as pd
import psutil
import pytest

from inputgrad.errors import UserError
from pipeline.search import crew, slots, storage
from tests.conftest import edit
from tests.pipeline.search.conftest import found, start, task


def test_a_slot_that_kills_every_worker_ends_the_search(searchable, monkeypatch):
    """Whatever it is that kills them: the search does not go on for ever."""
    of = task(trials=3)
    study = storage.open_study(of)
    monkeypatch.setattr(crew, "work", suicide)
    monkeypatch.setattr(crew, "start_method", lambda: crew.multiprocessing.get_context("fork"))
    monkeypatch.setattr(crew.multiprocessing, "get_context", lambda _: real("fork"))
    people = crew.Crew(of, study)
    people.start(1)
    with pytest.raises(UserError, match=r"10 workers were killed .* \(the last at: strength 0\.3;"):
        people.watch(lambda: None)
    people.end()
    assert not slots.trials_of(of, study, slots.TrialState.RUNNING)


real = crew.multiprocessing.get_context


def suicide(of, say):
    """A worker that dies in its first trial."""
    slots.claim(of, storage.open_study(of)).suggest_float("strength", 1e-3, 10.0, log=True)
    os.kill(os.getpid(), signal.SIGKILL)


def workers(process):
    """The running workers of a command: they are its children, or of its fork server."""
    try:
        children = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
    owners = {t.user_attrs["owner"]["pid"] for t in storage.open_study(SLOW).get_trials() if t.state.name == "RUNNING"}
    return [child for child in children if child.pid in owners]


SLOW = None


@pytest.fixture
def slow(searchable):
    """Trials of half a second, to be killed in the middle."""
    global SLOW
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 80")
    SLOW = task(trials=12)
    return searchable


def wait_for(process, condition):
    """Until the command has come that far."""
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def check_complete(of):
    """Every slot exactly once, nothing running, every lost trial tried again with its values."""
    study = storage.open_study(of)
    done = [t for t in study.get_trials() if t.state in slots.FINISHED]
    assert sorted(slots.slot(t) for t in done) == list(range(of.trials))
    assert not slots.trials_of(of, study, slots.TrialState.RUNNING, slots.TrialState.WAITING)
    for trial in study.get_trials(states=(slots.TrialState.FAIL,)):
        again = next(t for t in done if slots.slot(t) == slots.slot(trial))
        assert not trial.params or again.params == trial.params


def test_killed_workers_lose_no_finished_trial(slow):
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    seen, generator = set(), random.Random(0)
    for _ in range(3):
        known = len(seen)
        wait_for(process, lambda known=known: workers(process) and len(found(SLOW)) > known)
        seen |= {(slot, str(params)) for slot, _, params, _ in found(SLOW)}
        running = workers(process)
        if running:
            generator.choice(running).kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    check_complete(SLOW)
    assert seen <= {(slot, str(params)) for slot, _, params, _ in found(SLOW)}
    assert "12 of 12 trials" in out
    assert len(pd.read_csv(SLOW.folder / "trials.csv")) == 12


def test_everything_killed_and_run_again(slow):
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    wait_for(process, lambda: len(found(SLOW)) >= 2)
    os.kill(process.pid, signal.SIGKILL)  # its workers follow
    process.communicate()
    before = found(SLOW)
    assert 2 <= len(before) < 12
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert f"{len(before)} trials are there already" in out
    check_complete(SLOW)
    assert [trial for trial in found(SLOW) if trial in before] == before


def test_ctrl_c_keeps_the_best_so_far_and_the_command_continues(slow):
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    wait_for(process, lambda: any(state == "COMPLETE" for _, state, _, _ in found(SLOW)))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to everybody
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.strip() == "error: stopped; the same command continues where it was"
    assert re.search(r"stopped; \d+ of 12 trials.*; (best: trial|no trial meets)", out)
    assert {"trials.csv", "search.json", "history.png"} <= {p.name for p in SLOW.folder.iterdir()}
    study = storage.open_study(SLOW)
    assert not slots.trials_of(SLOW, study, slots.TrialState.RUNNING)
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    check_complete(SLOW)


def test_two_commands_at_once_share_the_search_or_leave_the_other_alone(slow):
    same = [start("gradient_norm", "--trials", "12", "--workers", "1") for _ in range(2)]
    other = start("fgsm", "--trials", "3", "--workers", "1")
    for process in (*same, other):
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err
    check_complete(SLOW)
    check_complete(task("fgsm", trials=3))
