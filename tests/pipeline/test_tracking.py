"""MLflow is a view: saying something twice changes nothing, and the run folders say it all."""

import multiprocessing
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from contextlib import chdir, closing
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import requests
import torch

import pipeline
from inputgrad import files
from inputgrad.errors import UserError
from pipeline import data, layout, store, tracking
from pipeline.fingerprint import hash_of_file
from pipeline.results.opened import OpenStudy
from pipeline.stages import runner
from pipeline.stages.attack import Evaluation, evaluate, trained
from pipeline.stages.train import train as train_run
from pipeline.study import origins
from pipeline.study.read import read_study
from pipeline.study.run import runs
from pipeline.tracking import contents, live, model, results, server, ui
from tests.conftest import edit, reseal, write_project
from tests.pipeline.test_ui import free_port

NOWHERE = "http://127.0.0.1:9"
"""Nothing listens there."""


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory):
    """MLflow's tables, which take two seconds to make."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("database"))
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        with server.connected() as client:
            client.search_experiments()
        return Path("mlflow.db").resolve()


@pytest.fixture(scope="session")
def trained_once(empty_database, tmp_path_factory):
    """A folder with MLflow's tables, the data of `tiny` and two losses trained; what attacks found is not published."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("trained"))
        shutil.copy(empty_database, "mlflow.db")
        write_project(Path())
        runner.prepare("tiny")
        study = read_study("tiny")
        for loss in ("standard", "gradient_norm"):
            train(study, loss)
            for run in runs(study, loss):
                evaluate(Evaluation(run))
        return Path.cwd()


@pytest.fixture
def study(project, trained_once):
    """The study `tiny` with its data and two losses trained; to attack them with its settings takes no time."""
    shutil.copytree(trained_once, project, dirs_exist_ok=True)
    return read_study("tiny")


def train(study, loss):
    """What the train stage leaves, without its processes, its timings and its audit."""
    found = {f"seed-{run.seed}": train_run(run) for run in runs(study, loss)}
    store.publish(found, layout.stage(study.name, loss, "train"))
    measured = layout.stage(study.name, loss, "measured")
    files.write_json(measured / "step_time.json", {"ratio": 2.0, "low": 1.9, "high": 2.1, "n": 120, "operations": 2.0})
    files.write_json(measured / "audit.json", {"kind": "depends", "verdict": "It does.", "checks": []})
    store.seal(measured, origins.of_measured(runs(study, loss)[0]), ("step_time.json", "audit.json"))


def attack(study, loss):
    """What the attack stage leaves."""
    found = {f"seed-{run.seed}": evaluate(Evaluation(run)) for run in runs(study, loss)}
    store.publish(found, layout.stage(study.name, loss, "attack"))


@pytest.fixture
def untraced(monkeypatch):
    """Models take a second or two; most tests are not about them."""
    monkeypatch.setattr(model, "mirror", lambda *_: "models:/m-none")
    monkeypatch.setattr(model, "score", lambda *_: None)


def view(study="tiny"):
    """Everything in MLflow that a user sees, without its own names and dates."""
    with server.connected() as client:
        experiment = client.get_experiment_by_name(study)
        return sorted(
            (describe(client, run) for run in client.search_runs([experiment.experiment_id])), key=lambda r: r[:3]
        )


def describe(client, run):
    points = sorted(
        (point.key, point.step, point.value)
        for key in run.data.metrics
        for point in client.get_metric_history(run.info.run_id, key)
    )
    tags = {k: v for k, v in run.data.tags.items() if k in ("current", "kind", "fingerprint", "attack_fingerprint")}
    parent = run.data.tags.get("mlflow.parentRunId")
    above = client.get_run(parent).data.tags["fingerprint"] if parent else ""
    return (
        tags["fingerprint"],
        run.info.run_name,
        tags.get("attack_fingerprint", ""),
        run.info.status,
        above,
        sorted(tags.items()),
        sorted(run.data.params.items()),
        points,
        sorted(artifacts(client, run.info.run_id)),
    )


