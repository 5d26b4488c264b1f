"""What is installed, as HTML: techniques with their fields, tasks, metrics; and method cards."""

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
    """Return the techniques of one slot or of all in which every asked word occurs."""
    words = asked.lower().split()
    found: dict[Slot, list[type[Technique]]] = {}
    count = 0
    for known in Slot:
        if slot not in ("", known.value):
            continue
        for cls in _in_order(registry, known):
            if _matches(registry, cls, words):
                found.setdefault(known, []).append(cls)
                count += 1
    if not count:
        return "<p>No installed technique fits: ask for less, or for another slot.</p>"

    said = f"{count} techniques"
    if count == 1:
        said = "1 technique"
    # With a role that screen readers tell: the list changes while somebody types above it.
    parts = [f"<p role='status'>{said}</p>"]
    for known, members in found.items():
        parts.append(f"<h4>{escaped(known.value)}</h4>")
        for cls in members:
            parts.append(technique_html(registry, cls, unfolded=count <= FEW))
    return "".join(parts)


def _in_order(registry: Registry, slot: Slot) -> list[type[Technique]]:
    known = registry.techniques[slot].values()
    # The baseline first: it is what trial 0 takes.
    return sorted(known, key=lambda cls: (not cls.baseline, cls.name))


def _matches(
    registry: Registry,
    cls: type[Technique],
    words: Sequence[str],
) -> bool:
    source = registry.source(cls)
    parts = [cls.slot, cls.name, cls.__doc__ or "", source.plugin]
    for spec in search_fields(cls):
        parts.append(f"{spec.name} {spec.description}")
    parts += [*cls.provides, *cls.requires, *cls.conflicts, *cls.tasks]
    text = " ".join(parts).lower()
    return all(word in text for word in words)


def technique_html(
    registry: Registry,
    cls: type[Technique],
    *,
    unfolded: bool,
) -> str:
    """Return one technique: what it does, where it comes from, its capabilities and its fields."""
    facts = []
    for name, fact in _facts(registry, cls).items():
        if fact:
            facts.append(f"{name}: {escaped(fact)}")
    opened = ""
    if unfolded:
        opened = " open"
    # The first paragraph is the title, which stands in the summary.
    about = ""
    for part in (cls.__doc__ or "").strip().split("\n\n")[1:]:
        words = " ".join(part.split())
        if words:
            about += f"<p>{escaped(words)}</p>"
    summary = f"<b>{escaped(cls.name)}</b>{_mark(cls)}: {escaped(cls.title())}"
    return (
        f"<details class='technique'{opened}><summary>{summary}</summary>"
        f"{about}<p>{' · '.join(facts)}</p>{_fields(cls)}</details>"
    )


def _facts(registry: Registry, cls: type[Technique]) -> dict[str, str]:
    source = registry.source(cls)
    plugin = source.plugin
    if source.distribution:
        plugin = f"{source.plugin} ({source.distribution} {source.version})"
    tasks = ", ".join(sorted(cls.tasks))
    if "*" in cls.tasks:
        tasks = "all tasks"
    return {
        "plugin": plugin,
        "version": cls.version,
        "serves": tasks,
        "provides": ", ".join(sorted(cls.provides)),
        "requires": ", ".join(sorted(cls.requires)),
        "excludes": ", ".join(sorted(cls.conflicts)),
    }


def _mark(cls: type[Technique]) -> str:
    """Return when a study that names nothing uses a technique, if that is worth saying."""
    if cls.baseline:
        return " (trial 0)"
    if cls.asked_only:
        return " (only if named)"
    return ""


def _fields(cls: type[Technique]) -> str:
    rows = []
    for spec in search_fields(cls):
        default = word(as_json(spec.default))
        cells = [
            spec.name,
            _may_be(cls, spec),
            default,
            searched(spec),
            spec.description,
        ]
        rows.append(cells)
    if not rows:
        return "<p>It has no fields.</p>"
    return table("", ("field", "may be", "default", "searched", "what it is"), rows)


