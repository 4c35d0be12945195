"""Image files of every kind: the numbers are those that the file means, or one line names the file and the option."""

import re

import numpy as np
import pytest
from PIL import Image

from inputgrad.errors import UserError
from pipeline import data
from pipeline.data import image_folder
from pipeline.stages import train
from pipeline.study.read import read_study
from pipeline.study.run import Run
from tests.conftest import edit

RANDOM = np.random.default_rng(0)
H, W = 8, 12


def bytes_of(*channels):
    return RANDOM.integers(0, 256, (H, W, *channels), np.uint8)


def wide(highest=65535, kind=np.uint16):
    """Numbers from 0 to `highest`, both of which are there."""
    found = RANDOM.integers(0, highest + 1, (H, W)).astype(kind)
    found.flat[:2] = 0, highest
    return found


def write(folder, make, suffix="png", **how):
    """Twelve images of two classes, each what `make(number)` gives: an array, or an image."""
    for number in range(12):
        file = folder / "ab"[number % 2] / f"{number}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        found = make(number)
        (found if isinstance(found, Image.Image) else Image.fromarray(found)).save(file, **how)
    return folder


def loaded(folder, **options):
    found = image_folder.load(folder=str(folder), **options)
    return np.concatenate([*found.x.values()])


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_16_bits_are_scaled_by_their_white(tmp_path, suffix):
    images = [wide() for _ in range(12)]
    found = loaded(write(tmp_path / "own", lambda n: images[n], suffix))
    assert (found.dtype, found.shape) == (np.float32, (12, 1, H, W))
    wanted = {(image.astype(np.float32) / np.float32(65535)).tobytes() for image in images}
    assert {image.tobytes() for image in found} == wanted
    coloured = loaded(tmp_path / "own", channels=3, size=6)
    assert coloured.shape == (12, 3, 6, 6)
    assert 0.4 < coloured.mean() < 0.6


@pytest.mark.parametrize(
    ("make", "suffix", "message", "white"),
    [
        (lambda _: wide(4095), "png", r"no pixel is brighter than 4095 of 65535; fix: data\.white: 4095", 4095),
        (lambda _: wide(60000, np.int32), "tif", r"which number is white; .* is 60000; fix: data\.white: 65535", 65535),
        (lambda _: RANDOM.random((H, W), np.float32), "tif", r"which number is white; .*; fix: data\.white: 1,", 1),
        (lambda _: RANDOM.random((H, W), np.float32) * 250, "tif", r"; fix: data\.white: 255,", 255),
    ],
    ids=["12 bits", "32 bits", "floats", "floats to 255"],
)
def test_a_white_that_is_not_known_is_asked_for(tmp_path, make, suffix, message, white):
    folder = write(tmp_path / "own", make, suffix)
    with pytest.raises(UserError, match=message):
        loaded(folder)
    found = loaded(folder, white=white)
    assert 0.35 < found.mean() < 0.65
    assert 0.9 < found.max() <= 1


def test_dark_images_of_16_bits_stay_dark_where_the_study_says_so(tmp_path):
    assert loaded(write(tmp_path / "own", lambda _: wide(4095)), white=65535).max() == np.float32(4095 / 65535)


@pytest.mark.parametrize(
    ("make", "suffix", "options", "message"),
    [
        (lambda n: bytes_of() if n == 4 else wide(), "png", {}, r"a/4\.png has 8 bits .*a/0\.png has more; fix: save"),
        (lambda _: wide(), "png", {"white": 4095}, r"numbers from 0 to 65535, white is 4095; fix: data\.white: larger"),
        (lambda _: wide(9, np.int32) - 5, "tif", {"white": 9}, r"numbers from -5 to 4, .*larger, and numbers from 0"),
        (lambda _: bytes_of(), "png", {"white": 100}, r"data\.white: 100: the images have 8 bits, .*leave it out"),
        (lambda _: np.full((H, W), np.nan, np.float32), "tif", {"white": 1}, r"holds numbers that are NaN or infinite"),
    ],
    ids=["mixed", "beyond", "negative", "8 bits", "NaN"],
)
def test_numbers_that_do_not_fit_are_refused_by_name(tmp_path, make, suffix, options, message):
    with pytest.raises(UserError, match=message):
        loaded(write(tmp_path / "own", make, suffix), **options)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_a_picture_stands_as_the_file_says(tmp_path, suffix):
    """Its upper half is white. Every second file stores it on its side and says how to turn it."""

    def make(number):
        upright = np.zeros((16, 16, 3), np.uint8)
        upright[:8] = 255
        image = Image.fromarray(upright)
        if number % 4 < 2:
            return image
        image = image.transpose(Image.Transpose.ROTATE_90)
        image.getexif()[0x0112] = 6
        return image

    for number in range(12):
        image, file = make(number), tmp_path / "own" / "ab"[number % 2] / f"{number}.{suffix}"
        file.parent.mkdir(parents=True, exist_ok=True)
        image.save(file, exif=image.getexif())
    found = loaded(tmp_path / "own")
    assert found[:, :, :7].min() > 240
    assert found[:, :, 9:].max() < 15


