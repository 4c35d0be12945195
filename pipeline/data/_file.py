"""data/STUDY.npz: the arrays of a prepared data set in a NumPy archive that carries the hash of its own bytes.

Large arrays are not read but mapped: processes share them, and what does not fit into the memory is read as it is used.
"""

from __future__ import annotations

import hashlib
import os
import struct
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from inputgrad import files
from inputgrad.errors import UserError

HASH = 64
"""Hex digits of a SHA-256."""
LARGE = 1_000_000
"""Bytes of an array that is mapped."""
BLOCK = 1 << 20


def write(file: Path, contents: Mapping[str, np.ndarray]) -> None:
    """An .npz file with the hash of its bytes as its comment, which a zip file has at its end.

    A hash of the arrays would not notice a changed bit in the zip file's own fields.
    """
    with files.replacing(file) as temporary:
        with temporary.open("wb") as f:
            np.savez(f, allow_pickle=False, **contents)
        with temporary.open("r+b") as f:
            f.seek(-2, os.SEEK_END)  # the length of the comment: the last two bytes of a file that has none
            f.write(HASH.to_bytes(2, "little"))
            length = f.tell()
            found = hashed(f, length)
            f.seek(length)
            f.write(found)


def read(file: Path, again: str) -> dict[str, np.ndarray]:
    """Everything in such a file, held against the hash that it carries; `again` is the command that makes it anew."""
    try:
        contents = dict(arrays(file))
        with file.open("rb") as f:
            length = file.stat().st_size - HASH
            found = hashed(f, length)
            f.seek(length)
            whole = f.read() == found
    except FileNotFoundError as error:
        raise UserError(f"{file} is missing; fix: dvc repro prepare@{file.stem}") from error
    except Exception as error:  # NumPy and zipfile raise a dozen types for a broken file
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{file} is not readable ({reason}); {again}") from error
    if not whole:
        raise UserError(f"{file} is damaged: its contents are not those that were written; {again}")
    return contents


def arrays(file: Path) -> Iterator[tuple[str, np.ndarray]]:
    """Every array by its name: small ones read, large ones mapped; a write to one changes a copy in memory alone."""
    with np.load(file, allow_pickle=False) as archive, zipfile.ZipFile(file) as members, file.open("rb") as f:
        for member in members.infolist():
            name = member.filename.removesuffix(".npy")
            large = member.file_size > LARGE and member.compress_type == zipfile.ZIP_STORED
            yield name, mapped(file, f, member.header_offset) if large else archive[name]


def mapped(file: Path, f: IO[bytes], offset: int) -> np.ndarray:
    """The array of the member whose header is at `offset`."""
    f.seek(offset + 26)
    name, extra = struct.unpack("<HH", f.read(4))
    f.seek(offset + 30 + name + extra)
    if (version := np.lib.format.read_magic(f)) != (1, 0):
        raise ValueError(f"an array of format {version}")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(f)
    if dtype.hasobject:
        raise ValueError("an array of objects")
    return np.memmap(file, dtype, "c", f.tell(), shape, "F" if fortran else "C")


def hashed(f: IO[bytes], length: int) -> bytes:
    """Of the first `length` bytes, read in blocks."""
    digest, left = hashlib.sha256(), length
    f.seek(0)
    while left > 0 and (block := f.read(min(BLOCK, left))):
        digest.update(block)
        left -= len(block)
    return digest.hexdigest().encode()
