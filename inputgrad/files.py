"""Files that appear whole or not at all."""

from __future__ import annotations

import json
import os
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

temporaries: set[Path] = set()
"""What this process has not finished writing; a process that ends without leaving its blocks removes these."""


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A temporary path that becomes `target` (a file or a folder) when the block ends, and vanishes when it fails."""
    target.parent.mkdir(parents=True, exist_ok=True)
    writer = f"{socket.gethostname()}-{os.getpid()}"  # on a shared disk, two machines may have the same process id
    temporary = target.with_name(f".{target.name}.{writer}.tmp")
    old = temporary.with_suffix(".old.tmp")
    temporaries.update((temporary, old))
    try:
        remove(temporary)
        yield temporary
        if target.is_dir():  # os.replace cannot replace a folder that is not empty; half a folder must never be seen
            os.replace(target, old)
        os.replace(temporary, target)
    finally:
        remove(temporary)
        remove(old)
        temporaries.difference_update((temporary, old))


def remove(path: Path) -> None:
    """Delete a file or folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as readable JSON; NaN is refused, since JSON has none."""
    text = json.dumps(value, indent=2, allow_nan=False) + "\n"
    with replacing(path) as temporary:
        temporary.write_text(text)
