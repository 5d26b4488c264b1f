"""A picture upscaled by bicubic and by exported models, measured as `automl-sr evaluate` does."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from automl_sr.app.server.background import Stopped
from automl_sr.data import images
from automl_sr.errors import AutomlSRError, UseError
from automl_sr.evaluation.guard import Guard
from automl_sr.search.environment import cores
from automl_sr.tasks.image_sr.image_model import (
    ImageModel,
    OnnxImageModel,
    network_output,
    with_chroma,
)
from automl_sr.tasks.image_sr.quality import psnr_y, ssim_y
from automl_sr.tasks.image_sr.resize import upscale
from automl_sr.tasks.image_sr.tiling import smallest_tile
from automl_sr.tasks.image_sr.upscale import Upscaler

if TYPE_CHECKING:
    from automl_sr.app.preview.pictures import Subject
    from automl_sr.presentation.stored_models import StoredModels
    from automl_sr.store.records import TrialRecord

Image = NDArray[np.uint8]
Watch = Callable[[str, int, int], None]
"""Is told what is at work, and how many of its tiles are done, now and then the same again; what it
raises ends it.
"""

LOOK_SECONDS = 0.4
"""So often a model at work is told again."""
TILE = 256
"""Largest side of a tile in low-resolution pixels where nothing is measured, so that one can stop
in between.
"""


@dataclass(frozen=True, eq=False)
class Result:
    """One upscaled picture, or the reason why there is none.

    PSNR and SSIM are there where the original is known.
    """

    key: str
    title: str
    image: Image | None = None
    psnr_y: float | None = None
    ssim_y: float | None = None
    seconds: float | None = None
    error: str = ""


def upscaled(
    subject: Subject,
    trials: Sequence[TrialRecord],
    models: StoredModels,
    watch: Watch,
) -> Iterator[Result]:
    """Yield the original where it is known, what bicubic makes of it, and each trial as it ends."""
    if subject.original is not None:
        yield Result("original", "original", subject.original)
    watch("bicubic", 0, 1)
    begin = time.perf_counter()
    image = upscale(subject.lr, subject.scale)
    seconds = time.perf_counter() - begin
    yield _measured(subject, "bicubic", "bicubic", image, image, seconds)
    for trial in trials:
        yield by_trial(subject, trial, models, watch)


def by_trial(
    subject: Subject,
    trial: TrialRecord,
    models: StoredModels,
    watch: Watch,
) -> Result:
    """Upscale with one trial's exported file.

    Whatever is wrong with the file becomes the result's error.
    """
    title = f"trial {trial.number}"
    path = ""
    try:
        watch(title, 0, 1)
        file = models.path(trial)
        path = str(file)
        progress = _Progress(title, watch)
        model = OnnxImageModel(file, cores(), guard=Guard(stop=progress.again))
        if model.scale != subject.scale:
            raise UseError(f"The model enlarges {model.scale} times, not {subject.scale} times.")
        upscaler = Upscaler(model, watch=progress)
        # From here on: loading the model is no part of the time that is shown.
        begin = time.perf_counter()
        output, image = _run(upscaler, subject)
        seconds = time.perf_counter() - begin
        return _measured(subject, str(trial.number), title, output, image, seconds)
    except Stopped:
        raise
    except AutomlSRError as error:
        reason = str(error)
    except Exception as error:  # noqa: BLE001 - a file of a store may fail in any way, the other trials still run
        reason = f"{type(error).__name__}: {error}"
    if path:  # where files of this machine lie is nobody's business
        reason = reason.replace(path, "Its ONNX file")
    return Result(str(trial.number), title, error=reason)


class _Progress:
    """Tells who watches where a model is, also while a tile takes long: it may have no end."""

    def __init__(self, title: str, watch: Watch) -> None:
        self._title = title
        self._watch = watch
        self._place = (0, 1)
        self._told = time.monotonic()

    def __call__(self, done: int, total: int) -> None:
        self._place = (done, total)
        self._told = time.monotonic()
        self._watch(self._title, done, total)

    def again(self) -> bool:
        """Tell the same once more, if it is time."""
        if time.monotonic() - self._told >= LOOK_SECONDS:
            self(*self._place)
        # Never true: who watches asks for an end by raising.
        return False


def _run(upscaler: Upscaler, subject: Subject) -> tuple[Image, Image]:
    """Return what is measured, the luma alone of a net that works on luma, and what is shown."""
    model = upscaler.model
    if subject.original is None:
        # As `upscale` does it, but in small tiles: between them one can stop.
        least = max(TILE, smallest_tile(upscaler.margin))
        upscaler.tile = min(upscaler.tile, least)
        image = images.to_rgb8(upscaler(subject.picture))
        return image, image
    # As `evaluate` does it: the same pixels give the same PSNR.
    lr = subject.lr
    output = network_output(ImageModel(upscaler.run, model.scale, model.color), lr)
    if output.ndim == 2:
        return output, with_chroma(output, lr)
    return output, output


def _measured(
    subject: Subject,
    key: str,
    title: str,
    output: Image,
    image: Image,
    seconds: float,
) -> Result:
    if image.shape[:2] != subject.size:
        raise UseError(f"The model gives {image.shape[1]}x{image.shape[0]} pixels.")
    truth = subject.original
    if truth is None:
        return Result(key, title, image, seconds=seconds)
    psnr = psnr_y(output, truth, subject.scale)
    ssim = ssim_y(output, truth, subject.scale)
    return Result(key, title, image, psnr, ssim, seconds)
