"""What a score is, one object a task: how far off a prediction is, which are wrong, and how the score is written.

Everything that differs between tasks stands here: a new task is one more object in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inputgrad.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        name: in studies, in the `TASK` of a data set, and in `Loss.tasks`.
        noun, key: of the score, in sentences and in the names of metrics.
        better: +1 where a higher score is better, -1 where a lower one is.
        owns: whether these are targets of the task.
        losses: (outputs, y) -> the task loss l_i of every example, (N,).
        broken: (outputs, y) -> which predictions are wrong, (N,) bool.
        score: (outputs, y) -> the score of a whole split.
        harm: the column of the outcomes that says how bad it got for an example.
        score_of_harm: the score, from the mean of the harm over the examples.
        parts_of_score: what every example adds to the score, from its harm.
        relative_harm: (harm of examples under attack, of all without attack) -> a number to compare models with.
        count_outputs: how many outputs a model of these targets has.
        shown: (y, count) -> indices, on the CPU, of at most `count` examples to draw.
        of_example, robust: in words, what an example adds to the score, and what the robust score is.
        factor, decimals, unit, difference_unit: how a score and a difference are written; without a unit of its own
            a score is in the unit of the targets.
        limits: lowest and highest score, None where there is no highest.
        has_classes: whether there is a decision boundary, so that a prediction can be wrong.
        scalars: which scalars of an example can be differentiated by the input (`Of` of `gradients.forward`).
    """

    name: str
    noun: str
    key: str
    better: int
    owns: Callable[[Tensor], bool]
    losses: Callable[[Tensor, Tensor], Tensor]
    broken: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], float]
    harm: str
    score_of_harm: Callable[[pd.Series[float]], pd.Series[float]]
    parts_of_score: Callable[[pd.DataFrame], pd.DataFrame]
    relative_harm: Callable[[pd.Series[Any], pd.Series[Any]], float]
    count_outputs: Callable[[np.ndarray], int]
    shown: Callable[[Tensor, int], Tensor]
    of_example: str
    robust: str
    factor: float = 1.0
    decimals: int = 3
    unit: str = ""
    difference_unit: str = ""
    limits: tuple[float, float] | None = None
    has_classes: bool = False
    scalars: tuple[str, ...] = ("loss", "outputs")

    @property
    def validation_key(self) -> str:
        """Of the score on the validation split, in history.csv and run.json."""
        return f"validation_{self.key}"

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return named, (self.name,)  # one object each, also in a copy and in another process


def class_losses(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of every example, (N,); over pixels, where an example has many, their mean."""
    if is_one_logit(outputs):
        if bool((y > 1).any()):
            raise UserError("one output tells two classes apart, the labels hold more; fix: give the model C outputs")
        return F.binary_cross_entropy_with_logits(outputs.reshape(len(y)), y.to(outputs.dtype), reduction="none")
    if outputs.shape[:1] + outputs.shape[2:] != y.shape:
        raise UserError(
            f"outputs of shape {tuple(outputs.shape)} do not fit labels of shape {tuple(y.shape)}; fix: give logits"
            " (N, C) and class numbers (N,), or (N, C, *pixels) and (N, *pixels)"
        )
    return F.cross_entropy(outputs, y, reduction="none").reshape(len(y), -1).mean(1)


def predicted(outputs: Tensor) -> Tensor:
    """The class of every example, (N,), from logits (N, C), or from one logit (N,) or (N, 1)."""
    return (outputs.flatten() > 0).long() if is_one_logit(outputs) else outputs.argmax(1)


def is_one_logit(outputs: Tensor) -> bool:
    return outputs.dim() == 1 or outputs.shape[1:] == (1,)


def is_soft(outputs: Tensor, y: Tensor) -> bool:
    """Whether targets are probabilities of the classes: rows of C numbers, none below 0, that sum to 1."""
    if not y.is_floating_point() or y.dim() != 2 or y.shape != outputs.shape or y.shape[1] < 2:
        return False
    return bool((y >= 0).all() & ((y.sum(1) - 1).abs() < 1e-4).all())


def squared_errors(outputs: Tensor, y: Tensor) -> Tensor:
    """Of every example, (N,), averaged over its outputs; cross-entropy where the targets are class probabilities."""
    if is_soft(outputs, y):
        return F.cross_entropy(outputs, y, reduction="none")
    # reshape, never broadcast: (N, 1) - (N,) would silently be an N by N matrix
    return (outputs - y.reshape(outputs.shape)).square().flatten(1).mean(1)


Classification = Task(
    name="classification",
    noun="accuracy",
    key="accuracy",
    better=1,
    owns=lambda y: not y.is_floating_point(),
    losses=class_losses,
    broken=lambda outputs, y: predicted(outputs) != y,
    score=lambda outputs, y: float((predicted(outputs) == y).double().mean()),
    harm="broken",
    score_of_harm=lambda mean: 1 - mean,
    parts_of_score=lambda harm: 1 - harm,
    relative_harm=lambda worst, clean: int(worst.sum()) / len(clean),
    count_outputs=lambda targets: int(targets.max()) + 1,
    shown=lambda y, count: torch.stack([(y == c).nonzero()[0, 0] for c in y.unique()[:count]]).cpu(),
    of_example="whether it stands",
    robust="The share of test examples that no attack breaks at that ε; one that is wrong anyway counts as broken.",
    factor=100,
    decimals=1,
    unit=" %",
    difference_unit=" points",
    limits=(0.0, 1.0),
    has_classes=True,
    scalars=("loss", "outputs", "true_logit", "log_probabilities"),
)
"""Class numbers (N,) of an integer type, outputs (N, C) are logits: cross-entropy and accuracy."""

Regression = Task(
    name="regression",
    noun="RMSE",
    key="rmse",
    better=-1,
    owns=lambda y: y.is_floating_point(),
    losses=squared_errors,
    broken=lambda _, y: torch.zeros(len(y), dtype=torch.bool, device=y.device),  # nothing is wrong, only further off
    score=lambda outputs, y: float((outputs - y.reshape(outputs.shape)).double().square().mean().sqrt()),
    harm="loss_after",
    score_of_harm=lambda mean: mean**0.5,
    parts_of_score=lambda harm: harm,
    relative_harm=lambda worst, clean: float(np.sqrt(worst.mean() / clean.mean())),
    count_outputs=lambda targets: int(targets.shape[1]),
    shown=lambda y, count: torch.arange(min(count, len(y))),
    of_example="its squared error",
    robust="The root of the mean over test examples of the largest squared error that any attack reaches at that ε.",
)
"""Floating-point targets, as many numbers as outputs: squared error, averaged as `nn.MSELoss` does, and the RMSE."""

TASKS = {task.name: task for task in (Classification, Regression)}
"""All of them, by name."""


def of(y: Tensor) -> Task:
    return next(task for task in TASKS.values() if task.owns(y))


def named(name: str) -> Task:
    """The task of that name, as the `TASK` of a data set states it."""
    if name not in TASKS:
        raise UserError(f"no task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]
