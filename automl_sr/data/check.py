"""Look at every file of a set and say what is wrong or worth knowing about it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

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
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        looks = list(pool.map(_look, image_set.hr))
        lr_looks = {}
        for scale, files in image_set.lr.items():
            lr_looks[scale] = list(pool.map(_look_at_size, files))
    everything = [*looks, *(look for side in lr_looks.values() for look in side)]
    readable = []
    for look in looks:
        if not look.reason:
            readable.append(look)
    same, similar = duplicates_within([look.mark for look in readable if look.mark is not None])
    return {
        "name": image_set.name,
        "folder": str(image_set.hr[0].parent),
        "images": len(looks),
        "files": len(everything),
        "unreadable": [
            {"file": str(look.path), "reason": look.reason} for look in everything if look.reason
        ],
        "misfits": [
            row for scale, side in lr_looks.items() for row in _misfits(looks, side, scale)
        ],
        "small": [
            {"file": str(look.path), "width": look.width, "height": look.height}
            for look in readable
            if min(look.width, look.height) < small_side
        ],
        "grey": [str(look.path) for look in readable if look.grey],
        "identical": [[str(first), str(second)] for first, second in same],
        "similar": [
            {"first": str(match.first), "second": str(match.second), "distance": match.distance}
            for match in similar
        ],
    }


def _misfits(hr: Sequence[_Look], lr: Sequence[_Look], scale: int) -> list[dict[str, str]]:
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
    grey = bool(
        np.array_equal(pixels[..., 0], pixels[..., 1])
        and np.array_equal(pixels[..., 1], pixels[..., 2])
    )
    return _Look(path, "", pixels.shape[0], pixels.shape[1], grey, mark_pixels(path, pixels))


def _look_at_size(path: Path) -> _Look:
    try:
        pixels = images.read(path).pixels
    except DataError as error:
        return _Look(path, error.message)
    return _Look(path, "", pixels.shape[0], pixels.shape[1])