def artifacts(client, run_id, path=None):
    """Paths of all artifacts; an image's name holds its moment and a random number, its step is the third part."""
    for file in client.list_artifacts(run_id, path):
        if file.is_dir:
            yield from artifacts(client, run_id, file.path)
        else:
            yield "+".join(file.path.split("+")[:3])


def named(found, name):
    """The runs of that name."""
    return [run for run in found if run[1] == name]


def test_a_loss_is_a_run_with_a_child_per_seed(study, untraced):
    attack(study, "gradient_norm")
    tracking.mirror(study, "gradient_norm")
    (parent,) = named(view(), "gradient_norm")
    children = [run for run in view() if run[4] == parent[0]]
    assert [child[1] for child in sorted(children, key=lambda c: c[1])] == [
        "gradient_norm-seed-0",
        "gradient_norm-seed-1",
    ]
    for run in (parent, *children):
        assert run[3] == "FINISHED"
        params, metrics = dict(run[6]), {key for key, _, _ in run[7]}
        assert (params["loss"], params["strength"], params["training.epochs"]) == ("gradient_norm", "0.3", "3")
        assert {"task_loss", "input_gradient_norm", "clean_accuracy", "robust_accuracy"} <= metrics
        assert [step for key, step, _ in run[7] if key == "validation_loss"] == [1, 2, 3]
        assert [step for key, step, _ in run[7] if key == "robust_accuracy/linf_1000_epsilon"] == [0, 100, 400]
    child = children[0]
    assert {"train/best.pt", "train/last.pt", "train/gradients.npz", "attack/outcomes.parquet"} <= set(child[8])
    assert {f"images/input_gradients+step+{epoch}" for epoch in (1, 2, 3)} <= set(child[8])


def test_a_parent_holds_the_means_of_its_seeds(study, untraced):
    attack(study, "standard")
    tracking.mirror(study, "standard")
    (parent,) = named(view(), "standard")
    means = {(key, step): value for key, step, value in parent[7]}
    children = [{(k, s): v for k, s, v in run[7]} for run in view() if run[4]]
    for point in children[0]:
        assert means[point] == pytest.approx(np.mean([child[point] for child in children]))


def test_saying_it_again_changes_nothing(study):
    for _ in range(2):
        tracking.mirror(study, "standard")
    attack(study, "standard")
    tracking.mirror(study, "standard")
    tracking.track(["tiny"])
    first, rows = view(), table_sizes()
    tracking.mirror(study, "standard")
    tracking.track(["tiny"])
    assert view() == first
    assert table_sizes() == rows


def test_a_mirroring_that_was_cut_off_is_completed(study, capsys):
    tracking.mirror(study, "standard")
    first, rows = view(), table_sizes()
    with server.connected() as client:
        experiment = client.get_experiment_by_name("tiny").experiment_id
        for run in client.search_runs([experiment]):  # everything was logged, but nothing had been ticked off
            client.delete_tag(run.info.run_id, "mirrored")
    tracking.mirror(study, "standard")
    assert capsys.readouterr().err == ""
    assert view() == first
    assert table_sizes() == rows


def table_sizes(file="mlflow.db"):
    """Rows of every table of a database."""
    with sqlite3.connect(file) as database:
        tables = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        return {name: database.execute(f"select count(*) from {name}").fetchone()[0] for name in tables}


def test_a_deleted_database_is_rebuilt_from_the_folders_alone(study, tmp_path_factory, monkeypatch):
    for loss in ("standard", "gradient_norm"):
        tracking.mirror(study, loss)  # before and after the attack, as the stages do
        attack(study, loss)
        tracking.mirror(study, loss)
    first, models = view(), table_sizes()["logged_models"]
    elsewhere = tmp_path_factory.mktemp("clone")
    shutil.copytree("experiments", elsewhere / "experiments")  # no .state, no database
    with chdir(elsewhere), pytest.raises(UserError, match=r"data/tiny\.npz is missing; fix: dvc repro"):
        tracking.track(["tiny"])
    shutil.copytree("data", elsewhere / "data")
    monkeypatch.chdir(elsewhere)
    tracking.track(["tiny"])
    assert (len(first), models) == (6, 2)
    assert view() == first
    assert table_sizes()["logged_models"] == models


