"""A search in PostgreSQL, for real: the same trials as in a journal, heartbeats, retries, killed workers."""

import time

import optuna
import pytest
from optuna.storages import RetryHeartbeatStaleTrialCallback

from pipeline.search import slots, storage, worker
from tests.conftest import edit
from tests.pipeline.search.conftest import found, start, task
from tests.pipeline.search.postgres import server
from tests.pipeline.search.test_kills import check_complete, wait_for, workers
from tests.pipeline.test_cli import expect_refusal


@pytest.fixture(scope="module")
def database():
    """One server for all; every test has a search of its own name or a fresh schema."""
    with server() as url:
        yield url


@pytest.fixture
def url(database):
    """An address whose database is empty again."""
    import sqlalchemy

    engine = sqlalchemy.create_engine(database)
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text("DROP SCHEMA public CASCADE; CREATE SCHEMA public"))
    engine.dispose()
    return database


def test_the_trials_are_those_of_a_journal(searchable, url):
    worker.run_trials(task(trials=12, url=url))
    worker.run_trials(task(trials=12))
    assert found(task(trials=12, url=url)) == found(task(trials=12))


def test_a_trial_without_heartbeat_is_tried_again_with_its_values(searchable, url, monkeypatch):
    """Its machine is gone; nothing but the missing heartbeat says so."""
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    monkeypatch.setattr(storage, "PATIENCE", 2)
    of = task(trials=2, url=url)
    study = storage.open_study(of)
    lost = slots.claim(of, study)
    value = lost.suggest_float("strength", 1e-3, 10.0, log=True)
    lost.set_user_attr("owner", {"host": "elsewhere", "pid": 1, "born": 1.0})
    study._storage.record_heartbeat(lost._trial_id)
    assert slots.sweep(study) == []
    assert slots.claim(of, study).user_attrs["slot"] == 1
    deadline = time.monotonic() + 20
    while (again := slots.claim(of, study)) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert again.user_attrs["slot"] == 0
    assert again.params == {"strength": value}
    frozen = study._storage.get_trial(again._trial_id)
    with pytest.warns(optuna.exceptions.ExperimentalWarning):
        assert RetryHeartbeatStaleTrialCallback.retried_trial_number(frozen) == lost.number


def test_a_running_trial_beats(searchable, url, monkeypatch):
    """However long it takes: it is not taken for dead."""
    monkeypatch.setattr(storage, "HEARTBEAT", 1)
    monkeypatch.setattr(storage, "PATIENCE", 2)
    of = task(trials=1, url=url)
    honest = worker.objective.train
    swept = []

    def long(*arguments):
        time.sleep(4)
        with pytest.warns(optuna.exceptions.ExperimentalWarning):
            optuna.storages.fail_stale_trials(storage.open_study(of))
        swept.extend(t.state.name for t in storage.open_study(of).get_trials())
        return honest(*arguments)

    monkeypatch.setattr(worker.objective, "train", long)
    worker.run_trials(of)
    assert swept == ["RUNNING"]
    check_complete(of)


def test_killed_workers_lose_no_finished_trial(searchable, url, monkeypatch):
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 80")
    of = task(trials=10, url=url)
    monkeypatch.setattr("tests.search.test_kills.SLOW", of)
    process = start("gradient_norm", "--trials", "10", "--workers", "2", "--storage", url)
    wait_for(process, lambda: workers(process) and len(found(of)) >= 2)
    before = found(of)
    for victim in workers(process):
        victim.kill()
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    assert "secret" not in out + err
    check_complete(of)
    assert [trial for trial in found(of) if trial in before] == before


def test_other_settings_are_refused(searchable, url, pipeline):
    worker.run_trials(task(trials=1, url=url))
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 9")
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "1", "--storage", url)
    expect_refusal(
        done, "training.epochs: 8 there, 9 here", "optuna delete-study --study-name tiny/gradient_norm/robust"
    )
    assert "secret" not in done.err


def test_a_server_that_is_down_is_one_line(searchable, url, pipeline):
    nowhere = url.replace(url.rpartition(":")[2], "9/searches")
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "1", "--storage", nowhere)
    expect_refusal(done, "//…@127.0.0.1:9/searches cannot be reached", "is the server running?")
