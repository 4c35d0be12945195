"""Files that appear whole or not at all, checkpoints, and run folders addressed by a fingerprint.

A fingerprint is the hash of everything that changes a result: data, settings, seed, code and library versions. State of
a run lives in .state/FINGERPRINT/ until it is finished, so that a killed run resumes and a changed one starts afresh.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from inputgrad.errors import UserError
from inputgrad.files import replacing


def root() -> Path:
    """The project's root, for .state/ and mlflow.db; in a `dvc exp run --temp` copy DVC_ROOT names the real one."""
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def state(fingerprint: str) -> Path:
    """The folder of one run's state; disposable."""
    return root() / ".state" / fingerprint


def read_json(path: Path, fix: str) -> Any:
    """Read JSON, or say in one line which file is broken and how to fix it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {fix}") from error
    except ValueError as error:
        raise UserError(f"{path} is not valid JSON ({error}); {fix}") from error


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values that `load_checkpoint` reads."""
    import torch

    # into an open file: given a path, torch writes its name into the archive, and equal contents would differ in bytes
    with replacing(path) as temporary, temporary.open("wb") as f:
        torch.save(contents, f)


def load_checkpoint(path: Path, fix: str) -> dict[str, Any]:
    """Read a checkpoint without running any code from it (`weights_only=True`).

    Raises:
        UserError: missing, truncated, or holding anything but tensors and plain values.
    """
    import torch

    try:
        contents = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {fix}") from error
    except Exception as error:  # torch raises half a dozen types for a broken file
        raise UserError(f"{path} is not a readable checkpoint ({type(error).__name__}); {fix}") from error
    if not isinstance(contents, dict):
        raise UserError(f"{path} is not a checkpoint of this project; {fix}")
    return contents


def hash_of(value: Any, files: Iterable[Path] = ()) -> str:
    """Sixteen hex digits that change when the JSON of `value` or the bytes of any file change."""
    digest = hashlib.sha256(json.dumps(value, sort_keys=True, allow_nan=False).encode())
    for file in sorted(files):
        if not file.exists():
            raise UserError(f"{file} is missing; the stage that writes it comes first: dvc repro")
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a run's folder; the system lets go of it when the process dies. A second process waits for the first."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        yield


def publish(parts: dict[str, Path], target: Path, skip: tuple[str, ...] = ("lock",)) -> None:
    """Copy finished state folders into `target`/NAME, all at once: `target` appears whole or not at all."""
    with replacing(target) as temporary:
        for name, source in parts.items():
            shutil.copytree(source, temporary / name, ignore=shutil.ignore_patterns(*skip, "*.tmp"))
