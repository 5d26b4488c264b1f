"""Tab: what is installed.

Techniques by slot with their fields, method cards, tasks, metrics, what is unavailable.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from automl_sr.app.session import Session, listen
from automl_sr.app.static_files import static_text
from automl_sr.app.tabs.catalogue import method_cards, tasks_html, techniques_html, unavailable_html
from automl_sr.plugin.technique import Slot

ALL = "all"
LONGEST_SEARCH = 200


def build(session: Session) -> None:
    """Fill the tab: nothing here depends on a store."""
    registry = session.cache.registry
    with gr.Row():
        asked = gr.Textbox(
            label="Search techniques",
            placeholder="a name, a field, a word",
            elem_id="plugins-search",
            scale=3,
        )
        slots = [(ALL, ""), *((slot.value, slot.value) for slot in Slot)]
        slot = gr.Dropdown(
            slots,
            value="",
            label="Slot",
            elem_id="plugins-slot",
            min_width=160,
        )
    found = gr.HTML(
        techniques_html(registry, "", ""),
        elem_id="plugins-techniques",
        css_template=static_text("plugins.css"),
    )
    cards = method_cards(registry)
    if cards:
        chosen = gr.Dropdown(
            list(cards),
            value=None,
            label="Method card: what a family claims, and what was measured",
            elem_id="plugins-card-of",
        )
        # not there until one is chosen: its module is large, and a browser loads it even where it
        # shows nothing
        card = gr.Markdown(visible=False, elem_id="plugins-card", line_breaks=False)

        def read(name: Any) -> Any:
            found = None
            if isinstance(name, str):
                found = cards.get(name)
            if found is None:
                return gr.skip()
            return gr.Markdown(found, visible=True, line_breaks=False)

        listen([chosen.change], read, [chosen], [card])
    gr.HTML(tasks_html(registry), elem_id="plugins-tasks", apply_default_css=False)
    gr.HTML(unavailable_html(registry), elem_id="plugins-unavailable", apply_default_css=False)

    def find(text: Any, place: Any) -> str:
        wanted = ""
        if place in list(Slot):
            wanted = place
        return techniques_html(registry, str(text or "")[:LONGEST_SEARCH], wanted)

    listen([asked.change, slot.input], find, [asked, slot], [found])
