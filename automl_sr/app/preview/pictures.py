"""The picture of a preview: one of a study's sets, or an upload.

It is taken for the original, or for what is to be upscaled.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from automl_sr.data import images
from automl_sr.data.catalog import Catalog, ImageSet
from automl_sr.data.images import Picture
from automl_sr.errors import DataError, UseError
from automl_sr.tasks.image_sr.resize import crop_to_multiple, downscale, imresize

if TYPE_CHECKING:
    from automl_sr.tasks.image_sr.task import ImageSR

Image = NDArray[np.uint8]
Origin = Literal["valid", "test", "example"]
Fit = Literal["cut", "reduce"]

UPLOAD_PIXELS = 16_000_000
"""Most pixels of an upload: it is refused by its header, before anything of it is decoded."""
OUTPUT_PIXELS = 6_000_000
"""Most pixels of a result: seven of them fit into the memory of a browser on a phone."""
SMALLEST_ORIGINAL = 24
"""Smallest side in pixels of an original: SSIM needs 11 inside the borders, at every scale."""
SMALLEST_INPUT = 8
MIDDLE_MEASURED = "PSNR and SSIM are those of what you see."


@dataclass(frozen=True, eq=False)
class Subject:
    """What models are shown on: a low-resolution picture of 8 bits, and its original if known."""

    name: str
    picture: Picture
    scale: int
    original: Image | None = None
    notes: tuple[str, ...] = ()

    @property
    def lr(self) -> Image:
        """The low-resolution picture as RGB."""
        return images.to_rgb8(self.picture)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of results."""
        height, width = self.picture.pixels.shape[:2]
        return height * self.scale, width * self.scale


def sets_of(task: ImageSR, origin: Origin, seed: int) -> list[ImageSet]:
    """Return a study's sets.

    Raises DataError where they are missing, UseError where it names none.
    """
    catalog = Catalog.from_environment()
    if origin == "example":
        return [catalog.find("photos")]
    if origin == "test":
        if not task.test:
            raise UseError("This study names no test sets.", "Choose another kind of picture.")
        return list(map(catalog.find, task.test))
    if isinstance(task.valid, str):  # a share of the training images: those that its seed draws
        _, drawn = task._sets(catalog, seed)
        return [replace(drawn, name="valid")]
    return list(map(catalog.find, task.valid))


def listed(sets: Sequence[ImageSet]) -> list[tuple[str, str]]:
    """Return the images of sets: what a person reads, and a key that is no path."""
    several = len(sets) > 1
    result = []
    for place, found in enumerate(sets):
        for index, path in enumerate(found.hr):
            name = path.stem
            if several:
                name = f"{found.name}: {path.stem}"
            result.append((name, f"{place}/{index}"))
    return result


def chosen(sets: Sequence[ImageSet], key: Any, scale: int, fit: Fit) -> Subject:
    """Return the image of a key.

    Raises UseError for a key that is not in the list, DataError for a damaged image.
    """
    from automl_sr.tasks.image_sr.samples import load_pairs

    for place, found in enumerate(sets):
        for index, path in enumerate(found.hr):
            # Compared, not taken apart: a key comes from a browser and may be anything.
            if f"{place}/{index}" == key:
                lr: dict[int, tuple[Path, ...]] = {}
                for factor, paths in found.lr.items():
                    lr[factor] = (paths[index],)
                alone = ImageSet(found.name, (path,), lr)
                pair = load_pairs(alone, scale)[0]
                subject = Subject(path.stem, Picture(pair.lr), scale, pair.hr)
                return _within(subject, fit)
    raise UseError("This image is not in the study's sets.", "Choose one from the list.")


def decoded(path: Path, most_bytes: int) -> tuple[Picture, tuple[str, ...]]:
    """Return an upload as 8 bits without transparency, and what that left out.

    Raises DataError.
    """
    # Size in bytes and in pixels are looked at before anything is decoded.
    size = path.stat().st_size
    if size > most_bytes:
        raise DataError(
            f"{path.name} has {size:,} bytes, more than the {most_bytes:,} that are taken here."
        )
    try:
        images.probe(path, UPLOAD_PIXELS)
        # Pillow alone: fewer decoders see what strangers send.
        picture = images.read(path, UPLOAD_PIXELS, pillow_only=True)
    except DataError as error:  # where uploads lie is nobody's business
        message = error.message.replace(str(path), path.name)
        raise DataError(message, _hint(error.hint)) from None
    pixels = picture.pixels
    if pixels.dtype == np.uint16:
        # 65535 / 255 = 257; half of it is added to round, in 32 bits, where that has room.
        rounded = (pixels.astype(np.uint32) + 128) // 257
        pixels = rounded.astype(np.uint8)
    notes: tuple[str, ...] = ()
    if picture.alpha is not None:
        notes = ("Its transparency is left out here.",)
    return Picture(pixels), notes


