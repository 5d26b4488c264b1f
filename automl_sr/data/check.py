"""Look at every file of a set and say what is wrong or worth knowing about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_sr.data import images
from automl_sr.data.catalog import ImageSet
from automl_sr.data.overlap import ImageMark, duplicates_within, mark_pixels
from automl_sr.errors import DataError


@dataclass(frozen=True)
class _Look:
    """What one file is: an unreadable one has a reason and nothing else."""

    path: Path
    reason: str = ""
    height: int = 0
    width: int = 0
    grey: bool = False
    mark: ImageMark | None = None


def check_set(image_set: ImageSet, small_side: int) -> dict[str, Any]:
    """Decode all HR and LR files of a set.

    Returns, ready for JSON: folder, name, images, files; unreadable [{file, reason}]; misfits (LR
    files whose size is not HR // scale) [{file, reason}]; small (a side below `small_side` px)
    [{file, width, height}]; grey [file]; identical [[file, file]]; similar [{first, second,
    distance}].
    """
    everything: list[_Look] = []
    misfits: list[dict[str, str]] = []
    # Decoders let other threads run while they work.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looks = list(pool.map(_look, image_set.hr))
        everything += looks
        for scale, files in image_set.lr.items():
            lr_looks = list(pool.map(_look_at_size, files))
            everything += lr_looks
            misfits += _misfits(looks, lr_looks, scale)

    unreadable: list[dict[str, str]] = []
    for look in everything:
        if look.reason:
            unreadable.append({"file": str(look.path), "reason": look.reason})
    report: dict[str, Any] = {
        "name": image_set.name,
        "folder": str(image_set.hr[0].parent),
        "images": len(looks),
        "files": len(everything),
        "unreadable": unreadable,
        "misfits": misfits,
    }
    report.update(_remarks(looks, small_side))
    report.update(_repeats(looks))
    return report


def _remarks(looks: Sequence[_Look], small_side: int) -> dict[str, Any]:
    """Return what is worth knowing about single images that can be read."""
    small: list[dict[str, Any]] = []
    grey: list[str] = []
    for look in looks:
        if look.reason:
            continue
        if min(look.width, look.height) < small_side:
            small.append({"file": str(look.path), "width": look.width, "height": look.height})
        if look.grey:
            grey.append(str(look.path))
    return {"small": small, "grey": grey}


def _repeats(looks: Sequence[_Look]) -> dict[str, Any]:
    """Return the pairs of images that are the same, or look alike."""
    marks = [look.mark for look in looks if look.mark is not None]
    same, alike = duplicates_within(marks)
    identical: list[list[str]] = []
    for first, second in same:
        identical.append([str(first), str(second)])
    similar: list[dict[str, Any]] = []
    for match in alike:
        similar.append(
            {
                "first": str(match.first),
                "second": str(match.second),
                "distance": match.distance,
            }
        )
    return {"identical": identical, "similar": similar}


def _misfits(
    hr: Sequence[_Look],
    lr: Sequence[_Look],
    scale: int,
) -> list[dict[str, str]]:
    found: list[dict[str, str]] = []
    for high, low in zip(hr, lr, strict=True):
        if high.reason or low.reason:
            continue
        if (low.width, low.height) == (high.width // scale, high.height // scale):
            continue
        sizes = f"{low.width}x{low.height} is not 1/{scale} of {high.width}x{high.height}"
        found.append({"file": str(low.path), "reason": f"{sizes}; LR is made anew"})
    return found


def _look(path: Path) -> _Look:
    try:
        pixels = images.to_rgb8(images.read(path))
    except DataError as error:
        return _Look(path, error.message)
    height, width, _ = pixels.shape
    return _Look(
        path,
        height=height,
        width=width,
        grey=_is_grey(pixels),
        mark=mark_pixels(path, pixels),
    )


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    """Whether a picture has no colour, whatever its file could hold."""
    red, green, blue = np.moveaxis(pixels, 2, 0)
    return bool(np.array_equal(red, green) and np.array_equal(green, blue))


def _look_at_size(path: Path) -> _Look:
    # Marks are made of HR images alone: what they share, their LR images share too.
    try:
        pixels = images.read(path).pixels
    except DataError as error:
        return _Look(path, error.message)
    height, width, _ = pixels.shape
    return _Look(path, height=height, width=width)
