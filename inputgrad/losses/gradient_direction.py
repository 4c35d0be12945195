"""Turn the input gradient towards a target direction: 1 - cosine."""

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from inputgrad.errors import UserError
from inputgrad.gradients.forward import Forward, one_minus_cosine
from inputgrad.losses import Loss, Published, Range


class GradientDirection(Loss):
    """mean(l_i) + strength * mean(1 - cos(g_i, t_i)), t_i a constant direction that the data set supplies.

    Regression: g_i is the gradient of the output, t the data set's direction (the second recipe in circulation is
    `strength: 0.05`). Classification: for each of `classes` classes c drawn at random per example, g_i is the gradient
    of log p_c(x_i) and t_i = (mean of class c) - x_i; the term is the average over c.

    An example without a gradient (a confident one) or without a target has no direction: its term is 0 and its share is
    recorded as `zero_gradient_share`. The mean still divides by N, so the strength keeps its meaning.

    Cost: one double backward, `classes` of them for classification. Helps to make gradients look like the data (or a
    regression rise where it should); a modest gain in robustness.

    Source: the cosine form of perceptually aligned gradients, Ganz, Kawar & Elad 2023. Their code multiplies the
    term by 10, so their 1.5 is 15 here.
    """

    classes: int = Field(default=1, ge=1)

    needs: ClassVar[tuple[str, ...]] = ("direction",)
    search: ClassVar[dict[str, Range]] = {"strength": Range(1e-3, 10.0)}
    published: ClassVar[dict[str, Published]] = {
        "pag": Published(
            writes="w · 10 · the mean cosine loss (perceptually aligned gradients, Ganz et al. 2023, code)",
            formula="λ = 10 w",
            checked="read in their code, not run: pag_loss = 10 * (1 - mean cosine), then CE + w * pag_loss; so "
            "their 1.5 is 15",
            factor=lambda s: 10.0,
        ),
    }

    def term(self, at: Forward) -> Tensor:
        direction = at.context.direction
        if direction is None:
            raise UserError("gradient_direction needs a direction: Context(direction=...)")
        if not at.task.has_classes:
            term, at.notes["zero_gradient_share"] = one_minus_cosine(
                at.rows(at.gradient("outputs")), at.rows(direction.expand_as(at.x))
            )
            return term
        log_p = at.log_probabilities(at.outputs)
        log_p = log_p.flatten(2).mean(2) if log_p.dim() > 2 else log_p
        terms, shares = [], []
        for _ in range(self.classes):
            c = at.draws.integers(at.x, log_p.shape[1])
            g = at.gradient_of(log_p.gather(1, c[:, None])[:, 0])
            term, share = one_minus_cosine(at.rows(g), at.rows(direction[c] - at.x.detach()))
            terms.append(term)
            shares.append(share)
        at.notes["zero_gradient_share"] = torch.stack(shares).mean()
        return torch.stack(terms).mean(0)
