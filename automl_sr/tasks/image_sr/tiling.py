"""Tiles: an image of any size through a net in bounded memory, without seams.

A tile's outermost pixels are spoilt by the net's padding as far as its receptive field reaches:
they get no weight. Behind them neighbouring tiles are blended with a linear ramp, so that for nets
with a bounded receptive field the result is that of the whole image.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import UseError

Array = NDArray[Any]
Run = Callable[[Array], Array]
Watch = Callable[[int, int], None]
"""Is told before every tile how many of how many are done; what it raises ends the work."""

RAMP = 8  # LR pixels over which two tiles are blended
# tiles begin at multiples of this, so that strides and attention windows lie as in the whole image
ALIGN = 16
NOTICED = 0.1 / 255  # a tenth of a level of eight bits
LARGEST_MARGIN = 64
LARGEST_TILE = 1024
LIVE_TENSORS = 8  # how many of its largest tensors a run is assumed to hold at once


@dataclass(frozen=True)
class Span:
    """One tile along one axis: LR pixels [start, stop), and the weights of its output pixels."""

    start: int
    stop: int
    weights: Array


def smallest_tile(margin: int) -> int:
    """Return the smallest side of a tile, in LR pixels."""
    # The last term is what is left between margins and ramp.
    return 2 * margin + RAMP + ALIGN


def check_tile(tile: int, margin: int) -> None:
    """Raise UseError for a tile that is smaller than `smallest_tile(margin)`."""
    smallest = smallest_tile(margin)
    if tile < smallest:
        raise UseError(
            f"A tile of {tile} pixels is too small for a model that looks {margin} pixels around.",
            f"Use at least {smallest}.",
        )


def spans(
    length: int,
    tile: int,
    margin: int,
    scale: int,
) -> list[Span]:
    """Cut an axis of `length` LR pixels into overlapping tiles.

    Their weights add up to one at every output pixel.
    """
    if length <= tile:
        whole = np.ones(length * scale, dtype=np.float32)
        return [Span(0, length, whole)]
    check_tile(tile, margin)

    inner = tile - 2 * margin - RAMP
    step = inner // ALIGN * ALIGN
    last = length - tile + step
    starts = list(range(0, last, step))
    pixels = np.arange(length * scale)
    position = (pixels + 0.5) / scale
    # Weight passes over where both tiles are clean; steps are longer than a ramp, so that no more
    # than two tiles share.
    falls = []
    for after in starts[1:]:
        begin = after + margin
        ramp = (begin + RAMP - position) / RAMP
        falls.append(np.clip(ramp, 0, 1))

    tiles = []
    for index, start in enumerate(starts):
        stop = min(start + tile, length)
        weights = np.ones_like(position)
        if index > 0:
            weights = weights * (1 - falls[index - 1])
        if index < len(falls):
            weights = weights * falls[index]
        first = start * scale
        last = stop * scale
        own = weights[first:last].astype(np.float32)
        tiles.append(Span(start, stop, own))
    return tiles


def run_tiled(
    run: Run,
    batch: Array,
    scale: int,
    tile: int,
    margin: int,
    watch: Watch | None = None,
) -> Array:
    """Run a net on [1, C, h, w] in tiles of at most `tile` LR pixels a side.

    Returns float32 [1, C, scale*h, scale*w]. margin: LR pixels by which an output pixel may depend
    on its surroundings (`receptive_margin`).
    """
    height, width = batch.shape[2:]
    rows = spans(height, tile, margin, scale)
    columns = spans(width, tile, margin, scale)
    tiles = list(itertools.product(rows, columns))
    tell = watch or _nobody
    if len(tiles) == 1:
        tell(0, 1)
        return run(batch)

    channels = batch.shape[1]
    shape = (1, channels, height * scale, width * scale)
    result = np.zeros(shape, dtype=np.float32)
    for done, (row, column) in enumerate(tiles):
        tell(done, len(tiles))
        taken = batch[:, :, row.start : row.stop]
        taken = taken[:, :, :, column.start : column.stop]
        part = run(np.ascontiguousarray(taken))

        down = slice(row.start * scale, row.stop * scale)
        right = slice(column.start * scale, column.stop * scale)
        place = result[:, :, down, right]
        weights = row.weights[:, None] * column.weights[None, :]
        place += part * weights
    return result


def _nobody(done: int, total: int) -> None:
    """Watch nothing."""


def receptive_margin(
    run: Run,
    channels: int,
    scale: int,
    largest: int = LARGEST_MARGIN,
) -> int:
    """Measure how far, in LR pixels, an output pixel looks.

    It looks where a changed input pixel changes it by a tenth of a level. A net that looks farther
    than `largest` (attention over the whole image, recurrent rows) gets `largest`.
    """
    side = 32
    while True:
        # Three random images, so that no rectifier hides all changes.
        reach = 0
        for seed in range(3):
            reach = max(reach, _reach(run, channels, scale, side, seed))
        # A reach up to the edge may be cut off by it: look again on a larger image.
        edge = side // 2
        if reach < edge - 2 or edge >= largest:
            return min(reach + 1, largest)
        side *= 2


def tile_for_memory(tensor_bytes: float, available: int | None = None) -> int:
    """Choose a tile's side in LR pixels so that a run fits into a quarter of the free memory.

    tensor_bytes: of the net's largest tensor, per pixel of its input. available: bytes.
    """
    if available is None:
        import psutil

        available = int(psutil.virtual_memory().available)
    per_pixel = tensor_bytes * LIVE_TENSORS
    pixels = int(available / 4 / per_pixel)
    side = math.isqrt(pixels)
    aligned = side // ALIGN * ALIGN
    largest = min(LARGEST_TILE, aligned)
    return max(ALIGN, largest)


def largest_tensor_bytes(
    path: Path | str,
    channels: int,
    side: int = 64,
) -> float:
    """Return the size of an ONNX net's largest tensor in bytes per pixel of its input.

    Its shapes are inferred, not run.
    """
    import onnx

    from automl_sr.compression.onnx_file import load_onnx

    model = load_onnx(path, beside=False)
    # With sizes instead of names: shapes that follow from a name cannot be multiplied.
    dims = model.graph.input[0].type.tensor_type.shape.dim
    sizes = (1, channels, side, side)
    for dim, value in zip(dims, sizes, strict=False):
        dim.dim_value = value
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph

    largest = channels * side * side
    for tensor in (*inferred.value_info, *inferred.output):
        shape = tensor.type.tensor_type.shape
        values = math.prod(dim.dim_value for dim in shape.dim)
        largest = max(largest, values)
    return 4 * largest / (side * side)  # values of 4 bytes


def _reach(
    run: Run,
    channels: int,
    scale: int,
    side: int,
    seed: int,
) -> int:
    """Return how many LR pixels from a changed one the output still changes."""
    generator = np.random.default_rng(seed)
    shape = (1, channels, side, side)
    image = generator.random(shape, dtype=np.float32)
    centre = side // 2
    changed = image.copy()
    # To the other end of its range: the largest change that an image can have there.
    present = image[:, :, centre, centre]
    changed[:, :, centre, centre] = 1 - np.rint(present)

    after = run(changed)
    before = run(image)
    difference = np.abs(after - before)
    noticed = difference.max(axis=(0, 1)) > NOTICED
    rows, columns = np.nonzero(noticed)
    if rows.size == 0:
        return 0
    down = np.abs(rows // scale - centre)
    right = np.abs(columns // scale - centre)
    farthest = max(down.max(), right.max())
    return int(farthest)
