"""Enlarge image files with a shipped model: any size, grey, 16 bit, transparency and colour profile
kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_sr.data import images
from automl_sr.data.images import Picture
from automl_sr.errors import AutomlSRError, DataError, ModelError, StopRequestedError
from automl_sr.tasks.image_sr.image_model import OnnxImageModel, chroma, join_chroma, to_luma
from automl_sr.tasks.image_sr.resize import imresize_float
from automl_sr.tasks.image_sr.tiling import (
    Watch,
    check_tile,
    largest_tensor_bytes,
    receptive_margin,
    run_tiled,
    smallest_tile,
    tile_for_memory,
)

Array = NDArray[Any]

KEPT_SUFFIXES = (".png", ".tif", ".tiff", ".webp")  # written without loss; other formats become PNG
GREY_LOW, GREY_SPAN = 16 / 255, 219 / 255  # black and the distance to white on BT.601's luma


@dataclass(frozen=True)
class Enlarged:
    """What became of one file: the written file and its size in pixels, or the reason why it was
    skipped.
    """

    source: Path
    output: Path | None = None
    width: int = 0
    height: int = 0
    reason: str = ""


class Upscaler:
    """A model with its tiling: the margin is taken from the file or measured once, the tile from
    free memory.

    `watch` is told of every tile. Raises UseError for a tile that is too small for the model,
    ModelError for a model that takes images of one size alone.
    """

    def __init__(
        self, model: OnnxImageModel, tile: int | None = None, watch: Watch | None = None
    ) -> None:
        self.model = model
        self.watch = watch
        if model.size != (None, None):
            height, width = ("any" if side is None else side for side in model.size)
            raise ModelError(
                f"{model.path} takes images of one size alone ({height}x{width} pixels).",
                "Export it with height and width dynamic.",
            )
        self.margin = model.overlap or receptive_margin(model, model.channels, model.scale)
        if tile is not None:
            check_tile(tile, self.margin)
        self.tile = tile or max(self._roomy_tile(), smallest_tile(self.margin))

    def __call__(self, picture: Picture) -> Picture:
        """Enlarge a picture: grey stays grey, the depth stays, alpha is enlarged by MATLAB's
        bicubic.
        """
        peak = np.iinfo(picture.pixels.dtype).max
        values = picture.pixels.astype(np.float32) / np.float32(peak)
        if values.shape[2] == 1:
            enlarged = self._grey(values)
        else:
            enlarged = self._colour(values)
        alpha = None
        if picture.alpha is not None:
            alpha = _stored(
                imresize_float(picture.alpha / peak, enlarged.shape[:2]), picture.alpha.dtype
            )
        return Picture(_stored(enlarged, picture.pixels.dtype), alpha, picture.icc, picture.source)

    def run(self, batch: Array) -> Array:
        """Run the net as it is on [1, C, h, w], in tiles."""
        return run_tiled(self.model, batch, self.model.scale, self.tile, self.margin, self.watch)

    def _roomy_tile(self) -> int:
        return tile_for_memory(self.model.apart(largest_tensor_bytes, self.model.channels))

    def _grey(self, values: Array) -> Array:
        grey: Array
        if self.model.color == "y":
            grey = (self._net(values * GREY_SPAN + GREY_LOW) - GREY_LOW) / GREY_SPAN
        else:
            grey = self._net(np.repeat(values, 3, axis=2)).mean(axis=2, keepdims=True)
        return grey

    def _colour(self, values: Array) -> Array:
        if self.model.color == "rgb":
            return self._net(values)
        luma = self._net(to_luma(values)[:, :, None])[:, :, 0]
        return join_chroma(luma, chroma(values))

    def _net(self, values: Array) -> Array:
        """Run [h, w, C] in 0..1 through the net in tiles: [H, W, C], clipped."""
        output = self.run(np.ascontiguousarray(values.transpose(2, 0, 1)[None], dtype=np.float32))
        clipped: Array = np.clip(output[0].transpose(1, 2, 0), 0.0, 1.0)
        return clipped


def upscale_files(upscaler: Upscaler, sources: Sequence[Path], folder: Path) -> Iterator[Enlarged]:
    """Enlarge files one by one into `folder` as NAME_x2.png; a file that fails is skipped with its
    reason.

    PNG, TIFF and WebP keep their format, others become PNG. Files are written whole or not at all.
    Raises ModelError where the model itself fails: no other file would fare better.
    """
    folder.mkdir(parents=True, exist_ok=True)
    taken = {source.resolve() for source in sources}
    for source in sources:
        target = _target(source, folder, upscaler.model.scale, taken)
        taken.add(target.resolve())
        try:
            enlarged = upscaler(images.read(source))
            images.write(target, enlarged)
        except (ModelError, StopRequestedError):
            raise
        except AutomlSRError as error:
            yield Enlarged(source, reason=str(error))
            continue
        height, width = enlarged.pixels.shape[:2]
        yield Enlarged(source, target, width, height)


def expand(paths: Iterable[Path]) -> list[Path]:
    """Replace folders by the images directly in them; each file once.

    Raises DataError for a folder without images.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if path.is_dir():
            inside = images.find_images(path)
        else:
            inside = [path]
        if not inside:
            raise DataError(f"There are no images in {path}.")
        found.update(dict.fromkeys(inside))
    return list(found)


def _target(source: Path, folder: Path, scale: int, taken: set[Path]) -> Path:
    """Name the output; files of one name from several folders, and the inputs themselves, are never
    overwritten.
    """
    suffix = ".png"
    if source.suffix.lower() in KEPT_SUFFIXES:
        suffix = source.suffix.lower()
    target = folder / f"{source.stem}_x{scale}{suffix}"
    count = 1
    while target.resolve() in taken:
        count += 1
        target = folder / f"{source.stem}_x{scale}-{count}{suffix}"
    return target


def _stored(values: Array, dtype: np.dtype[Any]) -> Array:
    scaled: Array = np.clip(values, 0.0, 1.0)
    scaled *= np.iinfo(dtype).max
    return np.rint(scaled, out=scaled).astype(dtype)
