"""The small LeNet of published robustness tables: two strided convolutions and a hidden layer."""

from torch import nn

from pipeline.models import Activation, Centre, image_shape
from pipeline.models import activation as layer


def build(
    shape: tuple[int, ...], outputs: int, *, activation: Activation = "silu", hidden: int = 100, width: int = 16
) -> nn.Module:
    """The net for images of `shape` (channels, height, width), giving (N, outputs) logits.

    4×4 convolutions with stride 2 and padding 1, of `width` and twice as many channels, then `hidden` units: with
    `activation: relu` the net of Croce, Andriushchenko & Hein (AISTATS 2019).

    Args:
        shape: of one input.
        outputs: number of classes.
        activation: smooth ones fit a gradient penalty, ReLU hardly does.
        hidden: units of the hidden layer.
        width: channels of the first convolution.
    """
    channels, height, breadth = image_shape("lenet", shape)
    features = 2 * width * (height // 4) * (breadth // 4)
    return nn.Sequential(
        Centre(),
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        layer(activation),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        layer(activation),
        nn.Flatten(),
        nn.Linear(features, hidden),
        layer(activation),
        nn.Linear(hidden, outputs),
    )
