"""Opening results: what is missing or unreadable is one line that names the file and the stage that writes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeVar
from zipfile import BadZipFile

from inputgrad.errors import UserError
from pipeline.study.run import folder
from pipeline.study.schema import Study

T = TypeVar("T")


def opened(file: Path, how: Callable[[Path], T], stage: str) -> T:
    """`how(file)`, or one line that names the file and the stage that writes it."""
    try:
        return how(file)
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; write it with: dvc repro {stage}") from error
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} is not readable ({reason}); write it again with: dvc repro -f {stage}") from error


def attack_file(study: Study, loss: str, seed: int, name: str, how: Callable[[Path], T]) -> T:
    """A file of the attack stage."""
    file = folder(study, loss, "attack") / f"seed-{seed}" / name
    return opened(file, how, f"attack@{study.name}-{loss}")


def train_file(study: Study, loss: str, seed: int, name: str, how: Callable[[Path], T]) -> T:
    """A file of the train stage."""
    file = folder(study, loss, "train") / f"seed-{seed}" / name
    return opened(file, how, f"train@{study.name}-{loss}")
