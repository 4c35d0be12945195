"""A search in PostgreSQL, for real: the same trials as in a journal, killed workers, killed commands."""

import warnings

import pytest

from inputgrad.errors import UserError
from pipeline.search import rung, storage
from pipeline.search.loop import Loop
from pipeline.workers import local
from tests.conftest import edit
from tests.pipeline.search.conftest import check_complete, found, search, start, task
from tests.pipeline.search.postgres import server
from tests.pipeline.search.test_kills import done, in_training, wait_for, workers
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
    """And asking does not warn: the storage is opened without a heartbeat, which `ask` does not send."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*[Hh]eartbeat")
        search(task(trials=12, url=url))
    search(task(trials=12))
    assert found(task(trials=12, url=url)) == found(task(trials=12))


def test_a_command_stops_where_another_has_taken_over(untrained, url, monkeypatch):
    """As from two machines that share nothing but the database."""
    of = task(trials=4, url=url)
    honest, study = rung.measure, storage.open_study(of)

    def measure(at):
        monkeypatch.setattr(rung, "measure", honest)
        Loop(of, storage.open_study(of), local.Here()).run()
        return honest(at)

    monkeypatch.setattr(rung, "measure", measure)
    with pytest.raises(UserError, match="another command has taken over"):
        Loop(of, study, local.Here()).run()
    check_complete(of)


def test_killed_workers_and_a_killed_command_lose_no_finished_trial(searchable, url):
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 80")
    of = task(trials=10, url=url)
    command = ["gradient_norm", "--trials", "10", "--workers", "2", "--storage", url]
    process = start(*command)
    wait_for(process, lambda: len(found(of)) >= 2 and in_training(of) and workers(process))
    before = found(of)
    workers(process)[0].kill()
    wait_for(process, lambda: len(found(of)) >= 4 and in_training(of))
    process.kill()
    process.communicate()
    assert "secret" not in done(start(*command))
    check_complete(of)
    assert [trial for trial in found(of) if trial in before] == before


def test_other_settings_are_refused(searchable, url, pipeline):
    search(task(trials=1, url=url))
    edit(searchable / "experiments/tiny.yaml", "epochs: 8", "epochs: 9")
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "1", "--workers", "1", "--storage", url)
    expect_refusal(
        done, "training.epochs: 8 there, 9 here", "optuna delete-study --study-name tiny/gradient_norm/robust"
    )
    assert "secret" not in done.err


def test_a_server_that_is_down_is_one_line(searchable, url, pipeline):
    nowhere = url.replace(url.rpartition(":")[2], "9/searches")
    done = pipeline("search", "tiny", "gradient_norm", "--trials", "1", "--workers", "1", "--storage", nowhere)
    expect_refusal(done, "//…@127.0.0.1:9/searches cannot be reached", "is the server running?")
