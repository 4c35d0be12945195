"""What a score is, one object a task: how far off a prediction is, which are wrong, and how the score is written.

Everything that differs between tasks stands here: a new task is one more class and its object in `TASKS`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from inputgrad.errors import UserError, nearest

if TYPE_CHECKING:
    import pandas as pd


class Task(ABC):
    """A task.

    Attributes:
        name: in studies, in the `TASK` of a data set, and in `Loss.tasks`.
        noun, key: of the score, in sentences and in the names of metrics.
        better: +1 where a higher score is better, -1 where a lower one is.
        factor, decimals, unit, difference_unit: how a score and a difference are written; without a unit of its own
            a score is in the unit of the targets.
        limits: lowest and highest score, None where there is no highest.
        has_classes: whether there is a decision boundary, so that a prediction can be wrong.
        scalars: which scalars of an example can be differentiated by the input (`Of` of `gradients.forward`).
        harm: the column of the outcomes that says how bad it got for an example.
        of_example: what an example adds to the score, in words.
        robust: what the robust score is, in words.
    """

    name: str
    noun: str
    key: str
    better: int
    factor: float = 1.0
    decimals: int = 3
    unit: str = ""
    difference_unit: str = ""
    limits: tuple[float, float] | None = None
    has_classes: bool = False
    scalars: tuple[str, ...] = ("loss", "outputs")
    harm: str
    of_example: str
    robust: str

    @property
    def validation_key(self) -> str:
        """Of the score on the validation split, in history.csv and run.json."""
        return f"validation_{self.key}"

    @abstractmethod
    def owns(self, y: Tensor) -> bool:
        """Whether these are targets of this task."""

    @abstractmethod
    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The task loss l_i of every example, (N,)."""

    @abstractmethod
    def broken(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Which predictions are wrong, (N,) bool."""

    @abstractmethod
    def score(self, outputs: Tensor, y: Tensor) -> float:
        """The score of a whole split."""

    @abstractmethod
    def score_of_harm(self, mean_harm: pd.Series[float]) -> pd.Series[float]:
        """The score where the harm, the mean over the examples, is known."""

    @abstractmethod
    def parts_of_score(self, harm: pd.DataFrame) -> pd.DataFrame:
        """What every example adds to the score, from its harm."""

    @abstractmethod
    def relative_harm(self, worst: pd.Series[Any], clean: pd.Series[Any]) -> float:
        """How much harm an attack did, comparable between models: from the harm of examples under it and without it."""

    @abstractmethod
    def count_outputs(self, targets: np.ndarray) -> int:
        """How many outputs a model of these targets has."""

    @abstractmethod
    def shown(self, y: Tensor, count: int) -> Tensor:
        """Indices of at most `count` examples worth a picture, on the CPU."""

    def __str__(self) -> str:
        return self.name

    def __reduce__(self) -> tuple[Any, ...]:
        return named, (self.name,)  # one object each, also in a copy and in another process


class ClassificationTask(Task):
    """Class numbers (N,) of an integer type, outputs (N, C) are logits: cross-entropy and accuracy."""

    name, noun, key, better = "classification", "accuracy", "accuracy", 1
    factor, decimals, unit, difference_unit, limits = 100, 1, " %", " points", (0.0, 1.0)
    has_classes = True
    scalars = ("loss", "outputs", "true_logit", "log_probabilities")
    harm = "broken"
    of_example = "whether it stands"
    robust = "The share of test examples that no attack breaks at that ε; one that is wrong anyway counts as broken."

    def owns(self, y: Tensor) -> bool:
        """Integers."""
        return not y.is_floating_point()

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Cross-entropy."""
        return F.cross_entropy(outputs, y, reduction="none")

    def broken(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Another class is likelier."""
        return outputs.argmax(1) != y

    def score(self, outputs: Tensor, y: Tensor) -> float:
        """Accuracy."""
        return float((outputs.argmax(1) == y).double().mean())

    def score_of_harm(self, mean_harm: pd.Series[float]) -> pd.Series[float]:
        """The share of examples that stand."""
        return 1 - mean_harm

    def parts_of_score(self, harm: pd.DataFrame) -> pd.DataFrame:
        """1 where an example stands."""
        return 1 - harm

    def relative_harm(self, worst: pd.Series[Any], clean: pd.Series[Any]) -> float:
        """The share of all examples that are broken."""
        return int(worst.sum()) / len(clean)

    def count_outputs(self, targets: np.ndarray) -> int:
        """The number of classes."""
        return int(targets.max()) + 1

    def shown(self, y: Tensor, count: int) -> Tensor:
        """The first example of each class."""
        return torch.stack([(y == c).nonzero()[0, 0] for c in y.unique()[:count]]).cpu()


class RegressionTask(Task):
    """Floating-point targets, as many numbers as the outputs: squared error and its root, the RMSE."""

    name, noun, key, better = "regression", "RMSE", "rmse", -1
    harm = "loss_after"
    of_example = "its squared error"
    robust = "The root of the mean over test examples of the largest squared error that any attack reaches at that ε."

    def owns(self, y: Tensor) -> bool:
        """Floating point."""
        return y.is_floating_point()

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Squared error, averaged over the outputs of an example as `nn.MSELoss` does."""
        # reshape, never broadcast: (N, 1) - (N,) would silently be an N by N matrix
        return (outputs - y.reshape(outputs.shape)).square().flatten(1).mean(1)

    def broken(self, outputs: Tensor, y: Tensor) -> Tensor:
        """None: there is no wrong, only a larger error."""
        return torch.zeros(len(y), dtype=torch.bool, device=y.device)

    def score(self, outputs: Tensor, y: Tensor) -> float:
        """RMSE."""
        return float((outputs - y.reshape(outputs.shape)).double().square().mean().sqrt())

    def score_of_harm(self, mean_harm: pd.Series[float]) -> pd.Series[float]:
        """The root of the mean squared error."""
        return mean_harm**0.5

    def parts_of_score(self, harm: pd.DataFrame) -> pd.DataFrame:
        """The squared error."""
        return harm

    def relative_harm(self, worst: pd.Series[Any], clean: pd.Series[Any]) -> float:
        """The RMSE in units of the clean one."""
        return float(np.sqrt(worst.mean() / clean.mean()))

    def count_outputs(self, targets: np.ndarray) -> int:
        """The number of columns."""
        return int(targets.shape[1])

    def shown(self, y: Tensor, count: int) -> Tensor:
        """The first examples."""
        return torch.arange(min(count, len(y)))


Classification: Task = ClassificationTask()
Regression: Task = RegressionTask()
TASKS = {task.name: task for task in (Classification, Regression)}
"""All of them, by name."""


def of(y: Tensor) -> Task:
    """The task that these targets belong to.

    Raises:
        UserError: no task has such targets.
    """
    for task in TASKS.values():
        if task.owns(y):
            return task
    raise UserError(f"no task has targets of type {y.dtype}; fix: give class numbers or floating-point targets")


def named(name: str) -> Task:
    """The task of that name, as the `TASK` of a data set states it.

    Raises:
        UserError: there is none.
    """
    if name not in TASKS:
        raise UserError(f"no task {name!r}; {nearest(name, TASKS)}")
    return TASKS[name]
