"""Trade accuracy for robustness: keep the prediction the same around every input."""

from typing import ClassVar

from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from inputgrad.gradients.ascent import ascend
from inputgrad.gradients.forward import Forward, evaluating, rows
from inputgrad.losses import Loss, Range


class TRADES(Loss):
    """mean(l_i) + strength * mean(KL(p(x_i) ‖ p(x_i'))), x_i' from `steps` ascent steps on that same divergence.

    The ascent starts at x + 0.001·normal, since the divergence has no gradient at x itself, and runs in eval mode. In
    the loss p(x_i) is *not* detached: both forward passes carry the graph. `strength` is the paper's 1/λ.

    Regression has no distribution to compare: the squared distance of the two predictions, averaged over the outputs,
    takes the place of the divergence.
    Cost: `steps` forward and backward passes in the input, and two of training. Helps where the clean score matters as
    much as the robust one: the strength moves between them.

    Source: Zhang, Yu, Jiao, Xing, El Ghaoui & Jordan 2019. Their code averages the divergence over the batch, as here.
    """

    strength: float = Field(default=6.0, ge=0)
    epsilon: float = Field(default=0.1, ge=0)
    steps: int = Field(default=7, ge=1)
    step: float | None = Field(default=None, gt=0)

    search: ClassVar[dict[str, Range]] = {"strength": Range(0.1, 20.0), "epsilon": Range(1e-2, 0.5)}
    tracks_input: ClassVar[bool] = False

    def term(self, at: Forward) -> Tensor:
        x = at.x.detach()
        with evaluating(at.model):
            here = at.call(x).detach()  # no no_grad: autocast of torch 2.6 keeps cast weights for the next pass
            moved = ascend(
                lambda z: divergence(at, here, at.call(z)),
                x,
                norm="linf",
                epsilon=self.epsilon,
                steps=self.steps,
                step=self.step,
                start=0.001 * at.draws.normal(x),
                bounds=at.context.bounds,
            )
        return divergence(at, at.outputs, at.at(moved, track=False).outputs)


def divergence(at: Forward, here: Tensor, there: Tensor) -> Tensor:
    """KL(p(here) ‖ p(there)) per example, (N,), in the mean over its pixels; for regression the squared distance."""
    if not at.task.has_classes:
        return rows((here - there).square()).mean(1)
    p, q = at.log_probabilities(here), at.log_probabilities(there)
    return rows(F.kl_div(q, p, reduction="none", log_target=True).sum(1)).mean(1)
