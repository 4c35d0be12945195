"""Finds the lines where an input gradient becomes a constant, without running or importing what it reads.

from inputgrad.scan import scan
print(scan(["src"]))

Neither torch nor any file that is scanned is imported.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from inputgrad.scan import files, words
from inputgrad.scan.expressions import File
from inputgrad.scan.flow import follow


@dataclass(frozen=True)
class Finding:
    """One place: the file, the line (in a notebook `cell:line`), that of the loss, its kind, and what is said of it."""

    file: str
    line: str
    loss: str
    kind: str
    message: str

    @property
    def note(self) -> bool:
        """Told, and not counted: whether it is wrong depends on the mode of the model."""
        return self.kind in words.NOTES

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.message}"


@dataclass
class Scan:
    """What a scan found. `code` is the exit code: 0 nothing, 1 findings, 2 no file could be read."""

    findings: list[Finding] = field(default_factory=list)
    files: int = 0
    unread: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def counted(self) -> list[Finding]:
        return [f for f in self.findings if not f.note]

    @property
    def code(self) -> int:
        return 1 if self.counted else 2 if self.unread and len(self.unread) == self.files else 0

    @property
    def summary(self) -> str:
        notes = len(self.findings) - len(self.counted)
        parts = [counted(self.files, "file"), counted(len(self.counted), "finding")]
        parts += [counted(notes, "note")] if notes else []
        parts += [f"{len(self.unread)} not read"] if self.unread else []
        return f"{', '.join(parts)}, {self.seconds:.1f} s"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.findings), self.summary])

    def json(self) -> str:
        """The same for a program: findings with file, line, kind, message and note; files, unread, seconds."""
        rows = [asdict(f) | {"note": f.note} for f in self.findings]
        whole = {"findings": rows, "files": self.files, "unread": self.unread, "seconds": round(self.seconds, 3)}
        return json.dumps(whole, indent=1, ensure_ascii=False)


def counted(n: int, what: str) -> str:
    return f"{n} {what}{'' if n == 1 else 's'}"


def scan(
    paths: Iterable[str | Path], exclude: Iterable[str] = (), tell: Callable[[Finding], object] = lambda finding: None
) -> Scan:
    """Scan files and folders.

    Args:
        paths: files, and folders that are read with all below them.
        exclude: patterns such as `tests/*`, of names or of whole paths, that are left out.
        tell: called with each finding as soon as it is there.

    Raises:
        UserError: a path does not exist.
    """
    start, whole = time.perf_counter(), Scan()
    for path in list(files.found(paths, exclude)):
        whole.files += 1
        try:
            found = of_file(path)
        except (OSError, SyntaxError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            whole.unread.append(f"{path}: {reason(error)}")
            continue
        for finding in found:
            tell(finding)
        whole.findings += found
    whole.seconds = time.perf_counter() - start
    return whole


def of_file(path: Path) -> list[Finding]:
    text = files.read(path)
    return [] if text is None else of_text(text, path)


def of_text(text: files.Text, path: Path) -> list[Finding]:
    """The findings of one text, in the order of its lines."""
    file = File(files.parsed(text, path))
    follow(file)
    silent = files.meant(text)
    found: dict[int, Finding] = {}
    for mark, reached in sorted(file.found.items(), key=lambda item: item[0].line):
        if silent.isdisjoint(range(mark.line, mark.end + 1)):
            place, loss = text.place(mark.line), text.place(reached)
            message = words.line_of(mark.kind, mark.text, loss)
            found.setdefault(mark.line, Finding(str(path), place, loss, mark.kind, message))
    return list(found.values())


def reason(error: Exception) -> str:
    """Why a file was not read, in one line."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno or '?'} is no Python 3 ({error.msg}); it is left out"
    said = " ".join(str(error).split())
    return f"it cannot be read ({type(error).__name__}: {said}); it is left out"
