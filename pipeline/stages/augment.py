"""Random changes of training images, a whole batch at once."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from pipeline.study.schema import Augmentation

GREY = 0.5
"""What a cut-out square holds."""


def augmented(x: Tensor, wanted: Augmentation, generator: torch.Generator) -> Tensor:
    """Images (N, C, H, W), each changed by draws of its own from a generator on the CPU."""
    if wanted.crop:
        x = cropped(x, wanted.crop, generator)
    if wanted.flip:
        turned = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(turned.to(x.device)[:, None, None, None], x.flip(3), x)
    if wanted.cutout:
        x = torch.where(squares(x, wanted.cutout, generator), GREY, x)
    return x


def cropped(x: Tensor, padding: int, generator: torch.Generator) -> Tensor:
    """A window of the image's size from the image with a border of zeros."""
    n, channels, height, width = x.shape
    padded = F.pad(x, (padding,) * 4)
    top, left = torch.randint(2 * padding + 1, (2, n, 1), generator=generator).to(x.device)
    rows = (top + torch.arange(height, device=x.device))[:, None, :, None]
    columns = (left + torch.arange(width, device=x.device))[:, None, None, :]
    examples = torch.arange(n, device=x.device)[:, None, None, None]
    return padded[examples, torch.arange(channels, device=x.device)[None, :, None, None], rows, columns]


def squares(x: Tensor, side: int, generator: torch.Generator) -> Tensor:
    """True inside a square of each image, (N, 1, H, W); its centre lies anywhere, also at the edge."""
    inside = []
    for length in x.shape[2:]:
        centre = torch.randint(length, (len(x), 1), generator=generator).to(x.device)
        place = torch.arange(length, device=x.device) - centre + side // 2
        inside.append((place >= 0) & (place < side))
    return (inside[0][:, :, None] & inside[1][:, None, :])[:, None]