def test_only_new_epochs_of_a_running_training_are_logged(study, untraced, monkeypatch, capsys):
    todo = runs(study, "standard")
    whole = [(run.state / "history.csv").read_text().splitlines(keepends=True) for run in todo]
    follower = live.Follower(study, "standard", todo)
    for run in todo:
        (run.state / layout.MANIFEST).unlink()
    for epochs in (1, 1, 2):
        for run, lines in zip(todo, whole, strict=True):
            (run.state / "history.csv").write_text("".join(lines[: epochs + 1]))
        follower.attempt("RUNNING")
        for run in view():
            assert run[3] == "RUNNING"
        for run in [run for run in view() if run[4]]:
            assert [step for key, step, _ in run[7] if key == "validation_loss"] == list(range(1, epochs + 1))
    with monkeypatch.context() as patch:  # nothing new: MLflow is not even opened
        patch.delattr(server, "connected")
        follower.attempt("RUNNING")
        assert follower.well
        follower.attempt("FAILED")
        assert not follower.well
    assert "not followed in MLflow" in capsys.readouterr().err
    tracking.mirror(study, "standard")
    assert capsys.readouterr().err == ""
    for run in view():
        assert run[3] == "FINISHED"
        assert [step for key, step, _ in run[7] if key == "validation_loss"] == [1, 2, 3]
    assert len(view()) == 3


def test_a_training_that_fails_is_a_failed_run(study, untraced):
    todo = runs(study, "standard")
    for run in todo:
        (run.state / layout.MANIFEST).unlink()
    with pytest.raises(UserError, match="nan"), live.following(study, "standard", todo, every=0.05):  # noqa: PT012
        while table_sizes()["runs"] < 3:
            time.sleep(0.01)
        raise UserError("nan")
    assert {run[3] for run in view()} == {"FAILED"}


def test_a_new_strength_is_a_new_run_and_supersedes_the_old_one(study, untraced):
    tracking.mirror(study, "gradient_norm")
    (old,) = named(view(), "gradient_norm")
    edit(study.file, "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 0.5")
    changed = read_study("tiny")
    train(changed, "gradient_norm")
    tracking.mirror(changed, "gradient_norm")
    (new,), (superseded,) = named(view(), "gradient_norm"), named(view(), "gradient_norm" + server.OLD)
    assert (dict(new[6])["strength"], dict(new[5])["current"]) == ("0.5", "true")
    assert (superseded[0], dict(superseded[5])["current"]) == (old[0], "false")
    assert len(view()) == 6
    train(study, "gradient_norm")  # and back again: nothing new
    tracking.mirror(study, "gradient_norm")
    (again,) = named(view(), "gradient_norm")
    assert (again[0], len(view())) == (old[0], 6)


def current(study="tiny"):
    """Which runs are current in MLflow: loss, seed if any, strength."""
    with server.connected() as client:
        experiment = client.get_experiment_by_name(study).experiment_id
        found = client.search_runs([experiment], "tags.current = 'true'")
        assert not any(run.info.run_name.endswith(server.OLD) for run in found)
        others = client.search_runs([experiment], "tags.current = 'false'")
        assert all(run.info.run_name.endswith(server.OLD) for run in others)
    keys = ("loss", "seed", "strength")
    return sorted(tuple(run.data.params.get(key, "") for key in keys) for run in found)


def ui_without_a_server(monkeypatch, capsys):
    """What `python -m pipeline ui` does before it starts MLflow's server, and what it warns of."""

    def end(*_):
        raise EndOfTest

    monkeypatch.setattr(ui, "command", end)
    with pytest.raises(EndOfTest):
        ui.serve(free_port())
    return capsys.readouterr().err


class EndOfTest(Exception):
    """A server would be started now."""


