"""Assertions for a loss of your own: what every loss here is held to.

from inputgrad import testing
testing.assert_contract(MyLoss(0.5), model, x, y)

`loss` is a loss of this library or any function `loss(model, x, y)` that gives one number; a `context` is given to it
where there is one. Losses that draw random numbers are called with the same ones each time. In float64 and with a
smooth net the differences are sharp.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.audit import audit
from inputgrad.gradients.forward import Context

AnyLoss = Callable[..., Tensor]


def value(loss: AnyLoss, model: nn.Module, x: Any, y: Any, context: Context | None = None) -> Tensor:
    """The loss, with the random numbers of seed 0; the global ones go on as before."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(0)
        return loss(model, x, y) if context is None else loss(model, x, y, context)


def gradient(loss: AnyLoss, model: nn.Module, x: Any, y: Any, context: Context | None = None) -> Tensor:
    """The gradient by all trained weights as one vector; their `.grad` is left alone."""
    weights = [p for p in model.parameters() if p.requires_grad]
    found = torch.autograd.grad(value(loss, model, x, y, context), weights, allow_unused=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in zip(weights, found, strict=True)])


def relative_gap(a: Tensor, b: Tensor) -> float:
    """‖a - b‖ / ‖b‖; 0 where both are 0."""
    off = float((a - b).norm())
    return off / max(float(b.norm()), torch.finfo(b.dtype).tiny) if off else 0.0


def assert_trains_on_input_gradient(
    loss: AnyLoss, model: nn.Module, x: Any, y: Any, context: Context | None = None
) -> None:
    """The input gradient in the loss is a function of the weights, not a constant: the audit says `depends`.

    Raises:
        AssertionError: with the audit's findings.
    """
    found = audit(loss, model, x, y) if context is None else audit(loss, model, x, y, context)
    if not found.depends:
        raise AssertionError(f"the loss does not train on an input gradient: {found.kind}\n{found}")


def assert_equals_finite_difference(
    loss: AnyLoss,
    model: nn.Module,
    x: Any,
    y: Any,
    context: Context | None = None,
    rtol: float = 1e-5,
    step: float = 1e-5,
) -> None:
    """The gradient along three random directions of the weights is a central difference of the loss.

    A loss that holds something constant on purpose (an attack's moved input) fails, and has to.

    Args:
        loss: a function of (model, x, y).
        model: smooth, in float64.
        x: the inputs, in float64.
        y: the targets.
        context: for a loss that needs one.
        rtol: relative to the length of the gradient.
        step: of the difference, relative to the length of the weights.
    """
    exact, weights = gradient(loss, model, x, y, context), [p for p in model.parameters() if p.requires_grad]
    at = torch.nn.utils.parameters_to_vector(weights).detach()
    draws = torch.Generator().manual_seed(0)
    ends = copy.deepcopy(model)
    moved = [p for p in ends.parameters() if p.requires_grad]
    for _ in range(3):
        direction = torch.randn(at.shape, generator=draws, dtype=torch.float64).to(at)
        direction /= direction.norm()
        h, values = step * max(float(at.norm()), 1.0), []
        for sign in (1, -1):
            torch.nn.utils.vector_to_parameters(at + sign * h * direction, moved)
            values.append(float(value(loss, ends, x, y, context).detach()))
        difference, along = (values[0] - values[1]) / (2 * h), float(exact @ direction)
        if abs(difference - along) > rtol * max(abs(difference), float(exact.norm())):
            raise AssertionError(f"along a direction of the weights: {along:.9g}, by differences {difference:.9g}")


def assert_same_at_any_batch_size(
    loss: AnyLoss, model: nn.Module, x: Tensor, y: Tensor, context: Context | None = None, rtol: float = 1e-6
) -> None:
    """The batch twice over has the same loss and the same gradient: a mean over examples, nothing that counts them.

    A loss whose random numbers differ between the examples of a batch fails: compare it without them.
    """
    twice = None if context is None else context.of(torch.arange(len(x)).repeat(2))
    for what, of in (("value", value), ("gradient", gradient)):
        once = of(loss, model, x, y, context).detach()
        again = of(loss, model, torch.cat([x, x]), torch.cat([y, y]), twice).detach()
        if (gap := relative_gap(again, once)) > rtol:
            raise AssertionError(f"the {what} of the batch twice over is {gap:.2g} off")


def assert_no_side_effects(loss: AnyLoss, model: nn.Module, x: Tensor, y: Any, context: Context | None = None) -> None:
    """Weights, `.grad`, buffers, modes, flags, x and the global random state are what they were."""
    for number, p in enumerate(model.parameters()):
        if p.requires_grad and p.grad is None:
            p.grad = torch.full_like(p, float(number + 1))
    before, random = _state(model, x), torch.get_rng_state()
    value(loss, model, x, y, context)
    after = _state(model, x)
    changed = [name for name in before if not _equal(before[name], after.get(name))]
    if not torch.equal(random, torch.get_rng_state()):
        changed.append("the global random state")
    if changed:
        raise AssertionError(f"the loss changed {', '.join(changed)}")


def _state(model: nn.Module, x: Tensor) -> dict[str, Any]:
    found: dict[str, Any] = {"x": x.detach().clone(), "x.requires_grad": x.requires_grad, "x.grad": x.grad}
    for name, module in model.named_modules():
        found[f"the mode of {name or 'the model'}"] = module.training
    for name, p in model.named_parameters():
        found |= {name: p.detach().clone(), f"{name}.requires_grad": p.requires_grad}
        found[f"{name}.grad"] = None if p.grad is None else p.grad.clone()
    return found | {name: buffer.clone() for name, buffer in model.named_buffers()}


def _equal(a: Any, b: Any) -> bool:
    return torch.equal(a, b) if isinstance(a, Tensor) and isinstance(b, Tensor) else a is b or a == b


def assert_contract(loss: AnyLoss, model: nn.Module, x: Tensor, y: Tensor, context: Context | None = None) -> None:
    """All of them, on a copy of the model in eval mode, where no layer couples examples or draws."""
    model = copy.deepcopy(model).eval()
    assert_no_side_effects(loss, model, x, y, context)
    model.zero_grad()
    assert_trains_on_input_gradient(loss, model, x, y, context)
    assert_equals_finite_difference(loss, model, x, y, context)
    assert_same_at_any_batch_size(loss, model, x, y, context)
