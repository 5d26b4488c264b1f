"""Examples of a task, as it shows what shipped models make of them: plain JSON for reports and for
the app.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from automl_sr.evaluation.guard import Guard
    from automl_sr.plugin.task import Example, Piece, Task
    from automl_sr.presentation.stored_models import StoredModels
    from automl_sr.store.records import TrialRecord

Image = NDArray[np.uint8]


def gallery(
    task: Task,
    seed: int,
    trials: Sequence[TrialRecord],
    models: StoredModels,
    count: int,
    guard: Guard,
) -> dict[str, Any]:
    """Return the first validation samples as the task shows them with the models of trials.

    `{"caption", "models", "rows": [{"name", "pieces": [{"what", "number", "note", "image" or
    "text"}]}]}` and what the task tells besides. Raises AutomlSRError where data or files are
    missing.
    """
    from automl_sr.evaluation.runtime import OnnxModel
    from automl_sr.search.environment import cores

    data = task.load_examples(seed, count)
    # A store may come from others: its files are run as files of others are.
    runners = {}
    for trial in trials:
        runners[str(trial.number)] = OnnxModel(models.path(trial), cores(), guard=guard)
    found = task.show(runners, data, count)
    return {
        **found.about,
        "caption": found.caption,
        "models": list(map(int, runners)),
        "rows": list(map(_row, found.examples)),
    }


def _row(example: Example) -> dict[str, Any]:
    return {
        "name": example.name,
        **example.about,
        "pieces": list(map(_piece, example.pieces)),
    }


def _piece(piece: Piece) -> dict[str, Any]:
    """Name a model's output by its trial, and put its picture or text into JSON."""
    what = piece.what
    number = None
    if piece.runner is not None:
        what = f"trial {piece.runner}"
        number = int(piece.runner)
    shown = {"text": piece.text}
    if piece.picture is not None:
        shown = {"image": data_uri(piece.picture)}
    return {"what": what, "number": number, **piece.values, "note": piece.note, **shown}


def data_uri(image: Image) -> str:
    """Put an image into text, without loss: WebP, or PNG where Pillow lacks it."""
    from PIL import Image as Pillow
    from PIL import features

    kind = "png"
    options: dict[str, Any] = {"optimize": True}
    if features.check("webp"):
        kind = "webp"
        options = {"lossless": True, "quality": 90, "method": 4}
    buffer = io.BytesIO()
    Pillow.fromarray(np.ascontiguousarray(image)).save(buffer, kind, **options)
    encoded = base64.b64encode(buffer.getvalue())
    return f"data:image/{kind};base64,{encoded.decode()}"
