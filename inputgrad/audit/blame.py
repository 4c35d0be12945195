"""A failure of the user's own code, said in one line: their file, their line, what it means, the fix."""

from __future__ import annotations

import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from torch import nn

from inputgrad.errors import UserError
from inputgrad.gradients.double_backward import fix_of, to_blame

UNKNOWN = "check that the loss, the model and the batch fit together"


@contextmanager
def running(what: str, models: Sequence[nn.Module] = (), call: Callable[[], object] | None = None) -> Iterator[None]:
    """Turn any failure of the user's own code into one line that names their file and line.

    Args:
        what: stands in front of the line.
        models: where a layer may be to blame.
        call: calls them once more, to find it.
    """
    try:
        yield
    except UserError as error:
        raise UserError(f"{what}: {error}") from error.__cause__
    except (Exception, SystemExit) as error:  # a script without `if __name__ == "__main__":` may end the program
        where = place(error)
        said = " ".join(str(error).split()) or "no message"
        fix = fix_of(error) or ("that line" if where else UNKNOWN)
        layer = to_blame(error, models, call) if call else ""
        raise UserError(f"{what}: {where}{layer}{type(error).__name__}: {short(said)}; fix: {fix}") from error


def short(said: str) -> str:
    """The first sentences of a long message: PyTorch adds pages to some of them."""
    return said if len(said) < 240 else re.split(r"(?<=[.!:]) ", said, maxsplit=1)[0][:240].rstrip(":")


def place(error: BaseException | None) -> str:
    """'FILE, line N: ' of the last line of the user's own that an error went through; '' where there is none."""
    if error is None:
        return ""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}: " if theirs else ""


def caller() -> tuple[str, int]:
    """File and line of the user's own code that is running now; ('', 0) where there is none."""
    return next(iter(callers(1)), ("", 0))


def callers(most: int = 4) -> tuple[tuple[str, int], ...]:
    """The lines of the user's own code that are running now, the innermost first."""
    found: list[tuple[str, int]] = []
    frame = sys._getframe(1)
    while frame is not None and len(found) < most and frame.f_globals.get("__name__") != "inputgrad.audit.subject":
        if not is_library(frame.f_code.co_filename):
            found.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(found)


@cache
def is_library(file: str) -> bool:
    """Whether a file is of Python, of an installed package or of this one, not the user's own."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    here = str(Path(__file__).parents[1])
    return file.startswith("<") or any(Path(file).is_relative_to(folder) for folder in (here, *folders))
