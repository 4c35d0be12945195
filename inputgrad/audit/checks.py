"""The checks, one small function each: what was measured, whether that is right, and why it matters."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.audit.probe import Tilted, constants
from inputgrad.audit.subject import Subject, collect
from inputgrad.gradients.forward import describe, evaluating
from inputgrad.gradients.layers import layers_without_double_backward

NOTHING = 1e-9
"""Below this (relative to the loss) a float64 figure is rounding."""


@dataclass(frozen=True)
class CheckResult:
    """One row: its name, the measured figure, whether it is as it must be, and what it means."""

    name: str
    ok: bool
    value: float
    figure: str
    why: str


def sees_the_gradient(s: Subject) -> CheckResult:
    """Turn the input gradient without touching the outputs on the batch: does the loss's value move?"""
    slope = tilt_slopes(s)[0]
    return CheckResult(
        "value depends on the input gradient",
        abs(slope) > scale(s),
        slope,
        f"slope {slope:.3g}",
        "the input gradient is turned while the outputs on the batch stay the same",
    )


def trains_on_it(s: Subject) -> CheckResult:
    """The same slope by autograd: what the optimiser would see of that dependence."""
    difference, autograd = tilt_slopes(s)
    agrees = abs(autograd - difference) <= 1e-4 * abs(difference) + scale(s)
    return CheckResult(
        "that dependence reaches the parameters",
        abs(autograd) > scale(s),
        autograd,
        f"autograd {autograd:.3g}, difference {difference:.3g}{'' if agrees else ' (a part is held constant)'}",
        "0 by autograd where the difference is not 0: the input gradient was a constant",
    )


def tilt_slopes(s: Subject) -> tuple[float, float]:
    """D loss / d s at s = 0 of the tilted model, by a central difference and by autograd."""
    with torch.no_grad(), evaluating(s.model):
        outputs = s.model(s.x[:1])[0].numel()
    tilted = Tilted(s.model, s.x, outputs)
    values, h = [], 1e-5
    for value in (h, -h):
        tilted.s.data.fill_(value)
        values.append(float(s.total(tilted).detach()))
        collect([tilted.s, *s.parameters])
    tilted.s.data.fill_(0.0)
    total = s.total(tilted)
    if total.requires_grad:
        total.backward()
    autograd = 0.0 if tilted.s.grad is None else float(tilted.s.grad)
    collect([tilted.s, *s.parameters])
    return (values[0] - values[1]) / (2 * h), autograd


def reaches_the_parameters(s: Subject) -> CheckResult:
    """Size of the parameter gradient that the task loss alone does not explain."""
    whole = s.gradient()
    task = s.task()
    if task.requires_grad:
        task.backward()
    part = collect(s.parameters)
    term, base = float((whole - part).norm()), float(part.norm())
    ratio = f", {term / base:.3g} × the task's" if base else ""
    return CheckResult(
        "the term changes the parameter gradient",
        term > NOTHING * (1 + base),
        term / base if base else term,
        f"norm {term:.3g}{ratio}",
        "a ratio far below 1 means the strength is too low to matter",
    )


def agrees_with_a_difference(s: Subject) -> CheckResult:
    """The total's gradient along a random direction of the weights, against a central difference in float64."""
    tape: list[Tensor] = []
    with constants(tape, record=True):
        total = s.total()
    for p in s.parameters:
        p.grad = None
    if total.requires_grad:
        total.backward()
    exact = collect(s.parameters)
    direction = torch.randn(len(exact), generator=torch.Generator().manual_seed(4), dtype=exact.dtype).to(exact)
    h, values = 1e-6, []
    for sign in (1, -1):
        shifted = copy.deepcopy(s.model)
        learnt = [p for p in shifted.parameters() if p.requires_grad]
        moved = nn.utils.parameters_to_vector(learnt).detach() + sign * h * direction
        nn.utils.vector_to_parameters(moved, learnt)
        with constants(tape, record=False):
            values.append(s.total(shifted).data)
    difference, along = float(values[0] - values[1]) / (2 * h), float(exact @ direction)
    gap = abs(difference - along) / max(abs(difference), abs(along), 1e-9)
    return CheckResult(
        "gradient agrees with a central difference",
        gap < 1e-4,
        gap,
        f"relative gap {gap:.1e}",
        "float64, along a random direction of the weights; detached constants held still",
    )