def test_going_back_through_dvcs_cache_is_seen_by_whoever_opens_mlflow(study, untraced, monkeypatch, capsys):
    """DVC restores the folders of the first strength and runs nothing."""
    tracking.mirror(study, "standard")
    for strength in ("0.3", "0.5"):
        study.file.write_text(re.sub(r"(gradient_norm: {strength:) 0\.\d", rf"\1 {strength}", study.file.read_text()))
        train(read_study("tiny"), "gradient_norm")
        tracking.mirror(read_study("tiny"), "gradient_norm")
    edit(study.file, "gradient_norm: {strength: 0.5", "gradient_norm: {strength: 0.3")
    train(study, "gradient_norm")
    with server.connected() as client:  # another run than that of the study is current until somebody looks
        experiment = client.get_experiment_by_name("tiny").experiment_id
        assert len(client.search_runs([experiment], "params.strength = '0.5' and tags.current = 'true'")) == 3
    assert ui_without_a_server(monkeypatch, capsys) == ""
    standard = [("standard", seed, "0") for seed in ("", "0", "1")]
    assert current() == [*(("gradient_norm", seed, "0.3") for seed in ("", "0", "1")), *standard]
    with monkeypatch.context() as patch:  # nothing has changed: MLflow is not even asked
        patch.setattr(server, "connected", None)
        tracking.catch_up(["tiny"])
        assert capsys.readouterr().err == ""
    with monkeypatch.context() as patch:  # nor by a stage that found its work finished
        patch.setattr(server, "connected", None)
        tracking.mirror(study, "standard")
        assert capsys.readouterr().err == ""
    edit(study.file, "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 0.5")
    train(read_study("tiny"), "gradient_norm")
    tracking.mirror(read_study("tiny"), "gradient_norm")  # a part was written: all is looked at again
    with monkeypatch.context() as patch:
        patch.setattr(server, "connected", None)
        tracking.catch_up(["tiny"])
        assert "tiny is not in MLflow" in capsys.readouterr().err


def test_a_loss_that_the_study_has_no_more_is_superseded(study, untraced, monkeypatch, capsys):
    for loss in ("standard", "gradient_norm"):
        tracking.mirror(study, loss)
    assert {loss for loss, _, _ in current()} == {"standard", "gradient_norm"}
    edit(study.file, "  gradient_norm: {strength: 0.3, p: 2}\n", "")
    assert ui_without_a_server(monkeypatch, capsys) == ""
    assert {loss for loss, _, _ in current()} == {"standard"}


def test_a_strength_that_has_not_been_run_yet_leaves_no_current_run(study, untraced, monkeypatch, capsys):
    """Its folders are of the old one, and `where` says so; the report is not shown as that of the study either."""
    tracking.mirror(study, "gradient_norm")
    edit(study.file, "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 0.5")
    tracking.catch_up(["tiny"])
    assert capsys.readouterr().err == ""
    assert {loss for loss, _, _ in current()} == {"standard"}


def test_a_training_that_is_under_way_stays_current(study, untraced, monkeypatch, capsys):
    shutil.rmtree(layout.stage(study.name, "gradient_norm", "train"))
    todo = runs(study, "gradient_norm")
    for run in todo:
        (run.state / layout.MANIFEST).unlink()
    live.Follower(study, "gradient_norm", todo).attempt("RUNNING")
    assert ui_without_a_server(monkeypatch, capsys) == ""
    assert {loss for loss, _, _ in current()} == {"standard", "gradient_norm"}


def test_a_damaged_folder_hides_no_other_loss(study, untraced, capsys):
    tracking.mirror(study, "gradient_norm")
    (layout.stage(study.name, "standard", "train") / "seed-0/run.json").write_text("{")
    for _ in range(2):  # and is said every time
        tracking.catch_up(["tiny"])
        warned = capsys.readouterr().err
        assert "run.json is damaged" in warned
        assert warned.count("\n") == 1
    assert {loss for loss, _, _ in current()} == {"gradient_norm"}


def test_the_end_of_a_study_brings_mlflow_up_to_it(study, untraced, pipeline):
    tracking.mirror(study, "gradient_norm")
    assert pipeline("where", "tiny").code == 0
    assert {loss for loss, _, _ in current()} == {"standard", "gradient_norm"}


