"""The input gradient that a model gives, against a difference of its outputs: a `detach()` inside it, a wrong layer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.audit.gaps import Gaps, NotMeasuredError
from inputgrad.audit.probe import Call, Probe
from inputgrad.audit.recorder import bearing
from inputgrad.audit.subject import Run, Subject
from inputgrad.audit.tensors import mapped, nodes, tensors


def model_gradient(subject: Subject, exact: Run) -> tuple[bool | None, str]:
    """The input gradient that the model gives, against a difference of what it was taken of, in the input."""
    calls: dict[nn.Module, Call] = {}
    for call in exact.probe.calls:
        if any(z.is_floating_point() for z in tensors(call.given)):
            calls.setdefault(call.module, call)
    if not calls:
        raise NotMeasuredError("the model is called with whole numbers only")
    h, bound = (1e-6, 1e-3) if exact.probe.precise else (1e-2, 0.1)
    found = [gaps_of(subject, call, h, bound) for call in calls.values()]
    return max(found, key=lambda gaps: min(gaps.smooth, default=0.0)).found(subject)


def gaps_of(s: Subject, call: Call, h: float, bound: float) -> Gaps:
    """Of one model call, along directions of length 1."""
    gaps, generator = Gaps(bound), torch.Generator().manual_seed(5)
    for _ in range(3):
        ways = [torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z) for z in tensors(call.given)]
        unit = math.sqrt(sum(float(w.square().sum()) for w in ways)) or 1.0
        ways = [w / unit for w in ways]
        (up, above), (_, along), (down, below) = (scalar(s, call, ways, step) for step in (h, 0.0, -h))
        if gaps.add(up, down, h, along, lambda ends=(above, below): [*ends]):  # type: ignore[misc]
            break
    return gaps


def scalar(s: Subject, call: Call, ways: list[Tensor], step: float) -> tuple[float, float]:
    """A sum of the outputs of one model call, moved by `step`, and its slope by autograd.

    Where the model takes a derivative itself, of an energy for instance, that derivative and that energy are meant.
    """
    s.fresh()
    moved, leaves = iter(ways), []

    def place(z: Tensor) -> Tensor:
        way = next(moved)
        if not z.is_floating_point():
            return z
        leaf = (z + step * way).requires_grad_(True)
        leaves.append((leaf, way))
        return leaf

    args, kwargs = mapped(place, call.given)
    inner = Probe([], s.learnt[0].detach().new_zeros(()))
    with inner.watching():
        outputs = call.module(*args, **kwargs)
    for asked in inner.asked:
        for _, way in leaves:
            if asked.gradient.shape == way.shape:
                return asked.root, float((asked.gradient * way).sum())
    value = sum(((o * bearing(o)).sum() for o in tensors(outputs) if o.is_floating_point()), s.learnt[0].new_zeros(()))
    grads: Sequence[Tensor | None] = [None] * len(leaves)
    if value.requires_grad:
        grads = torch.autograd.grad(value, [leaf for leaf, _ in leaves], allow_unused=True)
    if all(g is None for g in grads):
        raise NotMeasuredError("the model cuts its input off: derivatives are by what it makes of it")
    slope = sum(float((g * way).sum()) for g, (_, way) in zip(grads, leaves, strict=True) if g is not None)
    return float(value.detach()), slope


def wrong_layers(subject: Subject) -> list[str]:
    """The smallest parts of the models whose second derivative is not that of a difference, by name and class."""
    given: dict[nn.Module, Any] = {}

    def keep(module: nn.Module, args: Any) -> None:
        if any(z.is_floating_point() for z in tensors(args)):
            given.setdefault(module, mapped(lambda z: z.detach().clone(), args))

    handle = torch.nn.modules.module.register_module_forward_pre_hook(keep)
    try:
        subject.again()
    finally:
        handle.remove()
    wrong = [module for module, args in given.items() if second_is_wrong(subject, module, args)]
    smallest = [m for m in wrong if not any(other in wrong for other in m.modules() if other is not m)]
    names = {module: name for model in subject.models for name, module in model.named_modules()}
    return [f"{names.get(m) or 'the model'} ({type(m).__name__})" for m in smallest]


def own_functions(subject: Subject, exact: Run) -> list[type]:
    """Every torch.autograd.Function that a user wrote, in what the models give."""
    found: list[type] = []
    for module, given in dict((call.module, call.given) for call in exact.probe.calls).items():
        subject.fresh()
        args, kwargs = mapped(lambda z: z.detach().requires_grad_(z.is_floating_point()), given)
        classes = (getattr(type(node), "_forward_cls", None) for node in nodes(tensors(module(*args, **kwargs))))
        found += [one for one in classes if isinstance(one, type)]
    return list(dict.fromkeys(found))


def second_is_wrong(subject: Subject, module: nn.Module, args: Any, h: float = 1e-5) -> bool:
    """Of a number made of a module's outputs: does its gradient change with the input as autograd says?"""
    generator = torch.Generator().manual_seed(8)
    ways = [torch.randn(z.shape, generator=generator, dtype=torch.float64).to(z) for z in tensors(args)]

    def at(step: float, second: bool = False) -> tuple[float, float]:
        """A number made of the outputs, and its slope; with `second`, the slope of that slope."""
        subject.fresh()
        each, leaves = iter(ways), []

        def place(z: Tensor) -> Tensor:
            way = next(each)
            if z.is_floating_point():
                z = (z + 0.01 * way.roll(1) + step * way).requires_grad_(True)  # off the ties that zeros of a ReLU make
                leaves.append((z, way))
            return z

        outputs = [o for o in tensors(module(*mapped(place, args))) if o.is_floating_point()]
        value = torch.stack([(o * bearing(o)).square().sum() for o in outputs]).sum()
        first = along(value, leaves)
        return (0.0, float(along(first, leaves).detach())) if second else (float(value.detach()), float(first.detach()))

    def along(value: Tensor, leaves: list[tuple[Tensor, Tensor]]) -> Tensor:
        if not value.requires_grad:
            return value.new_zeros(())
        points = [z for z, _ in leaves]
        found = torch.autograd.grad(value, points, create_graph=True, materialize_grads=True)
        return torch.stack([(g * way).sum() for g, (_, way) in zip(found, leaves, strict=True)]).sum()

    try:
        (_, twice), (up, above), (down, below), (_, here) = at(0.0, second=True), at(h), at(-h), at(0.0)
        near = (at(h / 10)[1] - at(-h / 10)[1]) / (h / 5)
    except (RuntimeError, TypeError, ValueError):  # a part that cannot be called alone
        return False
    if far(here, (up - down) / (2 * h)):  # a detach in it, such as that of a straight-through estimator
        return False
    difference = (above - below) / (2 * h)
    return far(twice, difference) and not far(near, difference)  # a step across a kink, as of a ReLU, tells nothing


def far(one: float, other: float) -> bool:
    return abs(one - other) > 0.01 * max(abs(one), abs(other), 1e-6)
