"""Examples from the validation set: as they are, without a model, and by the best models as exported."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from automl_sr.plugin.task import Example, Piece
    from automl_sr.presentation.stored_models import StoredModels
    from automl_sr.store.records import TrialRecord
    from automl_sr.study.spec import StudySpec

Image = NDArray[np.uint8]
MODELS = 3
SECONDS = 120.0
"""So long a model of a store may work on one image."""


def examples(spec: StudySpec, front: Sequence[TrialRecord], models: StoredModels, count: int) -> dict[str, Any]:
    """Show the first validation samples as the task does. Raises AutomlSRError where data or files are missing."""
    if count < 1:
        return {"reason": "No images were asked for."}
    if not front:
        return {"reason": "There is no model yet whose images could be shown."}
    from automl_sr.evaluation.runtime import Guard, OnnxModel
    from automl_sr.search.study import cores

    data = spec.task.load_examples(spec.search.seed, count)
    chosen = spread(front, MODELS)
    # A store may come from others: its files are run as files of others are.
    runners = {
        str(trial.number): OnnxModel(models.path(trial), cores(), guard=Guard(seconds=SECONDS)) for trial in chosen
    }
    gallery = spec.task.show(runners, data, count)
    rows = [_row(example) for example in gallery.examples]
    return {**gallery.about, "caption": gallery.caption, "models": [int(name) for name in runners], "rows": rows}


def _row(example: Example) -> dict[str, Any]:
    return {"name": example.name, **example.about, "pieces": [_piece(piece) for piece in example.pieces]}


def _piece(piece: Piece) -> dict[str, Any]:
    """Name a model's output by its trial, and put its picture or text into JSON."""
    what, number = (piece.what, None) if piece.runner is None else (f"trial {piece.runner}", int(piece.runner))
    shown = {"text": piece.text} if piece.picture is None else {"image": data_uri(piece.picture)}
    return {"what": what, "number": number, **piece.values, "note": piece.note, **shown}


def spread(front: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Choose some members from end to end of a front that is in the order of its first objective."""
    if len(front) <= most:
        return list(front)
    places = {round(place * (len(front) - 1) / (most - 1)) for place in range(most)}
    return [front[place] for place in sorted(places)]


def data_uri(image: Image) -> str:
    """Put an image into text, without loss: WebP, or PNG where Pillow lacks it."""
    from PIL import Image as Pillow
    from PIL import features

    kind = "webp" if features.check("webp") else "png"
    buffer = io.BytesIO()
    options = {"lossless": True, "quality": 90, "method": 4} if kind == "webp" else {"optimize": True}
    Pillow.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"
