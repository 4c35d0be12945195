"""How much interval bounds certify: python -m benchmarks.certified [STUDY]; after make study.

Interval bound propagation (Gowal et al. 2018) through the study's nets: an example counts as certified in a linf ball
where the lower bound of its own logit exceeds the upper bound of every other. It is printed beside the share that
stands under a few random points of the ball, which it can never exceed. One seed of each loss.
"""

from __future__ import annotations

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pipeline import data
from pipeline.models import Centre
from pipeline.stages.attack import trained
from pipeline.study.read import read_study
from pipeline.study.run import Run

RADII = (0.002, 0.005, 0.01, 0.02, 0.05)
LOWEST = -1.2784645
"""Where SiLU is smallest."""


def bounds(layer: nn.Module, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """Of a layer's outputs, elementwise, for inputs between `low` and `high`."""
    if isinstance(layer, nn.Sequential):
        for one in layer:
            low, high = bounds(one, low, high)
        return low, high
    if isinstance(layer, nn.Linear | nn.Conv2d):
        centre, half = layer((low + high) / 2), (high - low) / 2
        if isinstance(layer, nn.Linear):
            reach = F.linear(half, layer.weight.abs())
        else:
            reach = F.conv2d(half, layer.weight.abs(), None, layer.stride, layer.padding, layer.dilation, layer.groups)
        return centre - reach, centre + reach
    if isinstance(layer, nn.SiLU):
        ends = layer(low), layer(high)
        dips = (low <= LOWEST) & (high >= LOWEST)
        least = torch.where(dips, layer(torch.full_like(low, LOWEST)), torch.minimum(*ends))
        return least, torch.maximum(*ends)
    if isinstance(layer, Centre | nn.Flatten | nn.AvgPool2d | nn.MaxPool2d | nn.ReLU | nn.Tanh | nn.Softplus):
        return layer(low), layer(high)  # they never fall where their input rises
    raise SystemExit(f"no bounds are written for {type(layer).__name__}")


def main() -> None:
    study = read_study(sys.argv[1] if len(sys.argv) > 1 else "digits")
    dataset = data.read_data(study.name, study.data, ("test",))
    x, y, limits = dataset.inputs("test"), dataset.y["test"], dataset.context.bounds or (-torch.inf, torch.inf)
    radii = [*RADII, study.attack.epsilon]
    print(f"{study.name}: certified / standing under 20 random points, % of {len(x)} test examples, at linf ε =")
    print(f"{'':20}" + "".join(f"{radius:>14g}" for radius in radii))
    for name in study.losses:
        net = trained(Run(study, name, study.training.seeds[0]), dataset)
        cells = []
        for radius in radii:
            low, high = bounds(net, (x - radius).clamp(*limits), (x + radius).clamp(*limits))
            certified = low.gather(1, y[:, None])[:, 0] > high.scatter(1, y[:, None], -torch.inf).amax(1)
            draws = ((x + radius * (2 * torch.rand_like(x) - 1).sign()).clamp(*limits) for _ in range(20))
            stands = torch.stack([net(moved).argmax(1) == y for moved in draws]).all(0)
            if (certified & ~stands).any():
                raise SystemExit(f"{name}: a certified example is broken at ε = {radius:g}: the bounds are wrong")
            cells.append(f"{100 * certified.float().mean():.1f} / {100 * stands.float().mean():.1f}")
        print(f"{name:20}" + "".join(f"{cell:>14}" for cell in cells))


if __name__ == "__main__":
    with torch.no_grad():
        main()
