"""`automl-sr plugins`: what is installed, and what is not available and why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.presentation.console import print_json, print_table, print_text

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry


ASKED_ONLY = "(only if named) "
"""Stands before the title of a technique that a study searches only where its file names it."""


def plugins(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List what is installed, and what is unavailable and why.

    Techniques stand by slot, the baseline (trial 0) first, with the plugin that brought them and
    its version. Those marked "only if named" are searched only where a study file names them.

    \b
    Examples:
      automl-sr plugins
      automl-sr plugins --json
    """
    from automl_sr.plugin.registry import installed

    registry = installed()
    found = listing(registry)
    if json:
        print_json(found)
        return
    columns = ("slot", "technique", "plugin", "version", "what it does")
    rows = []
    for row in found["techniques"]:
        what = row["title"]
        if row["asked_only"]:
            what = f"{ASKED_ONLY}{what}"
        rows.append([row["slot"], row["name"], row["plugin"], row["distribution_version"], what])
    print_table(columns, rows)
    print_text("\ntasks: " + (", ".join(found["tasks"]) or "none"))
    print_text("metrics: " + ", ".join(found["metrics"]))
    if found["unavailable"]:
        print_text("\nunavailable:")
        print_table(
            ("plugin", "what", "reason"),
            [[row["plugin"], row["what"], row["reason"]] for row in found["unavailable"]],
        )


def listing(registry: Registry) -> dict[str, Any]:
    """Return everything that is registered as JSON."""
    techniques = []
    for slot, known in registry.techniques.items():
        for cls in sorted(known.values(), key=lambda cls: (not cls.baseline, cls.name)):
            source = registry.source(cls)
            techniques.append(
                {
                    "slot": slot.value,
                    "name": cls.name,
                    "version": cls.version,
                    "baseline": cls.baseline,
                    "asked_only": cls.asked_only,
                    "title": cls.title(),
                    "fields": list(cls.model_fields),
                    "tasks": cls.tasks,
                    "provides": cls.provides,
                    "requires": cls.requires,
                    "conflicts": cls.conflicts,
                    "plugin": source.plugin,
                    "distribution": source.distribution,
                    "distribution_version": source.version,
                }
            )
    return {
        "techniques": techniques,
        "tasks": sorted(registry.tasks),
        "metrics": list(registry.metrics),
        "unavailable": [
            {"plugin": item.plugin, "what": item.what, "reason": item.reason}
            for item in registry.unavailable
        ],
    }
