"""Image sets: IDX files, torchvision's layout, folders of classes; what is wrong with them is one line."""

import gzip
import socket

import numpy as np
import pytest
import torch
from PIL import Image

from inputgrad.errors import UserError
from pipeline import data, layout
from pipeline.data import _images, fashion_mnist, image_folder
from pipeline.stages import runner, train
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit

GENERATOR = np.random.default_rng(0)
PIXELS = {"train": GENERATOR.integers(0, 256, (200, 28, 28), np.uint8), "t10k": np.full((40, 28, 28), 255, np.uint8)}
LABELS = {part: np.arange(len(x), dtype=np.uint8) % 10 for part, x in PIXELS.items()}


def idx(values):
    return b"\0\0\x08" + bytes([values.ndim]) + np.array(values.shape, ">u4").tobytes() + values.tobytes()


@pytest.fixture
def folder(tmp_path):
    """Four IDX files as the publishers give them, one of them not compressed."""
    folder = tmp_path / "idx"
    folder.mkdir()
    for part in PIXELS:
        for kind, values in (("images-idx3", PIXELS[part]), ("labels-idx1", LABELS[part])):
            (folder / f"{part}-{kind}-ubyte.gz").write_bytes(gzip.compress(idx(values)))
    plain = folder / "t10k-labels-idx1-ubyte"
    plain.write_bytes(gzip.decompress((folder / "t10k-labels-idx1-ubyte.gz").read_bytes()))
    return folder


def test_idx_files_are_read_as_bytes_with_the_published_test_split(folder):
    arrays = fashion_mnist.load(folder=str(folder), validation=50)
    assert {s: x.shape for s, x in arrays.x.items()} == {
        "validation": (50, 1, 28, 28),
        "train": (150, 1, 28, 28),
        "test": (40, 1, 28, 28),
    }
    assert all(x.dtype == np.uint8 for x in arrays.x.values())
    assert np.array_equal(arrays.x["test"][:, 0], PIXELS["t10k"])
    everything = np.concatenate([arrays.x["train"], arrays.x["validation"]])[:, 0]
    assert sorted(x.tobytes() for x in everything) == sorted(x.tobytes() for x in PIXELS["train"])
    assert np.bincount(arrays.y["validation"]).tolist() == [5] * 10
    means = [PIXELS["train"].reshape(200, -1)[LABELS["train"] == 3].mean()]
    assert abs(arrays.direction[3].mean() * 255 - means[0]) < 5
    fewer = fashion_mnist.load(folder=str(folder), validation=50, train=60)
    assert np.bincount(fewer.y["train"]).tolist() == [6] * 10


def test_the_layout_of_torchvision_is_read_too(folder):
    raw = folder.parent / "root/FashionMNIST/raw"
    raw.mkdir(parents=True)
    for file in folder.glob("*.gz"):
        (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
    one = fashion_mnist.load(folder=str(folder), validation=50)
    other = fashion_mnist.load(folder=str(folder.parent / "root"), validation=50)
    for split in data.SPLITS:
        assert np.array_equal(one.x[split], other.x[split])
        assert np.array_equal(one.y[split], other.y[split])


def test_what_is_missing_or_damaged_is_named(folder, monkeypatch, tmp_path):
    with pytest.raises(UserError, match=r"no folder .*nowhere; fix: correct it, or leave it out"):
        fashion_mnist.load(folder=str(tmp_path / "nowhere"))
    (tmp_path / "root2").mkdir()
    with pytest.raises(UserError, match=r"root2 does not hold FashionMNIST \(.*\); fix: put the files there"):
        fashion_mnist.load(folder=str(tmp_path / "root2"))
    with pytest.raises(UserError, match=r"data.validation: 195 of 200 images; fix: 10 or more"):
        fashion_mnist.load(folder=str(folder), validation=195)
    labels = folder / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(labels.read_bytes()[:30])
    with pytest.raises(UserError, match=r"train-labels-idx1-ubyte.gz is damaged \(.*\); fix: get it again"):
        fashion_mnist.load(folder=str(folder))
    labels.unlink()
    with pytest.raises(UserError, match=r"has no train-labels-idx1-ubyte or .*; fix: put all four files there"):
        fashion_mnist.load(folder=str(folder))


def test_a_download_that_cannot_be_reached_says_what_to_do(project, monkeypatch):
    monkeypatch.setattr(_images, "found", lambda _: None)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: (_ for _ in ()).throw(OSError("no network")))
    with pytest.raises(UserError, match=r"FashionMNIST cannot be downloaded here \(.*\); fix: get the files elsewhere"):
        fashion_mnist.load()


