"""Opening results: checked against the study as it stands; any fault is one line with the command that repairs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from inputgrad.errors import UserError
from pipeline import store
from pipeline.study import origins
from pipeline.study.run import Run, folder
from pipeline.study.schema import Study

T = TypeVar("T")


def attack_file(study: Study, loss: str, seed: int, name: str, how: Callable[[Path], T]) -> T:
    return read_file(Run(study, loss, seed), "attack", name, how)


def train_file(study: Study, loss: str, seed: int, name: str, how: Callable[[Path], T]) -> T:
    return read_file(Run(study, loss, seed), "train", name, how)


def read_file(run: Run, stage: str, name: str, how: Callable[[Path], T]) -> T:
    """`how` of a file in the folder of a run, which is checked first."""
    return understood(run.opened(stage) / name, how, f"fix: dvc repro -f {stage}@{run.study.name}-{run.loss_name}")


def measured(study: Study, loss: str, name: str, wanted: tuple[str, ...]) -> dict[str, Any]:
    """Some keys of a JSON file that the train stage keeps once for a loss: step_time.json or audit.json."""
    fix = f"fix: dvc repro -f train@{study.name}-{loss}"
    file = measured_folder(study, loss) / name
    return understood(file, lambda f: {key: store.read_json(f, fix)[key] for key in wanted}, fix)


def measured_folder(study: Study, loss: str) -> Path:
    """What is measured of a loss apart from its training, once it is known to be that of the study as it stands."""
    fix = f"fix: dvc repro -f train@{study.name}-{loss}"
    origin = origins.of_measured(Run(study, loss, study.training.seeds[0]))
    return store.opened(folder(study, loss, "measured"), origin, fix)


def understood(file: Path, how: Callable[[Path], T], fix: str) -> T:
    """`how(file)`, or one line that names the file, what is wrong with it, and `fix`."""
    try:
        return how(file)
    except UserError:
        raise
    except Exception as error:  # pandas, pyarrow, NumPy and zipfile raise a dozen types for contents they cannot read
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} does not hold what it should ({reason}); {fix}") from error
