"""Pairs of LR and HR images held decoded in memory.

Windows of them are the training samples.
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

Image = NDArray[np.uint8]

WINDOW_FIELDS = ("image", "top", "left", "height", "width")
RGB = 3
"""Bytes of a pixel as it is kept."""
_SHIPPED_DEGRADATION = "bicubic"


@dataclass(frozen=True, eq=False)
class SRSamples:
    """Training samples: windows of LR images and of their HR images.

    `windows` is [n, 5]: image, top, left, height and width in LR pixels.
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
        self._check()
        head = f"{self.hr.digest};{self.lr.digest};{self.scale};"
        windows = self.windows.cpu().contiguous()
        total = hashlib.sha256(head.encode())
        total.update(windows.numpy().tobytes())
        object.__setattr__(self, "fingerprint", total.hexdigest())

    def _check(self) -> None:
        """Raise DataError where LR, HR, names and windows do not fit together."""
        hr = self.hr
        lr = self.lr
        names = self.names
        if len(hr) != len(lr) or len(names) != len(lr):
            raise DataError(f"{len(hr)} HR images, {len(lr)} LR images and {len(names)} names.")

        heights = lr.heights * self.scale
        widths = lr.widths * self.scale
        high_enough = torch.equal(heights, hr.heights)
        wide_enough = torch.equal(widths, hr.widths)
        if not high_enough or not wide_enough:
            raise DataError(
                f"Some HR images are not {self.scale} times as large as their LR images."
            )

        shape = tuple(self.windows.shape)
        fields = len(WINDOW_FIELDS)
        if len(shape) != 2 or shape[0] == 0 or shape[1] != fields:
            raise DataError(f"Windows are {shape}; at least one of {WINDOW_FIELDS} is needed.")
        _check_inside(self.windows, lr)

    @classmethod
    def whole(
        cls,
        hr: PixelStore,
        lr: PixelStore,
        scale: int,
        names: Sequence[str],
        skipped: Sequence[tuple[Path, str]] = (),
    ) -> Self:
        """Make samples with one window for each image: the whole of it."""
        image = torch.arange(len(lr), device=lr.device)
        zero = torch.zeros_like(lr.heights)
        fields = [image, zero, zero, lr.heights, lr.widths]
        windows = torch.stack(fields, dim=1)
        return cls(hr, lr, scale, windows, tuple(names), tuple(skipped))

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.windows)

    @property
    def nbytes(self) -> int:
        """Bytes of the pixels, LR and HR, that lie in at least one window."""
        covered = 0
        owners = self.windows[:, 0]
        for image in torch.unique(owners).tolist():
            height = int(self.lr.heights[image])
            width = int(self.lr.widths[image])
            # A map of the image, because windows may overlap.
            seen = torch.zeros(height, width, dtype=torch.bool)
            own = self.windows[owners == image]
            for _, top, left, high, wide in own.tolist():
                bottom = top + high
                right = left + wide
                seen[top:bottom, left:right] = True
            covered += int(seen.sum())
        pixels = covered * (1 + self.scale**2)
        return pixels * RGB

    def subset(self, indices: Tensor | Sequence[int]) -> SRSamples:
        """Take the windows `indices`, in that order; pixels are shared, not copied."""
        chosen = torch.as_tensor(
            indices,
            dtype=torch.long,
            device=self.windows.device,
        )
        if len(chosen) == 0:
            raise DataError("A selection kept no sample.", "Keep a larger share.")
        windows = self.windows[chosen]
        return replace(self, windows=windows)

    def sub_images(
        self,
        size: int,
        step: int,
    ) -> SRSamples:
        """Cut every window into `size` x `size` HR pixels every `step` HR pixels.

        Both are multiples of the scale. One extra cut is flush with the right and bottom border
        where a remainder is left, as for the 32,592 sub-images of DIV2K at 480/240; a side shorter
        than `size` is taken whole.
        """
        whole = size % self.scale == 0 and step % self.scale == 0
        if size < 1 or step < 1 or not whole:
            raise DataError(
                f"Sub-images of {size} every {step} HR pixels do not fit scale {self.scale}: use"
                " multiples."
            )
        side = size // self.scale
        stride = step // self.scale
        cuts = []
        for image, top, left, height, width in self.windows.tolist():
            high = min(side, height)
            wide = min(side, width)
            for y in _starts(height, side, stride):
                for x in _starts(width, side, stride):
                    cut = (image, top + y, left + x, high, wide)
                    cuts.append(cut)
        windows = torch.tensor(
            cuts,
            dtype=torch.long,
            device=self.windows.device,
        )
        return replace(self, windows=windows)

    def crops(
        self,
        indices: Tensor | Sequence[int] | None = None,
        chunk: int = 16,
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield windows as stacks of equal size, of at most `chunk` windows.

        A stack is (indices [B], lr uint8 [B, 3, h, w], hr uint8 [B, 3, sh, sw]). Every index comes
        once; order is by size (first seen first), then as given. All windows without `indices`.
        """
        if indices is None:
            wanted = torch.arange(len(self))
        else:
            wanted = torch.as_tensor(indices, dtype=torch.long).cpu()

        windows = self.windows.cpu()
        groups: dict[tuple[int, int], list[int]] = {}
        for index in wanted.tolist():
            height, width = windows[index, 3:].tolist()
            size = (height, width)
            group = groups.setdefault(size, [])
            group.append(index)

        for group in groups.values():
            for start in range(0, len(group), chunk):
                part = group[start : start + chunk]
                rows = windows[part].tolist()
                lr = [_cut(self.lr, row, 1) for row in rows]
                hr = [_cut(self.hr, row, self.scale) for row in rows]
                yield (
                    torch.tensor(part),
                    torch.stack(lr),
                    torch.stack(hr),
                )

    def to(self, device: str | torch.device) -> SRSamples:
        """Return the same samples on `device`; `self` where they are there already."""
        hr = self.hr.to(device)
        lr = self.lr.to(device)
        windows = self.windows.to(device)
        if hr is self.hr and lr is self.lr and windows is self.windows:
            return self
        return replace(self, hr=hr, lr=lr, windows=windows)


def _starts(
    length: int,
    size: int,
    step: int,
) -> list[int]:
    if length <= size:
        return [0]
    starts = list(range(0, length - size + 1, step))
    if starts[-1] + size == length:
        return starts
    return [*starts, length - size]


def _cut(
    store: PixelStore,
    window: Sequence[int],
    scale: int,
) -> Tensor:
    """Return a window, given in LR pixels, of a store whose images are `scale` times as large."""
    image, *place = window
    top, left, height, width = (scale * value for value in place)
    bottom = top + height
    right = left + width
    return store.image(image)[:, top:bottom, left:right]


def _check_inside(windows: Tensor, lr: PixelStore) -> None:
    """Raise DataError for the first window that leaves its image."""
    image, top, left, height, width = windows.unbind(1)
    fits = image >= 0
    fits &= image < len(lr)
    fits &= top >= 0
    fits &= left >= 0
    fits &= height > 0
    fits &= width > 0
    # Clamped, so that a window of no image can be looked up like the others.
    known = image.clamp(0, len(lr) - 1)
    fits &= top + height <= lr.heights[known]
    fits &= left + width <= lr.widths[known]
    if bool(fits.all()):
        return

    wrong = int(torch.nonzero(~fits)[0])
    values = windows[wrong].tolist()
    fields = ", ".join(WINDOW_FIELDS)
    raise DataError(f"Window {wrong} {values} ({fields}) leaves its image.")


@dataclass(frozen=True, eq=False)
class Pair:
    """One image to evaluate on: lr uint8 [h, w, 3] and hr uint8 [sh, sw, 3].

    `path` is the file that hr was read from, where it is known.
    """

    name: str
    lr: Image
    hr: Image
    path: Path | None = None


def load_pairs(
    image_set: ImageSet,
    scale: int,
    degradation: Degradation = bicubic,
    shared: Shared = alone,
) -> list[Pair]:
    """Return all pairs of a set for evaluation, HR cut to a multiple of the scale, grey as RGB.

    Raises DataError for the first file that cannot be used.
    """
    samples = load_samples(image_set, scale, degradation, shared=shared)
    if samples.skipped:
        # A mean over a part of a set compares with nothing.
        _, reason = samples.skipped[0]
        raise DataError(reason)

    pairs: list[Pair] = []
    for index, path in enumerate(image_set.hr):
        pair = Pair(
            samples.names[index],
            lr=_array(samples.lr.image(index)),
            hr=_array(samples.hr.image(index)),
            path=path,
        )
        pairs.append(pair)
    return pairs


def middles(samples: SRSamples, side: int) -> list[Pair]:
    """Return the middle of every window as a pair, at most `side` LR pixels high and wide."""
    pairs = []
    for image, top, left, height, width in samples.windows.tolist():
        high = min(side, height)
        wide = min(side, width)
        window = (
            image,
            top + (height - high) // 2,
            left + (width - wide) // 2,
            high,
            wide,
        )
        lr = _cut(samples.lr, window, 1).cpu()
        hr = _cut(samples.hr, window, samples.scale).cpu()
        pair = Pair(samples.names[image], _array(lr), _array(hr))
        pairs.append(pair)
    return pairs


def load_samples(
    image_set: ImageSet,
    scale: int,
    degradation: Degradation = bicubic,
    workers: int | None = None,
    cache_share: float = 0.25,
    shared: Shared = alone,
) -> SRSamples:
    """Load all images of a set as samples with one window each.

    Every file is decoded once, by `workers` threads. Shipped LR images are used where their size
    fits, others made from the whole HR image, which `shared` keeps for others. A file that cannot
    be used is left out and named in `skipped`; raises DataError where none is left. More than
    `cache_share` of the memory is kept in a mapped file.
    """
    source = _Source(image_set, scale, degradation)
    reasons: dict[int, str] = {}
    cores = os.cpu_count() or 1
    workers = workers or min(8, cores)
    with ThreadPoolExecutor(workers) as pool:
        # Sizes before pixels: the flat tensor is as long as all images together.
        readable = []
        sizes = []
        for index, probed in enumerate(pool.map(source.size, image_set.hr)):
            if isinstance(probed, str):
                reasons[index] = probed
                continue
            readable.append(index)
            sizes.append(probed)

        hr = PixelStore.empty(sizes, cache_share)
        rooms = [hr.image(place) for place in range(len(readable))]
        shipped: list[Image | None] = []
        kept = []
        for place, low in enumerate(pool.map(source.read_into, rooms, readable)):
            if isinstance(low, str):
                reasons[readable[place]] = low
                continue
            kept.append(place)
            shipped.append(low)

        skipped = []
        for index, reason in sorted(reasons.items()):
            skipped.append((image_set.hr[index], reason))
        if not kept:
            raise _nothing_usable(image_set, skipped)
        hr = hr.sealed(kept)
        lr = _low_resolution(hr, shipped, source, pool, cache_share, shared)

    names = []
    for place in kept:
        path = image_set.hr[readable[place]]
        names.append(path.stem)
    return SRSamples.whole(hr, lr, scale, names, skipped)


def _nothing_usable(image_set: ImageSet, skipped: Sequence[tuple[Path, str]]) -> DataError:
    first = ""
    if skipped:
        first = f" First reason: {skipped[0][1]}"
    hint = "`automl-sr data check` lists every file."
    return DataError(f"No image of {image_set.name} can be used.{first}", hint)


@dataclass(frozen=True)
class _Source:
    """The files of a set, and how LR images are made of them."""

    files: ImageSet
    scale: int
    degradation: Degradation

    def size(self, path: Path) -> tuple[int, int] | str:
        """Return (height, width) of an HR image after cutting, or why it cannot be used."""
        try:
            height, width = images.probe(path)
        except DataError as error:
            return error.message
        if min(height, width) < self.scale:
            return f"{path} has {width}x{height} pixels, less than the scale {self.scale}."
        high = height - height % self.scale
        wide = width - width % self.scale
        return high, wide

    def read_into(self, room: Tensor, index: int) -> Image | str | None:
        """Decode one HR image into its room [3, h, w], and return its LR image if one is shipped.

        Returns a reason where that was not possible.
        """
        path = self.files.hr[index]
        try:
            whole = images.to_rgb8(images.read(path))
            pixels = crop_to_multiple(whole, self.scale)
            low = self._shipped(index)
        except DataError as error:
            if str(path) in error.message:
                return error.message
            return f"{path}: {error.message}"

        height, width = pixels.shape[:2]
        if room.shape[1:] != (height, width):
            return f"{path}: the header promises another size than its pixels have."
        room.copy_(_tensor(pixels))

        if low is None:
            return None
        low_height, low_width = low.shape[:2]
        enlarged = (low_height * self.scale, low_width * self.scale)
        if enlarged != (height, width):
            return None
        return low

    def _shipped(self, index: int) -> Image | None:
        """Read the LR image that comes with the set, if there is one of this kind."""
        paths = self.files.lr.get(self.scale)
        if paths is None or self.degradation.name != _SHIPPED_DEGRADATION:
            return None
        return images.to_rgb8(images.read(paths[index]))


def _low_resolution(
    hr: PixelStore,
    shipped: Sequence[Image | None],
    source: _Source,
    pool: ThreadPoolExecutor,
    cache_share: float,
    shared: Shared,
) -> PixelStore:
    """Take shipped LR images, and make the others.

    Where none is shipped and they fit into memory, other workers get them.
    """
    scale = source.scale
    degradation = source.degradation
    sizes = []
    for height, width in zip(hr.heights, hr.widths, strict=True):
        size = (int(height) // scale, int(width) // scale)
        sizes.append(size)
    lr = PixelStore.empty(sizes, cache_share)

    def fill(index: int) -> None:
        low = shipped[index]
        if low is None:
            low = degradation(_array(hr.image(index)), scale)
        room = lr.image(index)
        room.copy_(_tensor(low))

    def make() -> dict[str, Tensor]:
        list(pool.map(fill, range(len(hr))))  # a list, so that what fails is raised
        return {"pixels": lr.flat}

    everything = range(len(hr))
    some_shipped = any(low is not None for low in shipped)
    if some_shipped or not in_memory(lr.flat.shape[1], cache_share):
        make()
        return lr.sealed(everything)
    parts = {"hr": hr.digest, "scale": scale, "degradation": degradation.name}
    made = shared(f"degraded/{degradation.name}", parts, make)
    return replace(lr, flat=made["pixels"]).sealed(everything)


def _tensor(image: Image) -> Tensor:
    """Return an image [h, w, 3] as a store takes it: [3, h, w]."""
    # torch takes no arrays with negative strides.
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    return pixels.permute(2, 0, 1)


def _array(image: Tensor) -> Image:
    """Return an image of a store as uint8 [h, w, 3]."""
    pixels: Image = image.permute(1, 2, 0).contiguous().numpy()
    return pixels
