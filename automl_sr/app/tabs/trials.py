"""Tab: all trials of the study as a table, and below it everything about the selected one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from automl_sr.app.session import MOST_COMPARED, NO_STUDY, Session, listen, numbers, skip, snapshot
from automl_sr.app.static_files import static_text
from automl_sr.app.store_cache import Snapshot
from automl_sr.app.tabs import trial_panel
from automl_sr.app.tabs.net_drawing import NetDrawings
from automl_sr.app.tabs.trial_table import neighbour, table_of
from automl_sr.errors import UseError
from automl_sr.presentation.drawing import NET_STYLE
from automl_sr.presentation.layer_chart import LAYER_STYLE
from automl_sr.presentation.stored_layers import stored_layers
from automl_sr.presentation.trial_details import details
from automl_sr.store.records import STATES

NO_TRIALS = "This study has no trials yet: they appear here as soon as a worker begins."
NO_ROWS = "No trial is in one of these states: tick more of them."
HINT = (
    "<p>Select a trial to see everything about it: click a row, or go to one with the keys and"
    " press Enter.</p>"
)


def build(session: Session) -> None:
    """Fill the tab."""
    states = gr.CheckboxGroup(
        list(STATES),
        value=list(STATES),
        label="Show trials that are",
        elem_id="trials-states",
        interactive=True,
    )
    empty = gr.HTML(NO_STUDY, elem_id="trials-empty")
    table = gr.Dataframe(
        interactive=False,
        elem_id="trials-table",
        label="Trials",
        show_search="search",
        max_height=400,
        pinned_columns=1,
        visible=False,
    )
    sent = gr.State("")
    with gr.Row():
        before = gr.Button(
            "Previous",
            elem_id="trials-previous",
            size="sm",
            min_width=100,
        )
        after = gr.Button("Next", elem_id="trials-next", size="sm", min_width=100)
        add = gr.Button(
            "Add to comparison",
            elem_id="trials-add",
            size="sm",
            min_width=150,
        )
        clear = gr.Button(
            "Clear comparison",
            elem_id="trials-clear",
            size="sm",
            min_width=150,
        )
    chosen = gr.HTML(elem_id="trials-compared")
    look = static_text("trial_panel.css")
    panel = gr.HTML(elem_id="trial-panel", css_template=look, apply_default_css=False)
    drawn = gr.HTML(
        elem_id="trial-drawing",
        css_template=look + NET_STYLE + LAYER_STYLE,
        apply_default_css=False,
    )
    told = gr.HTML(elem_id="trial-events", css_template=look, apply_default_css=False)
    _show_table(session, states, empty, table, sent)
    _show_trial(session, panel, told)
    _show_drawing(session, drawn)
    for button, by in ((before, -1), (after, 1)):
        listen(
            [button.click],
            _stepping(session, by),
            [session.study, session.trial, states],
            [session.trial],
        )
    _gather(session, add, clear, chosen)


def _show_table(
    session: Session,
    states: Any,
    empty: Any,
    table: Any,
    sent: Any,
) -> None:
    """Send rows only where they differ from those that were sent."""
    # Sorting, search and selection, which the browser alone knows, stay meanwhile.

    def fill(name: str | None, wanted: Any, known: str) -> Any:
        shown = snapshot(session.cache, name)
        if shown is None:
            return _no_table(NO_STUDY), gr.Dataframe(visible=False), ""
        if not shown.trials:
            return _no_table(NO_TRIALS), gr.Dataframe(visible=False), ""
        made = table_of(shown, ticked(wanted))
        digest = f"{shown.study.id} {made.digest}"
        if digest == known:
            return skip(3)
        if not made.rows:
            return _no_table(NO_ROWS), gr.Dataframe(visible=False), digest
        value = {"headers": made.headers, "data": made.rows}
        filled = gr.Dataframe(
            value=value,
            headers=made.headers,
            datatype=made.kinds,
            visible=True,
        )
        return gr.HTML(visible=False), filled, digest

    inputs = [session.study, states, sent]
    session.show("trials", fill, inputs, [empty, table, sent], also=[states.input])
    listen([table.select], _row_number, [], [session.trial])


def _no_table(note: str) -> Any:
    return gr.HTML(note, visible=True)


def _show_trial(session: Session, panel: Any, told: Any) -> None:
    """Describe the selected trial."""
    # What happened to it is apart, and stays open while the rest is renewed.

    def describe(name: str | None, number: Any) -> tuple[str, str]:
        shown = snapshot(session.cache, name)
        found = numbers(number)
        if shown is None or not found:
            return HINT, ""
        trial = shown.by_number.get(found[0])
        if trial is None:
            return HINT, ""
        everything = details(session.cache.reader, shown.study, trial, layers=False)
        return trial_panel.panel(shown, trial, everything), trial_panel.events(everything)

    session.show("trials", describe, [session.study, session.trial], [panel, told])


def _show_drawing(session: Session, drawn: Any) -> None:
    """Draw the layers and the net of the selected trial, apart: their files may lie far away, and
    the panel is there meanwhile.
    """
    drawings = NetDrawings()

    def draw(name: str | None, number: Any) -> str:
        shown, found = snapshot(session.cache, name), numbers(number)
        trial = shown.by_number.get(found[0]) if shown is not None and found else None
        if trial is None:
            return ""
        return trial_panel.layers(stored_layers(trial)) + drawings.of(trial)

    session.show("trials", draw, [session.study, session.trial], [drawn])


def _stepping(session: Session, by: int) -> Any:
    def step(name: str | None, number: Any, wanted: Any) -> Any:
        shown = snapshot(session.cache, name)
        found = numbers(number)
        if shown is None:
            return skip(1)
        states = ticked(wanted)
        listed = [trial.number for trial in shown.trials if trial.state in states]
        chosen = None
        if found:
            chosen = found[0]
        return neighbour(listed, chosen, by)

    return step


def _gather(session: Session, add: Any, clear: Any, chosen: Any) -> None:
    """Let trials be put into the comparison, and say which are there."""
    compared = session.compared

    def put(name: str | None, number: Any, before: Any) -> list[int]:
        shown = snapshot(session.cache, name)
        found = numbers(number)
        if shown is None or not found:
            raise UseError("There is no trial to add.", "Select one first: click its row.")
        return with_trial(shown, numbers(before), found[0])

    listen([add.click], put, [session.study, session.trial, compared], [compared])
    listen([clear.click], list, [], [compared])
    session.show(
        "trials",
        _compared_words,
        [compared],
        [chosen],
        also=[compared.change],
    )


def with_trial(shown: Snapshot, compared: list[int], number: int) -> list[int]:
    """Add a trial to those that are compared.

    Raises UseError where it cannot be, or there is no room.
    """
    if number in compared:
        return compared
    if not shown.trial(number).plan:
        raise UseError(f"Trial {number} has no plan yet, so there is nothing to compare.")
    if len(compared) >= MOST_COMPARED:
        raise UseError(
            f"{MOST_COMPARED} trials are compared already.",
            "Clear the comparison, or take one out in the tab Compare.",
        )
    return [*compared, number]


def ticked(wanted: Any) -> list[str]:
    """Return the states that a browser asks for."""
    # In our order, and nothing that is no state, whatever comes.
    if not isinstance(wanted, list):
        return []
    return [state for state in STATES if state in wanted]


def _compared_words(compared: Any) -> str:
    found = numbers(compared)
    if not found:
        return "<p>No trial is chosen for the comparison yet.</p>"
    what = "trial"
    if len(found) > 1:
        what = "trials"
    return f"<p>In the tab Compare: {what} {', '.join(map(str, found))}.</p>"


def _row_number(event: gr.SelectData) -> Any:
    row = event.row_value
    found = []
    if isinstance(row, list) and row:
        # The row that was clicked holds the number: by its place another one is meant, where the
        # table is sorted.
        found = numbers(row[0])
    if found:
        return found[0]
    return gr.skip()
