"""Tab: the Pareto front over any two or three metrics; a click selects a trial."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from automl_sr.app.figures.chart import chart, selecting, written
from automl_sr.app.figures.figures import front_figure
from automl_sr.app.session import NO_STUDY, Session, skip, snapshot
from automl_sr.app.store_cache import Snapshot, metrics_of
from automl_sr.store.records import StudyRecord, TrialRecord

NO_AXIS = "none"
HIDEABLE = ("pruned", "infeasible")


def build(session: Session) -> None:
    """Fill the tab."""
    cache = session.cache
    with gr.Row():
        across = gr.Dropdown([], label="Across", elem_id="front-x", min_width=140)
        up = gr.Dropdown([], label="Up", elem_id="front-y", min_width=140)
        deep = gr.Dropdown(
            [NO_AXIS],
            value=NO_AXIS,
            label="Third axis",
            elem_id="front-z",
            min_width=140,
        )
        techniques = gr.Dropdown(
            [],
            label="Only with these techniques",
            multiselect=True,
            elem_id="front-techniques",
            scale=2,
            min_width=220,
        )
        states = gr.CheckboxGroup(
            list(HIDEABLE),
            value=["pruned"],
            label="Show also",
            elem_id="front-states",
            min_width=220,
        )
        keeping = gr.Checkbox(label="Only feasible", elem_id="front-feasible", min_width=120)
    plot = chart("Pareto front", "front-chart", height=520)
    sent, offered = gr.State(""), gr.State(None)
    controls: list[Any] = [across, up, deep, techniques, states, keeping]

    def offer(name: str | None, before: str | None) -> Any:
        """Offer what this study measures, its first two objectives first."""
        if not name or name == before:
            return skip(5)
        study = cache.study(str(name))
        found = [metric.name for metric in metrics_of(study, cache.registry)]
        first = found[0]
        second = first
        if len(found) > 1:
            second = found[1]
        return (
            name,
            gr.Dropdown(choices=found, value=second),
            gr.Dropdown(choices=found, value=first),
            gr.Dropdown(choices=[NO_AXIS, *found], value=NO_AXIS),
            gr.Dropdown(choices=searched_techniques(study), value=[]),
        )

    def draw(name: str | None, known: str, *chosen: Any) -> Any:
        shown = snapshot(cache, name)
        if shown is None:
            return written({"note": NO_STUDY}), ""
        # a figure of thousands of points is sent where it differs, and only there
        wanted = f"{shown.content} {chosen}"
        if wanted == known:
            return skip(2)
        return (written(figure_of(shown, *chosen)), wanted)

    session.show("front", offer, [session.study, offered], [offered, *controls[:4]])
    session.show(
        "front",
        draw,
        [session.study, sent, *controls],
        [plot, sent],
        also=[item.input for item in controls],
    )
    selecting(session, plot)


def searched_techniques(study: StudyRecord) -> list[str]:
    """Return the techniques that a study chooses from, as architecture=fsrcnn.

    Slots in which there is no choice are left out.
    """
    found = []
    for slot in study.space["slots"]:
        if len(slot["options"]) < 2:
            continue
        for option in slot["options"]:
            found.append(f"{slot['slot']}={option['technique']}")
    return found


def figure_of(
    shown: Snapshot,
    across: str,
    up: str,
    deep: str,
    techniques: list[str],
    states: list[str],
    keeping: bool,
) -> Any:
    """Return the figure that the controls ask for."""
    by_name = {metric.name: metric for metric in shown.metrics}
    axes = []
    for name in (across, up, deep):
        if name in by_name:
            axes.append(by_name[name])
    # Just after another study was chosen, the controls name what the one before it measured.
    if len(axes) < 2:
        axes = list(reversed(shown.metrics[:2]))
    if len(axes) < 2:
        return {"note": "This study measures a single metric: see its history in the tab Why."}

    def wanted(trial: TrialRecord) -> bool:
        return _wanted(shown, trial, techniques or [], states or [], keeping)

    return front_figure(shown, axes, wanted)


def _wanted(
    shown: Snapshot,
    trial: TrialRecord,
    techniques: Sequence[str],
    states: Sequence[str],
    keeping: bool,
) -> bool:
    """Return whether the filters let a trial through."""
    in_front = trial.number in shown.front_numbers
    # A trial that was stopped may be in the front, which is always shown.
    if trial.state in HIDEABLE and trial.state not in states and not in_front:
        return False
    if keeping and trial.state != "infeasible" and not shown.keeps(trial):
        return False
    # Of several techniques of one slot any will do, but every slot that is named must fit.
    asked: dict[str, set[str]] = {}
    for technique in techniques:
        slot, _, name = technique.partition("=")
        asked.setdefault(slot, set()).add(name)
    return all(trial.params.get(slot) in names for slot, names in asked.items())
