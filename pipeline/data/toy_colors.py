"""Toy Colors: images of 5×5 pixels in four colours, whose class follows from either of two rules.

After Ross, Hughes & Doshi-Velez 2017. In class 0 the four corners have one colour (rule 1) and the three pixels in the
middle of the top row have three (rule 2); in class 1 neither holds. A net may use either rule, and its accuracy does
not tell which: a mask on the pixels of one makes it use the other.
"""

from typing import Any, Literal

import numpy as np
import torch
from pydantic import PositiveInt
from torch import nn

from pipeline.data import Arrays, Dataset, Facts

TASK = "classification"
BOUNDS = (0.0, 255.0)
GIVES = ("direction", "mask")
"""With the mask that `load` has by default; see `facts`."""
COLOURS = np.array([[255, 0, 0], [0, 255, 0], [0, 128, 255], [128, 0, 255]], dtype=np.float32)
"""Red, green, blue and violet, in bytes: the inputs are not scaled."""
SIDE = 5
CORNERS = ((0, 0), (0, SIDE - 1), (SIDE - 1, 0), (SIDE - 1, SIDE - 1))
TOP = ((0, 1), (0, 2), (0, 3))
Mask = Literal["none", "rule_1", "rule_2", "both"]
PIXELS = {"rule_1": CORNERS, "rule_2": TOP, "both": (*CORNERS, *TOP)}
"""The pixels that each rule looks at."""
MEASURES = {
    "accuracy_on_all": "The accuracy on the whole test split; the clean score is that of the attacked examples."
}


def facts(*, mask: Mask = "rule_2", **_: Any) -> Facts:
    return Facts(TASK, BOUNDS, GIVES if mask != "none" else ("direction",))


def load(
    *,
    mask: Mask = "rule_2",
    train: PositiveInt = 20000,
    validation: PositiveInt = 2000,
    test: PositiveInt = 20000,
    split_seed: int = 0,
) -> Arrays:
    """Images (n, 3, 5, 5), from 0 to 255, and labels (n,); the direction is the mean training image of every class.

    Args:
        mask: the rule whose pixels must not matter: a net that is held to it can use the other one. both: neither rule
            is left, and with it nothing that tells the class.
        train: images to train on, as many as are published.
        validation: the paper has none, and takes the last epoch (`keep: last`).
        test: images to test on, as many as are published.
        split_seed: of all images.
    """
    generator = np.random.default_rng(split_seed)
    sizes = {"train": train, "validation": validation, "test": test}
    made = {split: images(n, generator) for split, n in sizes.items()}
    x, y = ({split: pair[part] for split, pair in made.items()} for part in (0, 1))
    return Arrays(
        x=x,
        y=y,
        direction=np.stack([x["train"][y["train"] == label].mean(0) for label in (0, 1)]),
        mask=None if mask == "none" else marked(PIXELS[mask]),
    )


def measures(model: nn.Module, dataset: Dataset) -> dict[str, float]:
    """The number of MEASURES, of images (n, 3, 5, 5)."""
    with torch.no_grad():
        right = model(dataset.inputs("test")).argmax(1) == dataset.y["test"]
    return {"accuracy_on_all": float(right.double().mean())}


def images(n: int, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 3, 5, 5) float32, and their labels (n,), each class with probability 1/2."""
    labels = generator.integers(0, 2, n)
    colours = generator.integers(0, len(COLOURS), (n, SIDE, SIDE))  # of every pixel, its number
    both, neither = (np.flatnonzero(labels == label) for label in (0, 1))
    for row, column in CORNERS:
        colours[both, row, column] = colours[both, -1, -1]
    colours[both, 0, 1:4] = generator.permuted(np.tile(np.arange(len(COLOURS)), (len(both), 1)), axis=1)[:, :3]
    break_corners(colours, neither, generator)
    repeat_top(colours, neither, generator)
    return COLOURS[colours].transpose(0, 3, 1, 2), labels


def break_corners(colours: np.ndarray, which: np.ndarray, generator: np.random.Generator) -> None:
    """Give two opposite corners of these images two colours; a fair coin says which two."""
    first = generator.random(len(which)) < 0.5
    for chosen, (column, opposite) in ((which[first], (-1, 0)), (which[~first], (0, -1))):
        alike = chosen[colours[chosen, 0, column] == colours[chosen, -1, opposite]]
        colours[alike, 0, column] += generator.integers(1, len(COLOURS), len(alike))
    colours[which] %= len(COLOURS)


def repeat_top(colours: np.ndarray, which: np.ndarray, generator: np.random.Generator) -> None:
    """Where the three top pixels of these images have three colours, give one of them that of another one."""
    ordered = np.sort(colours[which, 0, 1:4], axis=1)
    distinct = which[(np.diff(ordered, axis=1) != 0).all(1)]
    changed = generator.integers(0, 3, len(distinct))
    copied = (changed + generator.integers(1, 3, len(distinct))) % 3
    colours[distinct, 0, 1 + changed] = colours[distinct, 0, 1 + copied]


def marked(pixels: tuple[tuple[int, int], ...]) -> np.ndarray:
    """1 on these pixels, in all three channels, (3, 5, 5)."""
    mask = np.zeros((3, SIDE, SIDE), dtype=np.float32)
    for row, column in pixels:
        mask[:, row, column] = 1
    return mask
