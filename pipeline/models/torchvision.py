"""Any classifier of torchvision by its name: `model: {name: torchvision, net: resnet50, norm: group}`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from torch import Tensor, nn

from inputgrad.errors import UserError, nearest
from inputgrad.robustness.weights import load
from pipeline.models import Activation, grouped, image_shape, replaced
from pipeline.models import activation as layer

MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of the colours of ImageNet, which torchvision's weights expect."""


class Normalise(nn.Module):
    """Pixels of [0, 1] as torchvision's nets want them: inside the net, so that ε is in the data's own units."""

    def forward(self, x: Tensor) -> Tensor:
        mean, deviation = (x.new_tensor(v)[:, None, None] for v in (MEAN, DEVIATION))
        return (x - mean) / deviation


def build(
    shape: tuple[int, ...],
    outputs: int,
    *,
    net: str,
    norm: Literal["group", "batch"] = "group",
    activation: Activation | Literal["own"] = "own",
    weights: str | None = None,
) -> nn.Module:
    """The net for images of `shape` (1 or 3 channels, height, width), giving (N, outputs) logits.

    Args:
        shape: of one input; an image of one channel is given three times.
        outputs: number of classes.
        net: a name of `torchvision.models.list_models`.
        norm: `group` replaces every BatchNorm; `batch` keeps it, and the examples of a batch are then coupled in
            training, so that an example's gradient is not its own.
        activation: in the place of every ReLU; `own` leaves the net's.
        weights: file of a state dict for this net, loaded with `weights_only=True`; None: fresh weights.
    """
    from torchvision import models

    channels, _, _ = image_shape("torchvision", shape)
    if channels not in (1, 3):
        raise UserError(f"model torchvision takes images of 1 or 3 channels, the data have {channels}; fix: cnn")
    known = models.list_models(module=models)
    if net not in known:
        raise UserError(f"model.net: no '{net}' in torchvision; {nearest(net, known)}")
    made: nn.Module = models.get_model(net, weights=None, num_classes=outputs)
    if norm == "group":
        replaced(made, nn.BatchNorm2d, grouped)
    if activation != "own":
        replaced(made, nn.ReLU, lambda _: layer(activation))
    if weights is not None:
        load(made, Path(weights))
    return nn.Sequential(*([Repeat()] if channels == 1 else []), Normalise(), made)


class Repeat(nn.Module):
    """A grey image as one in colour."""

    def forward(self, x: Tensor) -> Tensor:
        return x.expand(-1, 3, -1, -1)
