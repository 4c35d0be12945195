"""ResNet-18 for small images: a 3×3 first convolution, no pooling after it, GroupNorm."""

from torch import nn

from pipeline.models import Activation, Centre, grouped, image_shape, replaced
from pipeline.models import activation as layer


def build(shape: tuple[int, ...], outputs: int, *, activation: Activation = "silu") -> nn.Module:
    """The net for images of `shape` (channels, height, width), giving (N, outputs) logits.

    Args:
        shape: of one input.
        outputs: number of classes.
        activation: smooth ones fit a gradient penalty, ReLU hardly does.
    """
    from torchvision.models import resnet18

    channels, _, _ = image_shape("resnet18", shape)
    net = replaced(resnet18(num_classes=outputs), nn.BatchNorm2d, grouped)
    net.conv1 = nn.Conv2d(channels, 64, 3, stride=1, padding=1, bias=False)
    net.maxpool = nn.Identity()
    return nn.Sequential(Centre(), replaced(net, nn.ReLU, lambda _: layer(activation)))
