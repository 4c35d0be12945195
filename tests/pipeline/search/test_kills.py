"""Killed workers, killed commands, Ctrl-C: nothing finished is lost, the total is exact."""

import contextlib
import os
import pickle
import random
import re
import signal
import time

import psutil
import pytest

from inputgrad.errors import UserError
from pipeline.search import loop, rung, storage
from pipeline.workers import Engine, local
from tests.conftest import edit
from tests.pipeline.search.conftest import check_complete, found, search, start, stored, task


def suicide(at):
    """A rung that kills every worker that takes it."""
    if at.epoch == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return honest(at)


honest = rung.measure


def test_a_trial_that_kills_every_worker_ends_the_search(searchable, monkeypatch):
    """Whatever it is that kills them: the search does not go on for ever."""
    monkeypatch.setattr(rung, "measure", suicide)
    monkeypatch.setattr(local, "ATTEMPTS", 2)
    of = task(trials=3)
    with Engine(jobs=2).open() as workers, storage.opened(of) as study:  # noqa: SIM117
        with pytest.raises(UserError, match=r"the trial at strength [\d.]+ failed \(a worker process was killed"):
            loop.Loop(of, study, workers).run()
    assert {trial.state.name for trial in stored(of).trials} == {"FAIL"}
    monkeypatch.setattr(rung, "measure", honest)
    search(of)
    check_complete(of)


def workers(process):
    """The processes that take tasks: children of the command, or of its fork server, that have none of their own."""
    try:
        below = psutil.Process(process.pid).children(recursive=True)
        servers = [p for p in below if p.ppid() == process.pid and "multiprocessing" in " ".join(p.cmdline())]
    except psutil.NoSuchProcess:
        return []
    return [p for p in below if p not in servers]


@pytest.fixture
def slow(searchable):
    """Trials long enough to be killed in the middle; `wait_for` holds the search still while it looks."""
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 24")
    return task(trials=12)


def wait_for(process, condition):
    """Until the command has come that far. It stands still while this looks: on a slow machine it would be over."""
    while not condition():
        over = process.poll() is not None
        with contextlib.suppress(ProcessLookupError):  # also what a command that has ended left behind holds its pipes
            os.killpg(process.pid, signal.SIGCONT)
        assert not over, process.communicate()
        time.sleep(0.05)
        os.killpg(process.pid, signal.SIGSTOP)
    os.killpg(process.pid, signal.SIGCONT)


def in_training(of):
    """Whether a trial has trained an epoch and is not told yet."""
    return any(of.state.glob("slot-*/*/last.pt"))


def done(process):
    """What a command printed, once it has ended well."""
    out, err = process.communicate()
    assert process.returncode == 0, err
    return out


def deadly(at):
    """A rung whose worker dies twice: before its work, and when its work is done and not yet told."""
    die("before", known=1)
    result = honest(at)
    die("after", known=4)
    return result


def die(moment, known):
    """Once there are so many finished trials, once; what is known then is noted."""
    finished = found(task(trials=12))
    if len(finished) < known:
        return
    with contextlib.suppress(FileExistsError), open(moment, "xb") as file:
        file.write(pickle.dumps(finished))
        file.flush()
        os.kill(os.getpid(), signal.SIGKILL)


def test_killed_workers_lose_no_finished_trial(searchable, monkeypatch):
    monkeypatch.setattr(rung, "measure", deadly)
    of = task(trials=12)
    with Engine(jobs=2).open() as workers, storage.opened(of) as study:
        loop.Loop(of, study, workers).run()
    check_complete(of)
    for moment in ("before", "after"):
        seen = pickle.loads((searchable / moment).read_bytes())
        assert seen
        assert [trial for trial in found(of) if trial in seen] == seen


def test_one_worker_killed_again_and_again_is_the_search_that_was_not_interrupted(slow):
    """At any moment: inside epochs, attacks, writing. With one worker, the command and its worker are one process."""
    whole = task(trials=12, url="whole.log")
    search(whole)
    generator = random.Random(1)
    for _ in range(4):
        known = len(found(slow))
        process = start("gradient_norm", "--trials", "12", "--workers", "1")
        wait_for(process, lambda known=known: len(found(slow)) > known and in_training(slow))
        time.sleep(generator.uniform(0, 0.2))
        process.kill()
        process.communicate()
    assert len(found(slow)) < 12
    out = done(start("gradient_norm", "--trials", "12", "--workers", "1"))
    assert re.search(r"\d trials are there already", out)
    check_complete(slow)
    assert found(slow) == found(whole)


def test_everything_killed_and_run_again(slow):
    process = start("gradient_norm", "--trials", "12", "--workers", "2")
    wait_for(process, lambda: len(found(slow)) >= 2)
    process.kill()  # its workers follow
    process.communicate()
    before = found(slow)
    assert 2 <= len(before) < 12
    out = done(start("gradient_norm", "--trials", "12", "--workers", "2"))
    assert f"{len(before)} trials are there already" in out
    check_complete(slow)
    assert [trial for trial in found(slow) if trial in before] == before


@pytest.mark.parametrize("jobs", ["1", "2"])
def test_ctrl_c_keeps_the_best_so_far_and_the_command_continues(slow, jobs):
    process = start("gradient_norm", "--trials", "12", "--workers", jobs)
    wait_for(process, lambda: any(state == "COMPLETE" for _, state, _, _ in found(slow)))
    os.killpg(process.pid, signal.SIGINT)  # as a terminal sends it: to everybody
    out, err = process.communicate()
    assert process.returncode == 130
    assert err.strip() == "error: stopped; the same command continues where it was"
    assert re.search(r"stopped; \d+ of 12 trials.*; (best: trial|no trial meets)", out)
    assert {"trials.csv", "search.json", "history.png"} <= {p.name for p in slow.folder.iterdir()}
    assert {trial.state.name for trial in stored(slow).trials} <= {"COMPLETE", "PRUNED", "FAIL"}
    done(start("gradient_norm", "--trials", "12", "--workers", jobs))
    check_complete(slow)


def test_two_commands_at_once_are_one_search_each(slow):
    first = start("gradient_norm", "--trials", "12", "--workers", "1")
    wait_for(first, lambda: len(found(slow)) >= 1)
    same, other = (start(*a, "--workers", "1") for a in (["gradient_norm"], ["fgsm", "--trials", "3"]))
    _, err = same.communicate()
    assert same.returncode == 2
    assert err.startswith("error: another command is at work in")
    assert err.count("\n") == 1
    done(other)
    done(first)
    check_complete(slow)
    check_complete(task("fgsm", trials=3))
