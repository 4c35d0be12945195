"""Data sets: found by name, split without leaks, refused when they hold what is no number."""

import re

import numpy as np
import pytest
import torch

from inputgrad import registry
from inputgrad.errors import UserError
from inputgrad.tasks import Classification
from pipeline import data
from pipeline.data import _file, decoy_digits
from pipeline.fingerprint import FILES
from pipeline.stages import runner
from pipeline.study.read import read_study
from tests.conftest import edit

EVERY = [
    name
    for name in registry.names("pipeline.data")
    if not {*FILES["data"]} & {*registry.settings_of(registry.module("pipeline.data", name).load).model_fields}
]
"""Those that ship with the dependencies; others need files, see test_images.py and test_table.py."""


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


def of_them(giving):
    return [name for name in EVERY if giving in data.facts({"name": name}).gives]


def test_every_data_set_says_what_it_gives():
    for name in EVERY:
        assert set(data.facts({"name": name}).gives) == registry.module("pipeline.data", name).load().known


@pytest.mark.parametrize("name", sorted({*of_them("direction"), *of_them("mask")}))
def test_a_direction_and_a_mask_fit_the_inputs(name):
    arrays = registry.module("pipeline.data", name).load()
    shape = arrays.x["train"].shape[1:]
    assert arrays.mask.shape == shape
    assert set(np.unique(arrays.mask)) == {0.0, 1.0}
    classes = (int(arrays.y["train"].max()) + 1,) if data.facts({"name": name}).task == "classification" else ()
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
    runner.prepare("tiny")
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
    first = runner.prepare("tiny").read_bytes()
    assert runner.prepare("tiny").read_bytes() == first


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
    file = runner.prepare("tiny")
    contents = dict(np.load(file))
    contents["x_train"][0] = np.inf
    _file.write(file, contents)
    with pytest.raises(UserError, match=r"data/tiny\.npz, train split: 64 of \d+ numbers are NaN or infinite"):
        data.read_data("tiny", read_study("tiny").data, ("train",))


def test_missing_damaged_and_foreign_files_say_how_to_repair_them(project):
    def refusal():
        with pytest.raises(UserError, match=r"^[^\n]*$") as caught:
            data.read_data("tiny", read_study("tiny").data, ("train",))
        return str(caught.value)

    assert refusal() == "data/tiny.npz is missing; fix: dvc repro prepare@tiny"
    again = "; fix: dvc repro -f prepare@tiny"
    file = runner.prepare("tiny")
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
    marked = arrays.mask == 1
    assert (difference[:, ~marked] == 0).all()  # nothing but the corners is touched
    grey = 1 - arrays.y[split] / 10
    hidden = [np.isclose(image[marked], g).any() for image, g in zip(arrays.x[split], grey, strict=True)]
    share = np.mean(hidden)
    assert share == 1 if tells else share < 0.3
    touched = (difference[:, 0] > 0).reshape(-1, 2, 4, 2, 4).any((2, 4))  # (n, top or bottom, left or right)
    assert touched.sum((1, 2)).max() == 1
    assert (touched.mean(0) > 0.15).all()  # each corner has about a quarter


def test_the_mask_of_the_decoys_is_the_four_corners():
    mask = decoy_digits.load().mask
    assert mask.sum() == 16
    assert mask[0, :2, :2].all()
    assert mask[0, -2:, -2:].all()
    assert not mask[0, 2:6].any()


@pytest.mark.parametrize("name", ["forces", "equation"])
def test_the_known_gradients_are_those_of_the_values(name):
    """Central differences of the exact functions, in the units of the inputs."""
    module = registry.module("pipeline.data", name)
    arrays = module.load(points=20)
    if name == "forces":
        x = arrays.x["test"][:50].reshape(-1, 3, 2).astype(np.float64)
        rest = module.LENGTH * np.array([[0.0, 0.0], [1.0, 0.0], [0.5, np.sqrt(3) / 2]])
        train = module.energy_and_gradient(rest + module.SPREAD * arrays.x["train"].reshape(-1, 3, 2))[0]

        def values(x):
            return (module.energy_and_gradient(rest + module.SPREAD * x)[0] - train.mean()) / train.std()
    else:
        x = arrays.x["test"][:50].astype(np.float64)

        def values(x):
            return module.solution(x)[0]

    np.testing.assert_allclose(values(x), arrays.y["test"][:50, 0], atol=1e-4)
    known = arrays.examples["target_gradient"]["test"][:50].reshape(x.shape)
    for place in np.ndindex(x.shape[1:]):
        step = np.zeros(x.shape[1:])
        step[place] = 1e-5
        slope = (values(x + step) - values(x - step)) / 2e-5
        np.testing.assert_allclose(slope, known[(slice(None), *place)], atol=1e-4)
    if name == "equation":
        along = (arrays.examples["derivative_direction"]["test"] * arrays.examples["target_gradient"]["test"]).sum(1)
        np.testing.assert_allclose(along, arrays.examples["derivative"]["test"], atol=1e-6)
        assert (arrays.y["train"][:, 0] + arrays.examples["derivative"]["train"]).std() > 0.2  # noisy in training alone


