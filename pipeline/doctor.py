"""Is this machine ready? One line for each thing that a study needs, and the fix where it is not as it should be."""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from packaging.requirements import Requirement

from inputgrad.errors import UserError
from pipeline import layout, repository
from pipeline.tracking import moved

FREE_GB = 2.0
"""Disk that the shipped studies need, with MLflow's copies."""


def python() -> str:
    return f"Python {sys.version.split()[0]}"


def packages() -> str:
    """Every pinned package in the version that is pinned for this Python."""
    lines = Path("requirements.txt").read_text(encoding="utf-8").splitlines()
    pins = [Requirement(line.partition(" #")[0]) for line in lines if line.strip() and line[0] not in " #-"]
    here = [pin for pin in pins if pin.marker is None or pin.marker.evaluate()]
    wrong = [f"{pin.name} {installed(pin.name)}, not {pin.specifier}" for pin in here if not fits(pin)]
    if wrong:
        raise UserError(f"{len(wrong)} of {len(here)} packages differ ({', '.join(wrong[:3])}); fix: make setup")
    return f"{len(here)} packages as in requirements.txt"


def fits(pin: Requirement) -> bool:
    return pin.specifier.contains(installed(pin.name), prereleases=True)


def installed(name: str) -> str:
    try:
        return version(name).partition("+")[0]
    except PackageNotFoundError:
        return "0"


def device() -> str:
    import torch

    gpu = f"CUDA: {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "no GPU"
    return f"torch {torch.__version__}, {gpu}, {torch.get_num_threads()} threads"


def double_backward() -> str:
    """A penalty on the input gradient trains the weights here."""
    import torch
    from torch import nn

    from inputgrad.audit import audit
    from inputgrad.losses.gradient_norm import GradientNorm

    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.SiLU(), nn.Linear(8, 3))
    found = audit(GradientNorm(strength=1.0), net, torch.rand(6, 4), torch.tensor([0, 1, 2, 0, 1, 2]))
    if not found.depends:
        raise UserError(f"a penalty on the input gradient does not act here ({found.kind}); fix: make setup")
    return "a penalty on the input gradient acts"


def disk() -> str:
    free = shutil.disk_usage(".").free / 1e9
    if free < FREE_GB:
        raise UserError(f"{free:.1f} GB free, the studies need {FREE_GB:g}; fix: make room")
    return f"{free:.0f} GB free"


def git() -> str:
    repository.refuse_without_git()
    return "a git repository"


def dvc() -> str:
    repository.refuse_without_dvc()
    return f"DVC {version('dvc')}"


def studies() -> str:
    from pipeline.study.params import check_all

    return f"{len(check_all())} studies, and params.yaml is up to them"


def database() -> str:
    """MLflow's database, where there is one."""
    file = layout.database()
    if not file.exists():
        return "no MLflow database yet: the first study makes it"
    try:
        with closing(sqlite3.connect(f"{file.as_uri()}?mode=ro", uri=True, timeout=2)) as connection:
            count = connection.execute("select count(*) from runs").fetchone()[0]
            others = [] if file.is_symlink() else moved.elsewhere(connection)
    except sqlite3.Error as error:
        raise UserError(f"{file} is damaged ({error}); fix: delete it, then python -m pipeline track") from error
    if others:
        raise UserError(f"{file} was made in another folder and names {others[0]}; fix: {moved.FIX}")
    return f"MLflow database with {count} runs"


CHECKS: tuple[Callable[[], str], ...] = (python, packages, device, double_backward, disk, git, dvc, studies, database)


def lines() -> Iterator[tuple[bool, str]]:
    """Whether each thing is as it should be, and a line about it."""
    for check in CHECKS:
        try:
            yield True, f"ok     {check()}"
        except (UserError, OSError) as error:
            yield False, f"WRONG  {' '.join(str(error).split())}"
