"""What a user names on the command line as MODULE:NAME: a loss, a model, a batch. Their mistakes are one line each."""

from __future__ import annotations

import sysconfig
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from inputgrad import registry
from inputgrad.audit import Audit, audit
from inputgrad.audit.subject import AnyLoss
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context
from inputgrad.losses import Loss


def run(loss: str, model: str, batch: str) -> Audit:
    """The audit of a loss on a model and a batch, each named as MODULE:NAME."""
    the_loss, net, given = loss_of(loss), model_of(model), batch_of(batch)
    with running(f"{loss} on {model} and {batch}"):
        return audit(the_loss, net, *given)


def loss_of(path: str) -> AnyLoss:
    """A callable (model, x, y) -> scalar; a class is taken with its defaults."""
    found = imported(path)
    if isinstance(found, type):
        with running(path):
            found = found()
    if not isinstance(found, Loss) and not callable(found):
        raise UserError(f"{path} is a {type(found).__name__}, not a function of (model, x, y); fix: name the function")
    return found  # type: ignore[no-any-return]


def model_of(path: str) -> nn.Module:
    """A module, or what a class or a function of no arguments builds."""
    found = built(path, nn.Module)
    if not isinstance(found, nn.Module):
        raise UserError(f"{path} gives a {type(found).__name__}; fix: give a torch.nn.Module, or a function that does")
    return found


def batch_of(path: str) -> tuple[Tensor, Tensor] | tuple[Tensor, Tensor, Context]:
    """A pair (x, y), a triple (x, y, Context) for a loss that needs one, or a function that gives it."""
    found = built(path, (tuple, list))
    fits = isinstance(found, tuple | list) and len(found) in (2, 3) and all(isinstance(t, Tensor) for t in found[:2])
    if not fits or (len(found) == 3 and not isinstance(found[2], Context)):
        names = ", ".join(type(t).__name__ for t in found) if isinstance(found, tuple | list) else type(found).__name__
        raise UserError(f"{path} gives ({names}); fix: give a pair (x, y) of tensors, or a function that does")
    if not (found[0].dim() and found[1].dim()):
        raise UserError(f"{path} gives a single number; fix: x is (N, *input) and y has N rows")
    return tuple(found)


def built(path: str, wanted: type | tuple[type, ...]) -> Any:
    """What MODULE:NAME holds if it is `wanted`, else what it gives when it is called."""
    found = imported(path)
    if isinstance(found, wanted) or not callable(found):
        return found
    with running(path):
        return found()


def imported(path: str) -> Any:
    """The object that MODULE:NAME names."""
    module, _, name = path.partition(":")
    if not module or not name or "/" in module or module.endswith(".py"):
        raise UserError(f"'{path}': give MODULE:NAME, such as my_file:my_loss for my_loss in my_file.py")
    with running(path):
        return registry.imported(path)


@contextmanager
def running(what: str) -> Iterator[None]:
    """Turn any failure of the user's own code into one line that names their file and line."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{place(error.__cause__) or f'{what}: '}{error}") from error.__cause__
    except (Exception, SystemExit) as error:  # a script without `if __name__ == "__main__":` may end the program
        where = place(error)
        said = " ".join(str(error).split()) or "no message"
        fix = "that line" if where else "check that the loss, the model and the batch fit together"
        raise UserError(f"{what}: {where}{type(error).__name__}: {said}; fix: {fix}") from error


def place(error: BaseException | None) -> str:
    """'FILE, line N: ' of the last line of the user's own that an error went through; '' where there is none."""
    if error is None:
        return ""
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: "
    theirs = [frame for frame in traceback.extract_tb(error.__traceback__) if not is_library(frame.filename)]
    return f"{theirs[-1].filename}, line {theirs[-1].lineno}: " if theirs else ""


def is_library(file: str) -> bool:
    """Whether a file is of Python, of an installed package or of this one, not the user's own."""
    folders = [sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib")]
    here = str(Path(__file__).parents[1])
    return file.startswith("<") or any(Path(file).is_relative_to(folder) for folder in (here, *folders))
