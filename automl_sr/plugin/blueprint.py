"""The description from which a model is rebuilt: a factory, its fields and the log of structural
changes.
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
    """A structural change of a model: `apply(model, **arguments) -> model`, by import path or as a
    function.

    Edits do not commute. `after` names edits that can no longer follow once this one is done,
    `before` names edits that this one can no longer follow.
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
        return Blueprint(self.factory, self.fields, (*self.edits, (name, arguments)))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON from which `from_json` makes an equal blueprint."""
        return {
            "factory": self.factory,
            "fields": dict(self.fields),
            "edits": [[name, dict(args)] for name, args in self.edits],
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Blueprint:
        """Read what `to_json` wrote."""
        return cls(
            data["factory"],
            dict(data["fields"]),
            tuple((name, dict(args)) for name, args in data["edits"]),
        )

    def digest(self) -> str:
        """Return a short name for the content: equal blueprints, and only those, have equal
        digests.
        """
        text = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]


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

    Only registered names are built, so a blueprint read from a store cannot call anything else.
    Raises PluginError for an unknown factory or edit, or edits in an order that one of them
    forbids.
    """
    check_order(blueprint, parts)
    model: nn.Module = load(_find(parts.factories, blueprint.factory, "model factory"))(
        **blueprint.fields
    )
    for name, arguments in blueprint.edits:
        model = load(parts.edits[name].apply)(model, **arguments)
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
    try:
        return known[name]
    except KeyError:
        hint = (
            nearest(name, known)
            or "Is the plugin that provides it installed? See `automl-sr plugins`."
        )
        raise PluginError(f"No installed plugin provides the {what} {name!r}.", hint) from None


def load(target: str | Callable[..., Any]) -> Callable[..., Any]:
    """Import `module:function`, or give a function back as it is."""
    if not isinstance(target, str):
        return target
    module, _, name = target.partition(":")
    found: Callable[..., Any] = getattr(importlib.import_module(module), name)
    return found
