"""What a loss makes a constant itself: `.detach()`, `.data`, `.item()`, `.numpy()`, and all that runs under no_grad."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.autograd import Function
from torch.overrides import TorchFunctionMode

from inputgrad.audit.blame import caller
from inputgrad.audit.tensors import is_wrapped, mapped, tensors

if TYPE_CHECKING:
    from inputgrad.audit.probe import Probe

METHODS = {"detach": ".detach()", "item": ".item()", "numpy": ".numpy()", "tolist": ".tolist()", "__float__": "float()"}
"""What cuts a tensor off its graph, wherever it is called, and how it is written."""


class Constant(NamedTuple):
    """A line that makes a constant of what depends on the weights: how it is written, its file and number."""

    written: str
    where: tuple[str, int]


@dataclass(frozen=True)
class Cut:
    """A constant that was made of a tensor with a graph, its numbers, and whether a model made it."""

    value: Any
    line: Constant
    inside: bool


class Cuts(TorchFunctionMode):
    """Sees every call of PyTorch in one evaluation; records what it makes constant, or gives out what another one did.

    A difference over the weights must not follow a constant, since no gradient does. What a layer makes constant
    belongs to the function that it computes, and is not given out again unless it holds a derivative: `inside_lines`.
    While autograd works nothing is touched.
    """

    def __init__(self, probe: Probe) -> None:
        super().__init__()
        self.probe, self.functions = probe, 0
        self.replay = iter(probe.held.tape) if probe.held is not None and probe.free else None
        self.patched: AbstractContextManager[None] = self._functions()

    def __enter__(self) -> Cuts:
        self.patched.__enter__()
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)  # type: ignore[no-untyped-call]
        self.patched.__exit__(None, None, None)

    @contextmanager
    def _functions(self) -> Iterator[None]:
        """Know when a custom function's forward runs, which has no graph either, by PyTorch's own hand."""
        apply = Function.__dict__["apply"]

        def counted(cls: type[Function], *args: Any, **kwargs: Any) -> Any:
            self.functions += 1
            try:
                return apply.__get__(None, cls)(*args, **kwargs)
            finally:
                self.functions -= 1

        Function.apply = classmethod(counted)
        try:
            yield
        finally:
            Function.apply = apply

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        if isinstance(found, Tensor) and found.requires_grad and found.is_floating_point():
            self.probe.narrow |= found.dtype.itemsize < self.probe.like.dtype.itemsize
        if self.probe.busy or self.probe.done or self.functions:
            return found
        written = written_as(func) or ("" if torch.is_grad_enabled() else "torch.no_grad()")
        if not written or not has_graph((args, kwargs or {})) or not is_constant(found):
            return found
        here = Cut(copied(found), Constant(written, caller()), self.probe.depth > 0)
        self.probe.tape.append(here)
        before = None if self.replay is None else next(self.replay, None)
        if before is None or before.line != here.line or here.line == self.probe.released or not fits(before, here):
            return found
        if here.inside and here.line not in self.probe.inside_lines:
            return found
        return copied(before.value)


def written_as(func: Any) -> str:
    """How a call that cuts a tensor off its graph is written; '' for any other."""
    if getattr(func, "__self__", None) is Tensor.data:
        return ".data"
    return METHODS.get(getattr(func, "__name__", ""), "")


def has_graph(given: Any) -> bool:
    return any(t.requires_grad and not is_wrapped(t) for t in tensors(given))


def is_constant(value: Any) -> bool:
    """Numbers without graph; a tensor that was changed in place and keeps its own is none."""
    if isinstance(value, Tensor):
        return value.is_floating_point() and not value.requires_grad and not is_wrapped(value)
    return isinstance(value, float | np.ndarray) or (isinstance(value, list) and bool(value))


def copied(value: Any) -> Any:
    return mapped(Tensor.clone, value.copy() if isinstance(value, np.ndarray) else value)


def fits(before: Cut, now: Cut) -> bool:
    return type(before.value) is type(now.value) and getattr(before.value, "shape", 0) == getattr(now.value, "shape", 0)


def differs(one: Any, other: Any) -> bool:
    """Whether two constants are not the same numbers."""
    if isinstance(one, Tensor):
        return one.shape != other.shape or not torch.equal(one, other)
    return not np.array_equal(one, other)
