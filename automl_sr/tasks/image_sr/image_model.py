"""Models that enlarge images, and their quality over image pairs.

The exporter writes what a model is into the file's `metadata_props`: `scale`, `channels` and `color` (`y`: the net sees
luma only). Files of others work too: what is missing is found from the input's shape and a run on a small image. A file
may also tell the `overlap` of tiles in LR pixels; otherwise it is measured.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import DataError, UseError
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.metric import Metric
from automl_sr.tasks.image_sr.luma import LUMA_WEIGHTS
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS
from automl_sr.tasks.image_sr.resize import imresize_float, upscale

Array = NDArray[Any]
Image = NDArray[np.uint8]
Color = Literal["y", "rgb"]

_TO_YCBCR = np.array([LUMA_WEIGHTS, *np.array([[-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255.0])
_FROM_YCBCR = np.linalg.inv(_TO_YCBCR)
_OFFSET = np.array([16.0, 128.0, 128.0]) / 255.0
_STRIP = 256  # rows
_PROBE = 32  # side in pixels of the image on which a foreign file's scale is found


class Pair(Protocol):
    """What a model is evaluated on: LR image [h, w, 3] and HR image [scale*h, scale*w, 3], uint8 RGB."""

    @property
    def name(self) -> str:
        """The image's name in tables."""

    @property
    def lr(self) -> Image:
        """What the model gets."""

    @property
    def hr(self) -> Image:
        """What it should give."""


class SRModel(Protocol):
    """An upscaling net: float32 [1, C, h, w] in 0..1 to [1, C, scale*h, scale*w]."""

    @property
    def scale(self) -> int:
        """How many times larger the output's sides are."""

    @property
    def color(self) -> Color:
        """Whether it works on luma (`y`, one channel) or on RGB."""

    def __call__(self, batch: Array, /) -> Array:
        """Run the net on one batch."""


@dataclass(frozen=True)
class ImageModel:
    """Any function on batches, made an `SRModel`: a module under training, a session of another runtime."""

    run: Callable[[Array], Array]
    scale: int
    color: Color

    def __call__(self, batch: Array, /) -> Array:
        """Run the function."""
        return self.run(batch)


class OnnxImageModel(OnnxModel):
    """An ONNX file that enlarges images: its scale, channels and colour, as it tells them or as they are found."""

    @functools.cached_property
    def channels(self) -> int:
        """Number of input channels."""
        shape = self.inputs[0].shape
        count = shape[1] if len(shape) == 4 else None
        return count if isinstance(count, int) else self.number("channels")

    @functools.cached_property
    def scale(self) -> int:
        """How many times larger the output's sides are, from the metadata or else from a run on a small image."""
        if "scale" in self.metadata:
            return self.number("scale")
        output = self(self.example(_PROBE, _PROBE))
        ratio = output.shape[-1] / _PROBE
        if output.ndim != 4 or not ratio.is_integer() or output.shape[-2:] != (ratio * _PROBE,) * 2:
            raise UseError(f"{self.path} is no upscaling net: {_PROBE}x{_PROBE} becomes {list(output.shape)}.")
        return int(ratio)

    @property
    def color(self) -> Color:
        """`y` for a net that works on luma, `rgb` otherwise; one channel counts as luma unless the metadata differ."""
        if self.metadata.get("color") in ("y", "rgb"):
            return "y" if self.metadata["color"] == "y" else "rgb"
        return "y" if self.channels == 1 else "rgb"

    @property
    def overlap(self) -> int | None:
        """LR pixels by which tiles have to overlap, if the file says so."""
        return self.number("overlap") if "overlap" in self.metadata else None

    def example(self, height: int, width: int) -> Array:
        """Make a random image batch [1, C, height, width] in 0..1, the same at every call."""
        shape = (1, self.channels, height, width)
        return np.random.default_rng(0).random(shape, dtype=np.float32)


