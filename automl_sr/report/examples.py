"""Examples from the validation set: as they are, without a model, and by the best models as
exported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.presentation.gallery import gallery

if TYPE_CHECKING:
    from automl_sr.presentation.stored_models import StoredModels
    from automl_sr.store.records import TrialRecord
    from automl_sr.study.spec import StudySpec

MODELS = 3
SECONDS = 120.0
"""So long a model of a store may work on one image."""


def examples(
    spec: StudySpec,
    front: Sequence[TrialRecord],
    models: StoredModels,
    count: int,
) -> dict[str, Any]:
    """Return the first validation samples as the task shows them.

    Raises AutomlSRError where data or files are missing.
    """
    if count < 1:
        return {"reason": "No images were asked for."}
    if not front:
        return {"reason": "There is no model yet whose images could be shown."}
    from automl_sr.evaluation.guard import Guard

    # A store may come from others: a file that computes for ever must not hold up the report.
    guard = Guard(seconds=SECONDS)
    chosen = spread(front, MODELS)
    return gallery(spec.task, spec.search.seed, chosen, models, count, guard)


def spread(front: Sequence[TrialRecord], most: int) -> list[TrialRecord]:
    """Return some members of a front, from end to end.

    The front is in the order of its first objective.
    """
    if len(front) <= most:
        return list(front)
    distance = (len(front) - 1) / (most - 1)
    places = {round(place * distance) for place in range(most)}
    return [front[place] for place in sorted(places)]