def test_a_study_trains_on_bytes_as_on_numbers(project, folder):
    file = project / "experiments/tiny.yaml"
    edit(file, "data: {name: digits}", f"data: {{name: fashion_mnist, folder: {folder}, validation: 50}}")
    edit(file, "mlp, hidden: [8]", "lenet, width: 2, hidden: 8")
    study = read_study("tiny")
    data.prepare("tiny", study.data)
    dataset = data.read_data("tiny", study.data, ("train", "validation"))
    assert dataset.x["train"].dtype == torch.uint8
    assert float(dataset.inputs("train").max()) == 1.0
    assert torch.equal(dataset.inputs("train", torch.tensor([3]))[0] * 255, dataset.x["train"][3].float())
    folder_of_run = train.train(Run(study, "gradient_norm", 0))
    assert (folder_of_run / "best.pt").exists()
    (folder / "t10k-labels-idx1-ubyte.gz").write_bytes(b"")  # not read, but one of the user's files
    with pytest.raises(UserError, match=r"made from another .*idx; fix: dvc repro -f prepare@tiny"):
        data.read_data("tiny", study.data, ("test",))


def image(path, size=(8, 8), mode="RGB"):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = GENERATOR.integers(0, 256, (*size[::-1], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


@pytest.fixture
def classes(tmp_path):
    for name in ("cats", "dogs"):
        for n in range(12):
            image(tmp_path / "pets" / name / f"{n}.png")
    return tmp_path / "pets"


def test_a_folder_for_each_class(classes):
    arrays = image_folder.load(folder=str(classes))
    assert {s: x.shape[1:] for s, x in arrays.x.items()} == dict.fromkeys(data.SPLITS, (3, 8, 8))
    assert sum(len(x) for x in arrays.x.values()) == 24
    first = np.asarray(Image.open(classes / "cats/0.png")).transpose(2, 0, 1)
    assert any((x == first).all() for split in arrays.x.values() for x in split)
    grey = image_folder.load(folder=str(classes), channels=1, size=6)
    assert grey.x["train"].shape[1:] == (1, 6, 6)
    image(classes / "dogs/3.png", mode="L")  # the fix that the refusal of a mixture names
    assert image_folder.load(folder=str(classes), channels=3).x["train"].shape[1:] == (3, 8, 8)


def test_grey_images_stay_grey(classes):
    for file in classes.rglob("*.png"):
        image(file, mode="L")
    assert image_folder.load(folder=str(classes)).x["train"].shape[1:] == (1, 8, 8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda f: image(f / "dogs/3.png", (9, 8)), r"3\.png is 9×8, .*0\.png is 8×8; fix: data\.size makes all"),
        (
            lambda f: image(f / "dogs/3.png", mode="L"),
            r"3\.png is grey, .*0\.png is coloured; fix: data\.channels: 3 makes",
        ),
        (lambda f: (f / "cats/5.png").write_bytes(b"no image"), r"5\.png is no readable image \(.*\); fix: remove"),
        (lambda f: [p.unlink() for p in (f / "dogs").glob("[2-9]*")], r"pets/dogs holds 4 images; fix: five or more"),
        (lambda f: (f / "dogs").rename(f.parent / "gone"), r"holds one class only; fix: a folder for each of two"),
        (lambda f: f.rename(f.parent / "gone"), r"fix: one folder for each class, with its images"),
    ],
    ids=["sizes", "channels", "unreadable", "few", "one class", "no folder"],
)
def test_what_is_wrong_with_a_folder_is_one_line(classes, wrong, message):
    wrong(classes)
    with pytest.raises(UserError, match=message):
        image_folder.load(folder=str(classes))


def test_a_class_without_test_examples_is_refused(project, monkeypatch):
    study = read_study("tiny")
    module = data.module_of(study.data)
    arrays = module.load()
    monkeypatch.setitem(arrays.y, "test", np.where(arrays.y["test"] == 4, 5, arrays.y["test"]))
    monkeypatch.setattr(module, "load", lambda **_: arrays)
    with pytest.raises(UserError, match=r"data set 'digits', test split: no example of class 4; fix: more examples"):
        runner.prepare("tiny")
    assert not layout.data("tiny").exists()


def test_the_first_examples_of_a_folder_are_of_every_class(tmp_path):
    """`attack.examples: 12` takes the first 12 of the test split: they were all of the first class."""
    pixels = np.random.default_rng(0).integers(0, 256, (180, 8, 8), np.uint8)
    for number, values in enumerate(pixels):
        file = tmp_path / "own" / "abc"[number % 3] / f"{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(file)
    found = image_folder.load(folder=str(tmp_path / "own"))
    assert len(found.y["test"]) == 36
    assert np.bincount(found.y["test"][:12], minlength=3).min() >= 2
    known = {values.tobytes(): number % 3 for number, values in enumerate(pixels)}
    assert [known[x.tobytes()] for x in found.x["test"]] == found.y["test"].tolist()
