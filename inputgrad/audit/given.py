"""What a user names on the command line as MODULE:NAME: a loss, a model, a batch. Their mistakes are one line each."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from inputgrad import registry
from inputgrad.audit import Audit, audit
from inputgrad.audit.blame import place, running
from inputgrad.audit.forms import parts_of
from inputgrad.audit.subject import AnyLoss
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Context


def run(loss: str, model: str, batch: str) -> Audit:
    """The audit of a loss on a model and a batch, each named as MODULE:NAME."""
    the_loss, net, given = loss_of(loss), model_of(model), batch_of(batch)
    with running(f"{loss} on {model} and {batch}"):
        return audit(the_loss, net, *given)


def loss_of(path: str) -> AnyLoss:
    """A callable that gives one number; a class is taken with its defaults."""
    found = imported(path)
    if isinstance(found, type):
        with running(path):
            found = found()
    if not callable(found):
        raise UserError(f"{path} is a {type(found).__name__}, not a function of (model, x, y); fix: name the function")
    return found  # type: ignore[no-any-return]


def model_of(path: str) -> Any:
    """A module, several in a tuple or a dict, or what a class or a function of no arguments builds."""
    found = built(path, (nn.Module, tuple, list, dict))
    if not any(isinstance(part, nn.Module) for part in parts_of(found)):
        raise UserError(f"{path} gives a {type(found).__name__}; fix: give a torch.nn.Module, or a function that does")
    return found


def batch_of(path: str) -> tuple[Any, Any, Context | None]:
    """(x, y), (x, y, Context) for a loss that needs one, or a batch of any other shape, which the loss takes whole."""
    found = built(path, (tuple, list, dict, Tensor))
    if found is None or isinstance(found, nn.Module | str | int | float):
        raise UserError(f"{path} gives a {type(found).__name__}; fix: give a batch (x, y), or a function that does")
    if isinstance(found, tuple | list) and len(found) == 3 and isinstance(found[2], Context):
        return found[0], found[1], found[2]
    return (found[0], found[1], None) if isinstance(found, tuple | list) and len(found) == 2 else (found, None, None)


def built(path: str, wanted: type | tuple[type, ...]) -> Any:
    """What MODULE:NAME holds if it is `wanted`, else what it gives when it is called."""
    found = imported(path)
    if isinstance(found, wanted) or not callable(found):
        return found
    with running(path):
        return found()


def imported(path: str) -> Any:
    """The object that MODULE:NAME names, or FILE.py:NAME."""
    module, _, name = path.rpartition(":")
    is_file = module.endswith(".py")
    if not module or not name or (not is_file and ("/" in module or ":" in module)):
        raise UserError(f"'{path}': give MODULE:NAME, such as my_file:my_loss or my_folder/my_file.py:my_loss")
    try:
        return registry.from_file(path) if is_file else registry.imported(path)
    except UserError as error:
        raise UserError(f"{place(error.__cause__) or f'{path}: '}{error}") from error.__cause__
