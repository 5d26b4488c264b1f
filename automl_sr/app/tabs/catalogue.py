"""What is installed, as HTML: techniques with their fields, tasks, metrics, what is unavailable;
and method cards.
"""

from __future__ import annotations

import importlib.resources
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from automl_sr.app.figures.tables import table
from automl_sr.app.html_text import escaped
from automl_sr.plugin.technique import (
    Choice,
    Each,
    Float,
    Int,
    Pick,
    SearchField,
    Slot,
    Technique,
    as_json,
    search_fields,
)
from automl_sr.presentation.numbers import number
from automl_sr.space.section import even
from automl_sr.space.summary import describe, word
from automl_sr.study.schema import field_schema

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry

CARD = "README.md"
MOST_CHARACTERS = 200_000
FEW = 3
"""So few techniques are shown unfolded."""
KINDS = {
    "integer": "whole number",
    "number": "number",
    "string": "text",
    "boolean": "true or false",
    "array": "list",
}
_LOWER = (("minimum", "from"), ("exclusiveMinimum", "above"))
_UPPER = (("maximum", "to"), ("exclusiveMaximum", "to below"))
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(\s*([^)\s]*)[^)]*\)")


def techniques_html(registry: Registry, asked: str, slot: str) -> str:
    """Describe the techniques of one slot or of all in which every asked word occurs."""
    words = asked.lower().split()
    found = {
        known: [cls for cls in _in_order(registry, known) if _matches(registry, cls, words)]
        for known in Slot
        if slot in ("", known.value)
    }
    count = sum(map(len, found.values()))
    if not count:
        return "<p>No installed technique fits: ask for less, or for another slot.</p>"
    parts = [f"<p role='status'>{count} technique{'s' if count > 1 else ''}</p>"]
    for known, members in found.items():
        if members:
            described = "".join(
                technique_html(registry, cls, unfolded=count <= FEW) for cls in members
            )
            parts.append(f"<h4>{escaped(known.value)}</h4>{described}")
    return "".join(parts)


def _in_order(registry: Registry, slot: Slot) -> list[type[Technique]]:
    return sorted(registry.techniques[slot].values(), key=lambda cls: (not cls.baseline, cls.name))


def _matches(registry: Registry, cls: type[Technique], words: Sequence[str]) -> bool:
    source = registry.source(cls)
    fields = []
    for spec in search_fields(cls):
        fields.append(f"{spec.name} {spec.description}")
    capabilities = [*cls.provides, *cls.requires, *cls.conflicts, *cls.tasks]
    text = " ".join(
        [cls.slot, cls.name, cls.__doc__ or "", source.plugin, *fields, *capabilities]
    ).lower()
    return all(word in text for word in words)


def technique_html(registry: Registry, cls: type[Technique], *, unfolded: bool) -> str:
    """Describe one technique: what it does, where it comes from, what it goes together with, and
    its fields.
    """
    source = registry.source(cls)
    facts: dict[str, str] = {
        "plugin": f"{source.plugin} ({source.distribution} {source.version})"
        if source.distribution
        else source.plugin,
        "version": cls.version,
        "serves": "all tasks" if "*" in cls.tasks else ", ".join(sorted(cls.tasks)),
        "provides": ", ".join(sorted(cls.provides)),
        "requires": ", ".join(sorted(cls.requires)),
        "excludes": ", ".join(sorted(cls.conflicts)),
    }
    said = " · ".join(f"{name}: {escaped(fact)}" for name, fact in facts.items() if fact)
    name = f"<b>{escaped(cls.name)}</b>{_mark(cls)}"
    more = []
    for part in (cls.__doc__ or "").strip().split("\n\n")[1:]:
        if part.strip():
            more.append(part)
    about = "".join(f"<p>{escaped(' '.join(part.split()))}</p>" for part in more)
    return (
        f"<details class='technique'{' open' * unfolded}><summary>{name}: "
        f"{escaped(cls.title())}</summary>{about}<p>{said}</p>{_fields(cls)}</details>"
    )


def _mark(cls: type[Technique]) -> str:
    """Say when a study that names nothing uses a technique, where that is worth saying."""
    if cls.baseline:
        return " (trial 0)"
    if cls.asked_only:
        return " (only if named)"
    return ""


