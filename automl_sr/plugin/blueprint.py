"""The description from which a model is rebuilt.

It is a factory, its fields and the log of structural changes.
"""

from __future__ import annotations

import hashlib
import importlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from automl_sr.errors import PluginError, nearest

if TYPE_CHECKING:
    from torch import nn

T = TypeVar("T")


@dataclass(frozen=True)
class Edit:
    """A structural change of a model, by import path or as a function.

    It is called as `apply(model, **arguments) -> model`. Edits do not commute. `after` names edits
    that can no longer follow once this one is done, `before` names edits that this one can no
    longer follow.
    """

    apply: str | Callable[..., Any]
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()


@dataclass(frozen=True)
class Blueprint:
    """What a model is, in JSON: tensors hold its values.

    Rebuilding it never trains and works on the meta device.
    """

    factory: str
    fields: Mapping[str, Any] = field(default_factory=dict)
    edits: tuple[tuple[str, Mapping[str, Any]], ...] = ()

    def edited(self, name: str, **arguments: Any) -> Blueprint:
        """Append a structural change."""
        edits = (*self.edits, (name, arguments))
        return Blueprint(self.factory, self.fields, edits)

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON from which `from_json` makes an equal blueprint."""
        edits: list[list[Any]] = []
        for name, arguments in self.edits:
            edits.append([name, dict(arguments)])
        return {
            "factory": self.factory,
            "fields": dict(self.fields),
            "edits": edits,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Blueprint:
        """Read what `to_json` wrote."""
        # Tuples again: a blueprint with lists would not be equal to the one that was written.
        edits: list[tuple[str, Mapping[str, Any]]] = []
        for name, arguments in data["edits"]:
            edits.append((name, dict(arguments)))
        return cls(data["factory"], dict(data["fields"]), tuple(edits))

    def digest(self) -> str:
        """Return a short name that equal blueprints, and only those, share."""
        text = json.dumps(
            self.to_json(),
            sort_keys=True,
            separators=(",", ":"),
        )
        whole = hashlib.sha256(text.encode()).hexdigest()
        return whole[:16]


class Parts(Protocol):
    """Where factories and edits are found by name: the registry of plugins."""

    @property
    def factories(self) -> Mapping[str, str | Callable[..., Any]]:
        """Model factories by name."""

    @property
    def edits(self) -> Mapping[str, Edit]:
        """Structural changes by name."""


def build(blueprint: Blueprint, parts: Parts) -> nn.Module:
    """Make the model of a blueprint with fresh weights, on torch's current default device.

    Raises PluginError for an unknown factory or edit, or edits in an order that one of them
    forbids.
    """
    check_order(blueprint, parts)
    # Registered names alone, so that a blueprint read from a store cannot call anything else.
    factory = load(_find(parts.factories, blueprint.factory, "model factory"))
    model: nn.Module = factory(**blueprint.fields)
    for name, arguments in blueprint.edits:
        apply = load(parts.edits[name].apply)
        model = apply(model, **arguments)
    return model


def check_order(blueprint: Blueprint, parts: Parts) -> None:
    """Refuse edits that stand in an order that one of them forbids."""
    done: list[str] = []
    for name, _ in blueprint.edits:
        edit = _find(parts.edits, name, "edit")
        for earlier in done:
            if earlier in edit.before or name in parts.edits[earlier].after:
                raise PluginError(
                    f"The edit {name!r} cannot follow {earlier!r} in a blueprint.",
                    "Change the order of the two.",
                )
        done.append(name)


def _find(known: Mapping[str, T], name: str, what: str) -> T:
    if name in known:
        return known[name]
    hint = nearest(name, known)
    if not hint:
        hint = "Is the plugin that provides it installed? See `automl-sr plugins`."
    raise PluginError(f"No installed plugin provides the {what} {name!r}.", hint)


def load(target: str | Callable[..., Any]) -> Callable[..., Any]:
    """Import `module:function`, or give a function back as it is."""
    if not isinstance(target, str):
        return target
    path, _, name = target.partition(":")
    module = importlib.import_module(path)
    found: Callable[..., Any] = getattr(module, name)
    return found
