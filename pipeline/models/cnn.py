"""A small convolutional net for images: three convolutions and one linear layer, smooth by default."""

from typing import Literal

from torch import nn

from pipeline.models import Activation, Centre, image_shape
from pipeline.models import activation as layer


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    width: int = 16,
    activation: Activation = "silu",
    norm: Literal["none", "group"] = "none",
) -> nn.Module:
    """The net for images of `shape` (channels, height, width), giving (N, outputs) logits.

    Args:
        shape: of one input.
        outputs: number of classes.
        width: channels of the first layer; the second and third have twice as many, at half the resolution each.
        activation: smooth ones fit a gradient penalty, ReLU hardly does.
        norm: `group` adds a GroupNorm after every convolution (a BatchNorm would couple the examples of a batch).
    """
    channels, height, breadth = image_shape("cnn", shape)
    layers: list[nn.Module] = []
    for out, stride in ((width, 1), (2 * width, 2), (2 * width, 2)):
        layers.append(nn.Conv2d(channels, out, 3, stride=stride, padding=1))
        if norm == "group":
            layers.append(nn.GroupNorm(4, out))
        layers.append(layer(activation))
        channels, height, breadth = out, -(-height // stride), -(-breadth // stride)
    return nn.Sequential(Centre(), *layers, nn.Flatten(), nn.Linear(channels * height * breadth, outputs))
