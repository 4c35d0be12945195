"""Every slot is finished once, wherever the one command is killed; and it is one command."""

import json
import os
import sqlite3
import subprocess
import sys
import threading

import optuna
import pytest
from optuna.pruners import SuccessiveHalvingPruner
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from inputgrad.errors import UserError
from pipeline.search import loop, rung, storage
from pipeline.workers.local import Here
from tests.conftest import edit
from tests.pipeline.search.conftest import ROOT, check_complete, found, search, stored, task


@pytest.fixture
def begun(searchable):
    """A search of four trials, and its storage."""
    of = task(trials=4)
    return of, storage.open_study(of)


def states(study):
    return [(loop.slot(trial), trial.state.name) for trial in study.get_trials(deepcopy=False)]


def test_slots_are_begun_in_order_until_none_is_open(begun):
    of, study = begun
    running = [loop.begin(of, study) for _ in range(4)]
    assert [trial.user_attrs["slot"] for trial in running] == [0, 1, 2, 3]
    assert loop.begin(of, study) is None
    for trial in running:
        study.tell(trial, 0.5)
    assert loop.begin(of, study) is None
    assert len(loop.finished(of, study)) == 4


def test_the_first_slot_tries_what_the_study_states(begun):
    of, study = begun
    assert loop.begin(of, study).params == {"strength": 0.3}
    assert loop.begin(of, study).params != {"strength": 0.3}


def test_what_a_killed_command_was_at_is_tried_again_with_its_values(begun):
    of, study = begun
    loop.begin(of, study)
    lost = loop.begin(of, study)
    lost.set_user_attr("looks", {"2": {"clean": 0.9, "robust": 0.4, "seconds": 1.0}})
    study.enqueue_trial({}, user_attrs={"slot": 2})  # killed before it was asked for
    loop.release(study)
    assert states(study) == [(0, "FAIL"), (1, "FAIL"), (2, "FAIL")]
    edit(of.study.file, "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 0.5")
    again = [loop.begin(task(trials=4), study) for _ in range(3)]
    assert [trial.user_attrs["slot"] for trial in again] == [0, 1, 2]
    assert again[0].params == {"strength": 0.3}  # not what the study states by now
    assert again[1].params == lost.params
    assert again[1].user_attrs == lost.user_attrs
    assert again[2].params


class Kill(BaseException):
    """SIGKILL, for a test that wants it at an exact place."""


@pytest.mark.parametrize("how", ["before the line", "in the line", "after the line"])
def test_killed_at_any_line_of_the_journal(untrained, monkeypatch, how):
    """Interrupted or not: one worker and one seed give the same trials, beyond the sampler's random start."""
    whole = task(trials=12, url="whole.log")
    search(whole)
    lines = (untrained / "whole.log").read_bytes().count(b"\n")
    honest = JournalFileBackend.append_logs
    for moment in range(0, lines, 7):
        of, count = task(trials=12, url=f"{moment}.log"), iter(range(10**6))

        def append(self, logs, count=count, moment=moment):
            number = next(count)
            if number == moment and how == "in the line":
                with open(self._file_path, "ab") as file:
                    file.write(json.dumps(logs[0], separators=(",", ":")).encode()[: 3 + 5 * moment])
            if number == moment and how == "after the line":
                honest(self, logs)
            if number >= moment:  # a dead process does not write any more
                raise Kill
            honest(self, logs)

        with monkeypatch.context() as patch:
            patch.setattr(JournalFileBackend, "append_logs", append)
            with pytest.raises(Kill):
                search(of)
        search(of)
        assert found(of) == found(whole), moment
        check_complete(of)
    assert {state for _, state, _, _ in found(whole)} == {"COMPLETE", "PRUNED"}


def test_only_a_last_line_that_was_cut_is_removed(untrained, capsys):
    of = task(trials=1, url="journal.log")
    search(of)
    whole = (untrained / "journal.log").read_bytes()
    with storage.opened(of):
        pass
    assert (untrained / "journal.log").read_bytes().startswith(whole)
    assert not capsys.readouterr().err
    cut = whole[: whole.rfind(b"\n", 0, -1) + 20]
    for damaged in (cut, whole[:-1], cut + b"\n", cut + b"\0" * 9):
        (untrained / "journal.log").write_bytes(damaged)
        storage.repair(untrained / "journal.log")
        assert (untrained / "journal.log").read_bytes() == whole[: whole.rfind(b"\n", 0, -1) + 1]
        assert capsys.readouterr().err == f"note: {untrained / 'journal.log'}: {storage.REMOVED}\n"
    lines = whole.splitlines(keepends=True)
    (untrained / "journal.log").write_bytes(b"".join([*lines[:2], lines[2][:20] + b"\n", *lines[3:]]))
    with pytest.raises(UserError, match=r"journal\.log is not a readable journal.*delete it to search anew"):
        search(of)


@pytest.mark.parametrize("content", [b'{"trials": 3}', b'{\n  "op_code": 1\n}', b"losses:\n  standard", b"\0\0"])
def test_a_file_that_is_no_journal_is_left_alone(untrained, content):
    (untrained / "file").write_bytes(content)
    with pytest.raises(UserError, match="file is not a readable journal of Optuna; fix: give another with --storage"):
        search(task(url="file"))
    assert (untrained / "file").read_bytes() == content


