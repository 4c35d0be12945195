"""What a model is called with and what it gives: one tensor, or a container of which a part is meant.

A container is a dict, a tuple, a list or a batch object. Several tensors by which is differentiated at once become one
point of shape (N, numbers of all of them), and are taken apart again where the model is called: a loss sees one tensor.
"""

from __future__ import annotations

import copy
import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.errors import UserError, nearest

Names = str | int | Sequence[str | int]


class Inputs:
    """A container, the names of the tensors in it by which is differentiated, and the model that takes it.

    Args:
        model: takes the container whole, or its parts as arguments where its signature has room for them.
        given: the container.
        wrt: which of its tensors; None: the one that is floating-point.

    Raises:
        UserError: there is no such part, or nothing says which is meant.
    """

    def __init__(self, model: Callable[..., Any], given: Any, wrt: Names | None) -> None:
        self.model, self.given = model, given
        floating = [name for name, one in parts_of(given).items() if is_floating(one)]
        if wrt is None and len(floating) != 1:
            fix = f"fix: Context(wrt={floating[0] if floating else 'name'!r}), or several names"
            raise UserError(f"x holds {len(floating)} floating-point tensors ({listed(floating)}), not one; {fix}")
        self.names = [floating[0]] if wrt is None else [wrt] if isinstance(wrt, str | int) else [*wrt]
        for name in self.names:
            if not is_floating(part(given, name)):
                known = nearest(str(name), map(str, floating))
                raise UserError(f"wrt: x holds no floating-point tensor {name!r}; {known}")
        self.tensors: list[Tensor] = [part(given, name) for name in self.names]
        if len({len(t) for t in self.tensors}) > 1:
            shapes = ", ".join(f"{n} {tuple(t.shape)}" for n, t in zip(self.names, self.tensors, strict=True))
            raise UserError(f"wrt: {shapes} have different numbers of rows; fix: name tensors with a row per example")

    @property
    def point(self) -> Tensor:
        """The tensor by which is differentiated; of several, their numbers side by side, (N, numbers)."""
        if len(self.tensors) == 1:
            return self.tensors[0]
        return torch.cat([t.reshape(len(t), -1) for t in self.tensors], 1)

    def call(self, point: Tensor) -> Any:
        """What the model gives for the container with other numbers in it."""
        pieces = [point]
        if len(self.tensors) > 1:
            sizes = [t[0].numel() for t in self.tensors]
            pieces = [p.reshape(t.shape) for p, t in zip(point.split(sizes, 1), self.tensors, strict=True)]
        given = self.given
        for name, piece in zip(self.names, pieces, strict=True):
            given = changed(given, name, piece)
        return called(self.model, given)


