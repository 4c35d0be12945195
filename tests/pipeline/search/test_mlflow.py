"""A search in MLflow: told from its files, said twice it changes nothing."""

import shutil

import pandas as pd
import pytest

from pipeline import tracking
from pipeline.search.figures import draw
from pipeline.tracking import search, server
from tests.pipeline.search import conftest
from tests.pipeline.search.conftest import task
from tests.pipeline.test_tracking import NOWHERE, artifacts, empty_database  # noqa: F401  a fixture


@pytest.fixture
def searched(searchable, empty_database):  # noqa: F811
    """A finished search of six trials with its files."""
    shutil.copy(empty_database, "mlflow.db")
    return write(task(trials=6))


def write(of):
    """Run the search as far as asked, and write its files."""
    now = conftest.search(of)
    now.write()
    draw(now)
    return now


def view():
    """The runs of the study's searches: (parent, children by trial), and what is below them."""
    with server.connected() as client:
        where = client.get_experiment_by_name("tiny-search").experiment_id
        runs = client.search_runs([where])
        points = {
            (run.info.run_name, key): [(p.step, p.value) for p in client.get_metric_history(run.info.run_id, key)]
            for run in runs
            for key in run.data.metrics
        }
        files = {run.info.run_name: sorted(artifacts(client, run.info.run_id)) for run in runs}
    return {run.info.run_name: run for run in runs}, points, files


def test_a_search_is_a_run_with_a_child_per_trial(searched):
    search.mirror(searched.task.folder)
    runs, points, files = view()
    parent = runs["gradient_norm"]
    assert set(runs) == {"gradient_norm", *(f"trial-{n}" for n in range(6))}
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert parent.data.metrics["best_robust"] == searched.summary()["best"]["robust"]
    assert parent.data.metrics["finished"] == 6
    assert set(files["gradient_norm"]) == {
        "front.png",
        "history.png",
        "looks.csv",
        "search.json",
        "slice.png",
        "trials.csv",
    }
    trials = pd.read_csv(searched.task.folder / "trials.csv")
    for _, row in trials.iterrows():
        child = runs[f"trial-{row['trial']}"]
        assert child.data.tags["mlflow.parentRunId"] == parent.info.run_id
        assert child.data.tags["state"] == row["state"]
        assert float(child.data.params["strength"]) == row["strength"]
        assert child.data.metrics["robust"] == row["robust"]
        assert points[(f"trial-{row['trial']}", "clean")][-1] == (row["epochs"], row["clean"])


def test_said_twice_and_continued(searched):
    search.mirror(searched.task.folder)
    first = view()
    search.mirror(searched.task.folder)
    assert view()[1:] == first[1:]
    write(task(trials=8))
    search.mirror(searched.task.folder, "RUNNING")
    runs, points, _ = view()
    assert runs["gradient_norm"].info.status == "RUNNING"
    assert len(runs) == 9
    assert [value for _, value in points["gradient_norm", "finished"]] == [6, 8]
    assert points["trial-0", "robust"] == first[1]["trial-0", "robust"]
    search.mirror(searched.task.folder)
    assert view()[0]["gradient_norm"].info.status == "FINISHED"


def test_both_objectives_are_searches_of_their_own(searched):
    write(task(trials=2, objective="pareto"))
    assert len(search.folders(searched.task.study)) == 2
    for folder in search.folders(searched.task.study):
        search.mirror(folder)
    runs, _, _ = view()
    assert {"gradient_norm", "gradient_norm (pareto)"} <= set(runs)
    assert runs["gradient_norm"].data.metrics["finished"] == 6
    assert runs["gradient_norm (pareto)"].data.metrics["finished"] == 2


def test_a_deleted_database_is_rebuilt(searched):
    (searched.task.folder.parents[3] / "mlflow.db").unlink()
    with pytest.raises(tracking.UserError, match="no results yet"):
        tracking.track(["tiny"])
    assert view()[0]["gradient_norm"].data.metrics["finished"] == 6


def test_a_server_that_is_down_does_not_stop_a_search(searched, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with search.following(searched.task.folder, every=0.01):
        pass
    said = capsys.readouterr().err
    assert said.startswith("note: not followed in MLflow (no answer from http")
    assert said.count("\n") == 1


@pytest.mark.parametrize(("end", "status"), [(KeyboardInterrupt, "KILLED"), (ValueError, "FAILED")])
def test_how_a_search_ended_is_told(searched, end, status):
    with pytest.raises(end), search.following(searched.task.folder):
        raise end
    assert view()[0]["gradient_norm"].info.status == status
