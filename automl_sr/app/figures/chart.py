"""A plotly chart in which a click selects a trial: Gradio's own plot tells nobody what was
clicked.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import gradio as gr

from automl_sr.app.session import Session, listen
from automl_sr.app.static_files import script_with, static_text
from automl_sr.presentation.markup import el, join
from automl_sr.presentation.numbers import plain

Figure = Mapping[str, Any]
"""`data` and `layout` as plotly's JSON; a point that belongs to a trial has its number as
`customdata`.
"""
PLOTLY = "static/plotly.min.js"


def chart(title: str, elem_id: str, height: int = 420) -> gr.HTML:
    """Make a chart; its value is a `written` figure, or {"note": text} to say why there is none.

    The trial `ringed` gets a ring.

    `select` events carry {"number": of the trial}.
    """
    # what never changes stands in the template: Gradio forgets the props of a component that it has
    # not shown yet as soon as an update comes in for it, even one that says to leave it as it is
    drawing = el(
        "div",
        class_="chart",
        role="img",
        aria_label=title,
        style=f"height: {height}px",
        data_plotly=PLOTLY,
    )
    return gr.HTML(
        value=None,
        html_template=join([drawing, el("p", class_="empty", hidden=True)]),
        css_template=static_text("chart.css"),
        js_on_load=static_text("chart.js"),
        elem_id=elem_id,
        ringed=None,
    )


def written(figure: Figure) -> str:
    """Write a figure as text for its way to the page: Gradio watches and copies every single number
    of anything else.

    With 250 trials in four panels that took tens of seconds on a busy machine.
    """
    return json.dumps(plain(figure))


def selecting(session: Session, plot: gr.HTML) -> None:
    """Let a click in a chart select the trial, and give the selected trial a ring."""
    listen([plot.select], clicked, [], [session.trial])
    ring = script_with("set_property.js", "ringed")
    gr.on(
        [session.trial.change],
        None,
        [session.trial],
        [plot],
        js=ring,
        api_visibility="private",
    )


def clicked(event: gr.EventData) -> int | None:
    """Return the trial that was clicked in a chart."""
    number = None
    if isinstance(event._data, dict):
        number = event._data.get("number")
    if isinstance(number, int) and not isinstance(number, bool):
        return number
    return None
