"""Examples of a study of another task, shown as that task shows them: in pictures or in texts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.evaluation.guard import Guard
from automl_sr.plugin.task import Task
from automl_sr.presentation.gallery import gallery
from automl_sr.presentation.markup import Markup, el
from automl_sr.presentation.stored_models import StoredModels
from automl_sr.study.spec import StudySpec
from automl_sr.tasks.image_sr.task import ImageSR

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.records import StudyRecord, TrialRecord

EXAMPLES = 4
"""So many samples of the validation set are shown."""


def enlarges(study: StudyRecord) -> bool:
    """Return whether a study's models enlarge pictures.

    The viewer shows more of those than a gallery does.
    """
    kind = study.spec["task"].get("kind")
    return bool(kind == ImageSR.kind)


def why_no_gallery(study: StudyRecord, registry: Registry) -> str:
    """Return why the task of a study shows nothing; an empty text if it does."""
    kind = study.spec["task"].get("kind")
    if kind not in registry.tasks:
        return f"The task {kind!r} is not installed here: its models cannot be shown."
    if registry.tasks[kind].show is Task.show:  # that of the base class, which shows nothing
        return f"Studies of the task {kind!r} have no pictures to show."
    return ""


def shown(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    registry: Registry,
    stop: Callable[[], bool],
) -> Markup:
    """Return the first validation samples and what trials make of them. Raises AutomlSRError.

    `stop` is asked while a model is at work; what it raises ends the work.
    """
    spec = StudySpec.from_json(study.spec, registry)
    guard = Guard(stop=stop)
    with StoredModels() as models:
        found = gallery(
            spec.task,
            spec.search.seed,
            trials,
            models,
            EXAMPLES,
            guard,
        )
    caption = el("p", found["caption"])
    return el("div", caption, list(map(_example, found["rows"])), class_="gallery")


def _example(row: Mapping[str, Any]) -> Markup:
    pieces = []
    for piece in row["pieces"]:
        pieces.append(_piece(row["name"], piece))
    together = el("div", pieces, class_="gallery-pieces")
    return el("section", el("h4", row["name"]), together)


def _piece(name: str, piece: Mapping[str, Any]) -> Markup:
    what = piece["what"]
    if "text" in piece:
        inside = el("p", piece["text"])
    else:
        inside = el("img", src=piece["image"], alt=f"{name}, {what}")
    return el("figure", inside, el("figcaption", what, el("br"), piece["note"]))