def _fields(cls: type[Technique]) -> str:
    rows = []
    for spec in search_fields(cls):
        rows.append(
            [
                spec.name,
                _may_be(cls, spec),
                word(as_json(spec.default)),
                searched(spec),
                spec.description,
            ]
        )
    if not rows:
        return "<p>It has no fields.</p>"
    return table("", ("field", "may be", "default", "searched", "what it is"), rows)


def _may_be(cls: type[Technique], spec: SearchField) -> str:
    if isinstance(spec.marker, Pick):
        return "a technique"
    return type_words(field_schema(cls, spec))


def searched(spec: SearchField) -> str:
    """Say what a study searches of a field that its file does not name, and when."""
    marker = spec.marker
    if isinstance(marker, Pick):
        found = f"a nested {marker.slot.value}"
    elif isinstance(marker, Int | Float | Choice | Each):
        found = describe(even(marker))
    else:
        found = ""
    if not spec.searched:
        if found:
            found = f"fixed; if opened: {found}"
        else:
            found = "fixed"
    conditions = []
    for name, values in spec.when.items():
        conditions.append(f"{name} is {' or '.join(map(word, values))}")
    if conditions:
        return f"{found}, if {' and '.join(conditions)}"
    return found


def type_words(schema: Mapping[str, Any]) -> str:
    """Put the type and the hard limits of a field into words."""
    if "anyOf" in schema:
        return " or ".join(type_words(branch) for branch in schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return " | ".join(word(value) for value in schema.get("enum", [schema.get("const")]))
    kind = schema.get("type")
    if kind == "null":
        return "null"
    if kind == "array":
        items = schema.get("items")
        if isinstance(items, Mapping) and items:
            return f"list of {type_words(items)}"
        return "list"
    return " ".join(part for part in (KINDS.get(str(kind), "anything"), _limits(schema)) if part)


def _limits(schema: Mapping[str, Any]) -> str:
    """Put limits into words: from 1 to 64, above 0, to below 1, in steps of 2."""
    low = next((f"{name} {number(schema[key])}" for key, name in _LOWER if key in schema), "")
    high = next((f"{name} {number(schema[key])}" for key, name in _UPPER if key in schema), "")
    steps = ""
    if "multipleOf" in schema:
        steps = f"in steps of {number(schema['multipleOf'])}"
    return " ".join(part for part in (low, high, steps) if part)


def tasks_html(registry: Registry) -> str:
    """List the tasks and the metrics, with what each of them is."""
    tasks = []
    for kind, cls in sorted(registry.tasks.items()):
        tasks.append([kind, " ".join((cls.__doc__ or "").split()), ", ".join(cls.model_fields)])
    metrics = []
    for metric in registry.metrics.values():
        metrics.append(
            [
                metric.name,
                f"{metric.direction}{f', {metric.unit}' if metric.unit else ''}",
                metric.level,
                metric.help,
            ]
        )
    return table("Tasks", ("task", "what is learnt", "keys in a study file"), tasks) + table(
        "Metrics", ("metric", "better", "known from", "what it is"), metrics
    )


def unavailable_html(registry: Registry) -> str:
    """List what was found but cannot be used, with the reasons."""
    rows = []
    for item in registry.unavailable:
        rows.append([item.plugin, item.what, item.reason])
    if not rows:
        return "<p>Everything that was found can be used.</p>"
    return table("Found, but unavailable", ("plugin", "what", "reason"), rows)


def method_cards(registry: Registry) -> dict[str, str]:
    """Return the method card of each plugin that ships one, by the plugin's name."""
    found: dict[str, str] = {}
    for known in registry.techniques.values():
        for cls in known.values():
            plugin = registry.source(cls).plugin
            card = None
            if plugin not in found:
                card = method_card(cls)
            if card is not None:
                found[plugin] = card
    return dict(sorted(found.items()))


def method_card(cls: type[Technique]) -> str | None:
    """Read the card in the package of a technique's module, with links that lead somewhere."""
    spec = getattr(sys.modules.get(cls.__module__), "__spec__", None)
    package = getattr(spec, "parent", None)
    if not package:
        return None
    try:
        text = (importlib.resources.files(package) / CARD).read_text(encoding="utf-8")
    except (OSError, TypeError, ValueError, ImportError):  # none is shipped, or it is no text
        return None
    return _LINK.sub(_followable, text[:MOST_CHARACTERS])


def _followable(link: re.Match[str]) -> str:
    """Keep links to the network: pictures and files beside the card are not served."""
    picture, text, target = link.groups()
    if picture or not target.startswith(("https://", "http://")):
        return text
    return link.group()
