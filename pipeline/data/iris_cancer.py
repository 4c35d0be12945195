"""Iris-Cancer: 100 rows of 34 columns, of which four tell the class in training and are zero in the test.

After Ross, Hughes & Doshi-Velez 2017. A row has the measurements of a flower (iris, class 1 or 2) next to those of a
tumour (the first 50 malignant ones of the Wisconsin breast cancer data go with class 1, the first 50 benign ones with
class 2). Both sets ship with scikit-learn.
"""

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.data import Arrays, Dataset

TASK = "classification"
BOUNDS = None
GIVES = ("direction", "mask", "iris")
IRIS = 4
"""The first columns, those of the flower."""
EACH = 50
"""Rows of a class."""
TEST = 0.33
"""Share of the test split, as published: 33 rows of 100."""
LARGEST = 10
"""Among so many columns with the largest gradients the paper counts those of the flower."""
MEASURES = {
    "accuracy_with_iris": "The accuracy on the test rows with their iris columns, which are zero for the clean score.",
    "iris_among_largest": "How many iris columns are among the ten with the largest input gradients.",
}


def load(*, split_seed: int = 0) -> Arrays:
    """Measurements (n, 34) in their own units, and labels (n,): 0 malignant, 1 benign.

    The mask marks the four columns of the flower. In the test split they are zero; what they held is known of every
    example as `iris`, (n, 4). The paper holds no rows back and takes the last epoch (`keep: last`): the validation
    split is the training split again.

    Args:
        split_seed: of training and test rows; the paper repeats the training on 350 splits.
    """
    x, y, features = table()
    train, test = parts(len(y), split_seed)
    rows = {"train": train, "validation": train, "test": test}
    values = {split: x[index] for split, index in rows.items()}
    values["test"][:, :IRIS] = 0
    labels = {split: y[index] for split, index in rows.items()}
    return Arrays(
        x=values,
        y=labels,
        direction=np.stack([x[train][y[train] == label].mean(0) for label in (0, 1)]),
        mask=(np.arange(len(features)) < IRIS).astype(np.float32),
        features=features,
        examples={"iris": {split: x[index, :IRIS] for split, index in rows.items()}},
    )


def table() -> tuple[np.ndarray, np.ndarray, list[str]]:
    """All rows (100, 34) float32, their labels (100,), and the names of the columns."""
    from sklearn.datasets import load_breast_cancer, load_iris  # a second of import that only `prepare` needs

    iris, cancer = load_iris(), load_breast_cancer()
    flowers = [iris.data[iris.target == kind][:EACH] for kind in (1, 2)]
    tumours = [cancer.data[cancer.target == kind][:EACH] for kind in (0, 1)]
    x = np.hstack([np.concatenate(flowers), np.concatenate(tumours)]).astype(np.float32)
    features = [f"iris {name}" for name in iris.feature_names] + [str(name) for name in cancer.feature_names]
    return x, np.repeat(np.arange(2), EACH), features


def parts(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Which of n rows are trained on and which are tested, each (n_part,), in the order of the shuffle."""
    from sklearn.model_selection import train_test_split

    train, test = train_test_split(np.arange(n), test_size=TEST, random_state=seed)
    return train, test


def measures(model: nn.Module, dataset: Dataset) -> dict[str, float]:
    """The numbers of MEASURES, on the test rows (n, 34) with the four columns that the test split lacks."""
    x = dataset.inputs("test").clone()
    x[:, :IRIS] = dataset.known("test")["iris"]
    return {
        "accuracy_with_iris": accuracy(model, x, dataset.y["test"]),
        "iris_among_largest": iris_among_largest(model, x),
    }


def accuracy(model: nn.Module, x: Tensor, y: Tensor) -> float:
    """The share of rows (n, 34) that are told right."""
    with torch.no_grad():
        return float((model(x).argmax(1) == y).double().mean())


def iris_among_largest(model: nn.Module, x: Tensor) -> float:
    """How many of the ten columns with the largest |∂Σ_k log p_k(x)| are the flower's, the mean over rows (n, 34)."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(leaf).log_softmax(1).sum(), leaf)
    return float((gradient.abs().topk(LARGEST).indices < IRIS).sum(1).double().mean())
