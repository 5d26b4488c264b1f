"""Images that two sets share.

Identical ones are found by the hash of their pixels, near-duplicates by a perceptual hash.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from automl_sr.data import images
from automl_sr.data.catalog import ImageSet
from automl_sr.errors import DataError

NEAR = 40
"""Differing bits, of 256, up to which two pictures count as near-duplicates. Over 503 images (Set5,
Set14, BSD100, BSDS200, T91, a half of General100, a quarter of Urban100 and some photographs) Set14
`face` and Set5 `head` differ in 8 bits; no other two photographs differ in less than 90."""

_HASH_SIDE = 16
_BYTES_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class ImageMark:
    """What identifies one image."""

    path: Path
    content: str
    """sha256 of its pixels as RGB of 8 bits."""
    perceptual: NDArray[np.uint8]
    """A perceptual hash [32]."""


@dataclass(frozen=True)
class Match:
    """Two images that look alike."""

    first: Path
    second: Path
    distance: int
    """Differing bits of 256; 0 bits still need not be equal pixels."""


def mark(path: Path) -> ImageMark:
    """Decode one image and hash it. Raises DataError where it cannot be read."""
    pixels = images.to_rgb8(images.read(path))
    return mark_pixels(path, pixels)


def mark_pixels(path: Path, pixels: NDArray[np.uint8]) -> ImageMark:
    """Hash the decoded pixels uint8 [H, W, 3] of an image."""
    import imagehash

    # With the shape: 2x8 and 4x4 pixels can have the same bytes.
    digest = hashlib.sha256(str(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).tobytes())
    image = Image.fromarray(pixels)
    bits = imagehash.phash(image, hash_size=_HASH_SIDE).hash
    return ImageMark(
        path,
        digest.hexdigest(),
        np.packbits(bits.ravel()),
    )


def marks(image_set: ImageSet) -> list[ImageMark]:
    """Return the marks of all HR images that can be read."""
    # The others are reported where they are loaded.
    result: list[ImageMark] = []
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for one in pool.map(_mark_if_readable, image_set.hr):
            if one is not None:
                result.append(one)
    return result


def _mark_if_readable(path: Path) -> ImageMark | None:
    try:
        return mark(path)
    except DataError:
        return None


def content_overlap(a: ImageSet, b: ImageSet) -> list[tuple[Path, Path]]:
    """Return the pairs (file of a, file of b) with identical pixels, whatever they are called."""
    return identical(marks(a), marks(b))


def near_duplicates(
    a: ImageSet,
    b: ImageSet,
    limit: int = NEAR,
) -> list[Match]:
    """Return the pairs of a and b that look alike without being identical, nearest first.

    They may be resized, or compressed again.
    """
    return alike(marks(a), marks(b), limit)


def identical(a: Sequence[ImageMark], b: Sequence[ImageMark]) -> list[tuple[Path, Path]]:
    """Return the pairs (path of a, path of b) of marks with equal content."""
    by_content: dict[str, list[Path]] = {}
    for one in a:
        by_content.setdefault(one.content, []).append(one.path)
    found: list[tuple[Path, Path]] = []
    for other in b:
        for path in by_content.get(other.content, []):
            found.append((path, other.path))
    return found


def alike(
    a: Sequence[ImageMark],
    b: Sequence[ImageMark],
    limit: int = NEAR,
) -> list[Match]:
    """Return the pairs of marks within `limit` differing bits, nearest first.

    Those with the same content are left out.
    """
    found: list[Match] = []
    for row, column, distance in _within(a, b, limit):
        one = a[row]
        other = b[column]
        if one.content != other.content:
            found.append(Match(one.path, other.path, distance))
    return sorted(found, key=_nearest_first)


def _nearest_first(match: Match) -> tuple[int, str, str]:
    return match.distance, str(match.first), str(match.second)


def duplicates_within(
    found: Sequence[ImageMark], limit: int = NEAR
) -> tuple[list[tuple[Path, Path]], list[Match]]:
    """Return (identical pairs, near-duplicates) among the images of one set, each pair once."""
    place = {one.path: index for index, one in enumerate(found)}
    # A set compared with itself has each pair twice, and each image with itself.
    same: list[tuple[Path, Path]] = []
    for first, second in identical(found, found):
        if place[first] < place[second]:
            same.append((first, second))
    near: list[Match] = []
    for match in alike(found, found, limit):
        if place[match.first] < place[match.second]:
            near.append(match)
    return same, near


def _within(
    a: Sequence[ImageMark], b: Sequence[ImageMark], limit: int
) -> list[tuple[int, int, int]]:
    """Return (row, column, differing bits) of all pairs within `limit`."""
    if not a or not b:
        return []
    # Blocks of rows at once: all pairs of two large sets would not fit into memory.
    right = np.stack([one.perceptual for one in b])
    block = max(1, _BYTES_AT_ONCE // right.size)
    result: list[tuple[int, int, int]] = []
    for start in range(0, len(a), block):
        rows = a[start : start + block]
        left = np.stack([one.perceptual for one in rows])
        differing = np.bitwise_count(left[:, None] ^ right[None])
        distance = differing.sum(axis=2, dtype=np.int64)
        for row, column in np.argwhere(distance <= limit).tolist():
            result.append((start + row, column, int(distance[row, column])))
    return result
