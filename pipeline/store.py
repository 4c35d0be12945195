"""Folders of results: each names what it was made from, and lists its files with their hashes.

Work goes on in .state/FINGERPRINT/, so that a killed run resumes and a changed one starts afresh. A finished folder is
sealed with a manifest; code that takes a file from such a folder opens the folder first with `opened`.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any

from inputgrad.errors import UserError
from inputgrad.files import UTF8, as_json, remove, replacing, sweep, write_json
from pipeline import layout
from pipeline.fingerprint import Origin, hash_of, hash_of_file

Stamps = dict[str, tuple[int, ...]]
"""File of a folder -> what the system changes whenever the file is."""


class ForeignError(UserError):
    """A folder is complete and undamaged, as far as its manifest tells, but made from something else."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold a folder; the system lets go of it when the process dies. A second process waits for the first."""
    from filelock import FileLock

    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder / "lock"):
        sweep(folder, held=True)
        yield


def seal(folder: Path, origin: Origin, names: Iterable[str]) -> None:
    """Write the manifest: what the folder was made from, and size and hash of every file that belongs to it."""
    files = {name: {"size": (folder / name).stat().st_size, "sha256": hash_of_file(folder / name)} for name in names}
    made_from = asdict(origin)
    manifest = {"fingerprint": origin.fingerprint, "sha256": hash_of([made_from, files])}
    write_json(folder / layout.MANIFEST, {**manifest, "origin": made_from, "files": files})


def opened(folder: Path, origin: Origin, fix: str) -> Path:
    """The folder, once it is known to be complete, undamaged and made from `origin`.

    Raises:
        UserError: one line that names the file, what is wrong with it, and `fix`.
        ForeignError: it is of another origin.
    """
    manifest = manifest_of(folder, fix)
    if manifest["fingerprint"] != origin.fingerprint:
        raise ForeignError(f"{folder} is {origin.difference(manifest['origin'])}; {fix}")
    for name, known in manifest["files"].items():
        path = folder / name
        if not path.is_file():
            raise UserError(f"{path} is missing; {fix}")
        if path.stat().st_size != known["size"] or hash_of_file(path) != known["sha256"]:
            raise UserError(f"{path} is damaged: its bytes are not those that were written; {fix}")
    return folder


def stamps(folder: Path) -> Stamps:
    """By which a change of a folder is noticed without reading it; empty where it is missing."""
    found: Stamps = {}
    for path in folder.rglob("*"):
        with suppress(FileNotFoundError):
            stat = path.stat()
            found[str(path)] = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return found


def manifest_of(folder: Path, fix: str) -> dict[str, Any]:
    file = folder / layout.MANIFEST
    manifest: dict[str, Any] = read_json(file, fix)
    if not is_manifest(manifest) or file.read_bytes() != as_json(manifest).encode():
        raise UserError(f"{file} is not a manifest of this project; {fix}")
    return manifest


def is_whole(folder: Path, fingerprint: str) -> bool:
    """Whether a folder holds the complete and undamaged result of that fingerprint."""
    try:
        origin = Origin(**manifest_of(folder, "")["origin"])
        return origin.fingerprint == fingerprint and opened(folder, origin, "") == folder
    except UserError:
        return False


def is_manifest(value: Any) -> bool:
    """Whether a manifest has the form that `seal` gives it, and is not damaged itself."""
    if not isinstance(value, dict) or not {"fingerprint", "sha256", "origin", "files"} <= value.keys():
        return False
    try:
        own = Origin(**value["origin"]).fingerprint
        return bool(own == value["fingerprint"] and hash_of([value["origin"], value["files"]]) == value["sha256"])
    except (TypeError, ValueError, RecursionError):
        return False


def is_finished(folder: Path, origin: Origin) -> bool:
    """Whether a state folder holds the finished result of `origin`; a damaged one is emptied, in one line."""
    if not (folder / layout.MANIFEST).exists():
        return False
    try:
        opened(folder, origin, "it is made again")
    except UserError as error:
        print(f"note: {error}", file=sys.stderr)
        clear(folder)
        return False
    return True


def clear(folder: Path) -> None:
    """Empty a state folder; the manifest goes first, so that a half-emptied one never looks finished."""
    remove(folder / layout.MANIFEST)
    for path in folder.iterdir():
        if path.name != "lock":
            remove(path)


def publish(parts: Mapping[str, Path], target: Path) -> None:
    """Copy finished state folders into `target`/NAME, all at once; of each what its manifest lists, nothing else."""
    with replacing(target) as temporary:
        for name, source in parts.items():
            copy(source, temporary / name)


def copy(source: Path, target: Path) -> None:
    """Copy what the manifest of a checked folder lists, and the manifest."""
    for file in (*read_json(source / layout.MANIFEST, "run it again")["files"], layout.MANIFEST):
        (target / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / file, target / file)


def read_json(path: Path, fix: str) -> Any:
    try:
        return json.loads(path.read_text(encoding=UTF8))
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {fix}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is not valid JSON ({' '.join(str(error).split())}); {fix}") from error


def save_checkpoint(path: Path, contents: dict[str, Any]) -> None:
    """Write a dictionary of tensors and plain values, with their hash, so that equal contents have equal bytes."""
    import torch

    contents = plain(contents)
    # into memory: given a path, torch writes its name into the archive, and equal contents would differ in bytes; and
    # of a full disk it makes an error that says nothing of it
    buffer = BytesIO()
    torch.save({**contents, "sha256": hash_of_contents(contents)}, buffer)
    with replacing(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path, fix: str) -> dict[str, Any]:
    """Read a checkpoint without running any code from it (`weights_only=True`), and hold it against its own hash."""
    import torch

    try:
        contents = plain(torch.load(path, map_location="cpu", weights_only=True))
        known = contents.pop("sha256")
        intact = hash_of_contents(contents) == known
    except FileNotFoundError as error:
        raise UserError(f"{path} is missing; {fix}") from error
    except Exception as error:  # torch raises half a dozen types for a broken file
        raise UserError(f"{path} is not a readable checkpoint ({type(error).__name__}); {fix}") from error
    if not intact:
        raise UserError(f"{path} is damaged: its contents are not those that were written; {fix}")
    return dict(contents)


def plain(value: Any) -> Any:
    """The same value in fresh, unshared objects without gradients: nothing but what the hash says of it.

    Pickle marks shared objects, and a resumed run shares others; a changed bit can make a tensor ask for gradients.
    """
    import torch

    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone(memory_format=torch.contiguous_format)
    if isinstance(value, dict):
        return {sys.intern(key) if isinstance(key, str) else key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return type(value)([plain(inner) for inner in value])
    return sys.intern(value) if isinstance(value, str) else value


def hash_of_contents(value: Any) -> str:
    """Of tensors (type, shape, bytes) and plain values, however deep."""
    import torch

    digest = hashlib.sha256()

    def add(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode())
            # NumPy has no bfloat16, but every type can be looked at as bytes
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, dict | list | tuple):
            digest.update(f"{type(value).__name__} {len(value)}".encode())
            for inner in value.items() if isinstance(value, dict) else value:
                add(inner)
        else:
            digest.update(f"{type(value).__name__} {value!r}".encode())

    add(value)
    return digest.hexdigest()
