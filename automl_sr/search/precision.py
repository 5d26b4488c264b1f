"""The number format in which a study trains: settled once, for the workers of all machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from automl_sr.errors import UseError
from automl_sr.plugin.technique import Choice, Slot
from automl_sr.space.domains import Constant

if TYPE_CHECKING:
    from collections.abc import Iterator

    from automl_sr.space.search_space import SearchSpace
    from automl_sr.store.records import StudyRecord
    from automl_sr.store.repository import Store

PRECISION = "precision"
"""In an environment: the format that a recipe's `auto` means; in a recipe: the field that says
it.
"""


def settled(store: Store, study: StudyRecord, device: str) -> StudyRecord:
    """Return a study that says what `auto` means in it.

    One that was begun by an older version does not: it takes what `auto` means on this machine,
    and workers of others then find that.
    """
    if PRECISION in study.environment:
        return study
    from automl_sr.training.precision import own_format

    # Two machines may come here at once: the entry of the first one stays, and is read back.
    store.settle_environment(study, PRECISION, own_format(device))
    return store.study(study.name)


def check_precision(name: str, space: SearchSpace, auto: str, device: str) -> tuple[str, ...]:
    """Return a note for each format of a study that this machine emulates, `auto` meaning that one.

    Raises UseError for a format in which the device does not compute at all.
    """
    from automl_sr.training.precision import can_train, is_native, resolve

    kinds = {resolve(kind, device, auto) for kind in _asked(space)}
    notes = []
    for kind in sorted(kinds):
        if is_native(kind, device):
            continue
        if not can_train(kind, device):
            raise UseError(
                f"The study {name!r} trains in {kind}, in which {_words(device)} does not compute.",
                "Work on it elsewhere, or begin another study with `precision: fp32` in its"
                " recipe.",
            )
        emulates = f"which {_words(device)} emulates: training is slow here"
        notes.append(f"the study trains in {kind}, {emulates}")
    return tuple(notes)


def _asked(space: SearchSpace) -> set[str]:
    """Name the formats that recipes of a space may ask for, `auto` among them."""
    found: set[str] = set()
    for domain in _domains_of_precision(space):
        if isinstance(domain, Constant):
            found.add(str(domain.value))
        elif isinstance(domain, Choice):
            for value in domain.options:
                found.add(str(value))
    return found


def _domains_of_precision(space: SearchSpace) -> Iterator[object]:
    """Go through what each recipe of a space leaves open, or fixes, of its precision."""
    for slot in space.slots:
        if slot.slot != Slot.RECIPE:
            continue
        for option in slot.options:
            for item in option.fields:
                if item.name == PRECISION:
                    yield item.domain


def _words(device: str) -> str:
    if device.startswith("cuda"):
        return "this GPU"
    return "this processor"