def test_a_second_command_is_refused_in_one_line(untrained):
    of = task(trials=1, url="journal.log")
    code = (
        "from pipeline.search import storage; from tests.pipeline.search.conftest import task\n"
        "with storage.opened(task(trials=1, url='journal.log')): print('at it', flush=True); input()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"at it\n"
    for other in (of, task("fgsm", url="./journal.log")):  # a journal has one writer, whatever is searched
        with pytest.raises(UserError, match=r"another command is at work in .*journal\.log; fix: wait .*--workers"):
            search(other)
    other = task(trials=1)  # in another journal: another search, with trainings of its own
    assert other.state != of.state
    search(other)
    holder.kill()  # what it held is free at once
    holder.communicate()
    assert len(search(of).finished) == 1


def test_a_command_stops_where_another_has_taken_over(untrained, monkeypatch):
    """Machines that share no disk do not see one another's lock."""
    of = task(trials=4)
    honest, study = rung.measure, storage.open_study(of)

    def measure(at):
        if not study.get_trials(states=loop.FINISHED):
            return honest(at)
        monkeypatch.setattr(rung, "measure", honest)
        loop.Loop(of, storage.open_study(of), Here()).run()
        return honest(at)

    monkeypatch.setattr(rung, "measure", measure)
    with pytest.raises(UserError, match=r"another command has taken over .*one at a time"):
        loop.Loop(of, study, Here()).run()
    check_complete(of)


def test_a_database_gives_the_trials_of_a_journal(untrained, recwarn):
    """SQLite, too, whatever the number of workers: one process writes. Nobody sends a heartbeat: none is asked for."""
    for count in (5, 12):
        search(task(trials=count, url="sqlite:///trials.db"))
    search(task(trials=12))
    assert found(task(trials=12, url="sqlite:///trials.db")) == found(task(trials=12))
    assert not [warning for warning in recwarn if "eartbeat" in str(warning.message)]


@pytest.mark.parametrize("kind", ["EXCLUSIVE", "IMMEDIATE"])
@pytest.mark.parametrize("ends", [True, False], ids=["ends in time", "stays"])
def test_a_file_of_sqlite_that_another_program_holds(untrained, monkeypatch, kind, ends):
    """It is waited for; the search ends in one line where it stays held, loses nothing, and asks no second time."""
    honest, holder = rung.measure, sqlite3.connect("trials.db", isolation_level=None, check_same_thread=False)
    monkeypatch.setattr(storage, "HELD", 60.0 if ends else 0.3)

    def holding(at):
        if at.run.place.name == "slot-2" and not holder.in_transaction and not held:
            held.append(holder.execute(f"BEGIN {kind}"))
            if ends:
                threading.Timer(6, holder.rollback).start()  # SQLite's own time-out is 5 s
        return honest(at)

    held = []
    monkeypatch.setattr(rung, "measure", holding)
    of = task(trials=4, url="sqlite:///trials.db", prunes=False)
    if not ends:
        with pytest.raises(
            UserError, match=r"trials\.db was held by another program for 0\.3 s; .*fix: end what"
        ) as error:
            search(of)
        assert "\n" not in str(error.value)
        holder.rollback()
        assert len(found(of)) == 2
    search(of)
    holder.close()
    assert len(held) == 1
    check_complete(of)
    monkeypatch.setattr(rung, "measure", honest)
    search(whole := task(trials=4, prunes=False))
    assert found(of) == found(whole)


def test_fewer_trials_than_before_leave_the_rest_alone(untrained):
    assert len(search(task(trials=4)).finished) == 4
    assert len(search(task(trials=2)).finished) == 2
    assert len(stored(task()).trials) == 4


def test_a_trial_that_fails_is_one_line_and_does_not_count(untrained, monkeypatch):
    """The search ends; the same command tries it again with its values."""
    honest = rung.measure

    def broken(at):
        if at.run.loss.strength != 0.3:
            raise ZeroDivisionError("no such number")
        return honest(at)

    monkeypatch.setattr(rung, "measure", broken)
    of = task(trials=3, prunes=False)
    with pytest.raises(UserError, match=r"^tiny/gradient_norm/robust: the trial at strength [\d.]+ failed \(ZeroDiv"):
        search(of)
    assert states(stored(of)) == [(0, "COMPLETE"), (1, "FAIL")]
    monkeypatch.setattr(rung, "measure", honest)
    assert len(search(of).finished) == 3
    check_complete(of)


def test_trials_that_are_told_leave_no_state(searchable, monkeypatch):
    kept = []
    honest = loop.files.remove

    def remove(path):
        kept.append(sorted(p.name for p in path.parent.iterdir()))
        honest(path)

    monkeypatch.setattr(loop.files, "remove", remove)
    of = task(trials=2)
    search(of)
    assert ["slot-0"] in kept
    assert ["slot-1"] in kept
    assert not of.state.exists()


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_halving_decides_as_optuna_s_own_and_counts_no_lost_trial(direction):
    """Until a trial is lost: then Optuna's own pruner counts it twice."""
    values = [(7 * n % 13 / 13, 5 * n % 11 / 11) for n in range(24)]
    decided = {}
    for name, pruner in (("ours", storage.Halving()), ("theirs", SuccessiveHalvingPruner(2, 2))):
        study = optuna.create_study(direction=direction, pruner=pruner)
        decided[name] = [ended(study, looks, lost=False) for looks in values]
        assert decided["ours"] == decided[name]
        again = optuna.create_study(direction=direction, pruner=pruner)
        lossy = [(ended(again, looks, lost=True), ended(again, looks, lost=False))[1] for looks in values]
        assert (lossy == decided[name]) is (name == "ours")
    assert {0, 1, 2} == set(decided["ours"])


def ended(study, looks, lost):
    """At which rung a trial was pruned; 2: at none. A lost one is not told."""
    trial = study.ask()
    for number, value in enumerate(looks):
        trial.report(value, (2, 4)[number])
        if trial.should_prune():
            study.tell(trial, state=TrialState.FAIL if lost else TrialState.PRUNED)
            return number
    study.tell(trial, *([] if lost else [looks[-1]]), state=TrialState.FAIL if lost else None)
    return 2
