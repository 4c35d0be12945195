"""Two attribution priors as losses of one's own: a class, and what the term of an example is.

Few examples and many inputs of pure noise: the task loss alone explains its predictions by noise to a good part.
`InputTimesGradient` is told which inputs are noise; `SaliencyGuided` is not.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from inputgrad.gradients.descriptors import describe
from inputgrad.gradients.forward import Context, Draws, Forward, rows
from inputgrad.losses import Loss
from inputgrad.losses.standard import Standard


class InputTimesGradient(Loss):
    """mean(l_i) + strength * mean(Σ |m ∘ x_i ∘ g_i|), g_i of the true logit, m the inputs that must not matter."""

    def term(self, at: Forward) -> Tensor:
        """Attribution on the masked inputs, (N,)."""
        return rows(at.context.mask * at.x * at.gradient("true_logit")).abs().sum(1)


class SaliencyGuided(Loss):
    """The prediction stays where inputs of small gradient are replaced by noise. Source: Ismail et al. 2021."""

    hidden: float = 0.8

    def term(self, at: Forward) -> Tensor:
        """KL(p(x_i) ‖ p(x_i with the share `hidden` of the least important inputs replaced)), (N,)."""
        size = rows(at.constant_gradient()).abs()  # where to hide is a choice, not a path for the gradient
        least = size <= size.quantile(self.hidden, dim=1, keepdim=True)
        changed = torch.where(least.reshape(at.x.shape), at.draws.normal(at.x), at.x.detach())
        now, then = F.log_softmax(at.outputs, 1), F.log_softmax(at.at(changed).outputs, 1)
        return F.kl_div(then, now, reduction="none", log_target=True).sum(1)


def examples(n: int) -> tuple[Tensor, Tensor]:
    """Two inputs that tell the class, and eight of pure noise."""
    y = torch.arange(n) % 2
    return torch.randn(n, 10) + (2.0 * y[:, None] - 1) * (1 - NOISE), y


NOISE = torch.tensor([0.0] * 2 + [1.0] * 8)
torch.manual_seed(0)
(x, y), (x_test, y_test) = examples(48), examples(2000)
for loss in (Standard(), InputTimesGradient(strength=1.0), SaliencyGuided(strength=3.0)):
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(10, 32), nn.SiLU(), nn.Linear(32, 2))
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    draws = Draws(torch.Generator().manual_seed(1))  # one for the whole training: other noise at every step
    for _ in range(150):
        optimizer.zero_grad()
        loss(model, x, y, Context(mask=NOISE), draws).backward()
        optimizer.step()
    attribution = (x_test * describe(model, x_test, y_test)[2]).abs().mean(0)
    accuracy = (model(x_test).argmax(1) == y_test).double().mean()
    share = attribution @ NOISE / attribution.sum()
    print(f"{type(loss).__name__}: accuracy {accuracy:.3f}, share of the attribution on noise {share:.2f}")
