"""A study, typed and frozen."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PositiveInt, PrivateAttr, field_validator
from torch import nn

from inputgrad import registry, tasks
from inputgrad.errors import UserError, nearest
from inputgrad.losses import Loss
from inputgrad.losses._sum import Sum
from inputgrad.robustness.settings import Attack, Attacks, NonNegative, Positive, Settings
from inputgrad.tasks import Task
from pipeline import data, layout, models
from pipeline.study.code import Parts, parts

Pair = Annotated[tuple[float, float], BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)]
"""[low, high]"""
Rate = Annotated[float, Field(gt=0, le=1e30, allow_inf_nan=False)]
Corner = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], Rate],
    BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value),
]
"""[share of the training, learning rate]"""


class Augmentation(Settings):
    """How training images are changed at random, every time anew; the same for every loss of a seed.

    crop: pixels of padding, then a window of the image's own size. flip: left and right. cutout: side of a grey square.
    """

    crop: Annotated[int, Field(ge=0)] = 0
    flip: bool = False
    cutout: Annotated[int, Field(ge=0)] = 0


class Training(Settings):
    """How every loss of the study is trained; all of them alike.

    passes: over the training split in an epoch; the net is validated and saved after each epoch. momentum: of sgd
    alone (Nesterov's). schedule: how the learning rate falls, step by step; `piecewise`: by learning_rates, in the
    place of learning_rate: [share of the epochs that are over, learning rate] of each corner, linear in between, the
    same for all steps of an epoch. shuffle: whether every epoch has an order of its own; false: the batches are cut
    from the data as they lie, every epoch the same ones. label_smoothing, class_weights: of the task loss; `balanced`
    weighs a class by the inverse of its share. clip: largest norm of the gradient. average: decay of an exponential
    average of the weights, which is then the model that is kept; 0: none. keep: the net of which epoch, the best by
    the validation score, or the last, as published trainings do. precision: of the forward pass. robust_validation:
    how many validation examples are attacked after every epoch, at the headline ε; 0: none. compile: a step is one
    graph by `torch.compile`; needs a C++ compiler.
    """

    epochs: Annotated[int, Field(gt=0, le=10_000_000)]
    batch_size: Annotated[int, Field(gt=0, le=10_000_000)]
    passes: Annotated[int, Field(gt=0, le=10_000_000)] = 1
    learning_rate: Rate | None = None
    learning_rates: list[Corner] = Field(default=[])
    weight_decay: Annotated[float, Field(ge=0, le=1000, allow_inf_nan=False)] = 0.0
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    schedule: Literal["constant", "cosine", "one_cycle", "piecewise"] = "constant"
    shuffle: bool = True
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    clip: Positive | None = None
    average: Annotated[float, Field(ge=0, lt=1)] = 0.0
    keep: Literal["best", "last"] = "best"
    precision: Literal["float32", "bfloat16"] = "float32"
    augmentation: Augmentation | None = None
    robust_validation: Annotated[int, Field(ge=0, le=10_000)] = 0
    seeds: Annotated[list[Annotated[int, Field(ge=0, lt=2**31)]], Field(min_length=1)]
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False

    @field_validator("seeds")
    @classmethod
    def _distinct(cls, seeds: list[int]) -> list[int]:
        if len(set(seeds)) < len(seeds):
            raise ValueError(f"seeds {seeds} repeat; every seed counts once")
        return seeds


class Search(Settings):
    """How `pipeline search` looks for strengths: with the same budget for every loss of the study.

    trials: of every loss. epochs: of a trial; by default as many as a run of the study has.
    max_clean_drop: how far the clean score may lie below that of `standard`, in the score's own units (0.02: two points
        of accuracy; for a regression an RMSE higher by 0.02).
    attacks: that judge a trial at the study's headline ε on the validation split, the worst case of them; None:
        those of `pipeline.search.objective.judges`.
    ranges: loss -> knob -> [low, high], inside the range that the loss's own file gives.
    """

    trials: PositiveInt = 30
    epochs: PositiveInt | None = None
    max_clean_drop: NonNegative = 0.02
    attacks: Attacks | None = None
    ranges: dict[str, dict[str, Pair]] = Field(default={})


class Published(Settings):
    """A row of a published table, shown beside the losses. Scores in the task's own units: 0.785 is 78.5 %."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    clean: Annotated[float, Field(allow_inf_nan=False)] | None = None
    robust: Annotated[float, Field(allow_inf_nan=False)]
    certified: bool = False
    source: Annotated[str, Field(min_length=1, max_length=200)]


