"""Tab: why the best trials are the best.

How the study came to them, and what their parameters have to do with it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import gradio as gr

from automl_sr.app.figures.chart import chart, selecting, written
from automl_sr.app.html_text import escaped
from automl_sr.app.session import NO_STUDY, Session, listen, numbers, skip, snapshot
from automl_sr.app.tabs import parameters, reasons
from automl_sr.errors import AutomlSRError
from automl_sr.presentation.explanations import history_words, importance_words

if TYPE_CHECKING:
    from automl_sr.app.figures.chart import Figure
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.plugin.registry import Registry

CORRECTED = (
    "Trials that were stopped early stand with values corrected to the end, as samplers see them."
)
SLICES, PARALLEL, RANKS, RUNGS, TIMELINE = "slices", "parallel", "ranks", "rungs", "timeline"
VIEWS = (
    ("History", "history"),
    ("Importance", "importance"),
    ("Slices", SLICES),
    ("Two parameters", RANKS),
    ("Parallel coordinates", PARALLEL),
    ("Rungs", RUNGS),
    ("Timeline", TIMELINE),
)
PARAMETRIC = (SLICES, RANKS, PARALLEL)
CHOOSING = (*PARAMETRIC, RUNGS)
PRESELECTED = 4
LIVE = (RUNGS, TIMELINE)
"""Views that show trials which go on."""


@dataclass(frozen=True)
class Choice:
    """What is asked for, with everything that is no choice replaced by what is there."""

    view: str
    metric: str
    names: tuple[str, ...]
    across: str
    up: str
    selected: int | None
    """Where the figure itself shows it; elsewhere a ring does."""


@dataclass(frozen=True)
class Shown:
    """A figure with what has to be said about it."""

    figure: Figure
    words: str = ""
    table: str = ""


def build(session: Session) -> None:
    """Fill the tab."""
    view = gr.Radio(list(VIEWS), value="history", label="Show", elem_id="why-view")
    with gr.Row():
        metric = gr.Dropdown(
            [],
            label="Objective",
            elem_id="why-metric",
            visible=False,
            min_width=140,
        )
        names = gr.Dropdown(
            [],
            label=f"Parameters, up to {parameters.MOST_CHOSEN}, the most important first",
            multiselect=True,
            max_choices=parameters.MOST_CHOSEN,
            elem_id="why-parameters",
            visible=False,
            scale=3,
            min_width=280,
        )
        across = gr.Dropdown(
            [],
            label="Across",
            elem_id="why-across",
            visible=False,
            scale=2,
            min_width=180,
        )
        up = gr.Dropdown(
            [],
            label="Up",
            elem_id="why-up",
            visible=False,
            scale=2,
            min_width=180,
        )
    words = gr.HTML(elem_id="why-words")
    plot = chart("Why the best trials are the best", "why-chart", height=640)
    table = gr.HTML(elem_id="why-table", apply_default_css=False)
    sent = gr.State("")
    controls: list[Any] = [view, metric, names, across, up]
    _offer(session, controls)
    registry = session.cache.registry

    def draw(name: str | None, known: str, selected: Any, *asked: Any) -> Any:
        shown = snapshot(session.cache, name)
        if shown is None:
            return "", written({"note": NO_STUDY}), "", ""
        choice = chosen(shown, registry, selected, *asked)
        wanted = f"{shown.content} {choice}"
        if wanted == known and choice.view not in LIVE:
            return skip(4)
        made = drawn(shown, registry, choice)
        return f"<p>{escaped(made.words)}</p>", written(made.figure), made.table, wanted

    # `input` of the others, not `change`: what is offered anew would draw the figure once more.
    events = [view.change, metric.input, names.input, across.input, up.input]
    session.show(
        "why",
        draw,
        [session.study, sent, session.trial, *controls],
        [words, plot, table, sent],
        also=events,
    )
    selecting(session, plot)


def _offer(session: Session, controls: Sequence[Any]) -> None:
    """Offer objectives and parameters of the study, in the controls that the view has a use for."""
    view, metric, names, across, up = controls
    offered = gr.State(None)
    registry = session.cache.registry

    def offer(name: str | None, known: Any, *asked: Any) -> Any:
        shown = snapshot(session.cache, name)
        if shown is None or asked[0] not in CHOOSING:
            return skip(5)
        found = offered_names(shown, registry)
        mark = [shown.study.id, sorted(found)]
        if mark == known:  # what somebody is choosing from at the moment stays as it is
            return skip(5)
        choice = chosen(shown, registry, None, SLICES, *asked[1:])
        return (
            mark,
            gr.Dropdown(choices=list(shown.study.objectives), value=choice.metric),
            gr.Dropdown(choices=found, value=list(choice.names)),
            gr.Dropdown(choices=found, value=choice.across or None),
            gr.Dropdown(choices=found, value=choice.up or None),
        )

    values = [metric, names, across, up]
    inputs = [session.study, offered, *controls]
    session.show("why", offer, inputs, [offered, *values], also=[view.change])

    def arrange(shown: Any) -> Any:
        return (
            gr.Dropdown(visible=shown in (SLICES, RANKS, RUNGS)),
            gr.Dropdown(visible=shown in (SLICES, PARALLEL)),
            gr.Dropdown(visible=shown == RANKS),
            gr.Dropdown(visible=shown == RANKS),
        )

    listen([view.change], arrange, [view], values)


def offered_names(shown: Snapshot, registry: Registry) -> list[str]:
    """Name the parameters that can be shown; none where the study's plugins are missing."""
    try:
        return parameters.parameter_names(shown, registry)
    except AutomlSRError:
        return []


