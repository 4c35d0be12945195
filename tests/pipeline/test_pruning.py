"""`prune` deletes what no study uses, and nothing else; it shows first and asks."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from pipeline import layout, pruning, store
from pipeline.stages import runner
from pipeline.stages.attack import Evaluation, evaluate
from pipeline.stages.measured import measure
from pipeline.stages.train import train
from pipeline.study.read import read_study
from pipeline.study.run import runs
from pipeline.tracking import server
from tests.conftest import edit


@pytest.fixture
def used(project):
    """The study `tiny` with one loss trained and attacked: the states that it uses."""
    runner.prepare("tiny")
    study = read_study("tiny")
    todo = runs(study, "standard")
    store.publish({f"seed-{run.seed}": train(run) for run in todo}, layout.stage(study.name, "standard", "train"))
    attacks = [evaluate(Evaluation(run)) for run in todo]
    return {run.state for run in todo} | {*attacks, measure(todo[0])}


def states():
    return {path for path in (layout.root() / ".state").iterdir() if pruning.STATE.fullmatch(path.name)}


def test_what_a_study_uses_stays(used, pipeline):
    assert states() == used
    done = pipeline("prune", "--yes")
    assert (done.code, done.err) == (0, "")
    assert ".state/: 0 folders" in done.out
    assert states() == used


def test_what_it_no_longer_uses_goes_once_a_person_agrees(used, pipeline, monkeypatch):
    edit(Path("experiments/tiny.yaml"), "learning_rate: 0.01", "learning_rate: 0.02")
    kept_by_another = sorted(used)[0]
    with FileLock(kept_by_another / "lock"):  # a command that is at work
        done = pipeline("prune", "--yes")
    assert f".state/: {len(used) - 1} folders that no study" in done.out
    assert states() == {kept_by_another}


def test_nothing_is_deleted_without_a_yes(used, pipeline, monkeypatch):
    edit(Path("experiments/tiny.yaml"), "learning_rate: 0.01", "learning_rate: 0.02")
    monkeypatch.setattr("click.confirm", lambda *_, **__: False)
    done = pipeline("prune")
    assert f".state/: {len(used)} folders" in done.out
    assert "deleted" not in done.out
    assert states() == used


def test_a_study_that_is_not_valid_stops_it(used, pipeline):
    edit(Path("experiments/tiny.yaml"), "learning_rate: 0.01", "learning_rate: fast")
    done = pipeline("prune", "--yes")
    assert done.code == 2
    assert "experiments/tiny.yaml: training.learning_rate" in done.err
    assert states() == used


def test_superseded_runs_go_for_good(project, pipeline):
    with server.connected() as client:
        where = client.create_experiment("tiny", (project / "mlartifacts").as_uri())
        old, new = (client.create_run(where, tags={"current": value}).info for value in ("false", "true"))
        (project / "note.txt").write_text("x")
        client.log_artifact(old.run_id, str(project / "note.txt"))
    done = pipeline("prune", "--yes")
    assert "MLflow: 1 superseded runs" in done.out
    assert not [file for file in (project / "mlartifacts" / old.run_id).rglob("*") if file.is_file()]
    with server.connected() as client:
        assert [run.info.run_id for run in client.search_runs([where])] == [new.run_id]
    assert "MLflow: 0 superseded runs" in pipeline("prune", "--yes").out


def test_cached_objects_of_older_results_go(project, pipeline):
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    for words in (["git", "init", "-q"], [sys.executable, "-m", "dvc", "init", "-q"]):
        subprocess.run(words, check=True, env=quiet)
    shutil.rmtree(project / "experiments")
    for text in ("old", "new"):
        (project / "result").write_text(text)
        subprocess.run([sys.executable, "-m", "dvc", "add", "-q", "result"], check=True, env=quiet)
    assert "DVC's cache: 1 objects" in pipeline("prune", "--yes").out
    assert "DVC's cache: 0 objects" in pipeline("prune", "--yes").out
    assert (project / "result").read_text() == "new"


def test_a_cache_that_projects_share_is_left_alone(project, pipeline, tmp_path_factory):
    """Another one may use what this one does not: it lost its results."""
    cache = tmp_path_factory.mktemp("cache")
    quiet = {**os.environ, "DVC_NO_ANALYTICS": "1"}
    dvc = [sys.executable, "-m", "dvc"]
    for words in (["git", "init", "-q"], [*dvc, "init", "-q"], [*dvc, "cache", "dir", "--local", str(cache)]):
        subprocess.run(words, check=True, env=quiet, capture_output=True)
    shutil.rmtree(project / "experiments")
    for text in ("old", "new"):
        (project / "result").write_text(text)
        subprocess.run([*dvc, "add", "-q", "result"], check=True, env=quiet)
    there = sorted(cache.rglob("*"))
    assert f"DVC's cache: {cache} is left alone: other projects may use it" in pipeline("prune", "--yes").out
    assert sorted(cache.rglob("*")) == there
