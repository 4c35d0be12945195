"""What cannot be right is refused in one line, before PyTorch says it in its own words: knobs, model, x, y, context."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad import tasks
from inputgrad.errors import UserError, nearest
from inputgrad.gradients.forward import Context


def refuse_wrong_knobs(loss: Any, unnamed: str, strength: tuple[Any, ...], knobs: dict[str, Any]) -> None:
    """Raise a UserError for knobs of a name or a kind that no loss takes."""
    if any(isinstance(one, nn.Module) for one in strength):
        fix = f"loss = {loss.__name__}(), then loss(model, x, y)"
        raise UserError(f"{loss.__name__} is made first, and then called; fix: {fix}")
    if len(strength) > 1:
        raise UserError(f"{loss.__name__}: only the strength has no name; fix: name the others, such as ramp=2")
    if wrong := [name for name in knobs if name not in loss.model_fields]:
        raise UserError(f"{loss.__name__}: there is no {wrong[0]!r}; {nearest(wrong[0], loss.model_fields)}")
    for name, value in [*knobs.items(), *((unnamed, value) for value in strength)]:
        if name == "points" and not isinstance(value, str):
            fix = 'points="inside", and Context(points={"inside": x})'
            raise UserError(f"{loss.__name__}: points is the name of some; fix: {fix}")
        if isinstance(value, Tensor):
            plain = f"{name}=float(value)"
            learned = "for one that is trained, multiply it by loss.penalty(model, x, y) yourself"
            raise UserError(f"{loss.__name__}: {name} is a tensor, which would be a constant; fix: {plain}; {learned}")
        if name == "strength" and callable(value):
            fix = "give loss(model, x, y, strength=…) the number of each step, or use ramp and every"
            raise UserError(f"{loss.__name__}: strength is a function, not a number; fix: {fix}")


def refuse_wrong_use(loss: Any, model: Any, x: Any, y: Any, context: Any) -> None:
    """Raise a UserError for arguments that cannot be meant; nothing of them is computed here."""
    if torch.compiler.is_compiling():
        return
    refuse_wrong_model(model, x, y, asks=loss.strength > 0)
    if context is not None and not isinstance(context, Context):
        fix = "Context(**context)" if isinstance(context, dict) else "Context(mask=…) or the like"
        raise UserError(f"context is a {type(context).__name__}; fix: {fix}")
    known = context or Context()
    refuse_wrong_x(x, known)
    if y is not None and not isinstance(y, Tensor) and not callable(known.task):
        holds = isinstance(y, dict) or (isinstance(y, tuple | list) and any(isinstance(one, Tensor) for one in y))
        fix = "give the tensor in it, or Context(task=function of (outputs, y))" if holds else "y = torch.as_tensor(y)"
        raise UserError(f"y is a {type(y).__name__}, not a tensor; fix: {fix}")
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.dim() == 1 and len(x) > 1 and y.shape == (1,):
        raise UserError("x is one example without a batch; fix: x[None]")
    unused = [name for name in known.points if name not in loss.asks_points]
    if unused and loss.strength and type(loss).__module__.startswith("inputgrad."):
        fix = f'{type(loss).__name__}(points="{unused[0]}")'
        near = f"; {nearest(unused[0], loss.asks_points)}" if loss.asks_points else ""
        raise UserError(f"no term asks for the points {unused[0]!r}{near}; fix: {fix}")
    if isinstance(y, Tensor) and not isinstance(known.task, str) and not callable(known.task):
        refuse_wrong_task(loss, y)
    radius = getattr(loss, "epsilon", None)
    if known.bounds is not None and radius is not None and radius > (width := known.bounds[1] - known.bounds[0]):
        raise UserError(
            f"epsilon {radius:g} is wider than the bounds, {width:g}; fix: in the units of x, such as 8 / 255"
        )


def refuse_wrong_model(model: Any, x: Any, y: Any, asks: bool) -> None:
    if isinstance(model, Tensor):
        fix = "loss(model, x, y): an input gradient needs the model, not its outputs"
        raise UserError(f"the model is a tensor; fix: {fix}")
    if isinstance(x, Tensor) and isinstance(y, Tensor) and y.is_floating_point() and y.dim() > x.dim() == 1:
        raise UserError("x and y are exchanged; fix: loss(model, x, y)")
    if isinstance(x, nn.Module) or isinstance(y, nn.Module) or not callable(model):
        raise UserError("these are not a model, x and y in this order; fix: loss(model, x, y)")
    if type(model).__name__ == "DistributedDataParallel" and asks and getattr(model, "static_graph", False):
        fix = "fix: leave static_graph out, or give DDP a module whose forward computes the loss"
        raise UserError(f"DDP(static_graph=True) trains another net in every process where a gradient is asked; {fix}")


def refuse_wrong_x(x: Any, context: Context) -> None:
    if isinstance(x, Tensor):
        if not len(x):
            raise UserError("the batch is empty; fix: leave it out, or DataLoader(drop_last=True)")
        if not x.is_floating_point() and context.layer is None:
            if x.is_complex():
                raise UserError("x is complex; fix: torch.view_as_real(x), and a model that takes it so")
            fix = "x / 255 for an image" if x.dtype == torch.uint8 else "x.float() for numbers"
            fix += ', Context(layer="…") with the name of the embedding for tokens'
            raise UserError(f"x is {str(x.dtype)[6:]}, by which nothing can be differentiated; fix: {fix}")
    elif type(x).__module__ == "numpy" or (isinstance(x, list) and not any(isinstance(part, Tensor) for part in x)):
        raise UserError(f"x is a {type(x).__name__}, not a tensor; fix: x = torch.as_tensor(x)")
    elif isinstance(x, str | int | float) or x is None:
        raise UserError(f"x is a {type(x).__name__}; fix: give a tensor (N, *input), or a container of tensors")


def refuse_wrong_task(loss: Any, y: Tensor) -> None:
    task = tasks.of(y)
    if task.name not in loss.tasks:
        fix = f"fix: {'class numbers, y.long()' if y.is_floating_point() else 'y.float()'}, or Context(task=…)"
        raise UserError(f"{type(loss).__name__} is defined for {loss.tasks[0]}, y is {str(y.dtype)[6:]}; {fix}")


@contextmanager
def outside_inference(x: Any, y: Any) -> Iterator[tuple[Any, Any]]:
    """Tensors that gradients can be asked of, also where the caller runs under `torch.inference_mode`."""
    if torch.compiler.is_compiling() or not torch.is_inference_mode_enabled():
        yield (x if torch.compiler.is_compiling() or not isinstance(x, Tensor) else usable(x)), y
        return
    with torch.inference_mode(False):
        yield usable(x), usable(y)


def usable(value: Any) -> Any:
    """The same numbers as ordinary tensors."""
    if isinstance(value, Tensor):
        return value.clone() if value.is_inference() else value
    if isinstance(value, dict):
        return {name: usable(part) for name, part in value.items()}
    return type(value)(usable(part) for part in value) if type(value) in (tuple, list) else value