def test_what_is_known_of_every_example_is_kept_in_order(project):
    source = {"name": "equation", "points": 30}
    data.prepare("waves", source)
    found = data.read_data("waves", source, ("train", "test"))
    arrays = registry.module("pipeline.data", "equation").load(points=30)
    assert set(found.known("train")) == {"target_gradient", "derivative_direction", "derivative"}
    for split in ("train", "test"):
        for name, values in found.known(split).items():
            np.testing.assert_allclose(values.numpy(), arrays.examples[name][split], rtol=1e-6)
    x, y, context = found.first("test", 7)
    assert len(x) == len(y) == len(context.examples["derivative"]) == 7


def test_a_loss_without_what_it_needs_is_refused_before_any_training(project):
    edit(project / "experiments/tiny.yaml", "  standard: {}", "  standard: {}\n  derivative: {}")
    edit(project / "experiments/tiny.yaml", "data: {name: digits}", "data: {name: diabetes}")
    for line in ("at_epsilon:", "  attacks:"):
        text = (project / "experiments/tiny.yaml").read_text(encoding="utf-8").splitlines(keepends=True)
        (project / "experiments/tiny.yaml").write_text("".join(t for t in text if line not in t), encoding="utf-8")
    where = r"tiny.yaml: losses.derivative needs a derivative_direction, which data set 'diabetes' does not give; fix:"
    with pytest.raises(UserError, match=where):
        read_study("tiny")


def test_known_rows_must_fit(project, monkeypatch):
    module = registry.module("pipeline.data", "equation")
    whole = module.load(points=30)
    whole.examples["derivative"]["test"] = whole.examples["derivative"]["test"][:-1]
    monkeypatch.setattr(module, "load", lambda **_: whole)
    with pytest.raises(UserError, match=r"test split: 999 rows of derivative for 1000 examples; fix: give one row"):
        data.prepare("waves", {"name": "equation"})


def test_large_arrays_are_mapped_and_all_are_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    written = {
        "bytes": rng.integers(0, 255, (300, 3, 32, 32), dtype=np.uint8),
        "numbers": rng.normal(size=(700, 500)).astype(np.float32),
        "columns": np.asfortranarray(rng.normal(size=(500, 300))),
        "small": np.arange(5),
        "text": np.array('{"a": "é"}'),
        "none": np.empty((0, 4), dtype=np.float32),
    }
    file = tmp_path / "some.npz"
    _file.write(file, written)
    found = _file.read(file, "again")
    assert list(found) == list(written)
    for name, values in written.items():
        np.testing.assert_array_equal(found[name], values)
        assert found[name].dtype == values.dtype
        assert isinstance(found[name], np.memmap) == (values.nbytes > _file.LARGE)
    found["numbers"][0, 0] = 7.0  # in a copy of that page alone
    np.testing.assert_array_equal(_file.read(file, "again")["numbers"], written["numbers"])


def test_an_archive_that_another_program_compressed_is_read_too(tmp_path):
    values = np.zeros((1000, 500), dtype=np.float32)
    np.savez_compressed(tmp_path / "packed.npz", values=values)
    found = dict(_file.arrays(tmp_path / "packed.npz"))
    assert not isinstance(found["values"], np.memmap)
    np.testing.assert_array_equal(found["values"], values)


