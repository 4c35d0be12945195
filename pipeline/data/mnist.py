"""70,000 handwritten digits, 28×28 grey values, ten classes (LeCun, Cortes & Burges; CC BY-SA 3.0)."""

from typing import Annotated

from pydantic import Field

from pipeline.data import Arrays, _images

TASK = "classification"
BOUNDS = (0.0, 1.0)
GIVES = ("direction",)
Count = Annotated[int, Field(gt=0)]


def load(
    *, folder: str | None = None, validation: Count = 6000, train: Count | None = None, split_seed: int = 0
) -> Arrays:
    """The published test split; of the published training split `validation` images are held back.

    `folder` holds the files; without it they are downloaded. `train` takes
    so many training images only.
    """
    return _images.load("MNIST", folder, validation=validation, train=train, split_seed=split_seed)