def test_a_new_attack_on_the_same_weights_is_a_new_run(study, untraced):
    attack(study, "standard")
    tracking.mirror(study, "standard")
    edit(study.file, "grid: [0.0, 0.1, 0.4]", "grid: [0.0, 0.1, 0.2]")
    changed = read_study("tiny")
    attack(changed, "standard")
    tracking.mirror(changed, "standard")
    (new,), (old,) = named(view(), "standard"), named(view(), "standard" + server.OLD)
    for run, steps in ((new, [0, 100, 200]), (old, [0, 100, 400])):
        assert [step for key, step, _ in run[7] if key == "robust_accuracy/linf_1000_epsilon"] == steps
    assert (new[0], len(view())) == (old[0], 6)


def test_an_attack_on_other_weights_is_not_shown(study, untraced):
    attack(study, "standard")
    edit(study.file, "learning_rate: 0.01", "learning_rate: 0.02")
    changed = read_study("tiny")
    train(changed, "standard")
    tracking.mirror(changed, "standard")
    assert len(view()) == 3
    for run in view():
        assert not {key for key, _, _ in run[7]} & {"clean_accuracy", "robust_accuracy"}
    with pytest.raises(UserError, match=r"standard/attack/seed-0 is made .*; fix: dvc repro -f attack@tiny-standard$"):
        tracking.track(["tiny"])


def attacked_with(study, loss, linearity):
    """What the attack stage leaves, with numbers that are known: a value of `linearity` per seed, flagged above 0.3."""
    attack(study, loss)
    for seed, value in enumerate(linearity):
        target = layout.stage(study.name, loss, "attack") / f"seed-{seed}"
        found = {"ok": value <= 0.3, "value": value, "threshold": 0.3, "reason": "bends"}
        files.write_json(target / "masking.json", {"monotone": {**found, "ok": True, "value": 0.0}, "linearity": found})
        outcomes = pd.read_parquet(target / "outcomes.parquet")
        by_example = outcomes["example"].max() + 1
        pd.DataFrame(
            {
                "example": range(by_example),
                "gradient_norm_l1": 1.0,
                "gradient_norm_l2": 2.0 + seed,
                "jacobian_norm": 3.0,
                "gradient_sparsity": 0.5,
                "gradient_alignment": [np.nan, *[0.25] * (by_example - 1)],
                "gradient_stability": np.nan,
            }
        ).to_parquet(target / "descriptors.parquet")
        broken = outcomes["attack"] != "clean"  # everything but the clean predictions is broken, as far as ε reaches
        outcomes.assign(broken=broken, distance=outcomes["epsilon"]).to_parquet(target / "outcomes.parquet")
        reseal(target)


def test_the_masking_sheet_is_a_tag_of_every_attacked_run(study, untraced):
    attacked_with(study, "standard", [0.125, 0.5])
    for _ in range(2):
        tracking.mirror(study, "standard")
    with server.connected() as client:
        experiment = client.get_experiment_by_name("tiny").experiment_id
        found = {run.info.run_name: run.data.tags for run in client.search_runs([experiment])}
    sheets = {name: {k: v for k, v in tags.items() if k.startswith("masking")} for name, tags in found.items()}
    assert sheets == {
        "standard-seed-0": {"masking": "ok", "masking.monotone": "ok 0", "masking.linearity": "ok 0.125"},
        "standard-seed-1": {"masking": "linearity", "masking.monotone": "ok 0", "masking.linearity": "FLAG 0.5"},
        "standard": {"masking": "linearity", "masking.monotone": "ok 0", "masking.linearity": "FLAG 0.5"},
    }


