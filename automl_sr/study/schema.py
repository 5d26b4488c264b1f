"""The JSON Schema of study files, with all installed techniques.

With it, editors complete and check them.
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
    properties = _properties(registry)
    for name, part in properties.items():
        part["description"] = StudySpec.model_fields[name].description or ""

    # Slots first: what stands for one of them names the techniques that follow.
    definitions: Json = {}
    for slot in Slot:
        definitions[slot.value] = _slot(slot, registry)
    for slot in Slot:
        for cls in registry.techniques[slot].values():
            definitions[f"{slot}.{cls.name}"] = _technique(cls)
    return {
        "$schema": DIALECT,
        "title": "automl-sr study",
        "type": "object",
        "additionalProperties": False,
        "required": ["name", "task", "objectives", "budget"],
        "properties": properties,
        "$defs": definitions,
    }


def _properties(registry: Registry) -> Json:
    """Return what may be written for each key of a study file."""
    metric: Json = {"enum": list(registry.metrics)}
    tasks: list[Json] = []
    for kind, cls in sorted(registry.tasks.items()):
        tasks.append(_task(kind, cls))
    # Nothing need be observed, so that the list may be empty.
    observed: Json = {
        "type": "array",
        "items": metric,
        "uniqueItems": True,
    }
    budget = _model(Budget)
    budget["anyOf"] = [{"required": ["trials"]}, {"required": ["minutes"]}]
    return {
        "name": {"type": "string", "pattern": NAME.pattern},
        "task": {"oneOf": tasks},
        "objectives": {"anyOf": [metric, _options(metric)]},
        "observe": {"anyOf": [metric, observed]},
        "constraints": {
            "type": "object",
            "propertyNames": metric,
            "additionalProperties": _model(Limits),
        },
        "device": _model(Device),
        "budget": budget,
        "search": _search(),
        "space": {"anyOf": [{"type": "null"}, _space()]},
    }


def _search() -> Json:
    """Return the section on searching, with the words that stand for what pydantic is given."""
    search = _model(Search)
    kinds = list(get_args(SchedulerKind))
    search["properties"]["scheduler"] = {"anyOf": [{"enum": kinds}, _model(SchedulerSettings)]}
    search["properties"]["threads"] = {
        "anyOf": [{"type": "integer", "minimum": 1}, {"enum": ["auto", None]}]
    }
    return search


def _model(cls: type[BaseModel]) -> Json:
    """Return a pydantic model's schema without references."""
    schema = cls.model_json_schema()
    # Whoever asks writes out what it refers to, so that no reference leads nowhere.
    schema.pop("$defs", None)
    return schema


def _task(kind: str, cls: type[BaseModel]) -> Json:
    schema = cls.model_json_schema(mode="validation")
    properties: Json = {"kind": {"const": kind}}
    for name, part in schema.get("properties", {}).items():
        properties[name] = _or_one(part)
    schema["properties"] = properties
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
    """Return what may be written for a slot.

    It is a name, a list of names, or a mapping from names to fields.
    """
    known = registry.techniques[slot]
    if slot.single:
        if not known:
            return {"type": "object", "maxProperties": 0}
        only = next(iter(known))
        return {"$ref": f"#/$defs/{slot}.{only}"}
    bodies: Json = {}
    for name, cls in sorted(known.items()):
        # null: `fsrcnn:` with nothing behind it.
        bodies[name] = {
            "anyOf": [{"$ref": f"#/$defs/{slot}.{name}"}, {"type": "null"}],
            "description": cls.title(),
        }
    mapping = {
        "type": "object",
        "additionalProperties": False,
        "properties": bodies,
    }
    name_of_one = {"enum": sorted(known)}
    return {"anyOf": [mapping, _options(name_of_one), name_of_one]}


