"""Files that appear whole or not at all, also when the machine loses its power."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

UTF8 = "utf-8"

temporaries: set[Path] = set()
"""What this process has not finished writing; a process that ends without leaving its blocks removes these."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path that becomes `target` (a file or a folder) when the block ends, and vanishes when it fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name)
    writer = f"{socket.gethostname()}-{os.getpid()}.tmp"
    temporary, old = (target.with_name(f".{name}.{writer}") for name in (target.name, f"{target.name}.old"))
    temporaries.update((temporary, old))
    try:
        remove(temporary)
        yield temporary
        flush(temporary)
        if target.is_dir():  # os.replace cannot replace a folder that is not empty; half a folder must never be seen
            os.replace(target, old)
        os.replace(temporary, target)
        flush(target.parent, inside=False)
    finally:
        remove(temporary)
        remove(old)
        temporaries.difference_update((temporary, old))


def sweep(folder: Path, name: str = "*", held: bool = False) -> None:
    """Delete what a process of this machine that was killed has left half-written in a folder.

    Args:
        folder: not what lies deeper.
        name: of the files that were to be written.
        held: nobody else writes there now: a number that is in use is that of a process that ends, or of another one.
    """
    for path in folder.glob(f".{name}.*.tmp"):
        # on a shared disk, two machines may have the same process id: what another machine writes is left alone
        host, _, pid = path.name.removesuffix(".tmp").rpartition("-")
        if host.endswith(f".{socket.gethostname()}") and pid.isdecimal() and (held or not is_alive(int(pid))):
            remove(path)


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def flush(path: Path, inside: bool = True) -> None:
    """Wait until a file, or a folder and (`inside`) all that it holds, is on the disk and not only in memory."""
    for part in [*(path.rglob("*") if inside and path.is_dir() else ()), path]:
        descriptor = os.open(part, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    with replacing(path) as temporary:
        temporary.write_text(text, encoding=UTF8)


def write_json(path: Path, value: Any) -> None:
    write_text(path, as_json(value))


def as_json(value: Any) -> str:
    """Readable JSON; NaN is refused, since JSON has none."""
    return json.dumps(value, indent=2, allow_nan=False) + "\n"
