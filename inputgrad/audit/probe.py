"""Two instruments: a model whose input gradient turns while its outputs stay, and constants held still."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Tilted(nn.Module):
    """f(z) + s·A(z - x): at x the outputs are f(x) for every s, while every input gradient turns with s.

    A loss that only looks at outputs on x cannot see s at all. One that looks at the input gradient (or at moved
    inputs) changes with s; and if it really *trains* on what it sees, autograd gives s the same slope as a difference.
    """

    def __init__(self, model: nn.Module, x: Tensor, outputs: int) -> None:
        super().__init__()
        self.model = model
        generator = torch.Generator().manual_seed(11)
        tilt = torch.randn(outputs, x[0].numel(), generator=generator, dtype=torch.float64)
        self.register_buffer("x", x.detach().flatten(1))
        self.register_buffer("tilt", tilt.to(x) / x[0].numel() ** 0.5)
        self.s = nn.Parameter(x.new_zeros(()))

    def forward(self, z: Tensor) -> Tensor:
        """As the model's, (N, outputs) or (N,)."""
        outputs: Tensor = self.model(z)
        tilted = (z.flatten(1) - self.get_buffer("x")[: len(z)]) @ self.get_buffer("tilt").T
        return outputs + self.s * tilted.reshape(outputs.shape)


@contextmanager
def constants(tape: list[Tensor], record: bool) -> Iterator[None]:
    """Record every detached tensor, or replay the record: a central difference then sees what autograd sees.

    A constant in a loss (the perturbation of FGSM, the direction of a finite difference) is computed from the weights.
    A difference over the weights would follow it; the gradient must not. Replayed, it stays what it was.
    """
    original, position = Tensor.detach, iter(tape)

    def detach(self: Tensor) -> Tensor:
        if record:
            tape.append(original(self).clone())
            return tape[-1].clone()
        return next(position, self).clone()

    Tensor.detach = detach  # type: ignore[assignment]
    try:
        yield
    finally:
        Tensor.detach = original
