"""A small convolutional net for images: three convolutions and one linear layer, smooth by default."""

from typing import Literal

from torch import Tensor, nn

from pipeline.models import activation as layer


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    width: int = 16,
    activation: Literal["silu", "gelu", "softplus", "tanh", "relu"] = "silu",
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
    channels, height, breadth = shape
    layers: list[nn.Module] = []
    for out, stride in ((width, 1), (2 * width, 2), (2 * width, 2)):
        layers.append(nn.Conv2d(channels, out, 3, stride=stride, padding=1))
        if norm == "group":
            layers.append(nn.GroupNorm(4, out))
        layers.append(layer(activation))
        channels, height, breadth = out, -(-height // stride), -(-breadth // stride)
    return nn.Sequential(Centre(), *layers, nn.Flatten(), nn.Linear(channels * height * breadth, outputs))


class Centre(nn.Module):
    """Pixels of [0, 1] to [-1, 1]: the normalisation lives in the model, so that ε is in the data's own units."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x - 1
