"""Images that two sets share: identical ones by the hash of their pixels, near-duplicates by a
perceptual hash.
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
    """What identifies one image: sha256 of its pixels as RGB of 8 bits, and a perceptual hash uint8
    [32].
    """

    path: Path
    content: str
    perceptual: NDArray[np.uint8]


@dataclass(frozen=True)
class Match:
    """Two images that look alike: `distance` differing bits of 256; 0 bits still need not be equal
    pixels.
    """

    first: Path
    second: Path
    distance: int


def mark(path: Path) -> ImageMark:
    """Decode one image and hash it. Raises DataError where it cannot be read."""
    return mark_pixels(path, images.to_rgb8(images.read(path)))


def mark_pixels(path: Path, pixels: NDArray[np.uint8]) -> ImageMark:
    """Hash the decoded pixels uint8 [H, W, 3] of an image."""
    import imagehash

    content = hashlib.sha256(
        str(pixels.shape).encode() + np.ascontiguousarray(pixels).tobytes()
    ).hexdigest()
    bits = imagehash.phash(Image.fromarray(pixels), hash_size=_HASH_SIDE).hash
    return ImageMark(path, content, np.packbits(bits.ravel()))


def marks(image_set: ImageSet) -> list[ImageMark]:
    """Marks of all HR images that can be read; the others are reported where they are loaded."""
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(_mark_if_readable, image_set.hr)
        result: list[ImageMark] = []
        for one in found:
            if one is not None:
                result.append(one)
        return result


def _mark_if_readable(path: Path) -> ImageMark | None:
    try:
        return mark(path)
    except DataError:
        return None


def content_overlap(a: ImageSet, b: ImageSet) -> list[tuple[Path, Path]]:
    """Pairs (file of a, file of b) with identical pixels, whatever their names and formats."""
    return identical(marks(a), marks(b))


def near_duplicates(a: ImageSet, b: ImageSet, limit: int = NEAR) -> list[Match]:
    """Pairs of a and b that look alike (also resized or compressed again) without being identical,
    nearest first.
    """
    return alike(marks(a), marks(b), limit)


def identical(a: Sequence[ImageMark], b: Sequence[ImageMark]) -> list[tuple[Path, Path]]:
    """Pairs (path of a, path of b) of marks with equal content."""
    by_content: dict[str, list[Path]] = {}
    for one in a:
        by_content.setdefault(one.content, []).append(one.path)
    found: list[tuple[Path, Path]] = []
    for other in b:
        for path in by_content.get(other.content, []):
            found.append((path, other.path))
    return found


def alike(a: Sequence[ImageMark], b: Sequence[ImageMark], limit: int = NEAR) -> list[Match]:
    """Pairs of marks within `limit` differing bits and with different content, nearest first."""
    found = []
    for row, column, distance in _within(a, b, limit):
        if a[row].content != b[column].content:
            found.append(Match(a[row].path, b[column].path, int(distance)))
    return sorted(found, key=lambda match: (match.distance, str(match.first), str(match.second)))


def duplicates_within(
    found: Sequence[ImageMark], limit: int = NEAR
) -> tuple[list[tuple[Path, Path]], list[Match]]:
    """(identical pairs, near-duplicates) among the images of one set, each pair once."""
    place = {}
    for index, one in enumerate(found):
        place[one.path] = index
    same = []
    for x, y in identical(found, found):
        if place[x] < place[y]:
            same.append((x, y))
    near = []
    for match in alike(found, found, limit):
        if place[match.first] < place[match.second]:
            near.append(match)
    return same, near


def _within(
    a: Sequence[ImageMark], b: Sequence[ImageMark], limit: int
) -> list[tuple[int, int, int]]:
    """(row, column, differing bits) of all pairs within `limit`; whole blocks of rows at once."""
    if not a or not b:
        return []
    right = np.stack([one.perceptual for one in b])
    block = max(1, _BYTES_AT_ONCE // right.size)
    result: list[tuple[int, int, int]] = []
    for start in range(0, len(a), block):
        left = np.stack([one.perceptual for one in a[start : start + block]])
        distance = np.bitwise_count(left[:, None] ^ right[None]).sum(axis=2, dtype=np.int64)
        rows, columns = np.nonzero(distance <= limit)
        result += zip(
            (rows + start).tolist(), columns.tolist(), distance[rows, columns].tolist(), strict=True
        )
    return result
