"""Penalise the norm of the input gradient, exactly: double backpropagation."""

from typing import ClassVar

import torch
from torch import Tensor

from inputgrad.gradients.forward import Forward, Of, rows
from inputgrad.losses import Loss, Norm, Range


class GradientNorm(Loss):
    """mean(l_i) + strength * mean(‖g_i‖_p^k), k = 2 when `squared`, else 1.

    g_i is the input gradient of the scalar that `of` names: the example's loss, its summed outputs, its true logit or
    the sum of its log-probabilities. To first order ε·‖g_i‖₁ is how far the loss can rise in an Linf ball of radius ε,
    so `p: 1, squared: false, strength: ε` is the natural start for Linf robustness.

    Regression: l is the squared error; `of: outputs` penalises the slope of the prediction itself.
    Cost: one double backward, two to four times a plain step. Helps against small perturbations of any kind, and it is
    the term to compare every other one with. ReLU nets hardly fit it: use a smooth activation.

    Source: Drucker & LeCun 1992 (double backpropagation); Ross & Doshi-Velez 2018, whose λ on the gradient of the
    *mean* loss is λ/(2N) here. The first recipe in circulation is `of: outputs, p: 2, squared: false, strength: 0.01`.
    """

    p: Norm = 2
    squared: bool = True
    of: Of = "loss"

    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}

    def term(self, at: Forward) -> Tensor:
        """‖g_i‖_p or its square, (N,)."""
        g = rows(at.gradient(self.of))
        if self.p == 2 and self.squared:
            return g.square().sum(1)  # smooth at g = 0, where the root is not
        norm: Tensor = torch.linalg.vector_norm(g, float(self.p), dim=1)
        return norm.square() if self.squared else norm
