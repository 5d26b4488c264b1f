"""Decoded images of one side (LR or HR) in one flat tensor: in memory, or mapped from a file where
they are many.
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
    """All images of one side in one flat uint8 tensor [3, total]; image i is `heights[i] *
    widths[i]` pixels from `offsets[i]`, row by row. `digest` is the sha256 of sizes and pixels, the
    same on every device."""

    flat: Tensor
    offsets: Tensor
    heights: Tensor
    widths: Tensor
    digest: str

    def __len__(self) -> int:
        """Number of images."""
        return len(self.offsets)

    @property
    def device(self) -> torch.device:
        """Where the pixels are."""
        return self.flat.device

    def image(self, index: int) -> Tensor:
        """Image `index` as uint8 [3, h, w]: a view, not a copy."""
        start, height, width = (
            int(self.offsets[index]),
            int(self.heights[index]),
            int(self.widths[index]),
        )
        return self.flat[:, start : start + height * width].view(3, height, width)

    def to(self, device: str | torch.device) -> PixelStore:
        """The same images on `device`; `self` where they are there already."""
        if (
            torch.empty(0, device=device).device == self.device
        ):  # "cuda" names the current one, such as cuda:0
            return self
        return PixelStore(
            self.flat.to(device),
            self.offsets.to(device),
            self.heights.to(device),
            self.widths.to(device),
            self.digest,
        )

    @classmethod
    def from_images(cls, images: Sequence[Tensor], cache_share: float = 0.25) -> PixelStore:
        """A store of uint8 [3, h, w] tensors, copied once; on disk above `cache_share` of the
        memory.
        """
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        store = cls.empty(sizes, cache_share)
        for index, image in enumerate(images):
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] != 3:
                raise DataError(
                    f"Image {index} is {image.dtype} {tuple(image.shape)}, not uint8 [3, h, w]."
                )
            store.image(index).copy_(image)
        return store.sealed(range(len(images)))

    @classmethod
    def empty(cls, sizes: Sequence[tuple[int, int]], cache_share: float = 0.25) -> PixelStore:
        """Room for images of (height, width) pixels, to be filled through `image(i)` and then
        `sealed`.
        """
        heights = torch.tensor([height for height, _ in sizes], dtype=torch.long)
        widths = torch.tensor([width for _, width in sizes], dtype=torch.long)
        ends = torch.cumsum(heights * widths, 0)
        total = 0
        if len(sizes):
            total = int(ends[-1])
        return cls(
            allocate(total, cache_share), ends - heights * widths, heights, widths, digest=""
        )

    def sealed(self, keep: Iterable[int]) -> PixelStore:
        """The images `keep`, in that order, with their digest; the pixels stay where they are."""
        chosen = torch.tensor(list(keep), dtype=torch.long)
        kept = PixelStore(
            self.flat, self.offsets[chosen], self.heights[chosen], self.widths[chosen], digest=""
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
    """Whether so many pixels are held in memory rather than in a mapped file."""
    return pixels == 0 or CHANNELS * pixels <= cache_share * psutil.virtual_memory().total


def allocate(pixels: int, cache_share: float) -> Tensor:
    """A uint8 tensor [3, pixels] of zeros; in a mapped file when larger than `cache_share` (0..1)
    of all memory.

    The file has no name any more once it is mapped, so nothing is left behind however the process
    ends (where the system cannot do that, as Windows, it stays in the temporary folder). TMPDIR
    says where it lies.
    """
    if not 0 <= cache_share <= 1:
        raise DataError(f"cache_share is a share of memory between 0 and 1, not {cache_share}.")
    size = CHANNELS * pixels
    if in_memory(pixels, cache_share):
        return torch.zeros(CHANNELS, pixels, dtype=torch.uint8)
    with tempfile.NamedTemporaryFile(prefix="automl-sr-pixels-", delete=False) as file:
        path = Path(file.name)
        file.truncate(size)
    try:
        mapped = torch.from_file(str(path), shared=True, size=size, dtype=torch.uint8)
    except RuntimeError as error:
        path.unlink(missing_ok=True)
        raise DataError(
            f"{size / 2**30:.1f} GiB of decoded images do not fit into {path.parent}.",
            "Point TMPDIR to a larger disk, use fewer images, or raise cache_share.",
        ) from error
    with contextlib.suppress(PermissionError):  # Windows keeps the name of a file that is open
        path.unlink()
    return mapped.view(CHANNELS, pixels)
