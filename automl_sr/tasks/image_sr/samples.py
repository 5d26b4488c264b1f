"""Pairs of LR and HR images held decoded in memory, and the windows of them that are training
samples.
"""

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
from automl_sr.errors import DataError
from automl_sr.plugin.task import Shared, alone
from automl_sr.tasks.image_sr.degradations import Degradation, bicubic
from automl_sr.tasks.image_sr.pixel_store import PixelStore, in_memory
from automl_sr.tasks.image_sr.resize import crop_to_multiple

__all__ = ["Pair", "PixelStore", "SRSamples", "load_pairs", "load_samples"]

WINDOW_FIELDS = ("image", "top", "left", "height", "width")
RGB = 3
"""Bytes of a pixel as it is kept."""
_SHIPPED_DEGRADATION = "bicubic"


@dataclass(frozen=True, eq=False)
class SRSamples:
    """Training samples: windows [n, 5] (image, top, left, height, width in LR pixels) of LR images
    and their HR images.

    `names` and `skipped` (files left out, with the reason) are per file; `fingerprint` is the
    sha256 over pixels, windows and scale, so two equal ones train the same. Raises DataError where
    LR and HR do not fit together.
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
            raise DataError(
                f"{len(self.hr)} HR images, {len(self.lr)} LR images and {len(self.names)} names."
            )
        sizes_fit = torch.equal(self.lr.heights * scale, self.hr.heights) and torch.equal(
            self.lr.widths * scale, self.hr.widths
        )
        if not sizes_fit:
            raise DataError(f"Some HR images are not {scale} times as large as their LR images.")
        if (
            self.windows.ndim != 2
            or self.windows.shape[1] != len(WINDOW_FIELDS)
            or len(self.windows) == 0
        ):
            raise DataError(
                f"Windows are {tuple(self.windows.shape)}; at least one of {WINDOW_FIELDS} is"
                " needed."
            )
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
        windows = torch.stack(
            [torch.arange(len(lr), device=lr.device), zero, zero, lr.heights, lr.widths], dim=1
        )
        return cls(hr, lr, scale, windows, tuple(names), tuple(skipped))

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.windows)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels, LR and HR, that lie in at least one window."""
        covered = 0
        for image in torch.unique(self.windows[:, 0]).tolist():
            seen = torch.zeros(
                int(self.lr.heights[image]), int(self.lr.widths[image]), dtype=torch.bool
            )
            for _, top, left, height, width in self.windows[self.windows[:, 0] == image].tolist():
                seen[top : top + height, left : left + width] = True
            covered += int(seen.sum())
        return covered * RGB * (1 + self.scale**2)

    def subset(self, indices: Tensor | Sequence[int]) -> SRSamples:
        """The windows `indices`, in that order; pixels are shared, not copied."""
        chosen = torch.as_tensor(indices, dtype=torch.long, device=self.windows.device)
        if len(chosen) == 0:
            raise DataError("A selection kept no sample.", "Keep a larger share.")
        return replace(self, windows=self.windows[chosen])

    def sub_images(self, size: int, step: int) -> SRSamples:
        """Cut every window into `size` x `size` HR pixels every `step` HR pixels (multiples of the
        scale).

        One extra cut is flush with the right and bottom border where a remainder is left, as for
        the 32,592 sub-images of DIV2K at 480/240; a side shorter than `size` is taken whole.
        """
        if size < 1 or step < 1 or size % self.scale or step % self.scale:
            raise DataError(
                f"Sub-images of {size} every {step} HR pixels do not fit scale {self.scale}: use"
                " multiples."
            )
        size, step = size // self.scale, step // self.scale
        cuts = []
        for image, top, left, height, width in self.windows.tolist():
            for y in _starts(height, size, step):
                for x in _starts(width, size, step):
                    cuts.append((image, top + y, left + x, min(size, height), min(size, width)))
        return replace(
            self, windows=torch.tensor(cuts, dtype=torch.long, device=self.windows.device)
        )

    def crops(
        self, indices: Tensor | Sequence[int] | None = None, chunk: int = 16
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Windows as stacks of equal size: (indices [B], lr uint8 [B, 3, h, w], hr uint8 [B, 3, sh,
        sw]), B <= chunk.

        Every index comes once; order is by size (first seen first), then as given. All windows
        without `indices`.
        """
        if indices is None:
            wanted = torch.arange(len(self))
        else:
            wanted = torch.as_tensor(indices, dtype=torch.long).cpu()
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
    if starts[-1] + size == length:
        return starts
    return [*starts, length - size]


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
        raise DataError(
            f"Window {wrong} {windows[wrong].tolist()} ({', '.join(WINDOW_FIELDS)}) leaves its"
            " image."
        )


@dataclass(frozen=True, eq=False)
class Pair:
    """One image to evaluate on: lr uint8 [h, w, 3] and hr uint8 [sh, sw, 3], read from `path` where
    it is known.
    """

    name: str
    lr: NDArray[np.uint8]
    hr: NDArray[np.uint8]
    path: Path | None = None


def load_pairs(
    image_set: ImageSet, scale: int, degradation: Degradation = bicubic, shared: Shared = alone
) -> list[Pair]:
    """All pairs of a set for evaluation, HR cut to a multiple of the scale, grey repeated to RGB.

    Raises DataError for the first file that cannot be used: a mean over a part of a set compares
    with nothing.
    """
    found = load_samples(image_set, scale, degradation, shared=shared)
    if found.skipped:
        raise DataError(found.skipped[0][1])
    result: list[Pair] = []
    for index, (name, path) in enumerate(zip(found.names, image_set.hr, strict=True)):
        result.append(
            Pair(name, _array(found.lr.image(index)), _array(found.hr.image(index)), path)
        )
    return result


def middles(samples: SRSamples, side: int) -> list[Pair]:
    """Return the middle of every window as a pair, at most `side` LR pixels high and wide."""
    pairs = []
    for image, top, left, height, width in samples.windows.tolist():
        high, wide = min(side, height), min(side, width)
        window = (image, top + (height - high) // 2, left + (width - wide) // 2, high, wide)
        low, full = _cut(samples.lr, window, 1), _cut(samples.hr, window, samples.scale)
        pairs.append(Pair(samples.names[image], _array(low.cpu()), _array(full.cpu())))
    return pairs


def load_samples(
    image_set: ImageSet,
    scale: int,
    degradation: Degradation = bicubic,
    workers: int | None = None,
    cache_share: float = 0.25,
    shared: Shared = alone,
) -> SRSamples:
    """All images of a set as samples with one window each, every file decoded once, by `workers`
    threads.

    Shipped LR images are used where their size fits, others made from the whole HR image, which
    `shared` keeps for others. A file that cannot be used is left out and named in `skipped`; raises
    DataError where none is left. More than `cache_share` of the memory is kept in a mapped file.
    """
    with ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1)) as pool:
        probes = list(pool.map(lambda path: _hr_size(path, scale), image_set.hr))
        readable = []
        for index, probed in enumerate(probes):
            if not isinstance(probed, str):
                readable.append(index)
        hr = PixelStore.empty(
            [probed for probed in probes if not isinstance(probed, str)], cache_share
        )
        read = pool.map(
            lambda job: _read(hr, job[0], image_set, job[1], scale, degradation),
            enumerate(readable),
        )
        found: dict[int, NDArray[np.uint8] | str | None] = dict(zip(readable, read, strict=True))
        reasons = {}
        for index, probed in enumerate(probes):
            if isinstance(probed, str):
                reasons[index] = probed
        reasons |= {index: reason for index, reason in found.items() if isinstance(reason, str)}
        skipped = []
        for index, reason in sorted(reasons.items()):
            skipped.append((image_set.hr[index], reason))
        kept = []
        for place, index in enumerate(readable):
            if index not in reasons:
                kept.append(place)
        if not kept:
            raise _nothing_usable(image_set, skipped)
        hr = hr.sealed(kept)
        shipped = []
        for low in found.values():
            if not isinstance(low, str):
                shipped.append(low)
        lr = _low_resolution(hr, shipped, scale, degradation, pool, cache_share, shared)
    names = []
    for place in kept:
        names.append(image_set.hr[readable[place]].stem)
    return SRSamples.whole(hr, lr, scale, names, skipped)


def _nothing_usable(image_set: ImageSet, skipped: Sequence[tuple[Path, str]]) -> DataError:
    first = ""
    if skipped:
        first = f" First reason: {skipped[0][1]}"
    hint = "`automl-sr data check` lists every file."
    return DataError(f"No image of {image_set.name} can be used.{first}", hint)


def _hr_size(path: Path, scale: int) -> tuple[int, int] | str:
    """(height, width) of the HR image after cutting, or why it cannot be used."""
    try:
        height, width = images.probe(path)
    except DataError as error:
        return error.message
    if min(height, width) < scale:
        return f"{path} has {width}x{height} pixels, less than the scale {scale}."
    return height - height % scale, width - width % scale


def _read(
    hr: PixelStore,
    place: int,
    image_set: ImageSet,
    index: int,
    scale: int,
    degradation: Degradation,
) -> NDArray[np.uint8] | str | None:
    """Decode one HR image into its place, and its shipped LR image; gives a reason where that was
    not possible.
    """
    path = image_set.hr[index]
    try:
        pixels = crop_to_multiple(images.to_rgb8(images.read(path)), scale)
        low = _shipped(image_set, index, scale, degradation)
    except DataError as error:
        if str(path) in error.message:
            return error.message
        return f"{path}: {error.message}"
    room = hr.image(place)
    if room.shape[1:] != pixels.shape[:2]:
        return f"{path}: the header promises another size than its pixels have."
    room.copy_(torch.from_numpy(np.ascontiguousarray(pixels)).permute(2, 0, 1))
    fits = low is not None and (low.shape[0] * scale, low.shape[1] * scale) == pixels.shape[:2]
    if fits:
        return low
    return None


def _shipped(
    image_set: ImageSet, index: int, scale: int, degradation: Degradation
) -> NDArray[np.uint8] | None:
    """Read the LR image that comes with the set, if there is one of this kind."""
    paths = image_set.lr.get(scale)
    if paths is None or degradation.name != _SHIPPED_DEGRADATION:
        return None
    return images.to_rgb8(images.read(paths[index]))


def _low_resolution(
    hr: PixelStore,
    shipped: Sequence[NDArray[np.uint8] | None],
    scale: int,
    degradation: Degradation,
    pool: ThreadPoolExecutor,
    cache_share: float,
    shared: Shared,
) -> PixelStore:
    """Take shipped LR images, and make the others; where none is shipped and they fit into memory,
    others get them.
    """
    sizes = []
    for h, w in zip(hr.heights, hr.widths, strict=True):
        sizes.append((int(h) // scale, int(w) // scale))
    lr = PixelStore.empty(sizes, cache_share)

    def fill(index: int) -> None:
        found = shipped[index]
        if found is None:
            made = degradation(_array(hr.image(index)), scale)
        else:
            made = found
        lr.image(index).copy_(torch.from_numpy(np.ascontiguousarray(made)).permute(2, 0, 1))

    def make() -> dict[str, Tensor]:
        list(pool.map(fill, range(len(hr))))
        return {"pixels": lr.flat}

    if any(low is not None for low in shipped) or not in_memory(lr.flat.shape[1], cache_share):
        make()
        return lr.sealed(range(len(hr)))
    parts = {"hr": hr.digest, "scale": scale, "degradation": degradation.name}
    pixels = shared(f"degraded/{degradation.name}", parts, make)["pixels"]
    return replace(lr, flat=pixels).sealed(range(len(hr)))


def _array(image: Tensor) -> NDArray[np.uint8]:
    """Return an image of a store as uint8 [h, w, 3]."""
    found: NDArray[np.uint8] = image.permute(1, 2, 0).contiguous().numpy()
    return found