def test_descriptors_and_distances_are_metrics_of_seeds_and_loss(study, untraced):
    attacked_with(study, "standard", [0.1, 0.1])
    tracking.mirror(study, "standard")
    found = {run[1]: {key: value for key, _, value in run[7]} for run in view()}
    for name, norm in (("standard-seed-0", 2.0), ("standard-seed-1", 3.0), ("standard", 2.5)):
        assert found[name]["test_input_gradient_norm"] == norm
        assert (found[name]["test_jacobian_norm"], found[name]["test_gradient_alignment"]) == (3, 0.25)
        assert found[name]["median_distance_linf"] == 0.1  # the smallest ε above 0
        assert "test_gradient_stability" not in found[name]  # nowhere finite


def test_a_sheet_that_is_broken_is_one_line(study, untraced, capsys):
    attacked_with(study, "standard", [0.1, 0.1])
    target = layout.stage(study.name, "standard", "attack") / "seed-1"
    (target / "masking.json").write_text("{")
    for wrong in ("is damaged", "does not hold what it should"):
        tracking.mirror(study, "standard")
        warned = capsys.readouterr().err
        assert f"masking.json {wrong}" in warned
        assert warned.count("\n") == 1
        with pytest.raises(UserError, match=rf"masking\.json {wrong}.*; fix: dvc repro -f attack@tiny-standard$"):
            tracking.track(["tiny"])
        reseal(target)


def write_report(study, numbers, page):
    """What the report stage leaves, as far as MLflow is told of it."""
    target = study.folder / "report"
    files.write_json(target / "metrics.json", numbers)
    files.write_text(target / "report.html", page)
    store.seal(target, OpenStudy(study).report_origin(["standard"]), ("metrics.json", "report.html"))


def test_the_report_is_logged_once_and_its_intervals_stand_beside_the_means(study, untraced, capsys):
    stated = study.file.read_text(encoding="utf-8")
    others = stated[stated.index("  detached_norm:") : stated.index("attack:")]
    edit(study.file, others, "")
    study = read_study("tiny")
    attack(study, "standard")
    tracking.mirror(study, "standard")
    values = {"mean": 0.5, "low": 0.4, "high": 0.6, "n": 2}
    sheet = {"masking": {"linearity": {"ok": True, "value": 0.1}}, "median_distance_linf": None}
    numbers = {"losses": {"standard": {"robust_accuracy": values, "input_gradient_norm": values, **sheet}}}
    write_report(study, numbers, "<p>first")
    for _ in range(2):
        tracking.catch_up(["tiny"])
    (logged,), (loss,) = named(view(), "report"), named(view(), "standard")
    assert "report.html" in logged[8]
    assert [p for p in loss[7] if p[0].startswith("test_input_gradient_norm_")] == [
        ("test_input_gradient_norm_high", 0, 0.6),
        ("test_input_gradient_norm_low", 0, 0.4),
        ("test_input_gradient_norm_n", 0, 2.0),
    ]
    write_report(study, numbers, "<p>second")
    tracking.catch_up(["tiny"])
    assert capsys.readouterr().err == ""
    assert len(named(view(), "report")) == len(named(view(), "report" + server.OLD)) == 1
    edit(study.file, "at_epsilon: {square: {queries: 20}", "at_epsilon: {square: {queries: 21}")
    attack(read_study("tiny"), "standard")
    with pytest.raises(UserError, match=r"tiny/report is made .*; fix: dvc repro report@tiny; if nothing changes"):
        tracking.track(["tiny"])


def test_the_data_of_a_run_are_its_input(study, untraced):
    tracking.mirror(study, "standard")
    with server.connected() as client:
        experiment = client.get_experiment_by_name("tiny").experiment_id
        inputs = [run.inputs.dataset_inputs for run in client.search_runs([experiment])]
    found = {(one.dataset.name, one.dataset.digest) for several in inputs for one in several}
    assert [len(several) for several in inputs] == [1, 1, 1]
    assert found == {("digits", hash_of_file(layout.data("tiny"))[:36])}


