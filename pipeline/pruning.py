"""What no study uses any more: states of runs, superseded runs in MLflow, files in DVC's cache."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from inputgrad import files
from inputgrad.errors import UserError
from pipeline import layout
from pipeline.results.opened import OpenStudy
from pipeline.study.read import read_study
from pipeline.tracking import server

STATE = re.compile(r"[0-9a-f]{16}")
"""The name of a state: a fingerprint."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is of no use.

    states: folders of .state/. superseded: identifiers of MLflow's runs. cached: how many objects of DVC's cache.
    shared: DVC's cache where it lies outside this project: others may use what this one does not, so it is left alone.
    """

    states: list[Path]
    superseded: list[str]
    cached: int
    shared: Path | None = None

    @property
    def any(self) -> bool:
        return bool(self.states or self.superseded or self.cached)

    def lines(self) -> list[str]:
        size = sum(file.stat().st_size for state in self.states for file in state.rglob("*") if file.is_file())
        return [
            f".state/: {len(self.states)} folders that no study of experiments/ uses, {size / 1e6:.1f} MB",
            f"MLflow: {len(self.superseded)} superseded runs",
            f"DVC's cache: {self.cached} objects that this workspace does not use (another branch may)"
            if self.shared is None
            else f"DVC's cache: {self.shared} is left alone: other projects may use it",
        ]

    def delete(self) -> str:
        for state in self.states:
            files.remove(state)
        if self.superseded:
            with server.connected() as client:
                for run_id in self.superseded:
                    client.delete_run(run_id)
            # for good, with their artifacts
            uri = ["--backend-store-uri", server.uri(), "--tracking-uri", server.uri()]
            done(sys.executable, "-m", "mlflow", "gc", *uri, "--run-ids", ",".join(self.superseded))
        if self.cached:
            done(sys.executable, "-m", "dvc", "gc", "--workspace", "--force", "--quiet")
        return "deleted"


def find() -> Found:
    shared = shared_cache()
    return Found(
        states=list(unused_states()), superseded=superseded(), cached=cached() if shared is None else 0, shared=shared
    )


def unused_states() -> Iterator[Path]:
    """Folders of .state/ that belong to no run of any study, nor to a command that is running now."""
    used = {fingerprint for file in layout.study_files() for fingerprint in fingerprints(file.stem)}
    for folder in sorted(layout.state().glob("*")):
        if STATE.fullmatch(folder.name) and folder.name not in used and not is_held(folder):
            yield folder


def fingerprints(name: str) -> Iterator[str]:
    """Of the trainings of a study and of the attacks on what is there; what it searches is begun again anyway.

    Raises:
        UserError: the study is not valid, so that nobody knows what it uses.
    """
    study = read_study(name)
    opened, seeds = OpenStudy(study), study.training.seeds
    results: list[tuple[str, str, int | None]] = [("checkpoint", name, None) for name in study.checkpoints]
    results += [("measured", loss, None) for loss in study.losses]
    results += [(stage, loss, seed) for loss in study.losses for seed in seeds for stage in ("train", "attack")]
    for result in results:
        with suppress(UserError):  # its data are not there, or it is not trained: it was never made here
            yield opened.origin(*result).fingerprint


def is_held(folder: Path) -> bool:
    try:
        with FileLock(folder / "lock", timeout=0):
            return False
    except Timeout:
        return True


def superseded() -> list[str]:
    """Runs whose settings no study has any more; a server's are left to those who keep it."""
    if server.is_remote() or not Path(server.uri().removeprefix("sqlite:///")).exists():
        return []
    with server.connected() as client:
        where = [experiment.experiment_id for experiment in client.search_experiments()]
        return [run.info.run_id for run in client.search_runs(where, "tags.current = 'false'", max_results=50_000)]


def shared_cache() -> Path | None:
    """DVC's cache, where it is outside this project."""
    if not Path(".dvc").is_dir():
        return None
    cache = Path(done(sys.executable, "-m", "dvc", "cache", "dir").splitlines()[0]).resolve()
    return None if cache.is_relative_to(layout.root()) else cache


def cached() -> int:
    """How many objects `dvc gc --workspace` would delete."""
    if not Path(".dvc").is_dir():
        return 0
    said = done(sys.executable, "-m", "dvc", "gc", "--workspace", "--force", "--dry")
    return sum(int(count) for count in re.findall(r"Removed (\d+) objects", said))


def done(*words: str) -> str:
    """The output of a command.

    Raises:
        UserError: it failed.
    """
    ran = subprocess.run(words, capture_output=True, text=True, encoding="utf-8")
    if ran.returncode:
        lines = (ran.stderr or ran.stdout).strip().splitlines()
        raise UserError(f"{' '.join(words[2:4])} failed: {lines[-1] if lines else ran.returncode}")
    return ran.stdout + ran.stderr