class Figure(Settings):
    """A published figure of one loss, and when ours counts as the same.

    metric: clean, robust (at the headline ε), or a measure of the data set. value: in the metric's own units.
    error: the standard error of value: reproduced where ours is no further away than twice that of the difference.
    factor: reproduced from value / factor to value · factor. within: reproduced no further away than that.
    One of the three is stated.
    """

    loss: str
    metric: str
    value: Annotated[float, Field(allow_inf_nan=False)]
    error: Positive | None = None
    factor: Annotated[float, Field(gt=1, allow_inf_nan=False)] | None = None
    within: Positive | None = None
    source: Annotated[str, Field(min_length=1, max_length=200)]


class Checkpoint(Settings):
    """A net trained elsewhere, attacked on the examples on which the losses are.

    model: MODULE:MODEL, a net or a function that gives one; None: the study's own net. weights: a file with a state
    dict; None: the net as the module gives it.
    """

    model: Annotated[str, Field(pattern=r"^[\w.]+:[\w.]+$", max_length=200)] | None = None
    weights: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class Study(Settings):
    """experiments/NAME.yaml"""

    name: str
    data: dict[str, Any]
    model: dict[str, Any]
    training: Training
    losses: dict[str, Loss]
    attack: Attack
    search: Search = Search()
    published: list[Published] = Field(default=[])
    figures: list[Figure] = Field(default=[])
    checkpoints: dict[str, Checkpoint] = Field(default={})
    _uses: dict[str, str] = PrivateAttr(default={})
    """Loss of one's own -> its `use`: the module that is named there counts, also if it only hands on the class."""

    def using(self, uses: dict[str, str]) -> Self:
        """The study with the `use` of each loss of one's own, which the loss itself does not know."""
        self._uses = uses
        return self

    @property
    def parts(self) -> Parts:
        """The modules that it names."""
        attack, given = self.attack.model_dump(), {name: {"model": one.model} for name, one in self.checkpoints.items()}
        losses = {name: self._module_of(name, loss) for name, loss in self.losses.items()}
        return parts({"data": self.data, "model": self.model, "losses": losses, "attack": attack, "checkpoints": given})

    def _module_of(self, name: str, loss: Loss) -> dict[str, Any]:
        """What `parts` asks of a loss: the module of one's own, or the terms of a sum."""
        if isinstance(loss, Sum):
            return {"terms": {term: {"use": self._uses.get(f"{name}.{term}")} for term in loss.terms}}
        return {"use": self._uses.get(name)}

    @property
    def file(self) -> Path:
        return layout.study_file(self.name)

    @property
    def folder(self) -> Path:
        return self.file.with_suffix("")

    @cached_property
    def task(self) -> Task:
        return tasks.named(data.facts(self.data).task)

    @property
    def data_module(self) -> ModuleType:
        """The code of the data set."""
        return data.module_of(self.data)

    @property
    def model_function(self) -> Callable[..., nn.Module]:
        return models.function_of(self.model)

    def loss(self, name: str) -> Loss:
        if name not in self.losses:
            raise UserError(f"{self.file}: losses: no '{name}'; {nearest(name, self.losses)}")
        return self.losses[name]

    def stated(self, name: str) -> dict[str, Any]:
        """The settings of a loss as plain values, with `use` where it is one's own."""
        loss = self.loss(name)
        if isinstance(loss, Sum):
            return {"terms": {term: stated(term, one) for term, one in loss.terms.items()}}
        return stated(name, loss)


def stated(name: str, loss: Loss) -> dict[str, Any]:
    """The settings of a loss that is no sum."""
    ours = name in registry.names("inputgrad.losses")
    own = {} if ours else {"use": f"{type(loss).__module__}:{type(loss).__name__}"}
    return own | loss.model_dump(mode="json")
