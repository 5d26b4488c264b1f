"""Examples of a study whose task is not super-resolution, shown as that task shows them: in
pictures or in texts.
"""

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
    """Return whether a study's models enlarge pictures, of which the viewer shows more than a
    gallery does.
    """
    return bool(study.spec["task"].get("kind") == ImageSR.kind)


def why_no_gallery(study: StudyRecord, registry: Registry) -> str:
    """Say why the task of a study shows nothing, if so."""
    kind = study.spec["task"].get("kind")
    if kind not in registry.tasks:
        return f"The task {kind!r} is not installed here: its models cannot be shown."
    if registry.tasks[kind].show is Task.show:
        return f"Studies of the task {kind!r} have no pictures to show."
    return ""


def shown(
    study: StudyRecord, trials: Sequence[TrialRecord], registry: Registry, stop: Callable[[], bool]
) -> Markup:
    """Return the first validation samples and what trials make of them. Raises AutomlSRError.

    `stop` is asked while a model is at work; what it raises ends the work.
    """
    spec = StudySpec.from_json(study.spec, registry)
    with StoredModels() as models:
        found = gallery(spec.task, spec.search.seed, trials, models, EXAMPLES, Guard(stop=stop))
    return el(
        "div", el("p", found["caption"]), [_example(row) for row in found["rows"]], class_="gallery"
    )


def _example(row: Mapping[str, Any]) -> Markup:
    pieces = el(
        "div", [_piece(row["name"], piece) for piece in row["pieces"]], class_="gallery-pieces"
    )
    return el("section", el("h4", row["name"]), pieces)


def _piece(name: str, piece: Mapping[str, Any]) -> Markup:
    what = piece["what"]
    if "text" in piece:
        inside = el("p", piece["text"])
    else:
        inside = el("img", src=piece["image"], alt=f"{name}, {what}")
    return el("figure", inside, el("figcaption", what, el("br"), piece["note"]))
