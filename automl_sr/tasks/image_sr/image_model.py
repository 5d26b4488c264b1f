"""Models that enlarge images, and their quality over image pairs.

The exporter writes what a model is into the file's `metadata_props`: `scale`, `channels` and
`color` (`y`: the net sees luma only). Files of others work too: what is missing is found from the
input's shape and a run on a small image, which also shows whether a file does what it says. It may
tell the `overlap` of tiles in LR pixels; otherwise it is measured.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from automl_sr.errors import DataError, ModelError, UseError
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.evaluation.sessions import check_one_to_one
from automl_sr.plugin.metric import Metric
from automl_sr.tasks.image_sr.luma import LUMA_WEIGHTS
from automl_sr.tasks.image_sr.metrics import IMAGE_METRICS
from automl_sr.tasks.image_sr.resize import imresize_float, upscale

Array = NDArray[Any]
Image = NDArray[np.uint8]
Color = Literal["y", "rgb"]

_CHROMA_WEIGHTS = np.array(
    [
        [-37.797, -74.203, 112.0],
        [112.0, -93.786, -18.214],
    ]
)
_TO_YCBCR = np.array([LUMA_WEIGHTS, *_CHROMA_WEIGHTS / 255.0])
_FROM_YCBCR = np.linalg.inv(_TO_YCBCR)
_OFFSET = np.array([16.0, 128.0, 128.0]) / 255.0
_STRIP = 256  # rows
_PROBE = 32  # side in pixels of the image on which a file is tried
IMAGE_SR = "image-sr"
"""The task of files that enlarge images; files of others do not tell one."""
RANK = 4
CHANNELS = (1, 3)
MOST_SCALE = 16
MOST_OVERLAP = 256
MOST_SIDE = 8192
_WANTED = "An enlarging net makes [1, C, scale*h, scale*w] of [1, C, h, w], with 1 or 3 channels."


class Pair(Protocol):
    """What a model is evaluated on.

    The LR image is [h, w, 3], the HR image [scale*h, scale*w, 3], both uint8 RGB.
    """

    @property
    def name(self) -> str:
        """The image's name in tables."""

    @property
    def path(self) -> Path | None:
        """The file of the HR image, where there is one."""

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
    """Any function on batches, made an `SRModel`.

    It may be a module under training, or a session of another runtime.
    """

    run: Callable[[Array], Array]
    scale: int
    color: Color

    def __call__(self, batch: Array, /) -> Array:
        """Run the function.

        Raises UseError for an output of another size, or that is NaN or infinite.
        """
        return checked(self.run(batch), batch, self.scale, "The model")


