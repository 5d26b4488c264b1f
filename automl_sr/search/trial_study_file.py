"""A study file that searches nothing: the plan of one trial, with everything that its training
depends on.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from automl_sr.errors import UseError
from automl_sr.plugin.technique import Each, Pick, Slot, Technique, as_json, search_fields
from automl_sr.space.field_ranges import FIXED
from automl_sr.space.search_space import SearchSpace
from automl_sr.study.spec import NAME, parse_study

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.store.records import StudyRecord, TrialRecord

LONGEST_NAME = 64
NOT_ALONE = ("trials", "minutes")
"""Parts of a budget that are about several trials."""


def trial_study_file(study: StudyRecord, trial: TrialRecord, registry: Registry) -> str:
    """Write the study file whose trial 0 is this trial again, trained to the end, and whose only
    plan it is.

    Raises UseError where there is no plan, or where the plugins that are installed give it another
    meaning; PluginError or StudyFileError where they do not know it.
    """
    if trial.plan is None:
        raise UseError(
            f"Trial {trial.number} of {study.name!r} has no plan yet.",
            "Wait until its worker has made it.",
        )
    content = _content(study, trial.plan, trial.number, registry)
    text = _written(study, trial, content)

    # Read back: a technique of another version may make another plan of the same words.
    loaded = parse_study(text, f"trial {trial.number}", registry)
    made = SearchSpace(loaded.space_request, registry).default_plan()
    if made.fingerprint != trial.plan["fingerprint"]:
        raise UseError(
            f"The plan of trial {trial.number} of {study.name!r} means something else with the"
            " plugins installed here.",
            "Install those with which the study was begun: `automl-sr show` and the model card name"
            " them.",
        )
    return text


def _content(
    study: StudyRecord, plan: Mapping[str, Any], number: int, registry: Registry
) -> dict[str, Any]:
    """Return the study file, but for parts that are empty."""
    spec = study.spec
    constraints = {}
    for name, limits in spec["constraints"].items():
        constraints[name] = _given(limits)

    budget: dict[str, Any] = {"trials": 1}
    for key, value in _given(spec["budget"]).items():
        if key not in NOT_ALONE:
            budget[key] = value

    # Without a scheduler: nothing is to stop the one trial early.
    search = {"sampler": spec["search"]["sampler"], "scheduler": "none"}
    for key in ("seed", "threads"):
        value = spec["search"].get(key)
        if value is not None:
            search[key] = value

    space = {}
    for name, item in plan["techniques"].items():
        space[name] = _slot(Slot(name), item, registry)

    content = {
        "name": study_name(study.name, number),
        "task": dict(spec["task"]),
        "objectives": list(spec["objectives"]),
        "constraints": constraints,
        "observe": list(spec.get("observe", ())),
        "device": dict(spec["device"]),
        "budget": budget,
        "search": search,
        "space": space,
    }
    found: dict[str, Any] = {}
    for key, value in content.items():
        if value not in ({}, []):
            found[key] = value
    return found


def study_name(name: str, number: int) -> str:
    """Name the study of one trial; a name that no study file may have is left out."""
    ending = f"-trial-{number}"
    start = name[: LONGEST_NAME - len(ending)]
    if not NAME.fullmatch(start):
        start = "study"
    return f"{start}{ending}"


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if value is not None:
            found[key] = value
    return found


def _slot(slot: Slot, item: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Write one slot; where there can be but one technique, a study file does not name it."""
    cls = registry.technique(slot, item["technique"])
    fields = _fields(cls, item["fields"], registry)
    if slot.single:
        return fields
    return {cls.name: fields}


def _fields(cls: type[Technique], values: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """Write every field as a fixed value, those that a plan does not use too: then there is nothing
    to search.
    """
    found: dict[str, Any] = {}
    for spec in search_fields(cls):
        value = values.get(spec.name, as_json(spec.default))
        if isinstance(spec.marker, Each):
            found[spec.name] = {FIXED: value}
        elif not isinstance(spec.marker, Pick):
            found[spec.name] = value
        elif isinstance(value, Mapping):
            inner = registry.technique(spec.marker.slot, value["technique"])
            found[spec.name] = {inner.name: _fields(inner, value, registry)}
        # Else no technique is picked, for which a study file has no word.
    return found


def _written(study: StudyRecord, trial: TrialRecord, content: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=True)
    # In the order of a study file that a person writes, one key a line.
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    yaml.default_flow_style = False
    body = io.StringIO()
    yaml.dump(dict(content), body)
    early = ""
    if trial.state == "pruned":
        early = " The search stopped it early; this trains it to the end."
    name = "a study"
    if NAME.fullmatch(study.name):
        name = study.name
    return (
        f"# Trial {trial.number} of {name}, alone: its plan, task, device and seed.{early}\n"
        f"# `automl-sr search` with this file trains it as trial 0.\n{body.getvalue()}"
    )
