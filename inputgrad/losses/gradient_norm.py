"""Penalise the norm of the input gradient, exactly: double backpropagation."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from inputgrad.gradients.forward import Forward, Of
from inputgrad.losses import Loss, Norm, Published, Range


class GradientNorm(Loss):
    """mean(l_i) + strength * mean(‖g_i‖_p^k), k = 2 when `squared`, else 1.

    g_i is the input gradient of the scalar that `of` names: the example's loss, its summed outputs, its true logit or
    the sum of its log-probabilities. To first order ε·‖g_i‖₁ is how far the loss can rise in an Linf ball of radius ε,
    so `p: 1, squared: false, strength: ε` is the natural start for Linf robustness.

    With `target` the norm is drawn to it from both sides: (‖g_i‖_p - target)², or |‖g_i‖_p - target| unless `squared`.
    `of: outputs, target: 1` is WGAN-GP's penalty (at the points that it is given) and the eikonal term of signed
    distances; `of: outputs` at half the weight, on real data, is R1.

    Regression: l is the squared error; `of: outputs` penalises the slope of the prediction itself.
    Cost: one double backward, two to four times a plain step. Helps against small perturbations of any kind, and it is
    the term to compare every other one with. ReLU nets hardly fit it: use a smooth activation.

    Source: Drucker & LeCun 1992 (double backpropagation); Ross & Doshi-Velez 2018, whose λ on the gradient of the
    *mean* loss is λ/(2N) here; Gulrajani et al. 2017 and Gropp et al. 2020 (`target: 1`); Mescheder et al. 2018 (R1).
    The first recipe in circulation is `of: outputs, p: 2, squared: false, strength: 0.01`.
    """

    p: Norm = 2
    squared: bool = True
    of: Of = "loss"
    target: float | None = Field(default=None, ge=0)

    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}
    published: ClassVar[dict[str, Published]] = {
        "ross2018": Published(
            writes="w · ½ · the sum of squares of the gradient of the mean loss (Ross & Doshi-Velez 2018, code)",
            formula="λ = w / (2N)",
            checked="read in their code (l2_loss of the gradient of reduce_mean); written out in a test, it gives "
            "the same loss in float64; their 56234.13 at N = 256 is 109.83",
            factor=lambda s: 1 / (2 * s.of("batch_size")),
            needs=("batch_size",),
            knobs="{p: 2, squared: true}",
        ),
        "finlay2019": Published(
            writes="w · mean(dl²) / 2 (Finlay & Oberman 2019, code); finite_difference has the ½ inside: there λ = w",
            formula="λ = w / 2",
            checked="their formula, written out in a test, gives the same loss in float64: finite_difference "
            "exactly, this one in the limit h → 0",
            factor=lambda s: 0.5,
            knobs="{p: 2, squared: true}",
        ),
        "eccv2024": Published(
            writes="w · α · (ε/σ) · mean ‖g‖₁ of the normalised input (gradient-norm regularisation, ECCV 2024); g "
            "there is σ times g here, so that σ cancels",
            formula="λ = w · α · ε",
            checked="their formula, written out in a test, gives the same loss in float64",
            factor=lambda s: s.of("alpha") * s.of("epsilon"),
            needs=("alpha", "epsilon"),
            knobs="{p: 1, squared: false}",
        ),
    }

    def term(self, at: Forward) -> Tensor:
        g = at.rows(at.gradient(self.of))
        if self.target is not None:
            distance: Tensor = torch.linalg.vector_norm(g, float(self.p), dim=1) - self.target
            return distance.square() if self.squared else distance.abs()
        if self.p == 2 and self.squared:
            return g.square().sum(1)  # smooth at g = 0, where the root is not
        norm: Tensor = torch.linalg.vector_norm(g, float(self.p), dim=1)
        return norm.square() if self.squared else norm
