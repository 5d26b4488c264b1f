"""Tab: all studies of the store, what they found, and who works on them right now."""

from __future__ import annotations

import datetime
from typing import Any

import gradio as gr

from automl_sr.app.library import NOTHING_THERE, Summary, Work
from automl_sr.app.session import Session, listen, skip
from automl_sr.app.tables import table
from automl_sr.cli.output import number
from automl_sr.cli.search import duration
from automl_sr.report.markup import Markup, el, join
from automl_sr.store.records import STATES

COLUMNS = ("study", "state", "best", *STATES[:5], "time", "begun")
EXAMPLE = "automl-sr search studies/quickstart.yaml"
DATATYPES: Any = ["str", "str", "str", *["number"] * 5, "str", "str"]


def build(session: Session) -> None:
    """Fill the tab."""
    empty = gr.Markdown(visible=False, elem_id="studies-empty")
    table = gr.Dataframe(
        headers=list(COLUMNS),
        datatype=DATATYPES,
        interactive=False,
        elem_id="studies-table",
        show_search="search",
        max_height=420,
        wrap=True,
    )
    work = gr.HTML(elem_id="work", apply_default_css=False)

    sent = gr.State("")

    def fill(known: str) -> Any:
        version = session.library.version()
        if version == known:
            return skip(4)
        found = [] if version.startswith(NOTHING_THERE) else session.library.summaries()
        if not found:
            said = _nothing(session.library.name, version)
            return gr.Markdown(said, visible=True), gr.Dataframe(visible=False), "", version
        rows = [_row(item) for item in found]
        return gr.Markdown(visible=False), gr.Dataframe(value=rows, visible=True), _work(found), version

    # with the page's own arrival, and not after it: this is what most people see first
    session.show("studies", fill, [sent], [empty, table, work, sent], also=[session.page.load])

    def choose(event: gr.SelectData) -> Any:
        return event.row_value[0]

    listen([table.select], choose, [], [session.study])


def _row(item: Summary) -> list[Any]:
    best = ", ".join(f"{name} {number(value)}" for name, value in item.best.items())
    study = item.study
    begun = datetime.datetime.fromtimestamp(study.created, datetime.UTC).strftime("%Y-%m-%d %H:%M")
    return [
        study.name,
        item.state,
        best,
        *[study.counts[state] for state in STATES[:5]],
        duration(study.seconds),
        begun,
    ]


def _work(found: list[Summary]) -> str:
    rows = [
        [item.study.name, str(work.number), work.stage, _progress(work), work.worker]
        for item in found
        for work in item.work
    ]
    if not rows:
        return "<p>No worker is searching at the moment.</p>"
    return table("Workers", ("study", "trial", "stage", "training step", "worker"), rows)


def _progress(work: Work) -> Markup:
    return join([el("progress", max=work.steps, value=work.step), f" {work.step:,} of {work.steps:,}"])


def _nothing(name: str, version: str) -> str:
    if not version.startswith(NOTHING_THERE):
        return (
            f"### There are no studies in {name} yet\n\nBegin one:\n\n```\n{EXAMPLE}\n```"
            "\n\nThis page shows it as soon as it is there."
        )
    reason = version.removeprefix(f"{NOTHING_THERE}: ")
    return (
        f"### Nothing to show yet\n\n{reason}\n\nBegin a study, for instance with"
        f"\n\n```\n{EXAMPLE}\n```\n\nThis page shows it as soon as it is there."
    )