def is_floating(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def listed(names: Sequence[str | int]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def parts_of(given: Any) -> dict[str | int, Any]:
    """The parts of a container by name; those of a plain tuple or list by number."""
    if isinstance(given, Mapping):
        return dict(given)
    if isinstance(given, tuple | list):
        return dict(zip(getattr(given, "_fields", range(len(given))), given, strict=True))
    if dataclasses.is_dataclass(given):
        return {field.name: getattr(given, field.name) for field in dataclasses.fields(given)}
    if callable(keys := getattr(given, "keys", None)):  # a batch of torch_geometric keeps its tensors elsewhere
        return {name: getattr(given, name) for name in keys()}
    return dict(getattr(given, "__dict__", {}))


def part(given: Any, name: str | int) -> Any:
    """A part of a container, also one inside another: `obs.state`; None where there is none."""
    parts = parts_of(given)
    if name in parts or not isinstance(name, str) or "." not in name:
        return parts.get(name)
    first, _, rest = name.partition(".")
    return part(parts.get(first), rest)


def changed(given: Any, name: str | int, value: Tensor) -> Any:
    """The container with another tensor in it; the given one stays as it is."""
    if isinstance(name, str) and "." in name and name not in parts_of(given):
        first, _, rest = name.partition(".")
        name, value = first, changed(parts_of(given)[first], rest, value)
    if isinstance(given, tuple | list):
        each = [value if key == name else one for key, one in parts_of(given).items()]
        return given._make(each) if hasattr(given, "_make") else type(given)(each)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return dataclasses.replace(given, **{str(name): value})
    other = copy.copy(given)
    if isinstance(given, Mapping):
        other[name] = value
        if name in getattr(other, "__dict__", {}):  # one that keeps its keys as attributes too
            setattr(other, str(name), value)
    else:
        setattr(other, str(name), value)
    return other


def called(model: Callable[..., Any], given: Any) -> Any:
    """What the model gives for a container.

    A dict is given by name where the model has all its names, a tuple in its order where there is room; else the model
    takes the container whole, or the parts that its signature names.
    """
    if isinstance(given, Mapping) and takes(model, **(named := dict(given))):
        return model(**named)
    if type(given) in (tuple, list) and takes(model, *given):
        return model(*given)
    return model(given) if takes(model, given) else model(**wanted(model, parts_of(given)))


def signature(model: Callable[..., Any]) -> inspect.Signature:
    """Of a model; data parallel and compiled ones take anything and pass it on."""
    while isinstance(inner := getattr(model, "module", getattr(model, "_orig_mod", None)), nn.Module):
        model = inner
    return inspect.signature(model.forward if isinstance(model, nn.Module) else model)


def takes(model: Callable[..., Any], *args: Any, **kwargs: Any) -> bool:
    """Whether a model can be called with these arguments, by its signature."""
    try:
        signature(model).bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def wanted(model: Callable[..., Any], parts: Mapping[Any, Any]) -> dict[str, Any]:
    """The parts that the model has a parameter for."""
    return {name: parts[name] for name in signature(model).parameters if name in parts}


def output_of(outputs: Any, name: str | int | None) -> Tensor:
    """The tensor that is meant of what a model gives.

    Args:
        outputs: a tensor, or an object, a dict or a tuple with tensors.
        name: which of them: a key, an attribute or a number; None: `logits` where there are any, or the only one.

    Raises:
        UserError: there is no such part, or nothing says which is meant.
    """
    if isinstance(outputs, Tensor) and name is None:
        return outputs
    if isinstance(outputs, Tensor):
        raise UserError(f"output: the model gives a tensor, which has no part {name!r}; fix: leave output out")
    found = {n: p for n, p in parts_of(outputs).items() if is_floating(p)}
    if isinstance(outputs, tuple) and isinstance(name, int):  # a field of a named one has a number too
        found = {n: p for n, p in enumerate(outputs) if is_floating(p)}
    meant = name if name is not None else "logits" if "logits" in found else next(iter(found), None)
    if meant not in found or (name is None and meant != "logits" and len(found) > 1):
        said = f"the model gives a {type(outputs).__name__} with {listed([*found])}"
        fix = f"Context(output={next(iter(found))!r}), or another of them" if found else "give a model whose outputs"
        raise UserError(f"{said}; fix: {fix}{'' if found else ' are a tensor, or hold one'}")
    chosen: Tensor = found[meant]
    return chosen


class _Reached(Exception):
    """A layer has been called: what it gave is all that was wanted."""

    def __init__(self, output: Any) -> None:
        super().__init__()
        self.output = output


class Layer:
    """A model that is entered at the output of one of its layers, such as the embedding of tokens.

    Args:
        model: any module.
        name: of the layer, as `model.named_modules()` gives it.
        given: what the model is called with: a tensor, or a container.
    """

    def __init__(self, model: Callable[..., Any], name: str, given: Any) -> None:
        self.model, self.given, self.name = model, given, name
        inside = {n.removeprefix("module.") or n: m for one in modules_of(model) for n, m in one.named_modules()}
        if name not in inside:
            raise UserError(f"layer: the model has no layer {name!r}; {nearest(name, [n for n in inside if n])}")
        self.layer = inside[name]

    def _run(self, hook: Callable[..., Any]) -> Any:
        handle = self.layer.register_forward_hook(hook)
        try:
            return self.model(self.given) if isinstance(self.given, Tensor) else called(self.model, self.given)
        finally:
            handle.remove()

    @property
    def point(self) -> Tensor:
        """What the layer gives, with its graph: the layer is trained through it."""

        def stop(module: nn.Module, args: Any, output: Any) -> None:
            raise _Reached(output)

        try:
            with torch.enable_grad():
                self._run(stop)
        except _Reached as reached:
            if is_floating(reached.output):
                return reached.output  # type: ignore[no-any-return]
            raise UserError(f"layer: {self.name!r} gives no tensor of numbers; fix: name another one") from None
        raise UserError(f"layer: the model does not call {self.name!r}; fix: name a layer that it runs through")

    def call(self, point: Tensor) -> Any:
        """What the model gives where the layer gives `point`."""
        calls = []

        def replace(module: nn.Module, args: Any, output: Any) -> Tensor:
            calls.append(output)
            return point

        outputs = self._run(replace)
        if len(calls) > 1:
            fix = "fix: name a layer that is called once"
            raise UserError(f"layer: the model calls {self.name!r} {len(calls)} times in one pass; {fix}")
        return outputs


def modules_of(model: Any) -> list[nn.Module]:
    """The modules behind a model: itself, or those that a plain function uses.

    Found in what a function closes over, names globally or has as a default, in `functools.partial` and in methods.
    """
    found: dict[int, nn.Module] = {}
    left, seen = [model], set()
    while left:
        thing = left.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, nn.Module):
            found[id(thing)] = thing
        elif isinstance(thing, partial):
            left += [thing.func, *thing.args, *thing.keywords.values()]
        elif isinstance(thing, MethodType):
            left += [thing.__self__, thing.__func__]
            left += [
                value for value in getattr(thing.__self__, "__dict__", {}).values() if isinstance(value, nn.Module)
            ]
        elif isinstance(thing, FunctionType):
            code = thing.__code__
            cells = [cell.cell_contents for cell in thing.__closure__ or () if filled(cell)]
            globals_ = [thing.__globals__[name] for name in code.co_names if name in thing.__globals__]
            left += [*cells, *globals_, *(thing.__defaults__ or ()), *(thing.__kwdefaults__ or {}).values()]
        elif isinstance(thing, tuple | list):
            left += thing
        elif isinstance(thing, dict):
            left += thing.values()
    return [*found.values()]


def filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:  # a name that has no value yet
        return False


def index_of(x: Any, index: Tensor | str | None) -> Tensor | None:
    """The number of the example of every row of x, given or by its name in x; None where a row is an example."""
    found = part(x, index) if isinstance(index, str) else index
    if index is not None and not isinstance(found, Tensor):
        raise UserError(f"index: x has no tensor {index!r}; {nearest(str(index), map(str, parts_of(x)))}")
    return found


def checked(index: Tensor, size: int) -> Tensor:
    """The index, once it is known to be one of integers, one for each of so many rows."""
    if index.is_floating_point():
        raise UserError(f"index is {str(index.dtype)[6:]}, the numbers of examples are integers; fix: index.long()")
    if index.shape != (size,):
        said = f"index has shape {tuple(index.shape)} for {size} rows of x"
        raise UserError(f"{said}; fix: give the number of the example of every row")
    return index


def position(index: Tensor, size: int) -> Tensor:
    """The place of every row among the rows of its own example."""
    order = torch.argsort(index, stable=True)
    counts = torch.bincount(index, minlength=size)
    first = (counts.cumsum(0) - counts)[index[order]]
    place = torch.empty_like(index)
    place[order] = torch.arange(len(index), device=index.device) - first
    return place