def to_upscale(
    name: str,
    picture: Picture,
    scale: int,
    fit: Fit,
    notes: tuple[str, ...] = (),
) -> Subject:
    """Take a picture for what is to be upscaled. Raises DataError where it is too small."""
    _check_side(name, picture.pixels, SMALLEST_INPUT)
    return _within(Subject(name, picture, scale, None, notes), fit)


def as_original(
    name: str,
    picture: Picture,
    scale: int,
    fit: Fit,
    notes: tuple[str, ...] = (),
) -> Subject:
    """Take a picture for the original, and make it small as training does.

    Raises DataError where it is too small.
    """
    _check_side(name, picture.pixels, SMALLEST_ORIGINAL)
    pixels, said = _fitted(
        images.to_rgb8(picture),
        OUTPUT_PIXELS,
        fit,
        "the original",
    )
    # A whole number of low-resolution pixels on each side, so that results have its size.
    original = np.ascontiguousarray(crop_to_multiple(pixels, scale))
    small = Picture(downscale(original, scale))
    return Subject(name, small, scale, original, notes + said)


def _within(subject: Subject, fit: Fit) -> Subject:
    """Keep results within the limit: the middle of the picture, or all of it with fewer pixels."""
    if math.prod(subject.size) <= OUTPUT_PIXELS:
        return subject
    if subject.original is not None:
        return _pair_within(subject, subject.original, fit)
    most = OUTPUT_PIXELS // subject.scale**2
    pixels, said = _fitted(subject.picture.pixels, most, fit, "the picture")
    return replace(subject, picture=Picture(pixels), notes=subject.notes + said)


def _pair_within(subject: Subject, original: Image, fit: Fit) -> Subject:
    """Keep a picture and its original within the limit, and fitting each other."""
    scale = subject.scale
    if fit == "reduce":
        # Of a reduced original the low-resolution picture is made anew: its own would not fit.
        return as_original(
            subject.name,
            Picture(original),
            scale,
            fit,
            subject.notes,
        )
    full = subject.lr
    most = OUTPUT_PIXELS // scale**2
    lr, said = _fitted(full, most, fit, "the low-resolution picture")
    top = scale * _middle(full.shape[0], lr.shape[0])
    left = scale * _middle(full.shape[1], lr.shape[1])
    bottom = top + scale * lr.shape[0]
    right = left + scale * lr.shape[1]
    return replace(
        subject,
        picture=Picture(lr),
        original=original[top:bottom, left:right],
        notes=(*subject.notes, *said, MIDDLE_MEASURED),
    )


def _fitted(
    pixels: Image,
    most: int,
    fit: Fit,
    what: str,
) -> tuple[Image, tuple[str, ...]]:
    """Cut the middle out of a picture with too many pixels, or reduce it, and say so."""
    height, width = pixels.shape[:2]
    if height * width <= most:
        return pixels, ()
    if fit == "reduce":
        factor = math.sqrt(most / (height * width))
        # A strip of a picture may be less than a pixel wide then.
        high = max(1, int(height * factor))
        wide = max(1, int(width * factor))
        small = imresize(pixels, (high, wide))
        done = "all of it, reduced to"
    else:
        # A square, or where the picture is narrower than one, as much of its length as has room.
        high = min(height, max(math.isqrt(most), most // width))
        wide = min(width, most // high)
        top = _middle(height, high)
        left = _middle(width, wide)
        small = np.ascontiguousarray(pixels[top : top + high, left : left + wide])
        done = "its middle,"
    megapixels = f"{OUTPUT_PIXELS / 1e6:.0f}"
    seen_height, seen_width = small.shape[:2]
    said = (
        f"Results have at most {megapixels} megapixels here: {what} has"
        f" {width}x{height} pixels, and what you see is {done} {seen_width}x{seen_height}."
    )
    return small, (said,)


def _middle(full: int, part: int) -> int:
    return (full - part) // 2


def _check_side(name: str, pixels: NDArray[Any], least: int) -> None:
    height, width = pixels.shape[:2]
    if min(height, width) < least:
        raise DataError(
            f"{name} has {width}x{height} pixels.",
            f"At least {least} on each side are needed.",
        )


def _hint(hint: str) -> str:
    if hint == "Replace or remove the file.":  # which a visitor of the page cannot do
        return "Choose another file."
    return hint
