"""Pictures: cuts from validation images as they are, enlarged by bicubic, and by the best models as exported."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from automl_sr.data.samples import Pair
    from automl_sr.evaluation.runtime import OnnxModel
    from automl_sr.report.models import StoredModels
    from automl_sr.store.records import TrialRecord
    from automl_sr.study.spec import StudySpec

Image = NDArray[np.uint8]
SIDE = 128
"""Side of a cut in pixels: 16 of them, kept without loss, are about half a megabyte."""
MODELS = 3


def examples(spec: StudySpec, front: Sequence[TrialRecord], models: StoredModels, count: int) -> dict[str, Any]:
    """Show the first validation images. Raises AutomlSRError where images or files are missing."""
    from automl_sr.tasks.image_sr import ImageSR

    if count < 1:
        return {"reason": "No images were asked for."}
    if not isinstance(spec.task, ImageSR):
        return {"reason": f"The task {spec.task.kind!r} has no images to show."}
    if not front:
        return {"reason": "There is no model yet whose images could be shown."}
    from automl_sr.evaluation.runtime import OnnxModel
    from automl_sr.search.study import cores

    pairs = _validation(spec.task, spec.search.seed, count)
    shown = spread(front, MODELS)
    opened = {trial.number: OnnxModel(models.path(trial), cores()) for trial in shown}
    return {
        "set": spec.task.valid if isinstance(spec.task.valid, str) else ", ".join(spec.task.valid),
        "scale": spec.task.scale,
        "side": SIDE,
        "models": list(opened),
        "rows": [_row(pair, spec.task.scale, opened) for pair in pairs],
    }


def spread(front: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Choose some members from end to end of a front that is in the order of its first objective."""
    if len(front) <= most:
        return list(front)
    places = {round(place * (len(front) - 1) / (most - 1)) for place in range(most)}
    return [front[place] for place in sorted(places)]


def _validation(task: Any, seed: int, count: int) -> list[Pair]:
    """Read the first validation images only; training images stay where they are."""
    from automl_sr.data.catalog import Catalog, ImageSet
    from automl_sr.data.samples import load_pairs

    _, valid = task._sets(Catalog.from_environment(), seed)
    some = ImageSet(valid.name, valid.hr[:count], {scale: paths[:count] for scale, paths in valid.lr.items()})
    return load_pairs(some, task.scale)


def _row(pair: Pair, scale: int, models: dict[int, OnnxModel]) -> dict[str, Any]:
    """Cut the same piece from the original and from every enlargement; PSNR is that of the whole image."""
    from automl_sr.data.resize import upscale
    from automl_sr.evaluation.quality import psnr_y
    from automl_sr.evaluation.runtime import network_output, with_chroma

    top, left, height, width = liveliest(pair.hr, SIDE - SIDE % scale, scale)

    def cut(image: Image) -> str:
        return data_uri(image[top : top + height, left : left + width])

    bicubic = upscale(pair.lr, scale)
    pieces = [
        {"what": "original", "number": None, "psnr_y": None, "image": cut(pair.hr)},
        {"what": "bicubic", "number": None, "psnr_y": psnr_y(bicubic, pair.hr, scale), "image": cut(bicubic)},
    ]
    for number, model in models.items():
        output = network_output(model, pair.lr)
        enlarged = with_chroma(output, pair.lr) if output.ndim == 2 else output
        value = psnr_y(output, pair.hr, scale)
        pieces.append({"what": f"trial {number}", "number": number, "psnr_y": value, "image": cut(enlarged)})
    return {"name": pair.name, "cut": {"top": top, "left": left, "height": height, "width": width}, "pieces": pieces}


def liveliest(image: Image, side: int, scale: int) -> tuple[int, int, int, int]:
    """Find the square with the most detail: (top, left, height, width), on multiples of the scale."""
    height, width = min(side, image.shape[0]), min(side, image.shape[1])
    grey = image.mean(axis=2)
    detail = np.zeros(grey.shape)
    detail[1:] += np.abs(np.diff(grey, axis=0))
    detail[:, 1:] += np.abs(np.diff(grey, axis=1))
    sums = np.zeros((grey.shape[0] + 1, grey.shape[1] + 1))
    sums[1:, 1:] = detail.cumsum(axis=0).cumsum(axis=1)
    tops = np.arange(0, grey.shape[0] - height + 1, 4 * scale)
    lefts = np.arange(0, grey.shape[1] - width + 1, 4 * scale)
    inside = (
        sums[tops[:, None] + height, lefts + width]
        - sums[tops[:, None], lefts + width]
        - sums[tops[:, None] + height, lefts]
        + sums[tops[:, None], lefts]
    )
    row, column = np.unravel_index(int(inside.argmax()), inside.shape)
    return int(tops[row]), int(lefts[column]), height, width


def data_uri(image: Image) -> str:
    """Put an image into text, without loss: WebP, or PNG where Pillow lacks it."""
    from PIL import Image as Pillow
    from PIL import features

    kind = "webp" if features.check("webp") else "png"
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": 90, "method": 4} if kind == "webp" else {"optimize": True}
    Pillow.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
