"""A page that comes with content: Gradio's own events fill it a second after everything else has
been drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from automl_sr.app.server.uploads import GuardedBlocks
from automl_sr.errors import AutomlSRError


class ServerRenderedBlocks(GuardedBlocks):
    """Blocks in which some components have a value as soon as a browser gets the page."""

    def __init__(self, *given: Any, **named: Any) -> None:
        self._described: dict[str, Any] = {}
        self._values: dict[int, Callable[[], Any]] = {}
        super().__init__(*given, **named)

    def render_on_server(
        self,
        component: gr.HTML,
        value: Callable[[], str],
    ) -> None:
        """Ask for a component's value each time when somebody opens the page."""
        self._values[component._id] = value

    @property
    def config(self) -> Any:
        """What Gradio writes into the page: all components with their values."""
        if "components" not in self._described:
            return self._described
        components = []
        for item in self._described["components"]:
            components.append(self._rendered(item))
        return {**self._described, "components": components}

    @config.setter
    def config(self, described: Any) -> None:
        self._described = described

    def _rendered(self, item: dict[str, Any]) -> dict[str, Any]:
        make = self._values.get(item["id"])
        if make is None:
            return item
        try:
            return {**item, "props": {**item["props"], "value": make()}}
        except AutomlSRError:  # the event that comes after it says so
            return item