class OnnxImageModel(OnnxModel):
    """An ONNX file that enlarges images.

    Its scale, channels and colour are what it tells, or what is found. Raises ModelError for a file
    that does not enlarge images, or not as it says: a small image is tried.
    """

    channels: int
    """Number of input channels."""
    color: Color
    """`y` for a net that works on luma, `rgb` otherwise; one channel counts as luma."""
    overlap: int | None
    """LR pixels by which tiles have to overlap, if the file says so."""
    scale: int
    """How many times larger the output's sides are."""

    def check(self) -> None:
        """Find out what the file enlarges, and how much. Raises ModelError."""
        # In this order: each of these steps relies on what the former ones have found.
        self._check_task()
        check_one_to_one(self.path, self.session.signature)
        self._check_shape()
        self.channels = self._channels()
        self.color = self._color()
        self.overlap = self._overlap()
        self.scale = self._scale()

    def __call__(self, batch: Array, /) -> Array:
        """Enlarge one batch.

        Raises UseError for an output of another size, or that is NaN or infinite.
        """
        return checked(
            super().__call__(batch),
            batch,
            self.scale,
            str(self.path),
        )

    @property
    def size(self) -> tuple[int | None, int | None]:
        """Height and width of the only images that the net takes, where it fixes them."""
        shape = self.inputs[0].shape
        if len(shape) != RANK:
            return (None, None)
        height, width = shape[2:]
        return (_fixed(height), _fixed(width))

    def example(
        self,
        height: int,
        width: int,
    ) -> Array:
        """Make a random image batch [1, C, height, width] in 0..1, the same at every call."""
        shape = (1, self.channels, height, width)
        generator = np.random.default_rng(0)
        return generator.random(shape, dtype=np.float32)

    def _check_task(self) -> None:
        """Raise ModelError for a file that says it was made for something else."""
        kind = self.metadata.get("task", IMAGE_SR)
        if kind != IMAGE_SR:
            raise ModelError(
                f"{self.path} is a model of the task {kind[:40]!r}, not one that enlarges images.",
                "`automl-sr evaluate` measures it where that task is installed.",
            )

    def _check_shape(self) -> None:
        """Raise ModelError for an input that is no batch of images."""
        shape = self.inputs[0].shape
        if not shape:
            return  # a file may leave its rank open
        if len(shape) != RANK:
            raise ModelError(f"{self.path} takes {len(shape)} dimensions.", _WANTED)
        for side in shape:
            if isinstance(side, int) and not 1 <= side <= MOST_SIDE:
                raise ModelError(
                    f"{self.path} takes batches of the size {_times(shape)} alone.",
                    _WANTED,
                )
        images = shape[0]
        if isinstance(images, int) and images != 1:
            raise ModelError(f"{self.path} takes batches of {images} images.", _WANTED)

    def _channels(self) -> int:
        """Return the channels that the input fixes, or else those that the metadata tell."""
        shape = self.inputs[0].shape
        count = None
        if len(shape) == RANK:
            count = _fixed(shape[1])
        if count is None:
            count = self.number("channels")
        if count not in CHANNELS:
            raise ModelError(
                f"{self.path} takes {count} channels.",
                "An enlarging net has 1 (luma) or 3 (RGB).",
            )
        return count

    def _color(self) -> Color:
        found: Color = "rgb"
        if self.channels == 1:
            found = "y"
        told = self.metadata.get("color")
        if told in ("y", "rgb") and told != found:
            raise ModelError(
                f"{self.path} says in its metadata that it works on {told}, but it takes"
                f" {self.channels} channels.",
                "Export it again.",
            )
        return found

    def _overlap(self) -> int | None:
        if "overlap" not in self.metadata:
            return None
        overlap = self.number("overlap")
        if not 0 <= overlap <= MOST_OVERLAP:
            raise ModelError(
                f"{self.path} says in its metadata that its tiles overlap by {overlap} pixels.",
                f"That is a number from 0 to {MOST_OVERLAP}: export it again.",
            )
        return overlap

    def _scale(self) -> int:
        """Measure the scale on a small image, and compare it with what the file says."""
        height, width = (side or _PROBE for side in self.size)
        image = self.example(height, width)
        name = self.outputs[0].name
        outputs = self.session.first_run({self.inputs[0].name: image}, [name])
        output = outputs[name]

        scale = 0
        if output.ndim == RANK:
            scale = output.shape[-1] // width
        if scale < 1 or output.shape != (1, self.channels, scale * height, scale * width):
            became = f"{_times(image.shape)} becomes {_times(output.shape)}"
            raise ModelError(f"{self.path} is no upscaling net: {became}.", _WANTED)
        if scale > MOST_SCALE:
            raise ModelError(
                f"{self.path} enlarges {scale} times.",
                f"The most is {MOST_SCALE} times.",
            )
        if "scale" in self.metadata and self.number("scale") != scale:
            raise ModelError(
                f"{self.path} says in its metadata that it enlarges {self.number('scale')} times,"
                f" but it enlarges {scale} times.",
                "Export it again.",
            )
        if not _finite(output):
            raise ModelError(
                f"{self.path} gives NaN or infinite values for an ordinary image.",
                "Export it again.",
            )
        return scale


def checked(
    output: Array,
    batch: Array,
    scale: int,
    name: str,
) -> Array:
    """Return the output of a net for a batch.

    Raises UseError for another size than promised, NaN and infinity.
    """
    images, channels, height, width = batch.shape
    high = scale * height
    wide = scale * width
    if output.shape != (images, channels, high, wide):
        became = f"{_times(output.shape)} of {_times(batch.shape)}"
        raise UseError(f"{name} makes {became}, not {high}x{wide} pixels of each channel.")
    if not _finite(output):
        raise UseError(
            f"{name} gives NaN or infinite values for an image of {width}x{height} pixels."
        )
    return output


def _fixed(side: object) -> int | None:
    """Return the length of a side that a file fixes; it names those that it leaves open."""
    if isinstance(side, int):
        return side
    return None


def _times(shape: Sequence[object]) -> str:
    """Write a shape for a sentence."""
    return "x".join(map(str, shape)) or "a single number"


def _finite(values: Array) -> bool:
    """Return whether all values are numbers."""
    # Their sum tells it several times faster, unless it overflows.
    with np.errstate(over="ignore", invalid="ignore"):
        total = values.sum()
    if np.isfinite(total):
        return True
    return bool(np.isfinite(values).all())


