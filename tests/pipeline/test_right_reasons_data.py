"""Data of Ross, Hughes & Doshi-Velez 2017: the rules of Toy Colors, the zeroed columns of Iris-Cancer, the decoys."""

import numpy as np
import pytest
import torch

from inputgrad.errors import UserError
from pipeline import data
from pipeline.data import decoy_fashion_mnist, fashion_mnist, iris_cancer, toy_colors
from pipeline.study.read import read_study
from tests.conftest import edit
from tests.pipeline.test_images import folder as folder  # IDX files of 200 and 40 images

SMALL = {"train": 400, "validation": 50, "test": 400}


def colours(arrays, split, pixels):
    """The colours of these pixels, for each image."""
    return [{tuple(image[:, r, c]) for r, c in pixels} for image in arrays.x[split]]


@pytest.mark.parametrize("split", data.SPLITS)
def test_both_rules_hold_in_class_0_and_neither_in_class_1(split):
    arrays = toy_colors.load(**SMALL)
    corners, top = (colours(arrays, split, pixels) for pixels in (toy_colors.CORNERS, toy_colors.TOP))
    for label, in_corners, in_top in zip(arrays.y[split], corners, top, strict=True):
        assert (len(in_corners) == 1) == (label == 0)
        assert (len(in_top) == 3) == (label == 0)
    assert 0.3 < arrays.y[split].mean() < 0.7
    everywhere = [(row, column) for row in range(5) for column in range(5)]
    assert set.union(*colours(arrays, split, everywhere)) == {tuple(c) for c in toy_colors.COLOURS}


def test_what_the_rules_do_not_ask_is_drawn_at_random():
    """A third of the images would tell the class by one more corner, if always the same one were broken."""
    arrays = toy_colors.load(train=8000, validation=50, test=50)
    x = arrays.x["train"][arrays.y["train"] == 1]
    for one, other in (((0, 4), (4, 0)), ((0, 0), (4, 4))):
        shares = np.array([[both(x, one, a, other, b) for b in toy_colors.COLOURS] for a in toy_colors.COLOURS])
        assert 0.1 < shares.trace() < 0.15  # alike: 1/2 · 1/4
        different = shares[~np.eye(4, dtype=bool)]  # each 1/2 · 1/16 + 1/2 · 1/12
        assert 0.058 < different.min() < different.max() < 0.087
    for row, column in [(2, 2), *toy_colors.CORNERS, *toy_colors.TOP]:
        shares = [(x[:, :, row, column] == colour).all(1).mean() for colour in toy_colors.COLOURS]
        assert 0.21 < min(shares) < max(shares) < 0.29


def both(x, one, first, other, second):
    """The share of images with this colour at one pixel and that colour at another one."""
    found = [(x[:, :, row, column] == c).all(1) for (row, column), c in ((one, first), (other, second))]
    return np.logical_and(*found).mean()


@pytest.mark.parametrize(("mask", "count"), [("rule_1", 4), ("rule_2", 3), ("both", 7)])
def test_a_rules_mask_marks_its_pixels_in_all_channels(mask, count):
    marked = toy_colors.load(mask=mask, **SMALL).mask
    assert marked.sum() == 3 * count
    assert marked[:, 0, 0].all() == (mask != "rule_2")
    assert marked[:, 0, 2].all() == (mask != "rule_1")
    assert not marked[:, 1:4].any()


def test_toy_colors_without_a_mask_refuse_a_loss_that_needs_one(project):
    file = project / "experiments/tiny.yaml"
    edit(file, "  standard: {}", "  standard: {}\n  right_reasons: {}")
    edit(file, "data: {name: digits}", "data: {name: toy_colors, mask: rule_1}")
    study = read_study("tiny")
    data.prepare("tiny", study.data | SMALL)
    edit(file, "mask: rule_1", "mask: none")
    with pytest.raises(UserError, match=r"losses\.right_reasons needs a mask, which data set 'toy_colors'"):
        read_study("tiny")
    data.prepare("tiny", {"name": "toy_colors", "mask": "none", **SMALL})
    assert data.read_data("tiny", {"name": "toy_colors", "mask": "none", **SMALL}, ("train",)).context.mask is None


def test_the_measure_of_toy_colors_is_taken_on_the_whole_test_split(project):
    data.prepare("own", {"name": "toy_colors", **SMALL})
    dataset = data.read_data("own", {"name": "toy_colors", **SMALL}, ("train", "test"))
    always = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(75, 2))
    with torch.no_grad():
        always[1].weight.zero_()
        always[1].bias[:] = torch.tensor([0.0, 1.0])
    assert toy_colors.measures(always, dataset) == {"accuracy_on_all": pytest.approx(dataset.y["test"].double().mean())}
    assert len(dataset.y["test"]) == SMALL["test"]


