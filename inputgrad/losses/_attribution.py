"""A prior on attributions: what an explanation says of masked inputs is trained to be nothing."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward, Of
from inputgrad.losses import Loss
from inputgrad.losses.right_reasons import masked

Method = Literal["input_gradient", "integrated", "expected"]


class AttributionPrior(Loss):
    """mean(l_i) + strength * mean(‖m_i ∘ a_i‖²), a_i the attribution of every input number, m_i the mask.

    `method` says which attribution, with b the baseline (0 unless `Context(points={"baselines": b})` gives some):
    "input_gradient", (x - b) ∘ ∇f(x); "integrated", (x - b) ∘ the mean of ∇f over `steps` midpoints between b and x;
    "expected", the mean over `steps` draws of one of the baselines and of a point between it and x. f is the scalar
    that `of` names. The mask is 1 where the input must not matter: `Context(mask=...)`, or one for every example.

    Regression: `of: outputs` is the prediction itself.
    Cost: one double backward for every step. Helps against features that are known to mislead, where plain gradients
    (`right_reasons`) are flat at the input itself.

    Source: Sundararajan, Taly & Yan 2017 (integrated gradients); Erion, Janizek, Sturmfels, Lundberg & Lee 2021
    (expected gradients, attribution priors).
    """

    method: Method = "integrated"
    steps: int = Field(default=8, ge=1)
    of: Of = "outputs"

    needs: ClassVar[tuple[str, ...]] = ("mask",)

    @property
    def asks_points(self) -> set[str]:
        return super().asks_points | {"baselines"}

    def term(self, at: Forward) -> Tensor:
        return at.rows(masked(at, self.attribution(at))).square().sum(1)

    def attribution(self, at: Forward) -> Tensor:
        """a_i, shaped as x, with graph."""
        if self.method == "input_gradient":
            return (at.x - self._baseline(at)) * at.gradient(self.of)
        total = torch.zeros_like(at.x)
        for step in range(self.steps):
            base = self._baseline(at)
            share = at.draws.uniform(at.x.new_empty(at.size)) if self.method == "expected" else None
            between = (step + 0.5) / self.steps if share is None else at.expand(share)
            point = (base + between * (at.x - base)).detach()
            total = total + (at.x - base) * at.at(point).gradient(self.of)
        return total / self.steps

    def _baseline(self, at: Forward) -> Tensor:
        """Shaped as x, or so that it fits: one for all, or drawn for every example."""
        known = at.context.points.get("baselines")
        if known is None:
            return torch.zeros_like(at.x)
        if known.shape[1:] != at.x.shape[1:]:
            shape = f"(M, {', '.join(map(str, at.x.shape[1:]))})"
            raise UserError(f"the baselines have shape {tuple(known.shape)}; fix: give them shaped as inputs, {shape}")
        chosen: Tensor = known[at.draws.integers(at.x, len(known))] if self.method == "expected" else known.mean(0)
        return chosen
