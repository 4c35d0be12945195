"""What the scan knows of a value without running anything: does it follow the weights, is it a constant gradient?"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

UNKNOWN = object()
TRAINING = object()
"""What `model.training` is: True in one mode, False in the other."""
NOBODY: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Mark:
    """One place where an input gradient becomes a constant."""

    line: int
    end: int
    kind: str
    text: str
    at: frozenset[str] = NOBODY  # the tensors that the gradient was taken at
    reduced: bool = False  # a norm, a mean, a loss of it: no longer the gradient itself
    paired: bool = False  # multiplied with the very tensor that it was taken at


@dataclass(frozen=True, slots=True)
class Value:
    """A value as the scan sees it.

    `live`: it may follow the weights by another way than an input gradient. `gradient`: it follows an input gradient
    that has its graph; the names are those of the inputs. `marks`: constant gradients that stand in it as a sum of
    terms, none of which has a factor that follows the weights.
    """

    live: bool = False
    gradient: frozenset[str] = NOBODY
    marks: frozenset[Mark] = frozenset()
    reduced: bool = False  # of that gradient, it holds a norm, a mean, a loss
    names: frozenset[str] = NOBODY  # the tensors that it is a copy of
    leaf: bool = False  # it was told to require a gradient
    weights: bool = False  # the model's parameters
    unsure: bool = False  # an element of something that nobody knows
    literal: Any = UNKNOWN
    items: tuple[Value, ...] | None = None
    entries: tuple[tuple[str, Value], ...] | None = None
    function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | None = None
    callee: str = ""  # what calling it does: "MSELoss", or DERIVATIVE

    @property
    def alive(self) -> bool:
        return self.live or bool(self.gradient)


DEAD = Value()
LIVE = Value(live=True)
DERIVATIVE = "derivative"


def known(literal: Any) -> Value:
    return Value(literal=literal)


def whole(value: Value) -> Value:
    """A list, a tuple or a dict as one value: the sum of what is in it."""
    inside = [*(value.items or ()), *(v for _, v in value.entries or ())]
    return added([replace(value, items=None, entries=None), *(whole(v) for v in inside)]) if inside else value


def reduced(value: Value) -> Value:
    return replace(value, marks=frozenset(replace(m, reduced=True) for m in value.marks), reduced=True)


def all_reduced(values: list[Value]) -> bool:
    holders = [v for v in values if v.gradient]
    return bool(holders) and all(v.reduced for v in holders)


def added(values: Iterable[Value]) -> Value:
    """A sum, or what is put side by side.

    A constant gradient that is no penalty yet is lost beside what follows the weights: that is a residual, or a step
    along the gradient.
    """
    values = [whole(v) for v in values]
    live, names = any(v.live for v in values), frozenset[str]().union(*(v.names for v in values))
    gradient = frozenset[str]().union(*(v.gradient for v in values))
    marks = frozenset(m for v in values for m in v.marks if remains(m, live, names, gradient, len(values)))
    weights = any(v.weights for v in values)
    return Value(live=live, gradient=gradient, marks=marks, reduced=all_reduced(values), weights=weights)


def remains(mark: Mark, live: bool, names: frozenset[str], gradient: frozenset[str], count: int) -> bool:
    """Whether a constant is still a term of its own in a sum."""
    if not mark.reduced:
        return not (live or gradient or (count > 1 and names & mark.at))
    return not (mark.kind in CUTS and gradient & mark.at)  # g - g.detach(): a gradient that is stopped on purpose


CUTS = ("cut", "item", "no_grad")


def multiplied(values: Iterable[Value]) -> Value:
    """A product or a quotient: a constant that is the factor of what follows the weights is a weight, no term."""
    values = [whole(v) for v in values]
    holders = [v for v in values if v.marks]
    lost = any(v.alive for v in values if not v.marks) or (len(holders) > 1 and any(v.alive for v in holders))
    marks = frozenset(m for v in holders for m in v.marks) if not lost else frozenset[Mark]()
    marks = frozenset(replace(m, paired=True) if not m.reduced and pairs(m, values) else m for m in marks)
    if not all(any(m.reduced for m in v.marks) for v in holders):  # g / g.norm() is a gradient still
        marks = frozenset(replace(m, reduced=False) for m in marks)
    gradient = frozenset[str]().union(*(v.gradient for v in values))
    live = any(v.live for v in values)
    return Value(live=live, gradient=gradient, marks=marks, reduced=all_reduced(values))


def pairs(mark: Mark, values: list[Value]) -> bool:
    """(x * g).sum() moves x along g: that is a step, until something that is not linear is made of it."""
    return any(v.names & mark.at for v in values if mark not in v.marks)


def bent(values: Iterable[Value], reduces: bool) -> Value:
    """Any function that is not linear: of constants alone it is a constant, and beside anything else no term."""
    values = [whole(v) for v in values]
    live = any(v.live for v in values)
    gradient = frozenset[str]().union(*(v.gradient for v in values))
    every = frozenset(replace(m, paired=False) for v in values for m in v.marks)
    marks = frozenset[Mark]() if live or gradient else every
    found = Value(live=live, gradient=gradient, marks=marks, reduced=all_reduced(values))
    return reduced(found) if reduces else found


def cut(value: Value, mark: Callable[[frozenset[str]], Mark]) -> Value:
    """What .detach() and the like leave: a gradient becomes a constant, a loss becomes a number that nobody accuses."""
    value = whole(value) if value.items or value.entries else value
    if value.live:
        return Value(names=value.names)
    if value.gradient:
        return Value(names=value.names, marks=frozenset([replace(mark(value.gradient), reduced=value.reduced)]))
    return replace(value, leaf=False, weights=False)


def joined(a: Value, b: Value) -> Value:
    """What is one of two, by an `if`."""
    if a == b:
        return a
    items = entries = None
    if a.items is not None and b.items is not None and len(a.items) == len(b.items):
        items = tuple(map(joined, a.items, b.items))
    elif a.items or b.items or a.entries or b.entries:
        a, b = (v if v.items is None and v.entries is None else whole(v) for v in (a, b))
    return Value(
        live=a.live or b.live,
        gradient=a.gradient | b.gradient,
        marks=a.marks | b.marks,
        reduced=all_reduced([a, b]),
        names=a.names | b.names,
        leaf=a.leaf or b.leaf,
        weights=a.weights or b.weights,
        unsure=a.unsure and b.unsure,
        literal=a.literal if a.literal is b.literal else UNKNOWN,
        items=items,
        entries=entries,
        function=a.function if a.function is b.function else None,
        callee=a.callee if a.callee == b.callee else "",
    )
