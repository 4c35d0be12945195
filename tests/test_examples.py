"""The examples run, and print what their docstrings promise."""

import re
import runpy
from pathlib import Path

import pytest
import torch

FOLDER = Path(__file__).parents[1] / "examples"


@pytest.fixture
def run(capsys):
    """A function that runs one example and gives every line it printed with the numbers in it."""

    def of(name):
        with torch.random.fork_rng():
            runpy.run_path(str(FOLDER / f"{name}.py"), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        return {line.partition(":")[0]: [float(n) for n in re.findall(r"\d+\.\d+(?:e-\d+)?", line)] for line in lines}

    return of


def test_every_example_is_tested_and_named_in_the_index():
    tests = Path(__file__).read_text(encoding="utf-8")
    index = (FOLDER / "README.md").read_text(encoding="utf-8")
    for file in FOLDER.glob("*.py"):
        assert f'run("{file.stem}")' in tests
        assert f"`{file.stem}`" in index


def test_the_penalty_makes_the_gradient_smaller_at_the_same_accuracy(run):
    found = run("training_loop")
    (accuracy, norm), (plain_accuracy, plain_norm) = found["GradientNorm"], found["Standard"]
    assert accuracy >= plain_accuracy - 0.02
    assert norm < plain_norm / 2


def test_the_void_loss_is_found(run, capsys):
    runpy.run_path(str(FOLDER / "void_loss.py"))
    void, right = capsys.readouterr().out.splitlines()
    assert "does not" in void
    assert "training follows it" in right
    assert list(run("void_loss")) == ["void", "right"]


def test_the_equation_is_solved(run):
    ((before, after, error),) = run("differential_equation").values()
    assert after < before / 1000
    assert error < 0.01


def test_the_critic_measures_the_distance(run):
    ((slope, distance),) = run("critic").values()
    assert abs(slope - 1) < 0.3
    assert abs(distance - 3) < 0.8


def test_a_prior_of_one_s_own_moves_the_attribution(run):
    found = run("attribution_priors")
    accuracy, share = found["Standard"]
    for prior in ("InputTimesGradient", "SaliencyGuided"):
        assert found[prior][0] > accuracy
        assert found[prior][1] < share / 2
