"""70,000 pictures of clothes, 28×28 grey values, ten classes (Xiao, Rasul & Vollgraf 2017; MIT licence)."""

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

    `folder` holds the files; without it the Debian package dataset-fashion-mnist is used (`make data-fashion` gets it),
    else they are downloaded. `train` takes so many training images only.
    """
    return _images.load(
        "FashionMNIST", folder, validation=validation, train=train, split_seed=split_seed, packaged="fashion-mnist"
    )
