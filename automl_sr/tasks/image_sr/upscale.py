"""Enlarge image files with a shipped model.

They may be of any size; grey, 16 bit, transparency and colour profile are kept.
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
GREY_LOW = 16 / 255  # black on BT.601's luma
GREY_SPAN = 219 / 255  # and from there to white


@dataclass(frozen=True)
class Enlarged:
    """What became of one file.

    It is the written file and its size in pixels, or the reason why it was skipped.
    """

    source: Path
    output: Path | None = None
    width: int = 0
    height: int = 0
    reason: str = ""


class Upscaler:
    """A model with its tiling.

    The margin is taken from the file or measured once, the tile follows from free memory. `watch`
    is told of every tile. Raises UseError for a tile that is too small for the model, ModelError
    for a model that takes images of one size alone.
    """

    def __init__(
        self,
        model: OnnxImageModel,
        tile: int | None = None,
        watch: Watch | None = None,
    ) -> None:
        self.model = model
        self.watch = watch
        if model.size != (None, None):
            height, width = (side or "any" for side in model.size)
            raise ModelError(
                f"{model.path} takes images of one size alone ({height}x{width} pixels).",
                "Export it with height and width dynamic.",
            )
        self.margin = model.overlap or receptive_margin(model, model.channels, model.scale)

        if tile is not None:
            check_tile(tile, self.margin)
        self.tile = tile or max(self._roomy_tile(), smallest_tile(self.margin))

    def __call__(self, picture: Picture) -> Picture:
        """Enlarge a picture: grey stays grey, the depth stays.

        Alpha is enlarged by MATLAB's bicubic.
        """
        depth = picture.pixels.dtype
        peak = np.iinfo(depth).max
        values = picture.pixels.astype(np.float32) / np.float32(peak)
        if values.shape[2] == 1:
            enlarged = self._grey(values)
        else:
            enlarged = self._colour(values)

        alpha = None
        if picture.alpha is not None:
            mask = imresize_float(picture.alpha / peak, enlarged.shape[:2])
            alpha = _stored(mask, picture.alpha.dtype)
        return Picture(_stored(enlarged, depth), alpha, picture.icc, picture.source)

    def run(self, batch: Array) -> Array:
        """Run the net as it is on [1, C, h, w], in tiles."""
        return run_tiled(
            self.model,
            batch,
            self.model.scale,
            self.tile,
            self.margin,
            self.watch,
        )

    def _roomy_tile(self) -> int:
        # Called where the file is open: reading a file of others may hang.
        per_pixel = self.model.apart(largest_tensor_bytes, self.model.channels)
        return tile_for_memory(per_pixel)

    def _grey(self, values: Array) -> Array:
        grey: Array
        if self.model.color == "y":
            # Grey covers 0..1, and the luma that such a net was trained on does not.
            luma = self._net(values * GREY_SPAN + GREY_LOW)
            grey = (luma - GREY_LOW) / GREY_SPAN
        else:
            rgb = self._net(np.repeat(values, 3, axis=2))
            grey = rgb.mean(axis=2, keepdims=True)
        return grey

    def _colour(self, values: Array) -> Array:
        if self.model.color == "rgb":
            return self._net(values)
        plane = to_luma(values)[:, :, None]
        luma = self._net(plane)[:, :, 0]
        return join_chroma(luma, chroma(values))

    def _net(self, values: Array) -> Array:
        """Run [h, w, C] in 0..1 through the net in tiles: [H, W, C], clipped."""
        batch = values.transpose(2, 0, 1)[None]
        output = self.run(np.ascontiguousarray(batch, dtype=np.float32))
        image = output[0].transpose(1, 2, 0)
        clipped: Array = np.clip(image, 0.0, 1.0)
        return clipped


def upscale_files(
    upscaler: Upscaler,
    sources: Sequence[Path],
    folder: Path,
) -> Iterator[Enlarged]:
    """Enlarge files one by one into `folder` as NAME_x2.png.

    A file that fails is skipped with its reason. PNG, TIFF and WebP keep their format, others
    become PNG. Files are written whole or not at all. Raises ModelError where the model itself
    fails.
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
            raise  # no other file would fare better
        except AutomlSRError as error:
            yield Enlarged(source, reason=str(error))
            continue
        height, width = enlarged.pixels.shape[:2]
        yield Enlarged(source, target, width, height)


def expand(paths: Iterable[Path]) -> list[Path]:
    """Replace folders by the images directly in them; each file once.

    Raises DataError for a folder without images.
    """
    files: dict[Path, None] = {}  # a dictionary, because a set forgets the order
    for path in paths:
        if not path.is_dir():
            files[path] = None
            continue
        inside = images.find_images(path)
        if not inside:
            raise DataError(f"There are no images in {path}.")
        files.update(dict.fromkeys(inside))
    return list(files)


def _target(
    source: Path,
    folder: Path,
    scale: int,
    taken: set[Path],
) -> Path:
    """Name the output of a file; what is `taken` is never overwritten.

    Taken are the inputs themselves, and files of one name from several folders.
    """
    suffix = source.suffix.lower()
    if suffix not in KEPT_SUFFIXES:
        suffix = ".png"
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
