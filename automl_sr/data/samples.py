"""Pairs of LR and HR images held decoded in memory, and the windows of them that are training samples."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from automl_sr.data import images
from automl_sr.data.catalog import ImageSet
from automl_sr.data.degradations import Degradation, bicubic
from automl_sr.data.pixel_store import PixelStore
from automl_sr.data.resize import crop_to_multiple
from automl_sr.errors import DataError

__all__ = ["Pair", "PixelStore", "SRSamples", "load_pairs", "load_samples"]

WINDOW_FIELDS = ("image", "top", "left", "height", "width")
_SHIPPED_DEGRADATION = "bicubic"


@dataclass(frozen=True, eq=False)
class SRSamples:
    """Training samples: windows [n, 5] (image, top, left, height, width in LR pixels) of LR images and their HR images.

    `names` and `skipped` (files left out, with the reason) are per file; `fingerprint` is the sha256 over pixels,
    windows and scale, so two equal ones train the same. Raises DataError where LR and HR do not fit together.
    """

    hr: PixelStore
    lr: PixelStore
    scale: int
    windows: Tensor
    names: tuple[str, ...]
    skipped: tuple[tuple[Path, str], ...] = ()
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        scale = self.scale
        if len(self.hr) != len(self.lr) or len(self.names) != len(self.lr):
            raise DataError(f"{len(self.hr)} HR images, {len(self.lr)} LR images and {len(self.names)} names.")
        sizes_fit = torch.equal(self.lr.heights * scale, self.hr.heights) and torch.equal(
            self.lr.widths * scale, self.hr.widths
        )
        if not sizes_fit:
            raise DataError(f"Some HR images are not {scale} times as large as their LR images.")
        if self.windows.ndim != 2 or self.windows.shape[1] != len(WINDOW_FIELDS) or len(self.windows) == 0:
            raise DataError(f"Windows are {tuple(self.windows.shape)}; at least one of {WINDOW_FIELDS} is needed.")
        _check_inside(self.windows, self.lr)
        total = hashlib.sha256(f"{self.hr.digest};{self.lr.digest};{scale};".encode())
        total.update(self.windows.cpu().contiguous().numpy().tobytes())
        object.__setattr__(self, "fingerprint", total.hexdigest())

    @classmethod
    def whole(
        cls,
        hr: PixelStore,
        lr: PixelStore,
        scale: int,
        names: Sequence[str],
        skipped: Sequence[tuple[Path, str]] = (),
    ) -> Self:
        """Samples with one window per image: the whole of it."""
        zero = torch.zeros_like(lr.heights)
        windows = torch.stack([torch.arange(len(lr), device=lr.device), zero, zero, lr.heights, lr.widths], dim=1)
        return cls(hr, lr, scale, windows, tuple(names), tuple(skipped))

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    def subset(self, indices: Tensor | Sequence[int]) -> SRSamples:
        """The windows `indices`, in that order; pixels are shared, not copied."""
        chosen = torch.as_tensor(indices, dtype=torch.long, device=self.windows.device)
        if len(chosen) == 0:
            raise DataError("A selection kept no sample.", "Keep a larger share.")
        return replace(self, windows=self.windows[chosen])

    def sub_images(self, size: int, step: int) -> SRSamples:
        """Cut every window into `size` x `size` HR pixels every `step` HR pixels (multiples of the scale).

        One extra cut is flush with the right and bottom border where a remainder is left, as for the 32,592
        sub-images of DIV2K at 480/240; a side shorter than `size` is taken whole.
        """
        if size < 1 or step < 1 or size % self.scale or step % self.scale:
            raise DataError(
                f"Sub-images of {size} every {step} HR pixels do not fit scale {self.scale}: use multiples."
            )
        size, step = size // self.scale, step // self.scale
        cuts = [
            (image, top + y, left + x, min(size, height), min(size, width))
            for image, top, left, height, width in self.windows.tolist()
            for y in _starts(height, size, step)
            for x in _starts(width, size, step)
        ]
        return replace(self, windows=torch.tensor(cuts, dtype=torch.long, device=self.windows.device))

    def crops(
        self, indices: Tensor | Sequence[int] | None = None, chunk: int = 16
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Windows as stacks of equal size: (indices [B], lr uint8 [B, 3, h, w], hr uint8 [B, 3, sh, sw]), B <= chunk.

        Every index comes once; order is by size (first seen first), then as given. All windows without `indices`.
        """
        wanted = torch.arange(len(self)) if indices is None else torch.as_tensor(indices, dtype=torch.long).cpu()
        windows = self.windows.cpu()
        groups: dict[tuple[int, int], list[int]] = {}
        for index in wanted.tolist():
            height, width = windows[index, 3:].tolist()
            groups.setdefault((height, width), []).append(index)
        for group in groups.values():
            for start in range(0, len(group), chunk):
                part = group[start : start + chunk]
                rows = windows[part].tolist()
                lr = torch.stack([_cut(self.lr, row, 1) for row in rows])
                hr = torch.stack([_cut(self.hr, row, self.scale) for row in rows])
                yield torch.tensor(part), lr, hr

    def to(self, device: str | torch.device) -> SRSamples:
        """The same samples on `device`; `self` where they are there already."""
        hr, lr, windows = self.hr.to(device), self.lr.to(device), self.windows.to(device)
        if hr is self.hr and lr is self.lr and windows is self.windows:
            return self
        return replace(self, hr=hr, lr=lr, windows=windows)