def test_no_run_ends_before_it_begins(study, untraced):
    """A folder out of DVC's cache may be older than the run that a live training had begun."""
    for run in runs(study, "standard"):
        (run.state / layout.MANIFEST).unlink()
    live.Follower(study, "standard", runs(study, "standard")).attempt("RUNNING")
    train(study, "standard")
    for file in Path("experiments").rglob("run.json"):
        os.utime(file, (1e9, 1e9))
    tracking.mirror(study, "standard")
    with server.connected() as client:
        experiment = client.get_experiment_by_name("tiny").experiment_id
        found = [run.info for run in client.search_runs([experiment])]
    assert len(found) == 3
    assert all(info.end_time >= info.start_time for info in found)


def test_the_tracking_uri_is_honoured(study, untraced, tmp_path, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path / 'mine.db'}")
    tracking.mirror(study, "standard")
    assert len(view()) == 3
    assert table_sizes()["runs"] == 0
    assert table_sizes(tmp_path / "mine.db")["runs"] == 3


def test_the_model_loads_and_gives_the_checkpoints_outputs_for_any_batch_size(study, monkeypatch):
    import mlflow

    tracking.mirror(study, "standard")
    attack(study, "standard")
    tracking.mirror(study, "standard")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri())
    with server.connected() as client:
        experiment = client.get_experiment_by_name("tiny").experiment_id
        (logged,) = client.search_logged_models([experiment])
        (parent,) = client.search_runs([experiment], "tags.kind = 'loss'")
    assert parent.data.tags["model"] == logged.model_uri
    assert mlflow.models.get_model_info(logged.model_uri).signature.inputs.inputs[0].shape == (-1, 1, 8, 8)
    best = next(s for s in results.LossFolder(OpenStudy(study), "standard").seeds if str(s.seed) == logged.tags["seed"])
    assert best.facts["best"]["validation_accuracy"] == max(
        seed.facts["best"]["validation_accuracy"] for seed in results.LossFolder(OpenStudy(study), "standard").seeds
    )
    x = data.read_data("tiny", read_study("tiny").data, ("test",)).x["test"][:7]
    run = runs(study, "standard")[best.seed]
    expected = trained(run, data.read_data("tiny", read_study("tiny").data, ("test",)))(x)
    assert logged.name == f"tiny-standard-seed-{best.seed}"
    assert {m.key: m.value for m in logged.metrics}["robust_accuracy"] == pytest.approx(
        {p.name: p.value for p in best.outcome}["robust_accuracy"]
    )
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    of_run = mlflow.pytorch.load_model(f"runs:/{parent.info.run_id}/model")
    assert torch.equal(of_run(x), expected)
    assert torch.equal(pipeline.load("tiny", "standard", seed=best.seed)(x), expected)
    loaded = mlflow.pytorch.load_model(logged.model_uri)
    assert torch.equal(loaded(x), expected)
    assert torch.equal(loaded(x[:1]), expected[:1]) or torch.allclose(loaded(x[:1]), expected[:1], atol=1e-6)
    served = mlflow.pyfunc.load_model(logged.model_uri).predict(x.numpy())
    np.testing.assert_allclose(served, expected.numpy(), atol=1e-6)


