"""Tab: all studies of the store, what they found, and who works on them right now."""

from __future__ import annotations

import datetime
from typing import Any
from urllib.parse import urlencode

import gradio as gr

from automl_sr.app.figures.tables import table
from automl_sr.app.session import Session, listen, skip
from automl_sr.app.static_files import script_with, static_text
from automl_sr.app.store_cache import NOTHING_THERE, StoreCache, Summary, Work
from automl_sr.presentation.markup import Markup, el, join
from automl_sr.presentation.numbers import duration, number
from automl_sr.store.records import STATES

SHOWN_STATES = STATES[:5]
COLUMNS = ("study", "state", "best", *SHOWN_STATES, "time", "begun")
RIGHT = range(3, 3 + len(SHOWN_STATES))
EXAMPLE = "automl-sr search studies/quickstart.yaml"


def build(session: Session) -> None:
    """Fill the tab."""
    # A table of our own: the module of gr.Dataframe would be half of what the first page loads.
    shown = gr.HTML(
        elem_id="studies",
        js_on_load=static_text("studies.js"),
        css_template=static_text("studies.css"),
        apply_default_css=False,
        chosen=None,
    )
    work = gr.HTML(elem_id="work", apply_default_css=False)
    sent = gr.State("")

    def fill(known: str) -> Any:
        version = session.cache.version()
        if version == known:
            return skip(3)
        return (*_filled(session.cache, version), version)

    session.page.render_on_server(shown, lambda: _filled(session.cache, session.cache.version())[0])
    session.show("studies", fill, [sent], [shown, work, sent], also=[session.page.load])
    listen([shown.select], clicked, [], [session.study])
    choose = script_with("set_property.js", "chosen")
    gr.on(
        [session.study.change], None, [session.study], [shown], js=choose, api_visibility="private"
    )


def _filled(cache: StoreCache, version: str) -> tuple[Markup, str]:
    """Return the list and who works. Raises StoreError."""
    if version.startswith(NOTHING_THERE):
        found = []
    else:
        found = cache.summaries(version)
    if found:
        return (_studies(found), _work(found))
    return (_nothing(cache.name, version), "")


def clicked(event: gr.EventData) -> Any:
    """Return the study that was clicked in the list."""
    name = None
    if isinstance(event._data, dict):
        name = event._data.get("study")
    if isinstance(name, str):
        return name
    return gr.skip()


def _studies(found: list[Summary]) -> Markup:
    return el("div", table("", COLUMNS, [_row(item) for item in found], RIGHT), id="studies-table")


def _row(item: Summary) -> list[Any]:
    study = item.study
    best = ", ".join(f"{name} {number(value)}" for name, value in item.best.items())
    begun = datetime.datetime.fromtimestamp(study.created, datetime.UTC).strftime("%Y-%m-%d %H:%M")
    link = el("a", study.name, href=f"?{urlencode({'study': study.name})}", data_study=study.name)
    counts = []
    for state in SHOWN_STATES:
        counts.append(study.counts[state])
    return [link, item.state, best, *counts, duration(study.seconds), begun]


def _work(found: list[Summary]) -> str:
    rows = []
    for item in found:
        for work in item.work:
            rows.append(
                [item.study.name, str(work.number), work.stage, _progress(work), work.worker]
            )
    if not rows:
        return "<p>No worker is searching at the moment.</p>"
    return table("Workers", ("study", "trial", "stage", "training step", "worker"), rows)


def _progress(work: Work) -> Markup:
    return join(
        [el("progress", max=work.steps, value=work.step), f" {work.step:,} of {work.steps:,}"]
    )


def _nothing(name: str, version: str) -> Markup:
    """Say why there is nothing, and what to do about it."""
    title, reason = f"There are no studies in {name} yet", None
    if version.startswith(NOTHING_THERE):
        title, reason = "Nothing to show yet", el("p", version.removeprefix(f"{NOTHING_THERE}: "))
    begin = el("p", "Begin a study, for instance with")
    after = el("p", "This page shows it as soon as it is there.")
    return el("div", el("h3", title), reason, begin, el("pre", EXAMPLE), after, id="studies-empty")
