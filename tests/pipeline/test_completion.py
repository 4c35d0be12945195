"""What bash offers after `python -m pipeline …`, asked of bash itself."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline import completion
from tests.conftest import LOSSES

ROOT = Path(__file__).parents[2]


def offered(*words):
    """What comes up when Tab is pressed at the end of these words."""
    quoted = " ".join(f"'{word}'" for word in words)
    script = f"""
    eval "$("$1" -m pipeline completion)"
    COMP_WORDS=({quoted}); COMP_CWORD={len(words) - 1}
    _pipeline_complete "$1"
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", sys.executable],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["tr"], ["track", "train"]),
        (["train", "t"], ["tiny"]),
        (["train", "other"], []),
        (["train", "tiny", "gradient_"], ["gradient_norm", "gradient_direction"]),
        (["train", "tiny", "--j"], ["--jobs"]),
        (["attack", "none", "s"], []),
    ],
)
def test_it_offers_what_may_come_next(project, words, expected):
    assert offered("python", "-m", "pipeline", *words) == expected


def test_other_programs_of_python_are_left_alone(project):
    assert offered("python", "-m", "pytest", "ti") == []


def test_a_study_with_a_mistake_offers_nothing_and_says_nothing(project):
    assert set(offered("python", "-m", "pipeline", "train", "tiny", "")) >= {*LOSSES}
    (project / "experiments/tiny.yaml").write_text("losses: [")
    assert not {*offered("python", "-m", "pipeline", "train", "tiny", "")} & {*LOSSES}


def test_the_script_asks_through_the_variable_that_is_read():
    assert f"{completion.VARIABLE}=bash_complete" in completion.SCRIPT
