"""The random numbers of a term, and the state of the generators that a model draws from."""

from __future__ import annotations

import torch
from torch import Tensor


class Draws:
    """Random numbers for a term.

    generator: None: the global one of the device, as for dropout: fresh numbers at every call, and in data parallel
        training those of the process. One of your own leaves the global state untouched, but cannot be compiled.
    """

    def __init__(self, generator: torch.Generator | None = None) -> None:
        self.generator = generator

    def uniform(self, like: Tensor) -> Tensor:
        """Uniform in [0, 1), shaped as `like`, on its device and in its type."""
        return torch.rand(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def normal(self, like: Tensor) -> Tensor:
        """Standard normal, shaped as `like`."""
        return torch.randn(like.shape, generator=self.generator, device=like.device, dtype=like.dtype)

    def subset(self, like: Tensor, size: int) -> Tensor:
        """`size` different rows of `like`, their indices."""
        return torch.randperm(len(like), generator=self.generator, device=like.device)[:size]

    def integers(self, like: Tensor, high: int) -> Tensor:
        """Integers in [0, high), one per row of `like`, shape (N,)."""
        return torch.randint(high, (len(like),), generator=self.generator, device=like.device)


class RowDraws(Draws):
    """Draws that belong to examples: row i gets what example `index[i]` of a batch of `size` would get.

    With them a batch that is repeated or permuted can be compared with the plain one, whatever a loss draws. Drawn in
    float64 on the CPU, so that precisions and devices can be compared too.
    """

    def __init__(self, index: Tensor, size: int) -> None:
        super().__init__(torch.Generator().manual_seed(3))
        self.index, self.size = index.cpu(), size

    def uniform(self, like: Tensor) -> Tensor:
        return super().uniform(self._whole(like))[self.index].to(like)

    def normal(self, like: Tensor) -> Tensor:
        return super().normal(self._whole(like))[self.index].to(like)

    def integers(self, like: Tensor, high: int) -> Tensor:
        return super().integers(self._whole(like), high)[self.index].to(like.device)

    def _whole(self, like: Tensor) -> Tensor:
        return torch.empty(self.size, *like.shape[1:], dtype=torch.float64)


def random_state(device: torch.device) -> Tensor:
    """Of the global generator from which a model on that device draws."""
    return torch.cuda.get_rng_state(device) if device.type == "cuda" else torch.get_rng_state()


def restore_random_state(device: torch.device, state: Tensor) -> None:
    if device.type == "cuda":
        torch.cuda.set_rng_state(state, device)
    else:
        torch.set_rng_state(state)