def test_iris_columns_tell_the_class_in_training_and_are_zero_in_the_test():
    arrays = iris_cancer.load()
    assert {split: len(x) for split, x in arrays.x.items()} == {"train": 67, "validation": 67, "test": 33}
    assert [n for n, m in zip(arrays.features, arrays.mask, strict=True) if m] == arrays.features[:4]
    assert (arrays.x["test"][:, :4] == 0).all()
    assert (arrays.x["train"][:, :4] > 0).all()
    x, y, _ = iris_cancer.table()
    petal, label = arrays.x["train"][:, 2], arrays.y["train"]  # class 1 of iris has the shorter petals
    assert ((petal > 4.85) == label).mean() > 0.85
    whole = {split: arrays.x[split].copy() for split in ("train", "test")}
    whole["test"][:, :4] = arrays.examples["iris"]["test"]
    rows = np.concatenate([np.column_stack([whole[s], arrays.y[s]]) for s in whole])
    assert sorted(map(tuple, rows)) == sorted(map(tuple, np.column_stack([x, y]).astype(np.float32)))


def test_another_split_of_iris_cancer_has_the_same_rows_and_another_test():
    one, other = iris_cancer.load(split_seed=1), iris_cancer.load(split_seed=2)
    assert not np.array_equal(one.y["test"], other.y["test"]) or not np.array_equal(one.x["test"], other.x["test"])
    assert np.array_equal(one.x["train"], one.x["validation"])  # nothing is held back to choose an epoch


def test_iris_columns_are_counted_among_the_ten_largest_gradients():
    """Of a linear net with two outputs every row has the gradient (1 - 2·p_0)·w_0 + (1 - 2·p_1)·w_1."""
    net, x = torch.nn.Linear(34, 2), torch.randn(6, 34)
    with torch.no_grad():
        net.weight.zero_()
        net.weight[0] = torch.arange(34.0)  # the columns of the flower have the smallest
        assert iris_cancer.iris_among_largest(net, x) == 0
        net.weight[0, :3] = -100.0
    assert iris_cancer.iris_among_largest(net, x) == 3
    assert iris_cancer.accuracy(net, x, net(x).argmax(1)) == 1
    y = net(x).argmax(1)
    y[0] = 1 - y[0]
    assert iris_cancer.accuracy(net, x, y) == pytest.approx(5 / 6)


def test_the_measures_of_iris_cancer_see_the_columns_that_the_test_split_lacks(project):
    data.prepare("own", {"name": "iris_cancer"})
    dataset = data.read_data("own", {"name": "iris_cancer"}, ("train", "test"))
    net = torch.nn.Linear(34, 2)
    with torch.no_grad():
        net.weight.zero_()
        net.weight[1, 2], net.bias[:] = 1.0, torch.tensor([4.85, 0.0])  # the longer petals are class 1's
    found = iris_cancer.measures(net, dataset)
    assert found.keys() == iris_cancer.MEASURES.keys()
    assert found["accuracy_with_iris"] > 0.85
    assert iris_cancer.accuracy(net, dataset.inputs("test"), dataset.y["test"]) < 0.7  # zero: all are class 0
    assert 1 <= found["iris_among_largest"] <= 4
    assert (dataset.x["test"][:, :4] == 0).all()  # the split itself is left alone


@pytest.mark.parametrize(
    ("split", "truthful", "tells"),
    [("train", False, True), ("validation", False, True), ("test", False, False), ("test", True, True)],
)
def test_the_decoy_on_clothes_tells_the_label_where_it_should(folder, split, truthful, tells):
    options = {"folder": str(folder), "validation": 50}
    arrays, plain = decoy_fashion_mnist.load(**options, truthful_test=truthful), fashion_mnist.load(**options)
    images, marked = arrays.x[split], arrays.mask.astype(bool)
    assert images.dtype == np.uint8
    assert (images == plain.x[split])[:, ~marked].all()  # nothing but the corners is touched
    assert np.array_equal(arrays.y[split], plain.y[split])
    grey = 255 - 25 * arrays.y[split]
    patches = [(slice(r, r + 4), slice(c, c + 4)) for r in (0, 24) for c in (0, 24)]
    shown = [[(image[0][p] == g).all() for p in patches] for image, g in zip(images, grey, strict=True)]
    share = np.mean(np.any(shown, axis=1))
    assert share == 1 if tells else share < 0.4
    if tells:
        assert (np.sum(shown, axis=0) > 0).all()  # every corner comes up
    assert marked.sum() == 64
