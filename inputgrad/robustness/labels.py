"""What the labels or targets of an evaluation are: class numbers by their type, a regression only where it is said."""

from __future__ import annotations

import torch
from torch import Tensor

from inputgrad import tasks
from inputgrad.errors import UserError
from inputgrad.tasks import Task

SAY = f"task='{tasks.Regression.name}' (--task {tasks.Regression.name})"


def of(y: Tensor, task: str | None) -> tuple[Tensor, Task]:
    """Labels as the attacks need them, int64, or targets in floating point; and the task.

    Args:
        y: (N,) or (N, k).
        task: a name of `inputgrad.tasks.TASKS`; None: class numbers, which have an integer type.

    Raises:
        UserError: the type or the shape of y leaves a doubt, or contradicts the task.
    """
    if not bool(torch.isfinite(y).all()):
        raise UserError("labels or targets hold NaN or infinite numbers; fix: drop these examples")
    found = tasks.Classification if task is None else tasks.named(task)
    if not found.has_classes:
        return (y if y.is_floating_point() else y.to(torch.get_default_dtype())), found
    if y.dim() > 1 and y.shape[1:].numel() > 1:
        refuse_several(y)
    if y.is_floating_point() and (task is None or not whole(y)):
        numbers = "y.long().flatten()" if y.dim() > 1 else "y.long()"
        classes = f"{numbers} if they are class numbers, " if whole(y) else ""
        raise UserError(f"labels or targets are {y.dtype}; fix: {classes}{SAY} if they are targets")
    if y.dim() > 1:
        raise UserError(f"labels of shape {tuple(y.shape)} are no class numbers (N,); fix: y.flatten()")
    return y.long(), found


def whole(y: Tensor) -> bool:
    """Whether these can be class numbers."""
    return bool((y == y.round()).all()) and bool((y >= 0).all())


def refuse_several(y: Tensor) -> None:
    """Several numbers of an example: what they may be, and what to give instead."""
    shape = f"labels or targets of shape {tuple(y.shape)}"
    zero_one, sums = bool(((y == 0) | (y == 1)).all()), y.double().flatten(1).sum(1)
    if y.dim() == 2 and bool((y >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        kind = "one-hot" if zero_one else "probabilities of the classes"
        raise UserError(f"{shape} are {kind}; fix: y.argmax(1)")
    if y.dim() == 2 and zero_one:
        one = "a net that gives its logit alone, net.register_forward_hook(lambda *a: a[2][:, :1]), and y[:, 0].long()"
        raise UserError(f"{shape}, all 0 or 1: several labels of an example are not offered; fix: one of them, {one}")
    if not y.is_floating_point():
        raise UserError(f"{shape} are no class numbers (N,); fix: one class for an example")
    raise UserError(f"{shape} are {y.dtype}; fix: {SAY} if they are targets")
