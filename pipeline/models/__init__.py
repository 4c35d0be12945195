"""Models: one file each; `build` gives a net that takes inputs in the data's own units."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    # smooth ones first: a ReLU's second derivative is zero almost everywhere, which starves a gradient penalty
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
}


def activation(name: str) -> nn.Module:
    """A fresh activation layer by name."""
    return ACTIVATIONS[name]()