def with_alpha(alpha):
    return np.concatenate([bytes_of(3), np.broadcast_to(np.uint8(alpha), (H, W, 1))], 2)


def palette(opacity):
    image = Image.new("P", (W, H))
    image.putpalette([255, 0, 0, 0, 255, 0])
    image.putdata([n % 2 for n in range(W * H)])
    image.info["transparency"] = bytes([opacity, 255])
    return image


def test_an_alpha_that_hides_nothing_is_dropped(tmp_path):
    images = [with_alpha(255) for _ in range(12)]
    found = loaded(write(tmp_path / "own", lambda n: images[n]))
    assert {image.tobytes() for image in found} == {i[..., :3].transpose(2, 0, 1).tobytes() for i in images}
    assert loaded(write(tmp_path / "grey", lambda n: Image.fromarray(images[n]).convert("LA"))).shape[1] == 1
    assert loaded(write(tmp_path / "palette", lambda _: palette(255))).mean((0, 2, 3)).tolist() == [127.5, 127.5, 0]


@pytest.mark.parametrize(
    ("make", "on_white", "on_black"),
    [
        (lambda _: with_alpha(0), [255] * 3, [0] * 3),
        (lambda _: Image.fromarray(with_alpha(0)).convert("LA"), [255], [0]),
        (lambda _: palette(0), [127.5, 255, 127.5], [0, 127.5, 0]),
    ],
    ids=["RGBA", "LA", "palette"],
)
def test_what_is_see_through_is_laid_on_the_background_that_is_asked_for(tmp_path, make, on_white, on_black):
    folder = write(tmp_path / "own", make)
    with pytest.raises(UserError, match=r"see-through in \d+ % of its pixels; fix: data\.background: white, or black"):
        loaded(folder)
    assert loaded(folder, background="white").mean((0, 2, 3)).tolist() == on_white
    assert loaded(folder, background="black").mean((0, 2, 3)).tolist() == on_black


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_a_film_is_refused_by_name(tmp_path, suffix):
    frames = [Image.fromarray(bytes_of(3)) for _ in range(3)]
    folder = write(tmp_path / "own", lambda _: frames[0], suffix, save_all=True, append_images=frames[1:])
    with pytest.raises(UserError, match=rf"own/a/0\.{suffix} holds 3 pictures; fix: save each that is wanted as a PNG"):
        loaded(folder)


def test_kinds_that_are_bytes_keep_their_numbers(tmp_path):
    bits = bytes_of() > 127
    assert np.array_equal(loaded(write(tmp_path / "bits", lambda _: Image.fromarray(bits)))[0, 0], 255 * bits)
    cyan = Image.new("CMYK", (W, H), (255, 0, 0, 0))
    found = loaded(write(tmp_path / "print", lambda _: cyan, "jpg")).mean((0, 2, 3))
    np.testing.assert_allclose(found, [0, 255, 255], atol=4)
    grey = Image.fromarray(bytes_of())
    assert loaded(write(tmp_path / "gif", lambda _: grey, "gif"), channels=1).shape == (12, 1, H, W)


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tif", "webp"])
def test_a_file_that_is_cut_off_is_refused_by_name(tmp_path, suffix):
    folder = write(tmp_path / "own", lambda _: bytes_of(3), suffix)
    file = folder / f"b/3.{suffix}"
    for share in (0.3, 0.8):
        file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
        with pytest.raises(UserError, match=re.escape(f"{file} is no readable image")):
            loaded(folder)


def test_an_image_that_is_not_read_is_not_passed_over(tmp_path):
    folder = write(tmp_path / "own", lambda _: bytes_of(3))
    (folder / "a/notes.txt").write_text("no image")
    assert len(loaded(folder)) == 12
    (folder / "a/one.HEIC").write_bytes(b"of a telephone")
    with pytest.raises(UserError, match=r"own/a/one\.HEIC: images of this kind are not read .*; fix: save it as PNG"):
        loaded(folder)


def test_folders_of_splits_are_no_classes(tmp_path):
    for split in ("test", "train"):
        write(tmp_path / "own" / split, lambda _: bytes_of(3))
    with pytest.raises(UserError, match=r"holds the splits test, train, no classes; fix: data\.folder: .*own/train, "):
        loaded(tmp_path / "own")
    assert len(loaded(tmp_path / "own/train")) == 12


def test_a_study_trains_on_16_bits(project):
    write(project / "own", lambda _: wide())
    file = project / "experiments/tiny.yaml"
    edit(file, "data: {name: digits}", "data: {name: image_folder, folder: own, size: 8}")
    study = read_study("tiny")
    data.prepare("tiny", study.data)
    dataset = data.read_data("tiny", study.data, ("train",))
    assert 0.4 < float(dataset.inputs("train").mean()) < 0.6
    assert dataset.context.direction.shape == (2, 1, 8, 8)
    assert 0.4 < float(dataset.context.direction.mean()) < 0.6
    assert (train.train(Run(study, "gradient_norm", 0)) / "best.pt").exists()