def test_four_processes_may_touch_a_fresh_database_at_once(study, untraced):
    Path("mlflow.db").unlink()
    fork = multiprocessing.get_context("fork")
    workers = [fork.Process(target=contents.mirror_loss, args=(OpenStudy(study), "standard")) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert len(view()) == 3


def test_a_server_that_is_down_costs_no_result(study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with live.following(study, "standard", runs(study, "standard"), every=0.01):
        time.sleep(0.5)
    said = capsys.readouterr().err
    assert "the training goes on" in said
    assert said.count("\n") == 1
    tracking.mirror(study, "standard")
    warned = capsys.readouterr().err
    assert warned.startswith("warning: tiny/standard is not in MLflow")
    assert warned.count("\n") == 1
    with pytest.raises(UserError, match="no answer from http"):
        tracking.track(["tiny"])


def test_a_server_that_never_answers_costs_its_time_out_once(study, monkeypatch, capsys):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # it accepts, and says nothing
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{silent.getsockname()[1]}")
        monkeypatch.setattr(server, "WAIT", 0.2)
        asked = []
        get = requests.get
        monkeypatch.setattr(requests, "get", lambda *a, **k: asked.append(a) or get(*a, **k))
        for _ in range(3):
            tracking.mirror(study, "standard")
            assert "no answer from http" in capsys.readouterr().err
        assert len(asked) == 1
        with pytest.raises(UserError, match="no answer from http"):  # a person who asks is believed
            tracking.track(["tiny"])
        assert len(asked) == 2
        os.utime(server.mark_of_silence(), (1e9, 1e9))
        tracking.mirror(study, "standard")
        assert len(asked) == 3
    monkeypatch.setenv("MLFLOW_TRACKING_URI", NOWHERE)
    assert not server.remembered()  # of another server


def make_folder(file):
    file.unlink(missing_ok=True)
    file.mkdir()


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (make_folder, "mlflow.db is a folder, no database; fix: delete it"),
        (lambda file: file.write_bytes(b"no database" * 100), "file is not a database; fix: delete it"),
    ],
    ids=["folder", "damaged"],
)
def test_a_database_that_is_none_is_said_at_once_and_in_one_line(study, monkeypatch, capsys, trouble, said):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    trouble(Path("mlflow.db").resolve())
    monkeypatch.setattr("mlflow.MlflowClient", None)  # it is not even asked
    tracking.mirror(study, "standard")
    warned = capsys.readouterr().err
    assert said in warned
    assert warned.count("\n") == 1
    with pytest.raises(UserError, match=re.escape(said)):
        tracking.track(["tiny"])


@pytest.mark.parametrize("reason", ["attempt to write a readonly database", "database or disk is full"])
def test_nobody_is_told_to_delete_a_database_that_is_whole(study, monkeypatch, reason):
    def connect(*_, **__):
        raise sqlite3.OperationalError(reason)

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(server.sqlite3, "connect", connect)
    with pytest.raises(UserError, match=f"{reason}; fix: end what holds it, or make it writable") as caught:
        server.check()
    assert "delete it" not in str(caught.value)


def test_a_database_that_is_held_is_waited_for_only_so_long(study, monkeypatch, capsys):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setattr(server, "WAIT", 0.1)
    with closing(sqlite3.connect("mlflow.db", isolation_level=None)) as holder:
        holder.execute("CREATE TABLE IF NOT EXISTS something (one INTEGER)")
        holder.execute("BEGIN EXCLUSIVE")
        tracking.mirror(study, "standard")
        assert "database is locked; fix: end what holds it" in capsys.readouterr().err
        with pytest.raises(UserError, match="database is locked"):
            tracking.track(["tiny"])
        holder.rollback()


def test_track_without_results_says_what_to_run(project):
    with pytest.raises(UserError, match="dvc repro"):
        tracking.track(["tiny"])


def test_a_short_training_does_not_even_import_mlflow(project):
    code = (
        "import sys; from pipeline.tracking import live; from pipeline.study.read import read_study\n"
        "with live.following(read_study('tiny'), 'standard', []): pass\n"
        "sys.exit('mlflow' in sys.modules)"
    )
    root = Path(tracking.__file__).parents[2]
    assert subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}).returncode == 0


def test_to_find_that_nothing_has_changed_imports_nothing_heavy(project):
    Path("mlflow.db").touch()
    code = (
        "import sys; from pipeline import tracking; tracking.catch_up(['tiny'])\n"
        "sys.exit(str({'torch', 'mlflow', 'pandas', 'numpy', 'pydantic'} & {*sys.modules} or ''))"
    )
    root = Path(tracking.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], env={"PYTHONPATH": str(root)}, capture_output=True, text=True)
    assert done.stderr.strip() == ""


def test_radii_below_a_thousandth_are_points_of_their_own():
    """They were rounded to one step, and the last one written was shown as the score without attack."""
    assert results.steps_per_unit([0.0, 0.05, 0.1]) == 1000
    assert results.steps_per_unit([0.0, 0.0001, 0.0002, 0.0004]) == 10_000
    assert results.steps_per_unit([0.0, 8 / 255, 8.01 / 255]) == 100_000
