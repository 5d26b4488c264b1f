"""Turn pydantic's list of errors into the one sentence that helps most."""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from automl_sr.errors import Fail, KeyPath, StudyFileError, nearest, shown

_WRONG = {
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "finite_number": "a finite number",
}


def join(*parts: str) -> str:
    """Put sentences next to each other, leaving out empty ones."""
    return " ".join(part for part in parts if part)


def explain(
    error: ValidationError,
    model: type[BaseModel],
    raw: Any,
    prefix: KeyPath,
    fail: Fail,
) -> StudyFileError:
    """Choose the complaint that helps most, and word it.

    `raw` is what was validated and `prefix` its key path in the study file.
    """
    # A misspelt key is also a missing one, and what it means is said better as misspelt.
    order = {"extra_forbidden": 0, "missing": 2}
    item = min(error.errors(), key=lambda entry: order.get(entry["type"], 1))
    location = _in_file(item["loc"], raw)
    path: KeyPath = (*prefix, *location)
    kind = item["type"]
    if kind == "missing":
        about = _described(model, location)
        # Of a tuple, whose places have no names.
        if isinstance(item["loc"][-1], int):
            return fail(
                path,
                f"{shown(item['input'])} has too few entries.",
                about,
            )
        return fail(
            path[:-1],
            f"{str(path[-1])!r} is missing.",
            about,
        )
    if kind == "extra_forbidden":
        known = keys_of(model, location[:-1])
        # `kind` chooses the task's model, and is no field of it.
        if prefix == ("task",) and len(location) == 1:
            known.append("kind")
        key = str(location[-1])
        return fail(
            path,
            f"unknown key {key!r}.",
            _near(key, "Keys", known),
        )
    message, hint = _wording(kind, item)
    return fail(path, message, hint)


def _near(word: str, what: str, known: list[str]) -> str:
    """Return the nearest of some words, and all of them."""
    if not known:
        return ""
    return join(nearest(word, known), f"{what}: {', '.join(known)}.")


def _wording(kind: str, item: Mapping[str, Any]) -> tuple[str, str]:
    """Say what is wrong with a value, and what is allowed."""
    value = item["input"]
    if kind in _WRONG:
        return f"{shown(value)} is not {_WRONG[kind]}.", ""
    if kind == "literal_error":
        # pydantic lists them as text alone: 'tpe', 'nsga2' or 'gp'.
        expected = str(item["ctx"]["expected"]).replace(" or ", ", ")
        names = [part.strip("' ") for part in expected.split(",")]
        return f"{shown(value)} is not allowed.", _near(str(value), "Allowed", names)
    if kind == "too_short" and value in ([], ()):
        return "the list is empty.", ""
    message = str(item["msg"])
    if kind == "value_error":
        # Our own validators write whole sentences.
        return f"{message.removeprefix('Value error, ')}.", ""
    reason = message.replace("Input should", "it should")
    return f"{shown(value)} is not allowed: {reason}.", ""


def _in_file(location: tuple[int | str, ...], raw: Any) -> KeyPath:
    """Keep of pydantic's location what is in the file: it also names the branches of unions."""
    path: list[str | int] = []
    for index, part in enumerate(location):
        last = index == len(location) - 1
        if isinstance(raw, Mapping) and (part in raw or last):
            raw = raw.get(part)
            path.append(part)
        elif isinstance(raw, list | tuple) and isinstance(part, int) and part < len(raw):
            raw = raw[part]
            path.append(part)
    return tuple(path)


def _model_at(model: type[BaseModel], location: KeyPath) -> type[BaseModel] | None:
    """Find the model to which a key path leads."""
    current: type[BaseModel] | None = model
    for part in location:
        if current is None:
            return None
        # Other parts are places of lists and keys of mappings: the model inside stays the same.
        if part in current.model_fields:
            info = current.model_fields[str(part)]
            current = _inner_model(info.annotation)
    return current


def _inner_model(annotation: Any) -> type[BaseModel] | None:
    """Find the first model in an annotation, also inside of unions and lists."""
    # In Python 3.11 `list[int]` is an instance of `type` too.
    if isinstance(annotation, type) and not isinstance(annotation, types.GenericAlias):
        if issubclass(annotation, BaseModel):
            return annotation
        return None
    for part in typing.get_args(annotation):
        found = _inner_model(part)
        if found is not None:
            return found
    return None


def keys_of(model: type[BaseModel], location: KeyPath) -> list[str]:
    """List the keys that a mapping at a key path can have."""
    found = _model_at(model, location)
    if found is None:
        return []
    return list(found.model_fields)


def _described(model: type[BaseModel], location: KeyPath) -> str:
    """Say what a key is for."""
    found = _model_at(model, location[:-1])
    if found is None:
        return ""
    info = found.model_fields.get(str(location[-1]))
    if info is None or info.description is None:
        return ""
    # Descriptions are docstrings, which may go over several lines; a complaint is one line.
    return " ".join(info.description.split())
