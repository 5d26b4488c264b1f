"""The JSON Schema of study files, with all installed techniques, so that editors complete and check
them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, get_args

from pydantic import TypeAdapter
from pydantic.errors import PydanticInvalidForJsonSchema

from automl_sr.plugin.technique import (
    Choice,
    Each,
    Float,
    Int,
    Pick,
    Range,
    SearchField,
    Slot,
    Technique,
    as_json,
    search_fields,
)
from automl_sr.space.domains import widest
from automl_sr.space.field_ranges import FIXED, number_kind
from automl_sr.space.summary import describe
from automl_sr.study.limits import Limits
from automl_sr.study.spec import (
    NAME,
    Budget,
    Device,
    SchedulerKind,
    SchedulerSettings,
    Search,
    StudySpec,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

    from automl_sr.plugin.registry import Registry

Json = dict[str, Any]
DIALECT = "https://json-schema.org/draft/2020-12/schema"
_LIMITS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")


def study_schema(registry: Registry) -> Json:
    """Return the JSON Schema (2020-12) of a study file."""
    about = {name: info.description or "" for name, info in StudySpec.model_fields.items()}
    metrics: Json = {"enum": list(registry.metrics)}
    search = _model(Search)
    search["properties"]["scheduler"] = {
        "anyOf": [{"enum": list(get_args(SchedulerKind))}, _model(SchedulerSettings)]
    }
    search["properties"]["threads"] = {
        "anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto", None]}]
    }
    properties: Json = {
        "name": {"type": "string", "pattern": NAME.pattern},
        "task": {"oneOf": [_task(kind, cls) for kind, cls in sorted(registry.tasks.items())]},
        "objectives": {
            "anyOf": [
                metrics,
                {"type": "array", "items": metrics, "minItems": 1, "uniqueItems": True},
            ]
        },
        "observe": {"anyOf": [metrics, {"type": "array", "items": metrics, "uniqueItems": True}]},
        "constraints": {
            "type": "object",
            "propertyNames": metrics,
            "additionalProperties": _model(Limits),
        },
        "device": _model(Device),
        "budget": {
            **_model(Budget),
            "anyOf": [{"required": ["trials"]}, {"required": ["minutes"]}],
        },
        "search": search,
        "space": {"anyOf": [{"type": "null"}, _space()]},
    }
    for name, part in properties.items():
        part["description"] = about[name]
    return {
        "$schema": DIALECT,
        "title": "automl-sr study",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "task", "objectives", "budget"],
        "properties": properties,
        "$defs": {slot.value: _slot(slot, registry) for slot in Slot}
        | {
            f"{slot}.{cls.name}": _technique(cls)
            for slot in Slot
            for cls in registry.techniques[slot].values()
        },
    }


def _model(cls: type[BaseModel]) -> Json:
    """Return a pydantic model's schema without references."""
    schema = cls.model_json_schema()
    schema.pop("$defs", None)
    return schema


def _task(kind: str, cls: type[BaseModel]) -> Json:
    schema = cls.model_json_schema(mode="validation")
    schema["properties"] = {"kind": {"const": kind}} | {
        name: _or_one(part) for name, part in schema.get("properties", {}).items()
    }
    schema["required"] = ["kind", *schema.get("required", [])]
    return schema


def _or_one(part: Json) -> Json:
    """Let a list be written as its only entry, as tasks read it."""
    if part.get("type") == "array" and isinstance(part.get("items"), dict):
        return {"anyOf": [part, part["items"]]}
    return part


def _space() -> Json:
    slots = {}
    for slot in Slot:
        slots[slot.value] = {"$ref": f"#/$defs/{slot.value}"}
    return {"type": "object", "additionalProperties": False, "properties": slots}


def _slot(slot: Slot, registry: Registry) -> Json:
    """Return what may be written for a slot: a name, a list of names, or a mapping from names to
    fields.
    """
    known = registry.techniques[slot]
    if slot.single:
        if known:
            return {"$ref": f"#/$defs/{slot}.{next(iter(known))}"}
        return {"type": "object", "maxProperties": 0}
    names = {"enum": sorted(known)}
    bodies = {}
    for name, cls in sorted(known.items()):
        bodies[name] = {
            "anyOf": [{"$ref": f"#/$defs/{slot}.{name}"}, {"type": "null"}],
            "description": cls.title(),
        }
    mapping = {"type": "object", "additionalProperties": False, "properties": bodies}
    return {
        "anyOf": [
            mapping,
            {"type": "array", "items": names, "minItems": 1, "uniqueItems": True},
            names,
        ]
    }


