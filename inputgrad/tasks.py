"""What a score is, one object a task: how far off a prediction is, which are wrong, and how the score is written.

Everything that differs between tasks stands here: a new task is one more object in `TASKS`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inputgrad.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd

LossName = Literal["ce", "bce", "mse"]
"""A task loss that a user says: cross-entropy, binary cross-entropy of every output, squared error."""
IGNORED = -100
"""The class number that is left out, the `ignore_index` of PyTorch."""


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task.

    Attributes:
        name: in studies, in the `TASK` of a data set, and in `Loss.tasks`.
        noun, key: of the score, in sentences and in the names of metrics.
        better: +1 where a higher score is better, -1 where a lower one is.
        owns: whether these are targets of the task.
        loss: the name of its task loss.
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
    loss: LossName
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

    def written(self, score: float) -> str:
        """A score as a person reads it: 87.5 %."""
        return f"{self.factor * score:.{self.decimals}f}{self.unit}"

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The task loss l_i of every example, (N,)."""
        return LOSSES[self.loss](outputs, y)

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return named, (self.name,)  # one object each, also in a copy and in another process


def losses(outputs: Tensor, y: Tensor, name: LossName | None = None) -> Tensor:
    """The task loss l_i of every example, (N,).

    Args:
        outputs: (N,), (N, C) or (N, C, *pixels).
        y: what fits the name: see `cross_entropy`, `binary_cross_entropy`, `squared_errors`.
        name: None: by type and shape alone, so that it is the same for every batch. Integers are class numbers,
            floating-point numbers are targets of squared error where an example has one of them.

    Raises:
        UserError: the shapes do not fit, or type and shape leave a doubt.
    """
    return LOSSES[name or default(outputs, y)](outputs, y)


def default(outputs: Tensor, y: Tensor) -> LossName:
    """The task loss of targets whose meaning their type and shape tell; anything else has to be said."""
    if not y.is_floating_point():
        return "ce"
    if outputs[:1].numel() > 1:
        said = f"{outputs[:1].numel()} floating-point numbers for every example may be class probabilities, labels of"
        said += " several classes or targets of a regression"
    elif not torch.compiler.is_compiling() and bool(((y == 0) | (y == 1)).all() & (y == 0).any() & (y == 1).any()):
        said = "targets that are 0.0 and 1.0 alone may be labels or targets of a regression"
    else:
        return "mse"
    raise UserError(f'{said}; fix: say which, Context(task="ce"), "bce" or "mse"')


def cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Cross-entropy of every example, (N,), from logits (N, C) or (N, C, *pixels), or from one logit.

    Args:
        outputs: the logits; one logit (N,) or (N, 1) tells two classes apart.
        y: class numbers (N,) or (N, *pixels) of any integer type, `IGNORED` where there is none; or probabilities of
            the classes, shaped as the outputs.
    """
    if is_one_logit(outputs):
        return binary_cross_entropy(outputs, y)
    soft = y.is_floating_point()
    if y.shape != (outputs.shape if soft else outputs.shape[:1] + outputs.shape[2:]):
        raise UserError(
            f"outputs of shape {tuple(outputs.shape)} do not fit labels of shape {tuple(y.shape)}; fix: give logits"
            " (N, C) and class numbers (N,), or (N, C, *pixels) and (N, *pixels)"
        )
    if soft:
        return rows(F.cross_entropy(outputs, y.to(outputs.dtype), reduction="none")).mean(1)
    each = F.cross_entropy(outputs, y.long(), reduction="none", ignore_index=IGNORED)
    return mean_of_counted(rows(each), rows(y != IGNORED))


def binary_cross_entropy(outputs: Tensor, y: Tensor) -> Tensor:
    """Of every example, (N,): the mean over its logits, each with a label 0 or 1, or a probability, of its own."""
    z, labels = rows(outputs), rows(y).to(outputs.dtype)
    if z.shape != labels.shape:
        shapes = f"outputs of shape {tuple(outputs.shape)} do not fit labels of shape {tuple(y.shape)}"
        raise UserError(f"{shapes}; fix: give one label for every output")
    counted = labels != IGNORED
    if not torch.compiler.is_compiling() and bool((counted & ((labels < 0) | (labels > 1))).any()):
        raise UserError(
            "one output tells two classes apart, the labels hold more than 0 and 1; fix: give the model C outputs,"
            ' or say Context(task="mse") and give y.float() for a regression'
        )
    each = F.binary_cross_entropy_with_logits(z, torch.where(counted, labels, 0.0), reduction="none")
    return mean_of_counted(torch.where(counted, each, 0.0), counted)


def mean_of_counted(each: Tensor, counted: Tensor) -> Tensor:
    """(N,): every example's sum over what counts, divided by the number that counts in an example of this batch.

    The mean over the batch is then PyTorch's: the sum over all that counts, divided by their number.
    """
    return each.sum(1) / counted.sum(1).to(each.dtype).mean()


def squared_errors(outputs: Tensor, y: Tensor) -> Tensor:
    """Of every example, (N,), averaged over its outputs as `nn.MSELoss` does."""
    return rows(differences(outputs, y).square()).mean(1)


def differences(outputs: Tensor, y: Tensor) -> Tensor:
    """Outputs less targets, shaped as the outputs.

    Raises:
        UserError: their shapes differ in more than dimensions of length 1.
    """
    if without_ones(outputs) != without_ones(y):  # a reshape of other shapes would mix the numbers up
        shapes = f"outputs of shape {tuple(outputs.shape)} do not fit targets of shape {tuple(y.shape)}"
        raise UserError(f"{shapes}; fix: give as many targets as outputs, in the same order")
    # reshape, never broadcast: (N, 1) - (N,) would silently be an N by N matrix
    return outputs - y.reshape(outputs.shape)


def without_ones(t: Tensor) -> list[int]:
    """The shape of an example, and their number, without the dimensions of length 1."""
    return [len(t), *(n for n in t.shape[1:] if n != 1)]


LOSSES: dict[LossName, Callable[[Tensor, Tensor], Tensor]] = {
    "ce": cross_entropy,
    "bce": binary_cross_entropy,
    "mse": squared_errors,
}


def rows(t: Tensor) -> Tensor:
    """(N, *shape) as (N, d); (N,) as (N, 1)."""
    return t.flatten(1) if t.dim() > 1 else t[:, None]


def log_probabilities(outputs: Tensor, independent: bool = False) -> Tensor:
    """The logarithm of the probability of every class, (N, C) or (N, C, *pixels).

    Args:
        outputs: logits (N, C) or (N, C, *pixels); one logit (N,) or (N, 1) gives two classes.
        independent: every output is a logit of its own (`bce`): (N, 2, L).
    """
    if independent or is_one_logit(outputs):
        z = rows(outputs)
        found = torch.stack([F.logsigmoid(-z), F.logsigmoid(z)], 1)
        return found if independent else found[:, :, 0]
    return F.log_softmax(outputs, 1)


def true_logits(outputs: Tensor, y: Tensor) -> Tensor:
    """The logit of the example's own class, (N,); of one logit z: z for class 1 and -z for class 0."""
    if y.is_floating_point():
        raise UserError("of: true_logit needs class numbers, the labels are probabilities; fix: of: loss")
    if is_one_logit(outputs):
        return (2 * y.reshape(len(y)) - 1).to(outputs.dtype) * outputs.reshape(len(y))
    each = outputs.gather(1, y.long().clamp_min(0).unsqueeze(1)).squeeze(1)
    counted = y != IGNORED
    return mean_of_counted(rows(torch.where(counted, each, 0.0)), rows(counted))


def predicted(outputs: Tensor) -> Tensor:
    """The class of every example, (N,), from logits (N, C), or from one logit (N,) or (N, 1)."""
    return (outputs.flatten() > 0).long() if is_one_logit(outputs) else outputs.argmax(1)


def is_one_logit(outputs: Tensor) -> bool:
    return outputs.dim() == 1 or outputs.shape[1:] == (1,)


Classification = Task(
    name="classification",
    noun="accuracy",
    key="accuracy",
    better=1,
    owns=lambda y: not y.is_floating_point(),
    loss="ce",
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
    loss="mse",
    broken=lambda _, y: torch.zeros(len(y), dtype=torch.bool, device=y.device),  # nothing is wrong, only further off
    score=lambda outputs, y: float(differences(outputs, y).double().square().mean().sqrt()),
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
