"""The picture of a preview: one of a study's sets, or an upload; as the original or as what is to
be upscaled.
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
    """What models are shown on: a low-resolution picture of 8 bits and, where it is known, its
    original.
    """

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
        return [catalog.find(name) for name in task.test]
    if isinstance(task.valid, str):
        return [replace(task._sets(catalog, seed)[1], name="valid")]
    found: list[ImageSet] = []
    for name in task.valid:
        found.append(catalog.find(name))
    return found


def listed(sets: Sequence[ImageSet]) -> list[tuple[str, str]]:
    """List the images of sets: what a person reads, and a key that is no path."""
    several = len(sets) > 1
    result: list[tuple[str, str]] = []
    for place, found in enumerate(sets):
        for index, path in enumerate(found.hr):
            result.append(
                (f"{found.name}: {path.stem}" if several else path.stem, f"{place}/{index}")
            )
    return result


def chosen(sets: Sequence[ImageSet], key: Any, scale: int, fit: Fit) -> Subject:
    """Read the image of a key.

    Raises UseError for a key that is not in the list, DataError for a damaged image.
    """
    from automl_sr.tasks.image_sr.samples import load_pairs

    for place, found in enumerate(sets):
        for index, path in enumerate(found.hr):
            if f"{place}/{index}" == key:
                lr: dict[int, tuple[Path, ...]] = {}
                for factor, paths in found.lr.items():
                    lr[factor] = (paths[index],)
                pair = load_pairs(ImageSet(found.name, (path,), lr), scale)[0]
                return _within(Subject(path.stem, Picture(pair.lr), scale, pair.hr), fit)
    raise UseError("This image is not in the study's sets.", "Choose one from the list.")


def decoded(path: Path, most_bytes: int) -> tuple[Picture, tuple[str, ...]]:
    """Read an upload with Pillow alone, as 8 bits without transparency, and say what that left out.
    Raises DataError.

    Size in bytes and in pixels are known before anything is decoded.
    """
    size = path.stat().st_size
    if size > most_bytes:
        raise DataError(
            f"{path.name} has {size:,} bytes, more than the {most_bytes:,} that are taken here."
        )
    try:
        images.probe(path, UPLOAD_PIXELS)
        picture = images.read(path, UPLOAD_PIXELS, pillow_only=True)
    except DataError as error:  # where uploads lie is nobody's business
        raise DataError(error.message.replace(str(path), path.name), _hint(error.hint)) from None
    notes = []
    pixels = picture.pixels
    if pixels.dtype == np.uint16:
        pixels = ((pixels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if picture.alpha is not None:
        notes.append("Its transparency is left out here.")
    return Picture(pixels), tuple(notes)


def to_upscale(
    name: str, picture: Picture, scale: int, fit: Fit, notes: tuple[str, ...] = ()
) -> Subject:
    """Take a picture for what is to be upscaled. Raises DataError where it is too small."""
    _check_side(name, picture.pixels, SMALLEST_INPUT)
    return _within(Subject(name, picture, scale, None, notes), fit)


def as_original(
    name: str, picture: Picture, scale: int, fit: Fit, notes: tuple[str, ...] = ()
) -> Subject:
    """Take a picture for the original, and make it small as training does.

    Raises DataError where it is too small.
    """
    _check_side(name, picture.pixels, SMALLEST_ORIGINAL)
    pixels, said = _fitted(images.to_rgb8(picture), OUTPUT_PIXELS, fit, "the original")
    original = np.ascontiguousarray(crop_to_multiple(pixels, scale))
    return Subject(name, Picture(downscale(original, scale)), scale, original, notes + said)


def _within(subject: Subject, fit: Fit) -> Subject:
    """Keep results within the limit: the middle of the picture, or all of it with fewer pixels."""
    scale = subject.scale
    if math.prod(subject.size) <= OUTPUT_PIXELS:
        return subject
    if subject.original is not None:
        if fit == "reduce":
            return as_original(subject.name, Picture(subject.original), scale, fit, subject.notes)
        lr, said = _fitted(subject.lr, OUTPUT_PIXELS // scale**2, fit, "the low-resolution picture")
        said += (MIDDLE_MEASURED,)
        top, left = (
            _middle(full, part)
            for full, part in zip(subject.lr.shape[:2], lr.shape[:2], strict=True)
        )
        height, width = (scale * side for side in lr.shape[:2])
        original = subject.original[
            top * scale : top * scale + height, left * scale : left * scale + width
        ]
        return replace(subject, picture=Picture(lr), original=original, notes=subject.notes + said)
    pixels, said = _fitted(subject.picture.pixels, OUTPUT_PIXELS // scale**2, fit, "the picture")
    return replace(subject, picture=Picture(pixels), notes=subject.notes + said)


def _fitted(pixels: Image, most: int, fit: Fit, what: str) -> tuple[Image, tuple[str, ...]]:
    """Cut the middle out of a picture with too many pixels, or reduce it, and say so."""
    height, width = pixels.shape[:2]
    if height * width <= most:
        return pixels, ()
    if fit == "reduce":
        factor = math.sqrt(most / (height * width))
        small = imresize(pixels, (max(1, int(height * factor)), max(1, int(width * factor))))
        done = "all of it, reduced to"
    else:
        high = min(height, max(math.isqrt(most), most // width))
        wide = min(width, most // high)
        top, left = _middle(height, high), _middle(width, wide)
        small = np.ascontiguousarray(pixels[top : top + high, left : left + wide])
        done = "its middle,"
    said = (
        f"Results have at most {OUTPUT_PIXELS / 1e6:.0f} megapixels here: {what} has"
        f" {width}x{height} pixels, and what you see is {done} {small.shape[1]}x{small.shape[0]}."
    )
    return small, (said,)


def _middle(full: int, part: int) -> int:
    return (full - part) // 2


def _check_side(name: str, pixels: NDArray[Any], least: int) -> None:
    height, width = pixels.shape[:2]
    if min(height, width) < least:
        raise DataError(
            f"{name} has {width}x{height} pixels.", f"At least {least} on each side are needed."
        )


def _hint(hint: str) -> str:
    return {"Replace or remove the file.": "Choose another file."}.get(hint, hint)