def _may_be(cls: type[Technique], spec: SearchField) -> str:
    if isinstance(spec.marker, Pick):
        return "a technique"
    return type_words(field_schema(cls, spec))


def searched(spec: SearchField) -> str:
    """Return what a study searches of a field that its file does not name, and when."""
    marker = spec.marker
    found = ""
    if isinstance(marker, Pick):
        found = f"a nested {marker.slot.value}"
    elif isinstance(marker, Int | Float | Choice | Each):
        found = describe(even(marker))
    if not spec.searched:
        if found:
            found = f"fixed; if opened: {found}"
        else:
            found = "fixed"
    conditions = []
    for name, values in spec.when.items():
        allowed = " or ".join(map(word, values))
        conditions.append(f"{name} is {allowed}")
    if conditions:
        return f"{found}, if {' and '.join(conditions)}"
    return found


def type_words(schema: Mapping[str, Any]) -> str:
    """Return the type and the hard limits of a field in words."""
    if "anyOf" in schema:
        return " or ".join(map(type_words, schema["anyOf"]))
    if "enum" in schema:
        return " | ".join(map(word, schema["enum"]))
    if "const" in schema:
        return word(schema["const"])
    kind = schema.get("type")
    if kind == "null":
        return "null"
    if kind == "array":
        items = schema.get("items")
        if isinstance(items, Mapping) and items:
            return f"list of {type_words(items)}"
        return "list"
    # A schema may name no type, where anything goes.
    known = KINDS.get(str(kind), "anything")
    limits = _limits(schema)
    if limits:
        return f"{known} {limits}"
    return known


def _limits(schema: Mapping[str, Any]) -> str:
    """Return limits in words: from 1 to 64, above 0, to below 1, in steps of 2."""
    parts = [*_limit(schema, _LOWER), *_limit(schema, _UPPER)]
    if "multipleOf" in schema:
        parts.append(f"in steps of {number(schema['multipleOf'])}")
    return " ".join(parts)


def _limit(schema: Mapping[str, Any], names: Sequence[tuple[str, str]]) -> list[str]:
    """Return the first of these limits that a schema has, if any."""
    for key, name in names:
        if key in schema:
            return [f"{name} {number(schema[key])}"]
    return []


def tasks_html(registry: Registry) -> str:
    """Return the tasks and the metrics, with what each of them is."""
    tasks = []
    for kind, cls in sorted(registry.tasks.items()):
        about = " ".join((cls.__doc__ or "").split())
        tasks.append([kind, about, ", ".join(cls.model_fields)])
    metrics = []
    for metric in registry.metrics.values():
        better: str = metric.direction
        if metric.unit:
            better = f"{metric.direction}, {metric.unit}"
        metrics.append([metric.name, better, metric.level, metric.help])
    first = table("Tasks", ("task", "what is learnt", "keys in a study file"), tasks)
    second = table("Metrics", ("metric", "better", "known from", "what it is"), metrics)
    return first + second


def unavailable_html(registry: Registry) -> str:
    """Return what was found but cannot be used, with the reasons."""
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
            if plugin in found:  # all techniques of a plugin have one card
                continue
            card = method_card(cls)
            if card is not None:
                found[plugin] = card
    return dict(sorted(found.items()))


def method_card(cls: type[Technique]) -> str | None:
    """Return the card in the package of a technique's module, with links that lead somewhere."""
    spec = getattr(sys.modules.get(cls.__module__), "__spec__", None)
    package = getattr(spec, "parent", None)
    if not package:  # a class of a script or of a test
        return None
    try:
        card = importlib.resources.files(package) / CARD
        text = card.read_text(encoding="utf-8")
    except (OSError, TypeError, ValueError, ImportError):  # none is shipped, or it is no text
        return None
    return _LINK.sub(_followable, text[:MOST_CHARACTERS])


def _followable(link: re.Match[str]) -> str:
    """Keep links to the network: pictures and files beside the card are not served."""
    picture, text, target = link.groups()
    if picture or not target.startswith(("https://", "http://")):
        return text
    return link.group()
