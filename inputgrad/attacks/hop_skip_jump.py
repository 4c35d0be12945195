"""HopSkipJump, which sees the predicted class alone (Chen, Jordan & Wainwright 2020), as the library foolbox has it.

No logit, no loss and no gradient can mislead it: where it alone breaks an example, the others' numbers are in doubt.
It walks along the decision boundary, so it asks for many predictions; the first `examples` are attacked, no others.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from inputgrad.attacks import Count, Threat, Traits
from inputgrad.errors import UserError
from inputgrad.gradients.forward import Draws, expand

TRAITS = Traits(black_box=True, classes=True)
STARTS = 100
"""Uniform points that are tried as a start where no other input is of a wrong class."""


class Rescaled(nn.Module):
    """The model on inputs in [0, 1], where foolbox clips them."""

    def __init__(self, model: nn.Module, low: float, high: float) -> None:
        super().__init__()
        self.model, self.low, self.high = model, low, high

    def forward(self, x: Tensor) -> Tensor:
        outputs: Tensor = self.model(self.back(x))
        return outputs

    def there(self, x: Tensor) -> Tensor:
        return (x - self.low) / (self.high - self.low)

    def back(self, x: Tensor) -> Tensor:
        return (self.low + x * (self.high - self.low)).clamp(self.low, self.high)


@torch.no_grad()
def perturb(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    threat: Threat,
    draws: Draws,
    *,
    steps: Count = 20,
    queries: Count = 100,
    examples: Count = 100,
) -> Tensor:
    """Points inside the ball that are misclassified, x elsewhere; shaped as x.

    Args:
        model: in eval mode, its parameters frozen.
        x: clean inputs, (N, *input).
        y: class numbers, (N,).
        threat: the ball and the bounds; without bounds, the points lie within ε of the range of x.
        draws: seeds the library's random numbers.
        steps: along the boundary.
        queries: predictions for the direction of the first step; step k takes sqrt(k) times as many.
        examples: how many of the inputs that are classified rightly are attacked, from the first.

    Raises:
        UserError: an input lies outside the bounds.
    """
    found = x.clone()
    if not len(x):
        return found  # many a model cannot take an empty batch
    start, has_start = starts(model, x, y, threat, draws)
    index = has_start.nonzero()[:, 0][:examples]
    # foolbox scales its direction in l2 by the length over the whole batch: one example at a time is not weakened
    for part in index.split(1 if threat.norm == "l2" else max(len(index), 1)):
        if len(part):
            near = nearest_of(model, x[part], y[part], start[part], threat, draws, steps=steps, queries=queries)
            inside = threat.ball.size(near - x[part]) <= threat.epsilon
            broken = model(near).argmax(1) != y[part]
            found[part] = torch.where(expand(inside & broken, near), near, x[part])
    return found


def starts(model: nn.Module, x: Tensor, y: Tensor, threat: Threat, draws: Draws) -> tuple[Tensor, Tensor]:
    """A misclassified point for every input that is classified rightly, (N, *input), and whether there is one, (N,).

    The nearest other input that the model puts into another class, else a uniform point.
    """
    start, predicted = x.clone(), model(x).argmax(1)
    has_start = torch.zeros_like(y, dtype=torch.bool)
    for i in (predicted == y).nonzero()[:, 0]:
        others = (predicted != y[i]).nonzero()[:, 0]
        if len(others):
            candidates = x[others]
            candidates = candidates[threat.ball.size(candidates - x[i]).argsort()]
        else:
            low, high = limits(x, threat)
            candidates = low + (high - low) * draws.uniform(x[i].expand(STARTS, *x.shape[1:]))
            candidates = candidates[model(candidates).argmax(1) != y[i]]
        if len(candidates):
            start[i], has_start[i] = candidates[0], True
    return start, has_start


def limits(x: Tensor, threat: Threat) -> tuple[float, float]:
    if threat.bounds is not None:
        return threat.bounds
    return float(x.min()) - threat.epsilon, float(x.max()) + threat.epsilon


def nearest_of(
    model: nn.Module, x: Tensor, y: Tensor, start: Tensor, threat: Threat, draws: Draws, *, steps: int, queries: int
) -> Tensor:
    """The nearest misclassified point that the library finds from `start`, shaped as x."""
    from foolbox import PyTorchModel  # type: ignore[attr-defined]
    from foolbox.attacks import HopSkipJumpAttack  # type: ignore[attr-defined]

    low, high = limits(x, threat)
    if float(x.min()) < low or float(x.max()) > high:
        raise UserError(f"hop_skip_jump: inputs lie outside the bounds [{low:g}, {high:g}]; fix: other bounds")
    rescaled = Rescaled(model, low, high).eval()
    attack = HopSkipJumpAttack(steps=steps, initial_gradient_eval_steps=queries, constraint=threat.norm)
    seed = int(draws.integers(x[:1], 2**31 - 1))
    with torch.random.fork_rng(devices=[x.device] if x.device.type == "cuda" else []):
        torch.manual_seed(seed)  # the library draws from the global generator
        net = PyTorchModel(rescaled, bounds=(0, 1), device=x.device)
        moved: Tensor = attack.run(net, rescaled.there(x), y, starting_points=rescaled.there(start))
    return rescaled.back(moved)
