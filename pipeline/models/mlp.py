"""A multilayer perceptron for tables; without hidden layers it is the `Linear(d, k)` of the recipes in circulation."""

from math import prod, sqrt
from typing import Literal

from torch import nn

from pipeline.models import Activation
from pipeline.models import activation as layer

Initial = Literal["torch", "orthogonal", "variance_scaling", "normal"]
NORMAL = 0.1
"""Standard deviation of the weights and biases of `normal`."""
TRUNCATED = 0.87962566103423978
"""Standard deviation of a standard normal distribution that is cut off at -2 and 2."""


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    hidden: tuple[int, ...] = (32,),
    activation: Activation = "silu",
    initial: Initial = "torch",
    last_bias: bool = True,
) -> nn.Module:
    """The net for inputs of any `shape`, giving (N, outputs).

    Args:
        shape: of one input; it is flattened.
        outputs: number of classes or targets.
        hidden: width of every hidden layer; [] gives a linear model.
        activation: smooth ones fit a gradient penalty, ReLU hardly does.
        initial: the weights before the training; see `initialise`.
        last_bias: whether the last layer has a bias.
    """
    layers: list[nn.Module] = [nn.Flatten()]
    width = prod(shape)
    for out in hidden:
        layers += [nn.Linear(width, out), layer(activation)]
        width = out
    net = nn.Sequential(*layers, nn.Linear(width, outputs, bias=last_bias))
    for one in net:
        if isinstance(one, nn.Linear):
            initialise(one, initial)
    return net


def initialise(linear: nn.Linear, initial: Initial) -> None:
    """Draw the weights of a layer, (outputs, inputs), and its biases, (outputs,), in place.

    Args:
        linear: a layer as PyTorch makes it.
        initial: torch: PyTorch's own, as they are. orthogonal: weights of Saxe et al. 2014, biases as PyTorch's.
            variance_scaling: TensorFlow's default (`VarianceScaling`): variance 1/inputs, normal, cut off at two
            standard deviations of what is drawn, biases 0. normal: N(0, 0.1²) for weights and biases, as in Ross et
            al. 2017.
    """
    if initial == "orthogonal":
        nn.init.orthogonal_(linear.weight)
    elif initial == "variance_scaling":
        deviation = sqrt(1 / linear.in_features) / TRUNCATED
        nn.init.trunc_normal_(linear.weight, std=deviation, a=-2 * deviation, b=2 * deviation)
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
    elif initial == "normal":
        for values in linear.parameters():
            nn.init.normal_(values, std=NORMAL)
