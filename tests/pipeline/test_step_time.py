"""The cost of a step: true beside a busy neighbour, or not given; counted operations; measured again on request."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from inputgrad import files
from pipeline import data, layout
from pipeline.stages import measured, runner
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit, only


def rounds(ratio, noise, n=120, seed=0):
    """Seconds of n rounds: a step and one `ratio` times as long, each made longer by what `noise` draws."""
    draw = np.random.default_rng(seed)
    return np.array([[1e-3, ratio * 1e-3]] * n) * (1 + noise(draw, (n, 2)))


def test_a_quiet_machine_gives_the_ratio_and_a_narrow_interval():
    found = measured.estimate(rounds(2.3, lambda draw, size: 0.02 * draw.random(size)))
    assert found["ratio"] == pytest.approx(2.3, rel=0.01)
    assert found["low"] < found["ratio"] < found["high"]
    assert found["high"] - found["low"] < 0.05
    assert found["n"] == 120
    assert found["seconds_per_step"] == pytest.approx(2.3e-3, rel=0.02)
    assert found["seconds_per_step_standard"] == pytest.approx(1e-3, rel=0.02)


def test_steps_that_a_neighbour_delays_now_and_then_do_not_move_it():
    """Half of them by up to five times, which moves a mean and a median of ratios."""
    found = measured.estimate(rounds(2.3, lambda draw, size: (draw.random(size) < 0.5) * 4 * draw.random(size)))
    assert found["ratio"] == pytest.approx(2.3, rel=0.05)


def test_a_ratio_whose_interval_is_too_wide_is_none():
    found = measured.estimate(rounds(2.3, lambda draw, size: draw.exponential(5.0, size)))
    assert found["ratio"] is None
    assert (found["high"] - found["low"]) / 2 > measured.LIMIT * 2.3
    assert all(np.isfinite([found["low"], found["high"], found["seconds_per_step"]]))


@pytest.fixture
def run(project):
    """A function that makes a run of the study `tiny`, whose data is prepared."""
    runner.prepare("tiny")
    return lambda loss: Run(read_study("tiny"), loss, 0)


def train_split(run):
    return data.read_data("tiny", run.study.data, ("train",))


def test_the_clock_counts_this_thread_and_no_other(run):
    """Waiting costs nothing: so a neighbour who has the processor meanwhile does not either."""
    assert measured.clock(lambda: __import__("time").sleep(0.2), torch.device("cpu")) < 0.1


def test_operations_are_those_of_the_pass_backward_and_double_backward(run):
    """A penalty runs every product of the plain step again, and their backward; the control the first half of it."""
    dataset = train_split(run("standard"))
    counts = {name: measured.operations(run(name), dataset) for name in ("standard", "detached_norm", "gradient_norm")}
    n, inputs, hidden, outputs = 256, 64, 8, 10
    first, second = 2 * n * inputs * hidden, 2 * n * hidden * outputs
    assert counts["standard"] == 2 * first + 3 * second  # forward, weights; of the second layer also its input
    assert counts["detached_norm"] > counts["standard"]
    assert counts["gradient_norm"] > counts["detached_norm"]


@pytest.mark.parametrize("settings", ["compile: true", "precision: bfloat16", "schedule: one_cycle", "average: 0.9"])
def test_the_step_is_that_of_the_study(run, settings, monkeypatch):
    """With whatever its training does at a step; one that is compiled has as many operations as the eager one."""
    for name in ("ROUNDS", "FEWEST"):
        monkeypatch.setattr(measured, name, 10)
    plain = measured.operations(run("fgsm"), train_split(run("fgsm")))
    edit(Path("experiments/tiny.yaml"), "epochs: 3", f"epochs: 1, {settings}")
    found = measured.step_time(run("fgsm"), train_split(run("fgsm")))
    assert found["n"] == 10
    assert found["operations"] > 1.5
    if settings == "compile: true":
        assert measured.operations(run("fgsm"), train_split(run("fgsm"))) == plain


def test_a_term_on_every_third_step_counts_as_a_third(run):
    edit(Path("experiments/tiny.yaml"), "{strength: 0.3, p: 2}", "{strength: 0.3, p: 2, every: 3}")
    rare, dataset = run("gradient_norm"), train_split(run("standard"))
    one, plain = (measured.operations(run(name), dataset) for name in ("gradient_norm", "standard"))
    edit(Path("experiments/tiny.yaml"), ", every: 3", "")
    always = measured.operations(run("gradient_norm"), dataset)
    assert one == pytest.approx((2 * plain + always) / 3)
    assert len(measured.Steps(rare, dataset).strengths) == 3


def test_the_one_that_comes_first_changes_and_long_steps_need_fewer_rounds(monkeypatch):
    order = []
    monkeypatch.setattr(measured, "timed", lambda steps: order.append(steps()) or 1.0)
    found = measured.in_turn([lambda: "plain", lambda: "own"])
    assert found.shape == (measured.FEWEST, 2)  # 40 rounds of 2 s are more than a minute
    assert order[:4] in (["plain", "own", "own", "plain"], ["own", "plain", "plain", "own"])


def test_a_loss_that_could_not_be_timed_is_timed_again_when_its_stage_runs_again(project, monkeypatch):
    """Also where everything else is finished and published; a time that is known is kept."""
    only(project, "standard")
    monkeypatch.setattr("pipeline.tracking.mirror", lambda *_: None)
    runner.prepare("tiny")
    known = {"ratio": 2.0, "low": 1.9, "high": 2.1, "n": 120, "operations": 2.0}
    times = iter([{**known, "ratio": None}, known])
    monkeypatch.setattr(measured, "step_time", lambda run, dataset: next(times))
    file = Path("experiments/tiny/runs/standard/measured/step_time.json")
    runner.train("tiny", "standard", jobs=1)
    assert json.loads(file.read_text(encoding="utf-8"))["ratio"] is None
    trained = file.parents[1] / "train/seed-0" / layout.MANIFEST
    before = trained.read_bytes()
    files.remove(file.parent)  # as DVC does before it runs a stage
    runner.train("tiny", "standard", jobs=1)
    assert json.loads(file.read_text(encoding="utf-8")) == known
    assert trained.read_bytes() == before
    runner.train("tiny", "standard", jobs=1)  # or the iterator would be empty
    assert measured.is_timed(file.parent)
