"""What is known besides x and y: of the data, of the task, and of how the model is called."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from inputgrad import tasks
from inputgrad.errors import UserError, nearest
from inputgrad.gradients.containers import Names
from inputgrad.tasks import LossName

KINDS: tuple[tuple[str, Any, str], ...] = (
    ("layer", str, "the name of the layer, as named_modules() gives it"),
    ("points", Mapping, '{"inside": points}'),
    ("examples", Mapping, '{"target_gradient": t}'),
    ("bounds", (tuple, list), "(lowest, highest)"),
)
"""What a name of the context may hold, and what to write."""


@dataclass(frozen=True, kw_only=True)
class Context:
    """What a data set knows besides x and y; all of it optional.

    direction: regression: one vector shaped as an input, along which the output should rise;
        classification: the mean input of every class, shape (C, *input).
    mask: shaped as an input, 1 where the input must not matter, else 0.
    bounds: lowest and highest admissible value of an input, e.g. (0, 1) for images; None: unbounded.
    examples: what is known of every example of the batch, by name, each with one row per example: `target_gradient`
        (N, *input), or (N, k, *input) for k outputs; `gradient_weight`, shaped as it; `mask`, (N, *input).
    task: the task loss, where type and shape of the targets leave a doubt: "ce" (class numbers or class probabilities),
        "bce" (a label of its own for every output) or "mse"; or a function (outputs, y) -> (N,) with class weights, …,
        or a loss of `torch.nn` with reduction="none". Its values are averaged over the examples, and over what an
        example has several of: class weights and an `ignore_index` do not divide by what counts, as torch's mean does.
    wrt: where x is a container (a dict, a tuple, a batch object): the name of the tensor by which is differentiated, or
        several; by default its only floating-point one. The rest is passed on.
    layer: the name of a layer of the model: differentiated is by what it gives. For tokens, that of the embeddings.
    output: where the model gives a container: the name of the part that is meant; by default `logits`, or the only one.
    index: where an example has several rows of x, such as the atoms of a molecule: the number of the example of every
        row, (rows of x,), or its name in x. A term is then one number per example, over all its rows.
    points: points of a term's own, by the name that its knob `points` says, (M, *input): between real and generated
        examples, inside a domain; or a pair (points, y). Points in a container: a dict, or ((x, t), None).
    """

    direction: Tensor | None = None
    mask: Tensor | None = None
    bounds: tuple[float, float] | None = None
    examples: Mapping[str, Tensor] = field(default_factory=dict)
    task: LossName | Callable[[Any, Any], Tensor] | None = None
    wrt: Names | None = None
    layer: str | None = None
    output: str | int | None = None
    index: Tensor | str | None = None
    points: Mapping[str, Any] = field(default_factory=dict)

    def __new__(cls, *unnamed: Any, **known: Any) -> Context:
        names = cls.__dataclass_fields__
        if unnamed:
            raise UserError(f"Context: {unnamed[0]!r} has no name; fix: Context(task={unnamed[0]!r}), or another name")
        if wrong := [name for name in known if name not in names]:
            raise UserError(f"Context: there is no {wrong[0]!r}; {nearest(wrong[0], names)}")
        return super().__new__(cls)

    def __post_init__(self) -> None:
        for name, kind, fix in KINDS:
            if getattr(self, name) is not None and not isinstance(getattr(self, name), kind):
                raise UserError(f"Context: {name} is a {type(getattr(self, name)).__name__}; fix: {name}={fix}")
        if isinstance(self.task, type):
            raise UserError(f"Context: task is a class; fix: task={self.task.__name__}(reduction='none')")
        if self.bounds is not None and not self.bounds[0] < self.bounds[1]:
            raise UserError(f"bounds {tuple(self.bounds)} hold nothing; fix: give (lowest, highest), such as (0, 1)")
        if isinstance(self.task, str) and self.task not in tasks.LOSSES:
            raise UserError(f"no task loss {self.task!r}; {nearest(self.task, tasks.LOSSES)}")

    def to(self, device: torch.device | str) -> Context:
        """The same with its tensors on `device`."""

        def moved(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(map(moved, value))
            return value.to(device) if isinstance(value, Tensor) else value

        named: dict[str, Any] = {k: moved(getattr(self, k)) for k in ("direction", "mask", "index")}
        named |= {k: {n: moved(t) for n, t in getattr(self, k).items()} for k in ("examples", "points")}
        return replace(self, **named)

    def of(self, index: Tensor) -> Context:
        """What is known of some examples of the batch."""
        return replace(self, examples={k: t[index] for k, t in self.examples.items()}) if self.examples else self