def batch_changes(s: Subject, name: str, index: list[int]) -> CheckResult:
    """The batch repeated or permuted must give the same value and the same parameter gradient."""
    other = s.rows(index)
    value = abs(float(other.total().detach()) - float(s.total().detach()))
    whole = s.gradient()
    gap = max(value, float((other.gradient() - whole).norm())) / (1 + float(whole.norm()))
    return CheckResult(
        f"batch {name} changes nothing",
        gap < 1e-8,
        gap,
        f"largest change {gap:.1e}",
        "a strength must mean the same at every batch size: per example first, then the mean",
    )


def no_side_effects(s: Subject) -> CheckResult:
    """`.grad`, buffers, weights, modes, requires_grad flags and the random state, before and after one call."""
    model = s.model
    collect(s.parameters)
    before, random = snapshot(model), torch.get_rng_state()
    s.total()
    left = collect(s.parameters)
    after = snapshot(model)
    touched = [key for key in before if not same(before[key], after[key])]
    if not torch.equal(random, torch.get_rng_state()):
        touched.append("the global random state")
    norm = float(left.norm())
    if norm > 0:
        touched.insert(0, f".grad of the parameters (norm {norm:.3g}: it is added to the step)")
    return CheckResult(
        "no side effects",
        not touched,
        float(len(touched)),
        "none" if not touched else f"touches {', '.join(touched)}",
        "an inner pass may leave nothing behind; a first backward() leaves the task's gradient to be counted twice",
    )


def snapshot(model: nn.Module) -> dict[str, Any]:
    """What a loss must not change, by what a user would call it."""
    return {
        "weights": [p.detach().clone() for p in model.parameters()],
        # the outer pass itself moves a BatchNorm's statistics in train mode: that is training, not a side effect
        "buffers": [] if coupled(model) else [b.clone() for b in model.buffers()],
        "train/eval mode": [m.training for m in model.modules()],
        "requires_grad flags": [p.requires_grad for p in model.parameters()],
    }


def same(a: list[Any], b: list[Any]) -> bool:
    return all(torch.equal(x, y) if isinstance(x, Tensor) else x == y for x, y in zip(a, b, strict=True))


def coupled(model: nn.Module) -> list[str]:
    """Names of the layers that mix the examples of a batch in their present mode."""
    kinds = nn.modules.batchnorm._BatchNorm
    return [
        name for name, m in model.named_modules() if isinstance(m, kinds) and (m.training or not m.track_running_stats)
    ]


def examples_do_not_mix(s: Subject) -> CheckResult:
    """The input gradient of one example's output must not touch its neighbours."""
    leaf = s.x.clone().requires_grad_(True)
    saved = copy.deepcopy(s.model)
    (g,) = torch.autograd.grad(saved(leaf)[0].sum(), leaf)
    others = float(g[1:].norm() / g.norm().clamp_min(1e-30))
    names = coupled(s.model)
    return CheckResult(
        "examples do not mix",
        others < NOTHING,
        others,
        f"share of a gradient on other examples {others:.1e}{': ' + ', '.join(names) if names else ''}",
        "a BatchNorm in train mode couples the batch, so that g_i is no example's own; prefer GroupNorm",
    )


def zero_rows(s: Subject) -> CheckResult:
    """Examples whose loss has no input gradient give a term nothing to work on."""
    gradients = describe(s.model, s.x, s.y)[2]
    share = float((gradients.flatten(1).norm(dim=1) < 1e-12).double().mean())
    return CheckResult(
        "examples have an input gradient",
        share < 0.5,
        share,
        f"{share:.0%} of the batch without",
        "confident examples have g ≈ 0; a cosine leaves them out",
    )


def second_derivatives(s: Subject) -> CheckResult:
    """Run every layer alone, twice backwards: the ones that cannot are named."""
    failing = [name for name, error in layers_without_double_backward(s.model, s.x) if error]
    return CheckResult(
        "every layer supports double backward",
        not failing,
        float(len(failing)),
        "all do" if not failing else "not " + ", ".join(failing),
        "fused attention kernels and cuDNN RNNs do not: choose the math kernel, e.g. "
        "torch.nn.attention.sdpa_kernel(SDPBackend.MATH), or use `finite_difference`",
    )


def scale(s: Subject) -> float:
    """What counts as nothing for a slope of this loss."""
    return NOTHING * (1 + abs(float(s.total().detach())))


def all_checks(n: int) -> list[Callable[[Subject], CheckResult]]:
    doubled, turned = [*range(n), *range(n)], [*reversed(range(n))]
    return [
        sees_the_gradient,
        trains_on_it,
        reaches_the_parameters,
        agrees_with_a_difference,
        lambda s: batch_changes(s, "repeated", doubled),
        lambda s: batch_changes(s, "permuted", turned),
        no_side_effects,
        examples_do_not_mix,
        zero_rows,
        second_derivatives,
    ]
