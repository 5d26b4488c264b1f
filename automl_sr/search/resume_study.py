"""Whether a stored study may go on: with the same file but for its budget, the same images, and the
same versions.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl_sr import __version__
from automl_sr.errors import DataError, PluginError, UseError
from automl_sr.plugin.none import Nothing
from automl_sr.plugin.technique import Slot
from automl_sr.search.environment import plugin_versions
from automl_sr.search.results import ORIGIN
from automl_sr.study.spec import StudySpec

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.records import StudyRecord
    from automl_sr.store.repository import Store

FREE_TO_CHANGE = ("budget.trials", "budget.minutes", "budget.trial_minutes", "budget.stall_minutes")
"""What may differ from the stored study when it is resumed."""
MOST_SHOWN = 5
"""Differences that an error names; more of them would hide what is to be done."""


def resume_study(
    store: Store,
    found: StudyRecord,
    spec: StudySpec,
    registry: Registry,
    source: str,
    data: str,
    artifacts: str | None,
) -> StudyRecord:
    """Take up a stored study.

    Raises UseError with what differs, where more than the budget does.
    """
    # Read anew, so that a key which an older version did not know has its default.
    stored = StudySpec.from_json(found.spec, registry)
    differences = changes(stored.to_json(), spec.to_json())
    _refuse_other_settings(store, found, spec, differences)
    same_images(found, data)

    fields: dict[str, Any] = {}
    if differences:
        fields = {"spec": spec.to_json(), "source": source}
    if artifacts is not None and artifacts != found.artifacts:
        fields["artifacts"] = artifacts
    if fields:
        store.update_study(found, fields)
    return store.study(spec.name)


def _refuse_other_settings(
    store: Store,
    found: StudyRecord,
    spec: StudySpec,
    differences: Mapping[str, tuple[Any, Any]],
) -> None:
    """Raise UseError where a study file differs from the stored one in more than its budget."""
    real = {}
    for name, pair in differences.items():
        if name not in FREE_TO_CHANGE:
            real[name] = pair
    if not real:
        return

    named = []
    for name, (old, new) in list(real.items())[:MOST_SHOWN]:
        named.append(f"{name}: {old} is now {new}")
    shown = "; ".join(named)
    more = ""
    if len(real) > MOST_SHOWN:
        more = f" and {len(real) - MOST_SHOWN} more"
    raise UseError(
        f"The study {spec.name!r} in {store.name} was begun with other settings ({shown}{more}).",
        f"Rename the study in the file (name: {spec.name}-2) to begin a new one, or put the old"
        f" values back.{_fork_offer(found, real)}",
    )


def _fork_offer(found: StudyRecord, differences: Mapping[str, Any]) -> str:
    """Offer to take the old trials along, where what has changed leaves their results as they
    are.
    """
    for name in differences:
        if name.startswith(("task.", "budget.steps")):
            return ""
    return (
        f" After renaming, `automl-sr fork {found.name} STUDY.yaml` lets the new one begin with the"
        " old trials."
    )


def same_start(found: StudyRecord, warm_start: str | None) -> None:
    """Refuse to begin a study with the trials of another one that has begun otherwise.

    Raises UseError.
    """
    began = found.environment.get(ORIGIN, {}).get("study")
    if warm_start is None or began == warm_start:
        return
    how = "without those of another one"
    if began is not None:
        how = f"with those of {began!r}"
    raise UseError(
        f"The study {found.name!r} cannot be begun with the trials of {warm_start!r}: it is there,"
        f" begun {how}.",
        f"Rename the study in the file (name: {found.name}-2) to begin a new one.",
    )


def same_images(study: StudyRecord, fingerprint: str) -> None:
    """Raise DataError where images are not those with which a study was begun."""
    if study.environment.get("data") != fingerprint:
        raise DataError(
            f"The images of the study {study.name!r} are not those with which it was begun.",
            f"Put them back (AUTOML_SR_DATA), or begin another study (name: {study.name}-2).",
        )


def same_software(study: StudyRecord, registry: Registry, instead: str) -> None:
    """Refuse plugins of other versions than those with which a study was begun.

    `instead` says what else can be done. Raises PluginError.
    """
    began = {**study.environment["plugins"], "automl-sr": study.environment["automl-sr"]}
    here = {**plugin_versions(registry), "automl-sr": __version__}
    used = {"automl-sr", *_plugins_of(study, registry)}
    other = []
    for name in sorted(used):
        then = began.get(name)
        now = here.get(name)
        if then != now:
            other.append(f"{name}: {then or 'none'} there, {now or 'none'} here")
    if not other:
        return
    raise PluginError(
        f"The study {study.name!r} was begun with other versions ({'; '.join(other)}), so trials"
        " would not compare.",
        f"Install those, or {instead}.",
    )


def _plugins_of(study: StudyRecord, registry: Registry) -> set[str]:
    """Name the plugins of the techniques that a study can choose."""
    found = set()
    for slot in study.space["slots"]:
        known = registry.techniques[Slot(slot["slot"])]
        for option in slot["options"]:
            technique = known.get(option["technique"])
            if technique is None:  # one that is missing is refused elsewhere
                continue
            # Core's `none` is no plugin's: it is of core's version, which is compared by itself.
            if not issubclass(technique, Nothing):
                found.add(registry.source(technique).plugin)
    return found


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Compare two specifications key by key: what differs, as {"search.seed": (0, 1)}."""
    before = _leaves(old)
    after = _leaves(new)
    found: dict[str, tuple[Any, Any]] = {}
    for name in {**before, **after}:
        if before.get(name) != after.get(name):
            found[name] = (before.get(name, "nothing"), after.get(name, "nothing"))
    return found


def _leaves(data: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return what is no mapping, by its path."""
    found: dict[str, Any] = {}
    for key, value in data.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            found |= _leaves(value, f"{name}.")
        elif isinstance(value, tuple):
            found[name] = list(value)  # as JSON gives it back
        else:
            found[name] = value
    return found
