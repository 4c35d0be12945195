"""Can DVC work in this folder? Asked before anything is trained: DVC itself would say it at the end."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from inputgrad.errors import UserError


def refuse_without_git() -> None:
    """Raise unless git is installed and this folder is in a repository that does not ignore it."""
    if shutil.which("git") is None:
        raise UserError("git is not installed, which DVC needs; fix: install it")
    inside = git("rev-parse", "--git-dir")
    if "not a git repository" in inside.stderr:
        raise UserError("this folder is not in a git repository, which DVC needs; fix: git init")
    if inside.returncode:
        raise UserError(f"git refuses this folder ({' '.join(inside.stderr.split())}); fix: what git says there")
    if git("check-ignore", "--quiet", "dvc.yaml").returncode == 0:
        raise UserError("a repository around this folder ignores dvc.yaml, so that DVC does too; fix: git init")


def refuse_without_dvc() -> None:
    if not Path(".dvc").is_dir():
        raise UserError("there is no folder .dvc; fix: dvc init")


def git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git; its words are English."""
    environment = {**os.environ, "LC_ALL": "C"}
    return subprocess.run(["git", *arguments], capture_output=True, text=True, encoding="utf-8", env=environment)
