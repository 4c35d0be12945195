"""Input-gradient descriptors of a model on clean examples: one number per example each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inputgrad import tasks
from inputgrad.gradients.forward import Context, Draws, Forward, evaluating, rows
from inputgrad.gradients.targets import matched

if TYPE_CHECKING:
    from inputgrad.attacks import Threat

CHUNK = 512


def descriptors(
    model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws, examples: Mapping[str, Tensor] | None = None
) -> tuple[pd.DataFrame, Tensor]:
    """A row per example, and the input gradients of the task loss, shaped as x.

    Columns: gradient_norm_l1 and gradient_norm_l2, ‖g‖₁ and ‖g‖₂; jacobian_norm, ‖J‖_F of the outputs (logits or
    predictions); gradient_sparsity (Hoyer 2004), (√d - ‖g‖₁/‖g‖₂) / (√d - 1): 0 where all inputs count alike, 1 where
    one alone does; gradient_alignment, cos(x, g) (Etmann et al. 2019 call its size so); gradient_stability, the cosine
    between g(x) and g(x + u), u uniform in the ball of `threat` (Andriushchenko & Flammarion 2020). A cosine or a
    sparsity is NaN where a vector is zero. Where `examples` hold a `target_gradient`, gradient_error is the root mean
    square, over the components, of the outputs' gradient less it.
    """
    gradients = describe(model, x, y)[2]
    near = threat.project(x + threat.uniform(draws, x), x)
    g = rows(gradients)
    l1, l2, d = g.norm(p=1, dim=1), g.norm(dim=1), g.shape[1]
    # in double: the squares of tiny gradients underflow in float, and a length of 0 made a sparsity of -inf
    ratio = (g.double().norm(p=1, dim=1) / g.double().norm(dim=1)).to(l1)
    columns = {
        "gradient_norm_l1": l1,
        "gradient_norm_l2": l2,
        "jacobian_norm": jacobian_norm(model, x),
        "gradient_sparsity": (d**0.5 - ratio) / (d**0.5 - 1),
        "gradient_alignment": cosine(x, gradients),
        "gradient_stability": cosine(gradients, describe(model, near, y)[2]),
    }
    if "target_gradient" in (known := examples or {}):
        columns["gradient_error"] = gradient_error(model, x, y, known)
    return pd.DataFrame({name: values.cpu().numpy() for name, values in columns.items()}), gradients


def gradient_error(model: nn.Module, x: Tensor, y: Tensor, examples: Mapping[str, Tensor]) -> Tensor:
    """How far the gradient of the outputs is from its target, root mean square over the components, (N,)."""
    with evaluating(model), torch.enable_grad():
        found, wanted = matched(Forward(model, x, y, context=Context(examples=examples)), 1)
    return (found.detach() - wanted).flatten(1).square().mean(1).sqrt()


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """cos(a_i, b_i), (N,); NaN where either is zero. In double: the squares of tiny gradients underflow in float."""
    a, b = (F.normalize(rows(t).double(), dim=1, eps=0.0) for t in (a, b))
    return (a * b).sum(1)


def jacobian_norm(model: nn.Module, x: Tensor) -> Tensor:
    """‖∂f/∂x‖_F per example, (N,), by one backward pass per output."""
    found = []
    with evaluating(model), torch.enable_grad():
        for part in x.split(CHUNK):
            leaf = part.detach().requires_grad_(True)
            outputs = model(leaf).flatten(1)
            squares = torch.zeros(len(part), dtype=x.dtype, device=x.device)
            for k in range(outputs.shape[1]):
                (row,) = torch.autograd.grad(outputs[:, k].sum(), leaf, retain_graph=k + 1 < outputs.shape[1])
                squares += rows(row).square().sum(1)
            found.append(squares.sqrt())
    return torch.cat(found)


def describe(model: nn.Module, x: Tensor, y: Tensor, chunk: int = 512) -> tuple[Tensor, Tensor, Tensor]:
    """Outputs, per-example losses and their input gradients as constants, in eval mode, without side effects.

    Returns:
        outputs (N, C) or (N, k), losses (N,), gradients shaped as x.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    with evaluating(model), torch.enable_grad():
        for x_part, y_part in zip(x.split(chunk), y.split(chunk), strict=True):
            leaf = x_part.detach().requires_grad_(True)
            outputs = model(leaf)
            losses = tasks.of(y_part).losses(outputs, y_part)
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
            found.append((outputs.detach(), losses.detach(), gradient))
    outputs, losses, gradients = (torch.cat(parts) for parts in zip(*found, strict=True))
    return outputs, losses, gradients
