"""Decoded images of one side (LR or HR) in one flat tensor.

It lies in memory, or is mapped from a file where they are many.
"""

from __future__ import annotations

import contextlib
import hashlib
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil
import torch
from torch import Tensor

from automl_sr.errors import DataError

CHANNELS = 3


@dataclass(frozen=True, eq=False)
class PixelStore:
    """All images of one side in one flat uint8 tensor [3, total].

    Image i is `heights[i] * widths[i]` pixels from `offsets[i]`, row by row. `digest` is the sha256
    of sizes and pixels, the same on every device.
    """

    flat: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor
    digest: str

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.offsets)

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.flat.device

    def image(self, index: int) -> Tensor:
        """Return image `index` as uint8 [3, h, w]: a view, not a copy."""
        start = int(self.offsets[index])
        height = int(self.heights[index])
        width = int(self.widths[index])
        stop = start + height * width
        return self.flat[:, start:stop].view(
            3,
            height,
            width,
        )

    def to(self, device: str | torch.device) -> PixelStore:
        """Return the same images on `device`; `self` where they are there already."""
        # "cuda" names the current one, such as cuda:0: a tensor says which that is.
        place = torch.empty(0, device=device).device
        if place == self.device:
            return self
        return PixelStore(
            flat=self.flat.to(device),
            offsets=self.offsets.to(device),
            heights=self.heights.to(device),
            widths=self.widths.to(device),
            digest=self.digest,
        )

    @classmethod
    def from_images(
        cls,
        images: Sequence[Tensor],
        cache_share: float = 0.25,
    ) -> PixelStore:
        """Make a store of uint8 [3, h, w] tensors, copied once.

        It lies on disk above `cache_share` of the memory.
        """
        sizes = []
        for image in images:
            sizes.append((int(image.shape[1]), int(image.shape[2])))
        store = cls.empty(sizes, cache_share)
        for index, image in enumerate(images):
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
                raise DataError(
                    f"Image {index} is {image.dtype} {tuple(image.shape)}, not uint8 [3, h, w]."
                )
            store.image(index).copy_(image)
        return store.sealed(range(len(images)))

    @classmethod
    def empty(
        cls,
        sizes: Sequence[tuple[int, int]],
        cache_share: float = 0.25,
    ) -> PixelStore:
        """Make room for images of (height, width) pixels.

        It is filled through `image(i)` and then `sealed`.
        """
        heights = torch.tensor([height for height, _ in sizes], dtype=torch.long)
        widths = torch.tensor([width for _, width in sizes], dtype=torch.long)
        pixels = heights * widths
        ends = torch.cumsum(pixels, 0)
        total = 0
        if len(sizes):
            total = int(ends[-1])
        flat = allocate(total, cache_share)
        return cls(flat, ends - pixels, heights, widths, digest="")

    def sealed(self, keep: Iterable[int]) -> PixelStore:
        """Return the images `keep`, in that order, with their digest.

        The pixels stay where they are.
        """
        chosen = torch.tensor(list(keep), dtype=torch.long)
        kept = PixelStore(
            flat=self.flat,
            offsets=self.offsets[chosen],
            heights=self.heights[chosen],
            widths=self.widths[chosen],
            digest="",
        )
        return replace(kept, digest=_digest(kept))


def _digest(store: PixelStore) -> str:
    total = hashlib.sha256()
    for index in range(len(store)):
        image = store.image(index).cpu().contiguous()
        total.update(f"{tuple(image.shape)};".encode())
        total.update(image.numpy().data)
    return total.hexdigest()


def in_memory(pixels: int, cache_share: float) -> bool:
    """Return whether so many pixels are held in memory rather than in a mapped file."""
    if pixels == 0:
        return True  # a file of no bytes cannot be mapped
    memory = psutil.virtual_memory().total
    return bool(CHANNELS * pixels <= cache_share * memory)


def allocate(pixels: int, cache_share: float) -> Tensor:
    """Make a uint8 tensor [3, pixels] of zeros.

    It is a mapped file when it is larger than `cache_share` (0..1) of all memory; TMPDIR says where
    that lies.
    """
    if not 0 <= cache_share <= 1:
        raise DataError(f"cache_share is a share of memory between 0 and 1, not {cache_share}.")
    if in_memory(pixels, cache_share):
        return torch.zeros(CHANNELS, pixels, dtype=torch.uint8)

    size = CHANNELS * pixels
    with tempfile.NamedTemporaryFile(prefix="automl-sr-pixels-", delete=False) as file:
        path = Path(file.name)
        file.truncate(size)
    try:
        mapped = torch.from_file(
            str(path),
            shared=True,
            size=size,
            dtype=torch.uint8,
        )
    except RuntimeError as error:
        path.unlink(missing_ok=True)
        raise DataError(
            f"{size / 2**30:.1f} GiB of decoded images do not fit into {path.parent}.",
            "Point TMPDIR to a larger disk, use fewer images, or raise cache_share.",
        ) from error

    # A mapped file needs no name: without one nothing is left behind however the process ends.
    with contextlib.suppress(PermissionError):  # Windows keeps the name of a file that is open
        path.unlink()
    return mapped.view(CHANNELS, pixels)
