"""The command line: fast help, one line and exit code 2 for every mistake, no traceback."""

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import edit

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "mlflow", "pandas", "numpy", "optuna", "pydantic"}


def python(*arguments, **environment):
    """A Python of its own, which finds the project's package, in the current folder."""
    return subprocess.run(
        [sys.executable, *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        capture_output=True,
        text=True,
        timeout=120,
    )


def expect_refusal(done, *pieces):
    """Exit code 2, one line on stderr with these pieces, no traceback."""
    assert done.code == 2, done
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    for piece in pieces:
        assert piece in done.err


def test_help_lists_the_commands_and_imports_nothing_heavy():
    code = (
        "import sys; from pipeline.cli import cli\n"
        "try:\n    cli(['--help'])\nfinally:\n    print('HEAVY', sorted(set(sys.modules) & set(sys.argv[1:])))"
    )
    done = python("-c", code, *HEAVY)
    assert "HEAVY []" in done.stdout
    for command in ("check", "prepare", "train", "attack", "report", "audit", "strength", "search", "track", "ui"):
        assert command in done.stdout


def test_check_says_what_it_found(project, pipeline):
    subprocess.run(["git", "init", "-q"], check=True)
    done = pipeline("check")
    assert done.code == 0, done.err
    assert "experiments/tiny.yaml: classification, 5 losses, 2 seeds" in done.out
    assert {p.name for p in project.iterdir()} == {".git", "experiments", "params.yaml"}  # nothing was run


def test_a_mistake_in_a_study(project, pipeline):
    edit(project / "experiments/tiny.yaml", "strength: 0.3, p: 2", "stregth: 0.3, p: 2")
    subprocess.run(["git", "init", "-q"], check=True)
    expect_refusal(
        pipeline("check"), "experiments/tiny.yaml", "losses.gradient_norm.stregth", "did you mean 'strength'?"
    )


def test_no_git_repository(project, pipeline, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(project.parent))
    expect_refusal(pipeline("check"), "git init")


def test_an_unknown_study_or_loss(project, pipeline):
    expect_refusal(pipeline("train", "tyni", "standard"), "did you mean 'tiny'?")
    expect_refusal(pipeline("train", "tiny", "standrad"), "did you mean 'standard'?")


def test_train_without_data(project, pipeline):
    expect_refusal(pipeline("train", "tiny", "standard"), "data/tiny.npz is missing", "dvc repro")
    assert not (project / "experiments/tiny").exists()


def test_attack_without_training(project, pipeline):
    assert pipeline("prepare", "tiny").code == 0
    expect_refusal(
        pipeline("attack", "tiny", "standard"),
        "train/seed-0/manifest.json is missing",
        "fix: dvc repro -f train@tiny-standard",
    )
    assert not (project / "experiments/tiny").exists()


def test_train_that_turns_nan_publishes_nothing(project, pipeline):
    """The error crosses from the worker's process as one line."""
    edit(project / "experiments/tiny.yaml", "learning_rate: 0.01", "learning_rate: 1.0e+30")
    assert pipeline("prepare", "tiny").code == 0
    expect_refusal(pipeline("train", "tiny", "standard"), "tiny/standard/seed-", "at step")
    assert not (project / "experiments/tiny").exists()


def test_unknown_commands_and_options(project, pipeline):
    for arguments in (["trian"], ["train"], ["train", "tiny", "standard", "--jobs", "0"]):
        done = pipeline(*arguments)
        assert done.code == 2
        assert "Traceback" not in done.err
        assert "Usage" in done.err


def test_a_port_in_use(project, pipeline):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        expect_refusal(pipeline("ui", "--port", str(taken.getsockname()[1])), "in use", "--port")


def test_a_full_disk_is_one_line_and_leaves_nothing_behind(project, pipeline, monkeypatch):
    """ENOSPC from the first write of a checkpoint: the run stops, nothing is published, no temporary file stays."""

    def full(contents, path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert pipeline("prepare", "tiny").code == 0
    monkeypatch.setattr(torch, "save", full)
    expect_refusal(pipeline("train", "tiny", "standard", "--jobs", "1"), "No space left on device")
    assert not (project / "experiments/tiny").exists()
    assert not list(project.glob(".state/*/.*tmp"))


@pytest.mark.parametrize("limit", [0, 4_000, 12_000])
def test_a_disk_that_ends_in_the_middle_of_a_file_is_one_line(project, pipeline, limit):
    """The system itself refuses to write beyond a size; torch's own writer would turn that into an error of its own."""
    assert pipeline("prepare", "tiny").code == 0
    code = (
        f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}));"
        " sys.argv[1:] = ['train', 'tiny', 'standard', '--jobs', '1'];"
        " from pipeline.cli import main; main()"
    )
    done = python("-c", code)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "File too large; nothing was left half-written" in done.stderr
    assert not (project / "experiments/tiny").exists()
    assert not list(project.glob(".state/*/.*tmp"))
    assert pipeline("train", "tiny", "standard", "--jobs", "1").code == 0


def test_a_strength_is_converted(project, pipeline):
    done = pipeline("strength", "ross2018", "56234.13", "--batch-size", "256")
    assert done.code == 0, done.err
    assert "109.83" in done.out
    expect_refusal(pipeline("strength", "ross2018", "1"), "--batch-size")


def test_a_python_without_the_packages_says_what_to_do():
    done = python("-S", "-m", "pipeline", "check")
    assert done.returncode == 2
    assert "make setup" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_help_keeps_its_lines(pipeline):
    """click takes a real backspace; the letters would be printed."""
    printed = pipeline("--help").out
    assert "\n  The whole way:      dvc repro\n" in printed
    assert "\\b" not in printed
