"""A multilayer perceptron for tables; without hidden layers it is the `Linear(d, k)` of the recipes in circulation."""

from math import prod

from torch import nn

from pipeline.models import Activation
from pipeline.models import activation as layer


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    hidden: tuple[int, ...] = (32,),
    activation: Activation = "silu",
) -> nn.Module:
    """The net for inputs of any `shape`, giving (N, outputs).

    Args:
        shape: of one input; it is flattened.
        outputs: number of classes or targets.
        hidden: width of every hidden layer; [] gives a linear model.
        activation: smooth ones fit a gradient penalty, ReLU hardly does.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(shape)
    for out in hidden:
        layers += [nn.Linear(width, out), layer(activation)]
        width = out
    return nn.Sequential(*layers, nn.Linear(width, outputs))
