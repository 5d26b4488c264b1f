"""The few hooks of a plugin.

Each hands over typed classes or objects, which then act by themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    import typer

    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.task import Task
    from automl_sr.plugin.technique import Technique

hookspec = pluggy.HookspecMarker("automl_sr")
hookimpl = pluggy.HookimplMarker("automl_sr")


@hookspec
def register_techniques() -> list[type[Technique]]:  # type: ignore[empty-body]
    """Return technique classes, each with a slot and a name of its own."""


@hookspec
def register_metrics() -> list[Metric]:  # type: ignore[empty-body]
    """Return metrics that a study can name as objectives or constraints."""


@hookspec
def register_tasks() -> list[type[Task]]:  # type: ignore[empty-body]
    """Return task classes, each with a kind of its own."""


@hookspec
def register_commands(app: typer.Typer) -> None:
    """Add commands to the command line."""
