"""The Laplacian by one forward pass: Taylor mode, in which the second derivatives are summed up on the way.

Source: Dangel, Siebert, Zeinhofer & Walther 2025, "Collapsing Taylor mode automatic differentiation".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

Bent = tuple[Tensor, Tensor, Tensor]
"""Of an activation: its values, its first and its second derivative at every unit."""


def tanh(z: Tensor) -> Bent:
    y = z.tanh()
    slope = 1 - y * y
    return y, slope, -2 * y * slope


def sigmoid(z: Tensor) -> Bent:
    y = z.sigmoid()
    slope = y * (1 - y)
    return y, slope, slope * (1 - 2 * y)


def silu(z: Tensor) -> Bent:
    s = z.sigmoid()
    y = z * s
    return y, s + y * (1 - s), s * (1 - s) * (2 + z * (1 - 2 * s))


ACTIVATIONS: dict[type[nn.Module], Callable[[Tensor], Bent]] = {nn.Tanh: tanh, nn.Sigmoid: sigmoid, nn.SiLU: silu}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def layers_of(model: Any) -> Iterator[nn.Module | None]:
    """The layers of a chain, in order; None for what cannot be taken apart: a net of one's own, hooks, a wrapper."""
    changed = not isinstance(model, nn.Module) or "forward" in vars(model) or any(getattr(model, h) for h in HOOKS)
    if changed:
        yield None
    elif type(model) is nn.Sequential:
        for part in model:
            yield from layers_of(part)
    else:
        yield model if type(model) is nn.Linear or type(model) in ACTIVATIONS else None


def is_chain(model: Any, x: Tensor) -> bool:
    """Whether `laplacian` is to be used: an nn.Sequential of nn.Linear, tanh, sigmoid and SiLU, inputs (N, D > 1).

    For one coordinate nested autograd is as fast (`python -m benchmarks.laplacian`).
    """
    return (
        x.dim() == 2
        and x.shape[1] > 1
        and not torch.is_autocast_enabled(x.device.type)
        and None not in layers_of(model)
    )


def laplacian(model: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The outputs (N, k), their first derivatives (N, D, k) and Laplacians (N, k), with graph, of a chain: `is_chain`.

    For a layer y = f(z) and any direction i: ∂ᵢy = f'·∂ᵢz, and Σᵢ ∂ᵢ²y = f''·Σᵢ(∂ᵢz)² + f'·Σᵢ ∂ᵢ²z: the sum is
    carried on, not its D terms. So 2 + D vectors go through the net for each example; nested autograd keeps D graphs.
    """
    n, d = x.shape
    first = torch.eye(d, dtype=x.dtype, device=x.device).expand(n, d, d)
    second: Tensor | None = None  # of an affine map it is 0
    for layer in layers_of(model):
        if isinstance(layer, nn.Linear):
            x, first = layer(x), first @ layer.weight.T
            second = None if second is None else second @ layer.weight.T
        else:
            x, slope, bend = ACTIVATIONS[type(layer)](x)  # type: ignore[index]
            more = bend * first.square().sum(1)
            second = more if second is None else more + slope * second
            first = slope[:, None] * first
    return x, first, torch.zeros_like(x) if second is None else second
