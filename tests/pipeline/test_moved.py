"""A project that was moved or copied: MLflow's artifacts are those beside its database, and no others are touched."""

import logging
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from inputgrad.errors import UserError
from pipeline import doctor
from pipeline.tracking import moved, server


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A project with a run that has an artifact, and one logged model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("first place"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        patch.delenv("DVC_ROOT", raising=False)
        with server.connected() as client:
            where = server.experiment_id(client, "tiny", {})
            run = client.create_run(where).info.run_id
            client.log_text(run, "one", "one.txt")
            client.create_logged_model(where, "net", run)
            # of another project, which only begins with the same letters
            client.create_experiment("other", f"{moved.artifacts()}-of-another")
        return Path.cwd()


@pytest.fixture
def copied(made, tmp_path, monkeypatch):
    """A copy of it, as the current folder."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(shutil.copytree(made, tmp_path / "a copy"))
    return Path.cwd()


def places():
    with closing(sqlite3.connect("mlflow.db")) as base:
        return [
            place
            for table, names in moved.PLACES.items()
            for name in names
            for (place,) in base.execute(f"SELECT {name} FROM {table}")
        ]


def test_a_copy_has_its_artifacts_beside_it(made, copied, capsys):
    with pytest.raises(UserError, match=r"mlflow\.db was made in another folder and names .*; fix: python -m pipeline"):
        doctor.database()
    with server.connected() as client:
        where = server.experiment_id(client, "tiny", {})
        client.log_text(client.create_run(where).info.run_id, "two", "two.txt")
    assert capsys.readouterr().err.count("\n") == 1
    assert {file.name for file in made.rglob("*.txt")} == {"one.txt"}
    assert {file.name for file in copied.rglob("*.txt")} == {"one.txt", "two.txt"}
    ours = [place for place in places() if place.startswith(moved.artifacts() + "/")]
    assert len(ours) == 3  # two runs and a model
    assert places().count(moved.artifacts()) == 1
    assert f"file://{str(made).replace(' ', '%20')}/mlartifacts-of-another" in places()
    assert doctor.database() == "MLflow database with 2 runs"
    with server.connected():
        assert capsys.readouterr().err == ""


def test_a_database_whose_artifacts_were_left_behind_is_one_line(made, copied):
    shutil.rmtree("mlartifacts")
    before = places()
    with pytest.raises(
        UserError, match=r"its mlartifacts are not here; fix: copy .*mlartifacts here, or delete"
    ) as error:
        server.check()
    assert str(made / "mlartifacts") in str(error.value)
    assert places() == before
    shutil.copytree(made / "mlartifacts", "mlartifacts")
    server.check()
    assert places() != before


@pytest.mark.parametrize("how", ["a link", "MLFLOW_TRACKING_URI"])
def test_a_shared_database_is_left_alone(made, copied, tmp_path, monkeypatch, how):
    shared = tmp_path / "shared.db"
    Path("mlflow.db").rename(shared)
    Path("mlflow.db").symlink_to(shared)
    if how != "a link":
        Path("mlflow.db").unlink()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{shared}")
    before = shared.read_bytes()
    server.check()
    assert shared.read_bytes() == before


def test_a_database_of_no_tables_is_left_to_mlflow(project):
    sqlite3.connect("mlflow.db").close()
    server.check()


def test_an_error_of_the_database_is_raised_and_not_logged_too(copied, capfd):
    """As on a full disk: MLflow logged it with its traceback before the one line was said."""
    with server.connected() as client:
        with closing(sqlite3.connect("mlflow.db")) as base:
            base.execute("CREATE TRIGGER full BEFORE INSERT ON runs BEGIN SELECT RAISE(FAIL, 'disk is full'); END")
        logging.getLogger("mlflow").propagate = True
        with pytest.raises(Exception, match="disk is full") as caught:
            client.create_run("1")
    assert server.is_foreign(caught.value)
    assert capfd.readouterr().err.count("\n") <= 1  # that the project was copied


def test_a_database_of_another_version_of_mlflow_is_one_line(copied):
    """The command that it names is MLflow's own; to delete the database would lose its superseded runs."""
    with closing(sqlite3.connect("mlflow.db")) as base, base:
        base.execute("UPDATE alembic_version SET version_num = 'bda7b8c39065'")
    with pytest.raises(Exception, match="out-of-date") as caught, server.connected() as client:
        client.search_experiments()
    assert server.is_foreign(caught.value)
    said = server.reason(caught.value)
    assert said.startswith("its tables are of another version of MLflow; fix: mlflow db upgrade sqlite:////")
    assert "\n" not in said