def network_output(model: SRModel, lr: Image) -> Image:
    """Run a net on an LR image [h, w, 3] and return its output, clipped and rounded.

    That is uint8 [H, W, 3], or the luma [H, W] of a net that works on luma.
    """
    if lr.ndim != 3 or lr.shape[2] != 3 or lr.dtype != np.uint8:
        raise DataError(
            f"A low-resolution image has to be uint8 [h, w, 3], not {lr.dtype} {list(lr.shape)}."
        )
    if model.color == "y":
        luma = to_luma(lr / 255.0)  # not rounded: in training it is not either
        batch = luma[None, None].astype(np.float32)
        return _to_uint8(model(batch)[0, 0])

    planes = lr.transpose(2, 0, 1)[None]
    batch = planes.astype(np.float32) / np.float32(255)
    enlarged = model(batch)[0]
    return _to_uint8(enlarged.transpose(1, 2, 0))


def super_resolve(model: SRModel, lr: Image) -> Image:
    """Enlarge an LR image [h, w, 3] uint8 to RGB.

    A luma net's chroma comes from MATLAB's bicubic.
    """
    output = network_output(model, lr)
    if output.ndim == 2:
        return with_chroma(output, lr)
    return output


def with_chroma(luma: Image, lr: Image) -> Image:
    """Join the luma [H, W] of a net with the enlarged chroma of its LR image [h, w, 3] to RGB."""
    planes = chroma(lr / 255.0)
    return _to_uint8(join_chroma(luma / 255.0, planes))


def to_luma(rgb: Array) -> Array:
    """Return BT.601's luma [h, w], 16/255 to 235/255, of RGB [h, w, 3] in 0..1."""
    luma: Array = rgb @ _TO_YCBCR[0] + _OFFSET[0]
    return luma


def chroma(rgb: Array) -> Array:
    """Return BT.601's chroma [h, w, 2], 16/255 to 240/255, of RGB [h, w, 3] in 0..1."""
    planes: Array = rgb @ _TO_YCBCR[1:].T + _OFFSET[1:]
    return planes


def join_chroma(luma: Array, planes: Array) -> Array:
    """Join luma [H, W] with chroma [h, w, 2] to RGB [H, W, 3] in about 0..1.

    The chroma is enlarged by MATLAB's bicubic.
    """
    height, width = luma.shape
    enlarged = imresize_float(planes, (height, width))
    rgb = np.empty((height, width, 3), dtype=np.float32)
    # In strips, so that a large image needs no second copy in double precision.
    for top in range(0, height, _STRIP):
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
    """Measure quality metrics over image pairs.

    Returns `{"psnr_y": mean, ..., "per_image": [{"name", "psnr_y", ...}]}`. model: a net, or the
    word `bicubic`. Without `metrics` those of the task. Raises DataError for no pairs, UseError for
    a model of another scale.
    """
    if metrics is None:
        metrics = IMAGE_METRICS
    chosen = []
    for metric in metrics:
        if metric.level == "quality":
            chosen.append(metric)
    _check_model(model, scale)

    rows: list[dict[str, Any]] = []
    for pair in pairs:
        qualities = _qualities(model, pair, scale, chosen)
        rows.append({"name": pair.name, **qualities})
    if not rows:
        raise DataError("There are no images to evaluate on.")

    result: dict[str, Any] = {}
    for metric in chosen:
        # fsum: the mean does not depend on the order of the images.
        total = math.fsum(row[metric.name] for row in rows)
        result[metric.name] = total / len(rows)
    result["per_image"] = rows
    return result


def _check_model(model: SRModel | str, scale: int) -> None:
    """Raise UseError for a word that is no model, or a model of another scale."""
    if isinstance(model, str):
        if model != "bicubic":
            raise UseError(f"{model!r} is no model.", "Give a net, or the word 'bicubic'.")
        return
    if model.scale != scale:
        raise UseError(
            f"The model enlarges {model.scale} times, not {scale} times.",
            f"Use a scale of {model.scale}.",
        )


def _qualities(
    model: SRModel | str,
    pair: Pair,
    scale: int,
    metrics: Sequence[Metric],
) -> dict[str, float]:
    if isinstance(model, str):
        output = upscale(pair.lr, scale)
    else:
        output = network_output(model, pair.lr)

    images = {"y": output}
    if output.ndim == 2:
        images["y"] = output[:, :, None]
    if any(metric.color == "rgb" for metric in metrics):
        images["rgb"] = output
        if output.ndim == 2:
            images["rgb"] = with_chroma(output, pair.lr)

    values: dict[str, float] = {}
    for metric in metrics:
        shown = images[metric.color]
        values[metric.name] = metric.of_sample(shown, pair.hr, scale, path=pair.path)
    return values


def _to_uint8(values: Array) -> Image:
    levels = np.clip(values, 0.0, 1.0) * 255.0
    return np.rint(levels).astype(np.uint8)