def _technique(cls: type[Technique]) -> Json:
    """Return what may be written for a technique: `{}` for its own space, or fields."""
    fields = {}
    for spec in search_fields(cls):
        fields[spec.name] = _field(cls, spec)
    return {
        "type": "object",
        "description": cls.title(),
        "additionalProperties": False,
        "properties": fields,
    }


def _field(cls: type[Technique], spec: SearchField) -> Json:
    info = cls.model_fields[spec.name]
    marker = spec.marker
    own = ""
    if spec.searched and isinstance(marker, Int | Float | Choice | Each):
        own = f"searched by default: {describe(marker)}"
    condition = "; ".join(
        f"only if {name} is {' or '.join(map(str, values))}" for name, values in spec.when.items()
    )
    about = "; ".join(part for part in (spec.description, own, condition) if part)
    if isinstance(marker, Pick):
        return {"$ref": f"#/$defs/{marker.slot.value}", "description": about}
    value = field_schema(cls, spec)
    if isinstance(marker, Each):
        forms = [*_forms(widest(marker), {}), _vector(marker)]
    elif isinstance(marker, Int | Float | Choice):
        forms = _forms(marker, value)
    else:
        kind = number_kind(info.annotation)
        if kind is None:
            forms = [value, {"type": "array"}]
        else:
            forms = [value, *_ranges(kind is int, value)]
    schema: Json = {"anyOf": forms, "description": about}
    default = as_json(spec.default)
    if default is None:
        return schema
    return {**schema, "default": default}


def _forms(marker: Int | Float | Choice, value: Json) -> list[Json]:
    """Return the ways in which one dimension may be written; numbers may leave a choice's values
    within hard limits.
    """
    if isinstance(marker, Choice):
        numbers = any(
            isinstance(option, int | float) and not isinstance(option, bool)
            for option in marker.options
        )
        option: Json = {"enum": list(marker.options)}
        if numbers and "enum" not in value:
            option = {"anyOf": [option, {"type": "number", **_limits(value)}]}
        return [
            option,
            {"type": "array", "items": option, "minItems": 1, "uniqueItems": True},
            {"const": {}},
        ]
    whole = isinstance(marker, Int)
    number: Json = {"type": "integer" if whole else "number", **_limits(value)}
    return [number, *_ranges(whole, number)]


def _vector(marker: Each) -> Json:
    """Return a vector, place by place."""
    values: Json = {"type": "array", "maxItems": marker.max}
    if isinstance(marker.item, tuple):
        values["prefixItems"] = [_of_place(item) for item in marker.item]
    else:
        values["items"] = _forms(marker.item, {})[0]
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [FIXED],
        "properties": {FIXED: values},
    }


def _of_place(item: Range) -> Json:
    """Return one value of one place of a vector whose places differ: the range of each is its
    limit.
    """
    if isinstance(item, Choice):
        limits = {}
    else:
        limits = {"minimum": item.low, "maximum": item.high}
    return _forms(item, limits)[0]


def _ranges(whole: bool, value: Json) -> list[Json]:
    """Return a range as a list of two numbers and as a mapping."""
    kind = "number"
    if whole:
        kind = "integer"
    number: Json = {"type": kind, **_limits(value)}
    mapping = {
        "low": number,
        "high": number,
        "step": {"type": kind, "exclusiveMinimum": 0},
        "log": {"type": "boolean"},
    }
    return [
        {"type": "array", "items": number, "minItems": 2, "maxItems": 2},
        {"type": "object", "additionalProperties": False, "properties": mapping},
    ]


def _limits(value: Json) -> Json:
    found = {}
    for key in _LIMITS:
        if key in value:
            found[key] = value[key]
    return found


def field_schema(cls: type[Technique], spec: SearchField) -> Json:
    """Return the schema of a field's own type and hard limits, without its search range."""
    info = cls.model_fields[spec.name]
    if isinstance(spec.marker, Pick):
        return {}
    return _value(info.annotation, info.metadata)


def _value(annotation: Any, metadata: list[Any]) -> Json:
    """Return the schema of a field's own type and hard limits; anything where pydantic knows
    none.
    """
    try:
        schema: Json = TypeAdapter(_annotated(annotation, metadata)).json_schema()
    except PydanticInvalidForJsonSchema:
        return {}
    # For a number that may be empty, the limits stand in the number's branch.
    branches = []
    for branch in schema.get("anyOf", []):
        if branch.get("type") in ("integer", "number"):
            branches.append(branch)
    if len(branches) == 1 and not _limits(schema):
        return {**schema, **_limits(branches[0])}
    return schema


def _annotated(annotation: Any, metadata: list[Any]) -> Any:
    for item in metadata:
        if not isinstance(item, Int | Float | Choice | Each | Pick):
            annotation = Annotated[annotation, item]
    return annotation