def network_output(model: SRModel, lr: Image) -> Image:
    """Run a net on an LR image [h, w, 3]: uint8 [H, W, 3], or the luma [H, W] of a net that works on luma.

    A luma net gets unrounded Y / 255; outputs are clipped and rounded.
    """
    if lr.ndim != 3 or lr.shape[2] != 3 or lr.dtype != np.uint8:
        raise DataError(f"A low-resolution image has to be uint8 [h, w, 3], not {lr.dtype} {list(lr.shape)}.")
    if model.color == "y":
        luma = to_luma(lr / 255.0)
        return _to_uint8(model(luma[None, None].astype(np.float32))[0, 0])
    batch = lr.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255)
    return _to_uint8(model(batch)[0].transpose(1, 2, 0))


def super_resolve(model: SRModel, lr: Image) -> Image:
    """Enlarge an LR image [h, w, 3] uint8 to RGB; a luma net's chroma comes from MATLAB's bicubic."""
    output = network_output(model, lr)
    return with_chroma(output, lr) if output.ndim == 2 else output


def with_chroma(luma: Image, lr: Image) -> Image:
    """Join the luma [H, W] of a net with the bicubically enlarged chroma of its LR image [h, w, 3] to RGB."""
    return _to_uint8(join_chroma(luma / 255.0, chroma(lr / 255.0)))


def to_luma(rgb: Array) -> Array:
    """Give BT.601's luma [h, w], 16/255 to 235/255, of RGB [h, w, 3] in 0..1."""
    luma: Array = rgb @ _TO_YCBCR[0] + _OFFSET[0]
    return luma


def chroma(rgb: Array) -> Array:
    """Give BT.601's chroma [h, w, 2], 16/255 to 240/255, of RGB [h, w, 3] in 0..1."""
    planes: Array = rgb @ _TO_YCBCR[1:].T + _OFFSET[1:]
    return planes


def join_chroma(luma: Array, planes: Array) -> Array:
    """Join luma [H, W] with chroma [h, w, 2], enlarged by MATLAB's bicubic, to RGB [H, W, 3] in about 0..1."""
    enlarged = imresize_float(planes, (luma.shape[0], luma.shape[1]))
    rgb = np.empty((*luma.shape, 3), dtype=np.float32)
    for top in range(0, luma.shape[0], _STRIP):  # so that a large image needs no second copy in double precision
        rows = slice(top, top + _STRIP)
        ycbcr = np.concatenate([luma[rows, :, None], enlarged[rows]], axis=2)
        rgb[rows] = (ycbcr - _OFFSET) @ _FROM_YCBCR.T
    return rgb


def evaluate_pairs(
    model: SRModel | str,
    pairs: Iterable[Pair],
    scale: int,
    metrics: Sequence[Metric] | None = None,
) -> dict[str, Any]:
    """Measure quality metrics over image pairs: `{"psnr_y": mean, ..., "per_image": [{"name", "psnr_y", ...}]}`.

    model: a net, or the word `bicubic`. Without `metrics` those of the task. Raises DataError for no pairs, UseError
    for a model of another scale.
    """
    chosen = [metric for metric in (IMAGE_METRICS if metrics is None else metrics) if metric.level == "quality"]
    if isinstance(model, str):
        if model != "bicubic":
            raise UseError(f"{model!r} is no model.", "Give a net, or the word 'bicubic'.")
    elif model.scale != scale:
        raise UseError(f"The model enlarges {model.scale} times, not {scale} times.", f"Use a scale of {model.scale}.")
    rows: list[dict[str, Any]] = [{"name": pair.name, **_qualities(model, pair, scale, chosen)} for pair in pairs]
    if not rows:
        raise DataError("There are no images to evaluate on.")
    means = {metric.name: math.fsum(row[metric.name] for row in rows) / len(rows) for metric in chosen}
    return {**means, "per_image": rows}


def _qualities(model: SRModel | str, pair: Pair, scale: int, metrics: Sequence[Metric]) -> dict[str, float]:
    output = upscale(pair.lr, scale) if isinstance(model, str) else network_output(model, pair.lr)
    images: Mapping[str, Image] = {"y": output[:, :, None] if output.ndim == 2 else output}
    if any(metric.color == "rgb" for metric in metrics):
        images = {**images, "rgb": with_chroma(output, pair.lr) if output.ndim == 2 else output}
    return {metric.name: float(metric.function()(images[metric.color], pair.hr, scale)) for metric in metrics}


def _to_uint8(values: Array) -> Image:
    return np.rint(np.clip(values, 0.0, 1.0) * 255.0).astype(np.uint8)
