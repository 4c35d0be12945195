"""The attack unit test: a nearby example that fools the net is planted, and the attack must find it.

Around an example, one point on the surface of the ball is to be told apart from many points inside it, by a linear
classifier on the net's own last features. The attack then starts from the example and must cross to the side of that
point: that it can be crossed is known. An attack that often fails here says nothing where it finds no adversarial
example (Zimmermann, Brendel, Tramèr & Carlini, NeurIPS 2022; 11 of the 13 defences that they tested failed).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from inputgrad.attacks import Threat, Worst, pgd
from inputgrad.gradients.forward import Draws, wide

EXAMPLES, INSIDE, DRAWS = 20, 999, 5
"""Tests, points inside the ball of each, and how often a point on the surface is drawn that can be told apart."""
CHUNK = 128
"""Points that the net is given at once."""
RIDGE = 1e-3
"""Of the features' mean variance, added to their covariance."""


class Features(nn.Module):
    """What a net's last linear layer is given, (N, d); the outputs of a net that has none."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.layers = [module for module in net.modules() if isinstance(module, nn.Linear)]

    def forward(self, x: Tensor) -> Tensor:
        given: list[Tensor] = []
        hooks = [layer.register_forward_pre_hook(lambda _, args: given.append(args[0])) for layer in self.layers]
        try:
            outputs: Tensor = self.net(x)
        finally:
            for hook in hooks:
                hook.remove()
        return wide(given[-1] if given and len(given[-1]) == len(x) else outputs).flatten(1)


@dataclass(frozen=True)
class Planted:
    """Two logits from the features: class 1 on the side of the planted point, `side` > 0, class 0 elsewhere.

    weight, bias: (d,) and (), or (T, d) and (T,), a classifier for each of T inputs.
    """

    features: Features
    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        side = (self.features(x) * self.weight).sum(1) + self.bias
        return torch.stack([-side, side], 1) / 2


class Tests(Worst):
    """The worst inputs against many planted classifiers in one batch, each against its own.

    Args:
        nets: a classifier for each example.
        x: clean inputs, (T, *input), all of class 0.
    """

    def __init__(self, nets: list[Planted], x: Tensor) -> None:
        self.features = nets[0].features
        self.weight, self.bias = torch.stack([net.weight for net in nets]), torch.stack([net.bias for net in nets])
        super().__init__(self.features, x, torch.zeros(len(x), dtype=torch.long, device=x.device))

    def outputs(self, moved: Tensor, index: Tensor) -> Tensor:
        return Planted(self.features, self.weight[index], self.bias[index])(moved)


def missed(
    model: nn.Module, x: Tensor, threat: Threat, knobs: dict[str, Any], seed: int, chunk: int = CHUNK
) -> tuple[int, int]:
    """In how many tests PGD does not find what was planted, and how many tests could be made.

    Args:
        model: in eval mode, its parameters frozen.
        x: clean inputs, (N, *input); the first `EXAMPLES` are used.
        threat: the ball.
        knobs: of PGD, as in the evaluation that is tested.
        seed: of all random numbers.
        chunk: points that the net is given at once.
    """
    draws, features = Draws(torch.Generator(x.device).manual_seed(seed)), Features(model)
    nets = [(planted(features, one, threat, draws, chunk), one) for one in x[:EXAMPLES].split(1)]
    made = [(net, one) for net, one in nets if net is not None]
    missed = 0
    for some in (made[i : i + chunk] for i in range(0, len(made), chunk)):
        tests = Tests([net for net, _ in some], torch.cat([one for _, one in some]))
        pgd.climb(tests, tests.x.clone(), threat, draws, **knobs)
        missed += len(tests.unbroken())
    return missed, len(made)


@torch.no_grad()
def planted(features: Features, x: Tensor, threat: Threat, draws: Draws, chunk: int = CHUNK) -> Planted | None:
    """A classifier that puts x, (1, *input), and the points inside in class 0, and one of the surface in class 1.

    The direction is Fisher's; the boundary lies half way between the planted point and the nearest one inside.
    """
    many = x.expand(INSIDE, *x.shape[1:])
    points = torch.cat([x, threat.project(many + threat.uniform(draws, many), many)])
    inside = torch.cat([features(part) for part in points.split(chunk)]).double()
    mean = inside.mean(0)
    variance = (inside - mean).T @ (inside - mean) / len(inside)
    variance += RIDGE * variance.diagonal().mean().clamp_min(1e-12) * torch.eye(len(variance)).to(variance)
    for _ in range(DRAWS):
        surface = features(threat.project(x + threat.on_surface(draws, x), x)).double()[0]
        weight = torch.linalg.solve(variance, surface - mean)
        largest, there, here = (inside @ weight).amax(), surface @ weight, inside[0] @ weight
        if there > largest:
            limit = (there + largest) / 2
            scale = 1 / (limit - here)  # the logits differ by 1 at x: a softmax that saturates is another fault
            return Planted(features, (scale * weight).to(x), (-scale * limit).to(x))
    return None