def chosen(shown: Snapshot, registry: Registry, selected: Any, *asked: Any) -> Choice:
    """Return what a browser asks for.

    The most important parameters stand for what it does not name.
    """
    view, metric, names, across, up = asked
    if view not in dict(VIEWS).values():
        view = "history"
    objectives = shown.study.objectives
    if metric not in objectives:
        metric = objectives[0]
    # Views that show no parameters need not wait until Optuna's study is made.
    known: list[str] = []
    if view in PARAMETRIC:
        known = offered_names(shown, registry)
    picked = []
    if isinstance(names, list):
        picked = [name for name in names if name in known]
    wanted = dict.fromkeys(picked or known[:PRESELECTED])
    first, second = _pair(shown, registry, known, across, up)
    found = numbers(selected)
    ringed = None
    if found and view == PARALLEL:
        ringed = found[0]
    return Choice(
        view,
        metric,
        tuple(wanted)[: parameters.MOST_CHOSEN],
        first,
        second,
        ringed,
    )


def _pair(
    shown: Snapshot,
    registry: Registry,
    known: Sequence[str],
    across: Any,
    up: Any,
) -> tuple[str, str]:
    """Return the two parameters that are drawn against each other; empty texts for none."""
    if not known:
        return "", ""
    first = known[0]
    if across in known:
        first = across
    if up in known:
        return first, up
    return first, parameters.partner(shown, registry, known, first)


def drawn(shown: Snapshot, registry: Registry, choice: Choice) -> Shown:
    """Draw a view; what cannot be drawn here is said in its place."""
    try:
        return _views(shown, registry)[choice.view](choice)
    except AutomlSRError as error:
        return Shown({"note": str(error)})


def _views(shown: Snapshot, registry: Registry) -> dict[str, Callable[[Choice], Shown]]:
    return {
        "history": lambda choice: _history(shown),
        "importance": lambda choice: _importance(shown),
        SLICES: lambda choice: _slices(shown, registry, choice),
        RANKS: lambda choice: _ranks(shown, registry, choice),
        PARALLEL: lambda choice: _parallel(shown, registry, choice),
        RUNGS: lambda choice: _rungs(shown, choice.metric),
        TIMELINE: lambda choice: _timeline(shown),
    }


def _slices(shown: Snapshot, registry: Registry, choice: Choice) -> Shown:
    figure = parameters.slices_figure(shown, registry, choice.metric, choice.names)
    part = _part(_models(shown, registry), parameters.MOST_SLICED)
    said = (
        f"Each point is a trial, the darker the later; the front has a blue rim. {CORRECTED}{part}"
    )
    return Shown(figure, said)


def _ranks(shown: Snapshot, registry: Registry, choice: Choice) -> Shown:
    figure = parameters.ranks_figure(
        shown,
        registry,
        choice.metric,
        choice.across,
        choice.up,
    )
    part = _part(_models(shown, registry), parameters.MOST_RANKED)
    said = (
        f"Coloured by the rank in {choice.metric}, from blue (low) to red (high); the front has"
        f" a blue rim. {CORRECTED}{part}"
    )
    return Shown(figure, said)


def _parallel(shown: Snapshot, registry: Registry, choice: Choice) -> Shown:
    figure = parameters.parallel_figure(
        shown,
        registry,
        choice.names,
        choice.selected,
    )
    part = _part(_models(shown, registry), reasons.MOST_LINES)
    said = (
        "Each line is a trial; what a plan does not use runs below. Click a line to select its"
        f" trial.{part}"
    )
    return Shown(figure, said)


def _history(shown: Snapshot) -> Shown:
    figure = reasons.history_figure(shown)
    if "reason" in shown.history:  # which the figure says itself
        return Shown(figure)
    return Shown(figure, history_words(shown.history))


def _importance(shown: Snapshot) -> Shown:
    figure = reasons.importance_figure(shown.importance)
    if "reason" in shown.importance:
        return Shown(figure)
    return Shown(figure, importance_words(shown.importance))


def _rungs(shown: Snapshot, name: str) -> Shown:
    metric = next(metric for metric in shown.objectives if metric.name == name)
    judged = len({row.number for row in shown.rungs})
    said = ""
    if judged:
        said = (
            f"{name} of the models that were finished and exported at each rung,"
            " and of those that came to the end."
        )
    return Shown(
        reasons.rungs_figure(shown, metric),
        said + _part(judged, reasons.MOST_LINES),
        reasons.rungs_table(shown),
    )


def _timeline(shown: Snapshot) -> Shown:
    figure = reasons.timeline_figure(shown, time.time())
    begun = sum(trial.started is not None and trial.origin is None for trial in shown.trials)
    if not begun:
        return Shown(figure)
    part = ""
    if begun > reasons.MOST_POINTS:
        part = f" The latest {reasons.MOST_POINTS} of {begun} are drawn."
    said = (
        "Each bar is a trial, from the moment when a worker first took it until it ended, pauses"
        " included."
    )
    return Shown(figure, said + part)


def _models(shown: Snapshot, registry: Registry) -> int:
    return len(parameters.remembered(shown, registry).remembered)


def _part(count: int, most: int) -> str:
    """Say where not all are drawn."""
    if count > most:
        return f" The front and others, {most} of {count} trials in all, are drawn."
    return ""
