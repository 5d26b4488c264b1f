"""The nets of a study's front, each drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.errors import AutomlSRError
from automl_sr.presentation.drawing import net_drawing
from automl_sr.report.examples import spread

if TYPE_CHECKING:
    from automl_sr.presentation.stored_models import StoredModels
    from automl_sr.store.records import TrialRecord

MOST = 12
"""Front members whose nets are drawn: those of a long front, from end to end of it."""


def nets(front: Sequence[TrialRecord], models: StoredModels) -> dict[str, Any]:
    """Draw the nets of the front; trials whose nets look the same share a drawing.

    What cannot be drawn is a row with its reason.
    """
    chosen = spread(front, MOST)
    rows: dict[str, dict[str, Any]] = {}
    for trial in chosen:
        made = _drawn(trial, models)
        key = made.get("svg") or made["reason"]
        rows.setdefault(key, {"trials": [], **made})["trials"].append(trial.number)
    return {"rows": list(rows.values()), "more": len(front) - len(chosen)}


def _drawn(trial: TrialRecord, models: StoredModels) -> dict[str, str]:
    try:
        drawing = net_drawing(models.path(trial), "model.onnx")
    except AutomlSRError as error:
        return {"reason": str(error)}
    svg = str(drawing.inline())
    return {"caption": drawing.caption, "words": drawing.words, "svg": svg}
