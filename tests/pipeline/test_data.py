"""Data sets: found by name, split without leaks, refused when they hold what is no number."""

import re

import numpy as np
import pytest

from inputgrad import registry
from inputgrad.errors import UserError
from inputgrad.tasks import Classification
from pipeline import data
from pipeline.data import decoy_digits
from pipeline.stages import commands
from pipeline.study.read import read_study
from tests.conftest import edit

EVERY = registry.names("pipeline.data")


@pytest.mark.parametrize("name", EVERY)
def test_splits_are_disjoint_seeded_and_complete(name):
    load = registry.module("pipeline.data", name).load
    arrays, again, other = load(), load(), load(split_seed=1)
    for split in data.SPLITS:
        assert np.array_equal(arrays.x[split], again.x[split])
        assert len(arrays.x[split]) == len(arrays.y[split]) > 0
    assert not np.array_equal(arrays.x["test"], other.x["test"])
    assert arrays.x["train"].dtype == np.float32


@pytest.mark.parametrize(("name", "rows"), [("digits", 1797), ("diabetes", 442)])
def test_every_example_is_in_one_split(name, rows):
    arrays = registry.module("pipeline.data", name).load()
    assert sum(len(v) for v in arrays.x.values()) == rows


@pytest.mark.parametrize("name", EVERY)
def test_every_data_set_offers_a_direction_and_a_mask(name):
    arrays = registry.module("pipeline.data", name).load()
    shape = arrays.x["train"].shape[1:]
    assert arrays.mask.shape == shape
    assert set(np.unique(arrays.mask)) == {0.0, 1.0}
    classes = (
        (int(arrays.y["train"].max()) + 1,) if registry.module("pipeline.data", name).TASK == "classification" else ()
    )
    assert arrays.direction.shape == classes + shape


def test_digits_are_stratified():
    arrays = registry.module("pipeline.data", "digits").load()
    shares = [np.bincount(arrays.y[s], minlength=10) / len(arrays.y[s]) for s in data.SPLITS]
    assert np.abs(shares[0] - shares[2]).max() < 0.01


def test_diabetes_is_standardised_with_the_training_split_alone():
    arrays = registry.module("pipeline.data", "diabetes").load()
    np.testing.assert_allclose(arrays.x["train"].mean(0), 0, atol=1e-5)
    np.testing.assert_allclose(arrays.x["train"].std(0), 1, atol=1e-5)
    assert np.abs(arrays.x["test"].mean(0)).max() > 1e-3
    assert [n for n, m in zip(arrays.features, arrays.direction, strict=True) if m] == ["bmi", "bp", "s5"]
    assert [n for n, m in zip(arrays.features, arrays.mask, strict=True) if m] == ["sex"]


def test_what_is_written_is_what_is_read(project):
    commands.prepare("tiny")
    arrays, dataset = (
        registry.module("pipeline.data", "digits").load(),
        data.read_data("tiny", read_study("tiny").data, ("train", "test")),
    )
    assert set(dataset.x) == {"train", "test"}
    assert np.array_equal(dataset.x["test"].numpy(), arrays.x["test"])
    assert np.array_equal(dataset.context.direction.numpy(), arrays.direction)
    assert dataset.context.bounds == (0.0, 1.0)
    assert (dataset.outputs, dataset.shape, dataset.task) == (10, (1, 8, 8), Classification)


def test_preparing_twice_writes_the_same_bytes(project):
    first = commands.prepare("tiny").read_bytes()
    assert commands.prepare("tiny").read_bytes() == first


def test_nan_in_the_source_is_counted_and_nothing_is_written(project, monkeypatch):
    module = registry.module("pipeline.data", "digits")
    load = module.load

    def broken(**options):
        arrays = load(**options)
        arrays.x["train"][0, 0, 0, :3] = np.nan
        return arrays

    monkeypatch.setattr(module, "load", broken)
    with pytest.raises(UserError, match=r"'digits', train split, x: 3 of \d+ numbers are NaN or infinite"):
        data.prepare("tiny", {"name": "digits"})
    assert not list(project.glob("data/*"))


def test_nan_in_the_prepared_file_is_found(project):
    file = commands.prepare("tiny")
    contents = dict(np.load(file))
    contents["x_train"][0] = np.inf
    data.write_arrays(file, contents)
    with pytest.raises(UserError, match=r"data/tiny\.npz, train split: 64 of \d+ numbers are NaN or infinite"):
        data.read_data("tiny", read_study("tiny").data, ("train",))


def test_missing_damaged_and_foreign_files_say_how_to_repair_them(project):
    def refusal():
        with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
            data.read_data("tiny", read_study("tiny").data, ("train",))
        return str(caught.value)

    assert refusal() == "data/tiny.npz is missing; fix: dvc repro prepare@tiny"
    again = "; fix: dvc repro -f prepare@tiny"
    file = commands.prepare("tiny")
    whole = file.read_bytes()
    file.write_bytes(whole[:500])
    assert re.fullmatch(rf"data/tiny\.npz is not readable \(.+\){again}", refusal())
    file.write_bytes(whole)
    contents = dict(np.load(file))
    contents["x_test"][0] += 1  # of a split that is not even asked for
    np.savez(file, **contents)
    assert refusal() == f"data/tiny.npz is damaged: its contents are not those that were written{again}"
    file.write_bytes(whole)
    edit(project / "experiments/tiny.yaml", "{name: digits}", "{name: digits, split_seed: 1}")
    assert refusal() == f"data/tiny.npz is made with data.split_seed 0, not 1{again}"


def test_shares_must_sum_to_one(project):
    with pytest.raises(UserError, match=r"data\.shares"):
        data.prepare("tiny", {"name": "digits", "shares": (0.5, 0.2, 0.2)})


@pytest.mark.parametrize(
    ("split", "truthful", "tells"),
    [("train", False, True), ("validation", False, True), ("test", False, False), ("test", True, True)],
)
def test_the_decoy_tells_the_label_in_training_and_nothing_in_the_test(split, truthful, tells):
    arrays, plain = decoy_digits.load(truthful_test=truthful), registry.module("pipeline.data", "digits").load()
    difference = np.abs(arrays.x[split] - plain.x[split])
    assert (difference[:, decoy_digits.corners() == 0] == 0).all()  # nothing but the corners is touched
    grey = 1 - arrays.y[split] / 10
    hidden = [
        np.isclose(image[0][decoy_digits.corners()[0] == 1], g).any()
        for image, g in zip(arrays.x[split], grey, strict=True)
    ]
    share = np.mean(hidden)
    assert share == 1 if tells else share < 0.3


def test_the_mask_of_the_decoys_is_the_four_corners():
    mask = decoy_digits.load().mask
    assert mask.sum() == 16
    assert mask[0, :2, :2].all()
    assert mask[0, -2:, -2:].all()
    assert not mask[0, 2:6].any()