def _options(option: Json) -> Json:
    """Return a list of at least one option, without repeats."""
    return {
        "type": "array",
        "items": option,
        "minItems": 1,
        "uniqueItems": True,
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
    about = _about(spec)
    if isinstance(spec.marker, Pick):
        return {"$ref": f"#/$defs/{spec.marker.slot.value}", "description": about}
    schema: Json = {"anyOf": _ways(cls, spec), "description": about}
    default = as_json(spec.default)
    if default is not None:
        schema["default"] = default
    return schema


def _about(spec: SearchField) -> str:
    """Describe a field in a line: what it is, its own range, and when it is asked."""
    parts: list[str] = []
    if spec.description:
        parts.append(spec.description)
    if spec.searched and isinstance(spec.marker, Int | Float | Choice | Each):
        parts.append(f"searched by default: {describe(spec.marker)}")
    for name, values in spec.when.items():
        parts.append(f"only if {name} is {' or '.join(map(str, values))}")
    return "; ".join(parts)


def _ways(cls: type[Technique], spec: SearchField) -> list[Json]:
    """Return the ways in which a field may be written."""
    value = field_schema(cls, spec)
    marker = spec.marker
    if isinstance(marker, Each):
        # Hard limits are those of whole vectors, which say nothing of one value.
        return [*_forms(widest(marker), {}), _vector(marker)]
    if isinstance(marker, Int | Float | Choice):
        return _forms(marker, value)
    kind = number_kind(cls.model_fields[spec.name].annotation)
    if kind is None:
        return [value, {"type": "array"}]
    return [value, *_ranges(kind is int, value)]


def _forms(marker: Int | Float | Choice, value: Json) -> list[Json]:
    """Return the ways in which one dimension may be written."""
    if isinstance(marker, Choice):
        option: Json = {"enum": list(marker.options)}
        # Numbers may leave a choice's values within hard limits, unless the type lists them.
        if _has_numbers(marker) and "enum" not in value:
            option = {"anyOf": [option, {"type": "number", **_limits(value)}]}
        return [option, _options(option), {"const": {}}]
    whole = isinstance(marker, Int)
    number = _number(whole, value)
    return [number, *_ranges(whole, number)]


def _has_numbers(marker: Choice) -> bool:
    for option in marker.options:
        if isinstance(option, int | float) and not isinstance(option, bool):
            return True
    return False


def _number(whole: bool, value: Json) -> Json:
    """Return a number with the hard limits of a value."""
    kind = "number"
    if whole:
        kind = "integer"
    return {"type": kind, **_limits(value)}


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
    """Return one value of one place of a vector whose places differ."""
    limits: Json = {}
    # The range of each place is its limit.
    if not isinstance(item, Choice):
        limits = {"minimum": item.low, "maximum": item.high}
    return _forms(item, limits)[0]


def _ranges(whole: bool, value: Json) -> list[Json]:
    """Return a range as a list of two numbers and as a mapping."""
    number = _number(whole, value)
    pair: Json = {
        "type": "array",
        "items": number,
        "minItems": 2,
        "maxItems": 2,
    }
    mapping: Json = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "low": number,
            "high": number,
            "step": {"type": number["type"], "exclusiveMinimum": 0},
            "log": {"type": "boolean"},
        },
    }
    return [pair, mapping]


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
    """Return the schema of a field's own type and hard limits.

    Anything is allowed where pydantic knows none.
    """
    try:
        schema: Json = TypeAdapter(_annotated(annotation, metadata)).json_schema()
    except PydanticInvalidForJsonSchema:
        return {}
    # For a number that may be empty, the limits stand in the number's branch.
    branches: list[Json] = []
    for branch in schema.get("anyOf", []):
        if branch.get("type") in ("integer", "number"):
            branches.append(branch)
    if len(branches) == 1 and not _limits(schema):
        return {**schema, **_limits(branches[0])}
    return schema


def _annotated(annotation: Any, metadata: list[Any]) -> Any:
    for item in metadata:
        # Our markers mean nothing to pydantic.
        if not isinstance(item, Int | Float | Choice | Each | Pick):
            annotation = Annotated[annotation, item]
    return annotation
