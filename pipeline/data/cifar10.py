"""60,000 photographs, 32×32 in colour, ten classes (Krizhevsky 2009)."""

from typing import Annotated

from pydantic import Field

from pipeline.data import Arrays, _images

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)
Count = Annotated[int, Field(gt=0)]


def load(
    *, folder: str | None = None, validation: Count = 5000, train: Count | None = None, split_seed: int = 0
) -> Arrays:
    """The published test split; of the published training split `validation` images are held back.

    `folder` holds the files; without it they are downloaded. `train` takes
    so many training images only.
    """
    return _images.load("CIFAR10", folder, validation=validation, train=train, split_seed=split_seed)