def _starts(length: int, size: int, step: int) -> list[int]:
    if length <= size:
        return [0]
    starts = list(range(0, length - size + 1, step))
    return starts if starts[-1] + size == length else [*starts, length - size]


def _cut(store: PixelStore, window: Sequence[int], scale: int) -> Tensor:
    image, top, left, height, width = (window[0], *(scale * value for value in window[1:]))
    return store.image(image)[:, top : top + height, left : left + width]


def _check_inside(windows: Tensor, lr: PixelStore) -> None:
    image, top, left, height, width = windows.unbind(1)
    fits = (image >= 0) & (image < len(lr)) & (top >= 0) & (left >= 0) & (height > 0) & (width > 0)
    image = image.clamp(0, len(lr) - 1)
    fits &= (top + height <= lr.heights[image]) & (left + width <= lr.widths[image])
    if not bool(fits.all()):
        wrong = int(torch.nonzero(~fits)[0])
        raise DataError(f"Window {wrong} {windows[wrong].tolist()} ({', '.join(WINDOW_FIELDS)}) leaves its image.")


@dataclass(frozen=True, eq=False)
class Pair:
    """One image to evaluate on: lr uint8 [h, w, 3] and hr uint8 [sh, sw, 3]."""

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]


def load_pairs(image_set: ImageSet, scale: int, degradation: Degradation = bicubic) -> list[Pair]:
    """All pairs of a set for evaluation, HR cut to a multiple of the scale, grey repeated to RGB.

    Raises DataError for the first file that cannot be used: a mean over a part of a set compares with nothing.
    """
    return [
        Pair(path.stem, *_read_pair(image_set, index, scale, degradation)) for index, path in enumerate(image_set.hr)
    ]


def load_samples(
    image_set: ImageSet,
    scale: int,
    degradation: Degradation = bicubic,
    workers: int | None = None,
    cache_share: float = 0.25,
) -> SRSamples:
    """All images of a set as samples with one window each, every file decoded once, by `workers` threads.

    Shipped LR images are used where their size fits, others made from the whole HR image. A file that cannot be used
    is left out and named in `skipped`; raises DataError where none is left. More than `cache_share` of the memory is
    kept in a mapped file.
    """
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        probes = list(pool.map(lambda path: _hr_size(path, scale), image_set.hr))
        readable = [index for index, probed in enumerate(probes) if not isinstance(probed, str)]
        sizes = [probed for probed in probes if not isinstance(probed, str)]
        hr = PixelStore.empty(sizes, cache_share)
        lr = PixelStore.empty([(height // scale, width // scale) for height, width in sizes], cache_share)
        filled = pool.map(lambda job: _fill(hr, lr, job[0], image_set, job[1], scale, degradation), enumerate(readable))
        reasons = dict(zip(readable, filled, strict=True))
    reasons |= {index: probed for index, probed in enumerate(probes) if isinstance(probed, str)}
    skipped = [(image_set.hr[index], reason) for index, reason in sorted(reasons.items()) if reason is not None]
    kept = [place for place, index in enumerate(readable) if reasons[index] is None]
    if not kept:
        first = f" First reason: {skipped[0][1]}" if skipped else ""
        raise DataError(f"No image of {image_set.name} can be used.{first}", "`automl-sr data check` lists every file.")
    names = [image_set.hr[readable[place]].stem for place in kept]
    return SRSamples.whole(hr.sealed(kept), lr.sealed(kept), scale, names, skipped)


def _hr_size(path: Path, scale: int) -> tuple[int, int] | str:
    """(height, width) of the HR image after cutting, or why it cannot be used."""
    try:
        height, width = images.probe(path)
    except DataError as error:
        return error.message
    if min(height, width) < scale:
        return f"{path} has {width}x{height} pixels, less than the scale {scale}."
    return height - height % scale, width - width % scale


def _fill(
    hr: PixelStore, lr: PixelStore, place: int, image_set: ImageSet, index: int, scale: int, degradation: Degradation
) -> str | None:
    """Decode one pair into its place; returns why that was not possible."""
    try:
        lr_pixels, hr_pixels = _read_pair(image_set, index, scale, degradation)
    except DataError as error:
        return error.message
    for store, pixels in ((lr, lr_pixels), (hr, hr_pixels)):
        room = store.image(place)
        if room.shape[1:] != pixels.shape[:2]:
            return f"{image_set.hr[index]}: the header promises another size than its pixels have."
        room.copy_(torch.from_numpy(pixels).permute(2, 0, 1))
    return None


def _read_pair(
    image_set: ImageSet, index: int, scale: int, degradation: Degradation
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """(lr, hr) uint8 [h, w, 3] of one image."""
    path = image_set.hr[index]
    try:
        hr = np.ascontiguousarray(crop_to_multiple(images.to_rgb8(images.read(path)), scale))
    except DataError as error:
        raise error if str(path) in error.message else DataError(f"{path}: {error.message}", error.hint) from error
    shipped = image_set.lr.get(scale)
    if shipped is not None and degradation.name == _SHIPPED_DEGRADATION:
        lr = images.to_rgb8(images.read(shipped[index]))
        if lr.shape[0] * scale == hr.shape[0] and lr.shape[1] * scale == hr.shape[1]:
            return lr, hr
    return degradation(hr, scale), hr
