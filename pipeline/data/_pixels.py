"""The pixels of an image file, as the file means them: turned, of its own depth, one picture, nothing see-through.

A file that does not say what its numbers mean is refused with its name and with the option that says it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from inputgrad.errors import UserError

if TYPE_CHECKING:
    from PIL.Image import Image

Background = Literal["black", "white"]
GREY = ("1", "L", "LA")
"""What Pillow calls images of 8 bits or fewer without colours."""
FULL = 65535.0
"""White in 16 bits."""
DIM = 16384.0
"""An image of 16 bits that stays below a quarter of them was made with fewer: 10, 12 or 14 bits of a camera."""


class Pixels(NamedTuple):
    """One decoded image.

    values: (C, H, W), bytes; or float32 in the file's own numbers, where these do not fit into bytes.
    lowest, highest: of the whole file, before it was scaled and cut.
    white: the number that stands for 1; None where the file does not say.
    """

    values: np.ndarray
    lowest: float = 0.0
    highest: float = 255.0
    white: float | None = 255.0

    @property
    def deep(self) -> bool:
        return self.values.dtype != np.uint8


def pixels(file: Path, channels: int | None, size: int | None, background: Background | None) -> Pixels:
    """Of one file; with `size` its shorter side is as long, and it is cut to a square in its centre."""
    from PIL import ImageOps
    from PIL.Image import DecompressionBombError
    from PIL.Image import open as open_image

    try:
        # Pillow warns of what it raises a line later
        with warnings.catch_warnings(action="ignore"), open_image(file) as opened:
            refuse_several(opened, file)
            white = white_of(opened)
            image: Image = ImageOps.exif_transpose(opened)  # a telephone stores a picture as its sensor lay
    except (OSError, EOFError, SyntaxError, ValueError, DecompressionBombError) as error:
        reason = " ".join(str(error).split())[:120]
        raise UserError(f"{file} is no readable image ({reason}); fix: remove or replace it") from error
    if is_deep(image):
        return deep_pixels(image, file, channels, size, white)
    image = opaque(image, file, background)
    grey = image.mode in GREY if channels is None else channels == 1
    try:
        image = image.convert("L" if grey else "RGB")
    except ValueError as error:
        raise UserError(f"{file} has colours of the kind {image.mode}; fix: save it in RGB") from error
    values = np.asarray(sized(image, size))
    return Pixels(values[None] if grey else np.ascontiguousarray(values.transpose(2, 0, 1)))


def refuse_several(image: Image, file: Path) -> None:
    """A film or a document is no picture. What a telephone adds to a JPEG (MPO) is a copy of the first."""
    frames = int(getattr(image, "n_frames", 1))
    if frames > 1 and image.format != "MPO":
        raise UserError(f"{file} holds {frames} pictures; fix: save each that is wanted as a PNG file, and remove it")


def is_deep(image: Image) -> bool:
    return image.mode in ("I", "F") or image.mode.startswith("I;16")


def white_of(image: Image) -> float | None:
    """65535 for numbers of 16 bits without sign; a file of 32 bits or of floats does not say what white is."""
    known = image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM"))
    return FULL if known else None


def deep_pixels(image: Image, file: Path, channels: int | None, size: int | None, white: float | None) -> Pixels:
    """Of an image whose numbers do not fit into bytes; it is grey, Pillow knows no other."""
    numbers = np.asarray(image).astype(np.float32)
    if not np.isfinite(numbers).all():
        raise UserError(f"{file} holds numbers that are NaN or infinite; fix: replace or remove it")
    if (clear := image.info.get("transparency")) is not None and (numbers == clear).any():
        raise UserError(f"{file} has more than 8 bits and is see-through in parts; fix: save it without transparency")
    from PIL.Image import fromarray

    values = np.asarray(sized(fromarray(numbers), size))[None]
    return Pixels(values if channels != 3 else values.repeat(3, 0), float(numbers.min()), float(numbers.max()), white)


def opaque(image: Image, file: Path, background: Background | None) -> Image:
    """The image without transparency: dropped where nothing is see-through, else laid on the background."""
    if not image.has_transparency_data:
        return image
    layers = image.convert("RGBA")
    alpha = np.asarray(layers.getchannel("A"))
    if alpha.min() == 255:
        return image.convert("L") if image.mode in GREY else layers.convert("RGB")
    if background is None:
        share = f"{max(1, round(100 * float((alpha < 255).mean())))} % of its pixels"
        raise UserError(f"{file} is see-through in {share}; fix: data.background: white, or black, is put behind it")
    from PIL.Image import alpha_composite, new

    flat = alpha_composite(new("RGBA", layers.size, background), layers)
    return flat.convert("L" if image.mode in GREY else "RGB")


def sized(image: Image, size: int | None) -> Image:
    from torchvision.transforms import functional

    if size is None:
        return image
    cut: Image = functional.center_crop(functional.resize(image, size), size)
    return cut


def scaled(found: Sequence[Pixels], files: Sequence[Path], white: float | None) -> list[np.ndarray]:
    """The images in one scale: bytes as they are, or float32 in [0, 1] where they hold more than bytes do.

    Raises:
        UserError: some have 8 bits and some more, or what stands for 1 is not known, or some are beyond it.
    """
    if not any(one.deep for one in found):
        if white not in (None, 255):
            raise UserError(f"data.white: {white:g}: the images have 8 bits, white is 255; fix: leave it out")
        return [one.values for one in found]
    deep = next(i for i, one in enumerate(found) if one.deep)
    for one, file in zip(found, files, strict=True):
        if not one.deep:
            fix = "fix: save all with one depth"
            raise UserError(f"{file} has 8 bits for a colour, {files[deep]} has more; {fix}")
    top = white_of_all(found, files, deep) if white is None else white
    for one, file in zip(found, files, strict=True):
        if one.lowest < 0 or one.highest > top:
            fix = "larger" if one.lowest >= 0 else "larger, and numbers from 0 on"
            said = f"holds numbers from {one.lowest:g} to {one.highest:g}, white is {top:g}"
            raise UserError(f"{file} {said}; fix: data.white: {fix}")
    return [np.clip(one.values / np.float32(top), 0, 1) for one in found]


def white_of_all(found: Sequence[Pixels], files: Sequence[Path], deep: int) -> float:
    """What stands for 1 in all files: what they say themselves, unless their numbers make that unlikely."""
    brightest = max(one.highest for one in found)
    guess = likely(brightest)
    unknown = next((i for i, one in enumerate(found) if one.white is None), None)
    if unknown is not None:
        said = f"{files[unknown]} does not say which number is white; the largest of all files is {brightest:g}"
        raise UserError(f"{said}; fix: data.white: {guess:g}, or what white is there")
    if brightest < DIM:
        said = f"{files[deep]} and the others have 16 bits, and no pixel is brighter than {brightest:g} of 65535"
        raise UserError(f"{said}; fix: data.white: {guess:g} makes that 1; data.white: 65535 leaves them so dark")
    return FULL


def likely(brightest: float) -> float:
    """The smallest of 1 and the largest numbers of 8, 10, 12, 14, 16 … bits that is not below the brightest pixel."""
    if brightest <= 1:
        return 1.0
    bits = next((bits for bits in range(8, 33, 2) if brightest < 2**bits), None)
    return float(2**bits - 1) if bits else float(brightest)
