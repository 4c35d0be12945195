"""`pipeline run`: everything of a study at once, with the results of the stages; what is finished is not done again."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.stages import attack, measured, runner, train
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit, only
from tests.pipeline.test_cli import expect_refusal
from tests.pipeline.test_repro import call, clone, ran

ROOT = Path(__file__).parents[2]
LOSSES = ("standard", "detached_norm", "gradient_norm")
PUBLISHED = "experiments/tiny/runs/gradient_norm"


def results(project: Path) -> dict[str, bytes]:
    """Every published file but those in `measured`, where seconds differ from time to time."""
    files = (f for f in (project / "experiments/tiny/runs").rglob("*.*") if f.is_file())
    return {str(f.relative_to(project)): f.read_bytes() for f in files if f.parent.name != "measured"}


@pytest.fixture
def project(project):
    """Of three losses: all of them are run."""
    only(project, *LOSSES)
    return project


@pytest.fixture
def untouched(monkeypatch):
    """After it is called, training or attacking anything is an error."""

    def forbid(*_):
        raise AssertionError("this was finished already")

    def start():
        monkeypatch.setattr(train, "train_epoch", forbid)
        monkeypatch.setattr(attack, "victim_of", forbid)
        monkeypatch.setattr(runner, "working", forbid)  # no process is started either
        monkeypatch.setattr(measured, "is_timed", lambda _: True)  # on a busy machine a time says nothing, no fault

    return start


def test_its_results_are_those_of_the_stages_and_the_stages_find_them(project, pipeline, untouched):
    done = pipeline("run", "tiny", "--jobs", "1")
    assert done.code == 0, done.err
    assert "3 losses trained, 3 attacked" in done.out
    campaign = results(project)
    assert sum(name.endswith("outcomes.parquet") for name in campaign) == 2 * len(LOSSES)
    for stage in ("train", "attack"):
        shutil.rmtree(project / f"experiments/tiny/runs/standard/{stage}")  # as DVC does before a stage
    untouched()
    for stage in ("train", "attack"):
        for loss in LOSSES:
            assert pipeline(stage, "tiny", loss, "--jobs", "1").code == 0
    assert results(project) == campaign
    shutil.rmtree(project / ".state")  # a clone whose results DVC has fetched: published and finished, without states
    assert "all 3 losses are up to date" in pipeline("run", "tiny").out


def test_the_stages_alone_give_the_same(project, pipeline):
    assert pipeline("prepare", "tiny").code == 0
    for stage in ("train", "attack"):
        for loss in LOSSES:
            assert pipeline(stage, "tiny", loss, "--jobs", "1").code == 0
    stages = results(project)
    shutil.rmtree(project / ".state")
    shutil.rmtree(project / "experiments/tiny")
    assert pipeline("run", "tiny", "--jobs", "2").code == 0
    assert results(project) == stages


def test_a_finished_state_that_is_damaged_is_made_again(project, pipeline):
    """What was finished before it was published is checked when it is published."""
    assert pipeline("run", "tiny", "--jobs", "1").code == 0
    whole = results(project)
    (best,) = {
        f for f in project.glob(".state/*/best.pt") if f.read_bytes() == whole[PUBLISHED + "/train/seed-0/best.pt"]
    }
    (outcomes,) = {
        f
        for f in project.glob(".state/*/outcomes.parquet")
        if f.read_bytes() == whole[PUBLISHED + "/attack/seed-1/outcomes.parquet"]
    }
    for file in (best, outcomes):
        file.write_bytes(file.read_bytes()[:-1] + b"x")
    shutil.rmtree(project / "experiments/tiny/runs/gradient_norm")
    done = pipeline("run", "tiny", "--jobs", "1")
    assert done.code == 0, done.err
    assert [line.split(": its bytes")[0] for line in done.err.splitlines()] == [
        f"note: {file.resolve()} is damaged" for file in (best, outcomes)
    ]
    assert results(project) == whole


def test_only_what_an_edit_touches_is_done_again(project, pipeline):
    assert pipeline("run", "tiny", "--jobs", "1").code == 0
    edit(project / "experiments/tiny.yaml", "strength: 0.3, p: 2", "strength: 0.4, p: 2")
    assert "1 losses trained, 1 attacked" in pipeline("run", "tiny", "--jobs", "1").out
    edit(project / "experiments/tiny.yaml", "grid: [0.0, 0.1, 0.4]", "grid: [0.0, 0.1, 0.3]")
    assert "0 losses trained, 3 attacked" in pipeline("run", "tiny", "--jobs", "1").out
    assert "up to date" in pipeline("run", "tiny", "--jobs", "1").out


def test_a_run_that_diverges_does_not_stop_the_others(project, pipeline):
    edit(project / "experiments/tiny.yaml", "gradient_norm: {strength: 0.3", "gradient_norm: {strength: 1.0e+39")
    done = pipeline("run", "tiny", "--jobs", "1")
    expect_refusal(done, "tiny/gradient_norm/seed-0: the loss became", "every other loss is finished")
    assert "seed-1" not in done.err
    runs_of = (Run(read_study("tiny"), "gradient_norm", seed) for seed in (0, 1))
    assert [run.state.exists() for run in runs_of] == [True, False], "a loss that has failed begins no further seed"
    there = {folder.name for folder in (project / "experiments/tiny/runs").iterdir()}
    assert there == {"standard", "detached_norm"}
    assert all((project / f"experiments/tiny/runs/{name}/attack/seed-1/manifest.json").exists() for name in there)


def test_a_step_that_could_not_be_timed_is_timed_once_for_a_command(project, pipeline, monkeypatch):
    only(project, "standard")
    times = iter([{"ratio": None, "low": 1.0, "high": 9.0, "n": 120, "operations": 1.0}])
    monkeypatch.setattr(measured, "step_time", lambda run, dataset: next(times))
    done = pipeline("run", "tiny", "--jobs", "1")
    assert (done.code, done.err) == (0, "")


def test_a_worker_that_is_killed_costs_nothing(project, pipeline):
    """SIGKILL to one of the processes in the middle: another takes its place and resumes; the bytes are the same."""
    edit(project / "experiments/tiny.yaml", "epochs: 3", "epochs: 60")
    only(project, "standard")
    command = [sys.executable, "-m", "pipeline", "run", "tiny", "--jobs", "2"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while len(list(project.glob(".state/*/history.csv"))) < 2:
        assert process.poll() is None
        time.sleep(0.02)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(children[0]), signal.SIGKILL)
    assert not list(project.glob(".state/*/run.json"))
    histories = {f: f.read_text() for f in project.glob(".state/*/history.csv")}
    while (left := [f for f in histories if not (f.parent / "run.json").exists()]) and process.poll() is None:
        assert all(f.read_text().startswith(histories[f]) for f in left), "a training started again from nothing"
        time.sleep(0.02)
    output, errors = process.communicate()
    assert (process.returncode, errors) == (0, "")
    assert "1 losses trained, 1 attacked" in output
    reference = results(project)
    shutil.rmtree(project / ".state")
    shutil.rmtree(project / "experiments/tiny")
    assert pipeline("run", "tiny", "--jobs", "1").code == 0
    assert results(project) == reference


def test_dvc_picks_it_up(tmp_path):
    """`dvc repro` after it: DVC was told of every stage but the report, and no state is written again."""
    root = clone(tmp_path / "clone")
    call(sys.executable, "-m", "pipeline", "run", "tiny", cwd=root)
    written = {f: f.stat().st_mtime_ns for f in root.glob(".state/[0-9a-f]*/*.*")}
    assert len([f for f in written if f.name in ("run.json", "outcomes.parquet")]) == 4 * len(LOSSES)
    assert ran(call("dvc", "repro", cwd=root)) == {"report@tiny"}
    assert {f: f.stat().st_mtime_ns for f in root.glob(".state/[0-9a-f]*/*.*")} == written
    assert (root / "experiments/tiny/report/report.html").exists()
    assert "up to date" in call(sys.executable, "-m", "pipeline", "run", "tiny", cwd=root)


def test_mistakes_are_one_line(project, pipeline, monkeypatch):
    expect_refusal(pipeline("run", "tyni"), "did you mean 'tiny'?")
    expect_refusal(pipeline("run", "tiny", "--engine", "rya"), "--engine", "did you mean 'ray'?")
    expect_refusal(pipeline("run", "tiny", "--address", "127.0.0.1:6379"), "--address", "--engine ray")
    expect_refusal(pipeline("run", "tiny", "--gpus-per-task", "0.5"), "--gpus-per-task", "--engine ray")
    assert "--jobs" in pipeline("run", "tiny", "--jobs", "0").err
    ray = ("run", "tiny", "--engine", "ray")
    for share in ("0", "-1", "1.5", "nan", "inf"):
        expect_refusal(pipeline(*ray, "--gpus-per-task", share), "between 0 and 1")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    expect_refusal(pipeline(*ray, "--gpus-per-task", "0.5"), "no GPU", "leave the option away")
    edit(project / "experiments/tiny.yaml", "seeds: [0, 1]", "seeds: [0, 1], device: cpu")
    expect_refusal(pipeline(*ray, "--gpus-per-task", "0.5"), "asks for the CPU")
    monkeypatch.setitem(sys.modules, "ray", None)
    expect_refusal(pipeline(*ray), "Ray is not installed", "pip install -r requirements-scale.txt")
    for address in ("nowhere", "ray://127.0.0.1:10001", "127.0.0.1:port"):
        expect_refusal(pipeline(*ray, "--address", address), address, "HOST:PORT")
    expect_refusal(pipeline(*ray, "--address", "127.0.0.1:1"), "no Ray cluster answers there", "ray start --head")
    assert not (project / "experiments/tiny").exists()


def test_every_requirement_of_a_cluster_is_pinned_and_is_the_one_of_this_project():
    pins = [dict(re.findall(r"^([\w-]+)==(\S+)", (ROOT / name).read_text(), re.M)) for name in (
        "requirements-scale.txt", "requirements.txt")]  # fmt: skip
    assert {"ray", "psycopg", "psycopg-binary"} <= set(pins[0])
    for line in (ROOT / "requirements-scale.txt").read_text().splitlines():
        assert re.match(r"#|[\w-]+==\S+", line), line
    assert all(pins[1].get(name, version) == version for name, version in pins[0].items())
