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
    cache = session.cache

    def fill(known: str) -> Any:
        version = cache.version()
        if version == known:
            return skip(3)
        studies, workers = _filled(cache, version)
        return studies, workers, version

    def first() -> Markup:
        studies, _ = _filled(cache, cache.version())
        return studies

    # The first tab comes with the page: Gradio's events would fill it a second later.
    session.page.render_on_server(shown, first)
    session.show(
        "studies",
        fill,
        [sent],
        [shown, work, sent],
        also=[session.page.load],
    )
    listen([shown.select], clicked, [], [session.study])
    choose = script_with("set_property.js", "chosen")
    gr.on(
        [session.study.change],
        None,
        [session.study],
        [shown],
        js=choose,
        api_visibility="private",
    )


def _filled(cache: StoreCache, version: str) -> tuple[Markup, str]:
    """Return the list and who works. Raises StoreError."""
    found = []
    if not version.startswith(NOTHING_THERE):
        found = cache.summaries(version)
    if not found:
        return _nothing(cache.name, version), ""
    return _studies(found), _work(found)


def clicked(event: gr.EventData) -> Any:
    """Return the study that was clicked in the list."""
    name = None
    if isinstance(event._data, dict):
        name = event._data.get("study")
    if isinstance(name, str):
        return name
    return gr.skip()


def _studies(found: list[Summary]) -> Markup:
    listed = table("", COLUMNS, map(_row, found), RIGHT)
    return el("div", listed, id="studies-table")


def _row(item: Summary) -> list[Any]:
    study = item.study
    best = []
    for name, value in item.best.items():
        best.append(f"{name} {number(value)}")
    begun = datetime.datetime.fromtimestamp(study.created, datetime.UTC)
    # A real link, which can be opened beside this page; the script catches a plain click.
    query = urlencode({"study": study.name})
    link = el("a", study.name, href=f"?{query}", data_study=study.name)
    counts = map(study.counts.__getitem__, SHOWN_STATES)
    return [
        link,
        item.state,
        ", ".join(best),
        *counts,
        duration(study.seconds),
        begun.strftime("%Y-%m-%d %H:%M"),
    ]


def _work(found: list[Summary]) -> str:
    rows = []
    for item in found:
        for work in item.work:
            progress = _progress(work)
            rows.append([item.study.name, str(work.number), work.stage, progress, work.worker])
    if not rows:
        return "<p>No worker is searching at the moment.</p>"
    return table("Workers", ("study", "trial", "stage", "training step", "worker"), rows)


def _progress(work: Work) -> Markup:
    bar = el("progress", max=work.steps, value=work.step)
    return join([bar, f" {work.step:,} of {work.steps:,}"])


def _nothing(name: str, version: str) -> Markup:
    """Say why there is nothing, and what to do about it."""
    title = f"There are no studies in {name} yet"
    reason = None
    if version.startswith(NOTHING_THERE):
        title = "Nothing to show yet"
        reason = el("p", version.removeprefix(f"{NOTHING_THERE}: "))
    return el(
        "div",
        el("h3", title),
        reason,
        el("p", "Begin a study, for instance with"),
        el("pre", EXAMPLE),
        el("p", "This page shows it as soon as it is there."),
        id="studies-empty",
    )