@pytest.mark.parametrize("where", [0.2, 0.5, 0.9])
def test_one_changed_bit_in_a_mapped_array_is_noticed(tmp_path, where):
    file = tmp_path / "some.npz"
    _file.write(file, {"x": np.zeros((600, 600)), "y": np.arange(10)})
    contents = bytearray(file.read_bytes())
    contents[int(where * len(contents))] ^= 1
    file.write_bytes(bytes(contents))
    with pytest.raises(UserError, match=r"is damaged|is not readable"):
        _file.read(file, "again")


def test_what_does_not_fit_on_a_device_is_moved_batch_by_batch(project, monkeypatch):
    data.prepare("tiny", {"name": "digits"})
    dataset = data.read_data("tiny", {"name": "digits"}, ("train",))
    moved = []
    monkeypatch.setattr(data, "to", lambda tensors, device: moved.append(sorted(tensors)) or dict(tensors))
    monkeypatch.setattr(data, "room", lambda device: 1000)  # bytes
    there = dataset.to("cpu")
    assert there.x is dataset.x
    assert moved == [[], ["train"]]  # nothing is known of the examples; the labels
    monkeypatch.setattr(data, "room", lambda device: 1e9)
    dataset.to("cpu")
    assert len(moved) == 5
    chosen = torch.tensor([3, 1])
    assert torch.equal(there.inputs("train", chosen), data.as_numbers(dataset.x["train"])[chosen])


def given(name, monkeypatch, **changed):
    """A data set whose `load` gives some arrays in another form."""
    module = registry.module("pipeline.data", name)
    whole = module.load()
    for key, change in changed.items():
        value = getattr(whole, key)
        object.__setattr__(whole, key, {s: change(v) for s, v in value.items()} if key in "xy" else change(value))
    monkeypatch.setattr(module, "load", lambda **_: whole)
    return {"name": name}


@pytest.mark.parametrize(
    ("name", "changed", "message"),
    [
        # whole numbers as targets would be trained with the loss of classes, and scored with the RMSE
        ("diabetes", {"y": lambda y: (y > 0).astype(np.int64)}, "y is int64 .*, which is no regression; fix: targets"),
        ("diabetes", {"y": lambda y: y[:, 0]}, r"y is float32 \(264,\), which is no regression; fix: targets"),
        ("digits", {"y": lambda y: y.astype(np.float32)}, "which is no classification; fix: class numbers"),
        # cross-entropy leaves -100 out without a word
        ("digits", {"y": lambda y: np.where(np.arange(len(y)) == 3, -100, y)}, "no class -100 in the training split"),
        ("digits", {"direction": lambda d: d[:9]}, r"direction has shape \(9, 1, 8, 8\); fix: \(10, 1, 8, 8\)"),
        ("digits", {"mask": lambda m: m[0, 0]}, r"mask has shape \(8,\); fix: \(1, 8, 8\)"),
        ("digits", {"mask": lambda m: m + np.nan}, "mask: 64 of 64 numbers are NaN or infinite; correct them"),
    ],
)
def test_arrays_that_would_be_taken_for_something_else_are_refused(project, monkeypatch, name, changed, message):
    with pytest.raises(UserError, match=message):
        data.prepare("own", given(name, monkeypatch, **changed))


def test_bytes_stand_for_0_to_1_and_no_other_bounds(project, monkeypatch):
    """With BOUNDS of 0 to 255 an epsilon of 8 was a thousandfold too large: x is divided by 255."""
    source = given("digits", monkeypatch, x=lambda x: (255 * x).astype(np.uint8))
    data.prepare("own", source)
    monkeypatch.setattr(registry.module("pipeline.data", "digits"), "BOUNDS", (0.0, 255.0))
    with pytest.raises(UserError, match=r"bytes stand for 0 to 1, its BOUNDS are \[0.0, 255.0\]; fix: \(0.0, 1.0\)"):
        data.prepare("own", source)


def test_a_class_that_the_training_split_lacks_and_a_sorted_split_are_refused(project):
    y = np.tile(np.arange(3), 6)
    data.refuse_missing_classes("own", dict.fromkeys(data.SPLITS, y), 3)
    with pytest.raises(UserError, match="test split: no class 3 in the training split; fix: number the classes"):
        data.refuse_missing_classes("own", {**dict.fromkeys(data.SPLITS, y), "test": np.tile(np.arange(4), 6)}, 3)
    with pytest.raises(UserError, match="test split: it lies class by class; fix: shuffle it"):
        data.refuse_missing_classes("own", {**dict.fromkeys(data.SPLITS, y), "test": np.sort(y)}, 3)
