"""Tab: two to six trials side by side, with their learning curves."""

from __future__ import annotations

from typing import Any

import gradio as gr

from automl_sr.app.figures.chart import chart, clicked, written
from automl_sr.app.figures.curves import Curve, cost_figure, curve_figure
from automl_sr.app.html_text import escaped
from automl_sr.app.session import MOST_COMPARED, NO_STUDY, Session, listen, numbers, skip, snapshot
from automl_sr.app.static_files import static_text
from automl_sr.app.store_cache import Snapshot
from automl_sr.app.tabs.comparison import comparison
from automl_sr.app.trial_choices import trial_choices
from automl_sr.errors import UseError
from automl_sr.presentation.numbers import number
from automl_sr.store.records import RungRecord, TrialRecord

NARROWEST = 340
"""Pixels below which the charts stand below the table."""
LONGEST_NUMBER = 9
"""Digits of a trial's number that somebody may type."""
TOO_FEW = (
    f"Choose two to {MOST_COMPARED} trials above, or select one in the tab Trials or Front and"
    " press <b>Add to comparison</b> in the tab Trials."
)


def build(session: Session) -> None:
    """Fill the tab."""
    choice = gr.Dropdown(
        [],
        label=f"Trials to compare, two to {MOST_COMPARED}",
        info="Choose from the list, or type any number and press Enter.",
        multiselect=True,
        max_choices=MOST_COMPARED,
        allow_custom_value=True,
        elem_id="compare-trials",
        interactive=True,
    )
    everything = gr.Checkbox(label="Show the whole plans", elem_id="compare-all")
    with gr.Row():
        with gr.Column(scale=3, min_width=NARROWEST):
            look = static_text("comparison.css")
            table = gr.HTML(elem_id="compare-table", css_template=look, apply_default_css=False)
        with gr.Column(scale=2, min_width=NARROWEST):
            steps = chart("Training loss over steps", "compare-steps", height=360)
            seconds = chart("Training loss over seconds", "compare-seconds", height=360)
            costs = chart("Costs side by side", "compare-costs", height=400)
    _bind(session, choice)
    _follow_address(session)

    def fill(name: str | None, compared: Any, whole: Any) -> Any:
        shown = snapshot(session.cache, name)
        found = numbers(compared)
        if shown is None:
            return f"<p>{escaped(NO_STUDY)}</p>", None, None, None
        return _filled(session, shown, found, bool(whole))

    also = [session.compared.change, everything.input]
    session.show(
        "compare",
        fill,
        [session.study, session.compared, everything],
        [table, steps, seconds, costs],
        also=also,
    )
    for plot in (steps, seconds, costs):
        listen([plot.select], clicked, [], [session.trial])


def _filled(
    session: Session,
    shown: Snapshot,
    found: list[int],
    whole: bool,
) -> tuple[Any, ...]:
    trials = []
    said = ""
    for item in found:
        trial = shown.by_number.get(item)
        if trial is None:
            said += f"<p>{escaped(shown.study.name)} has no trial {item}.</p>"
        else:
            trials.append(trial)
    trials = trials[:MOST_COMPARED]
    if len(trials) < 2:
        return f"{said}<p>{TOO_FEW}</p>", None, None, None

    rungs: dict[int, list[RungRecord]] = {}
    for rung in shown.rungs:
        rungs.setdefault(rung.number, []).append(rung)
    curves = []
    for trial in trials:
        points = session.cache.curve(trial)
        judged = rungs.get(trial.number, [])
        curves.append(Curve(trial.number, points, judged))
    # The same trials: what somebody has zoomed into stays so.
    keep = f"{shown.study.id} {found}"
    return (
        said + comparison(shown, trials, whole),
        written(curve_figure(curves, "step", keep)),
        written(curve_figure(curves, "seconds", keep)),
        written(cost_figure(trials, session.cache.registry.metrics)),
    )


def _bind(session: Session, choice: Any) -> None:
    """Let the list of choices and the trials that all tabs compare follow each other."""
    sent = gr.State("")
    owner = gr.State(None)
    cache = session.cache

    def offer(name: str | None, compared: Any, now: Any, known: str) -> Any:
        shown = snapshot(cache, name)
        found = numbers(compared)
        choices = []
        if shown is not None:
            choices = choices_of(shown, found)
        digest = f"{name} {choices}"
        if digest == known and now == found:
            return skip(2)
        return gr.Dropdown(choices=choices, value=found), digest

    def choose(name: str | None, values: Any, compared: Any) -> Any:
        shown = snapshot(cache, name)
        if shown is None:
            return _kept([], values), gr.skip()
        found, wrong = understood(shown, values)
        for sentence in wrong:
            gr.Warning(escaped(sentence))
        there = [item for item in numbers(compared) if item in shown.by_number]
        # The list cannot hold a number that is not there: of an address it is told in the table,
        # and stays told.
        if found == there:
            return _kept(found, values), gr.skip()
        return _kept(found, values), found

    def belong(name: str | None, former: str | None, compared: Any) -> Any:
        """Forget numbers that mean trials of another study."""
        # The first study is that of the address, which names the numbers too.
        if former not in (None, name):
            return name, []
        return name, numbers(compared)

    # `change`, because a number that somebody types makes no `input` event
    listen(
        [choice.change],
        choose,
        [session.study, choice, session.compared],
        [choice, session.compared],
    )
    listen(
        [session.study.change],
        belong,
        [session.study, owner, session.compared],
        [owner, session.compared],
    )
    inputs = [session.study, session.compared, choice, sent]
    session.show(
        "compare",
        offer,
        inputs,
        [choice, sent],
        also=[session.compared.change],
    )


def _kept(found: list[int], values: Any) -> Any:
    """Return the list with what was understood; as it is where that is all."""
    if found == values:
        return gr.skip()
    return gr.Dropdown(value=found)


def _follow_address(session: Session) -> None:
    """Keep the compared trials in the address, from which `asked_for` reads them."""
    text = gr.Textbox(visible="hidden", elem_id="compare-address")
    told = listen(
        [session.compared.change],
        lambda found: ",".join(map(str, numbers(found))),
        [session.compared],
        [text],
    )
    told.then(None, [text], None, js=static_text("compare_address.js"))


def asked_for(text: str) -> list[int]:
    """Return the numbers of an address, `3,7`; what is none is left out."""
    found: dict[int, None] = {}  # a set that keeps the order
    for word in text.split(","):
        if _is_number(word):
            found[int(word)] = None
    return list(found)[:MOST_COMPARED]


def understood(shown: Snapshot, values: Any) -> tuple[list[int], list[str]]:
    """Return which trials somebody has chosen, and what is wrong with the others.

    Numbers are those of the list, text was typed.
    """
    found: list[int] = []
    wrong: list[str] = []
    if not isinstance(values, list):
        return found, wrong
    for value in values:
        try:
            trial = shown.trial(_number_of(value))
        except UseError as error:
            wrong.append(str(error))
            continue
        if not trial.plan:
            wrong.append(f"Trial {trial.number} has no plan yet, so there is nothing to compare.")
        elif trial.number not in found:
            found.append(trial.number)
    if len(found) > MOST_COMPARED:
        wrong.append(f"No more than {MOST_COMPARED} trials can be compared at once.")
    return found[:MOST_COMPARED], wrong


def choices_of(shown: Snapshot, chosen: list[int]) -> list[tuple[str, int]]:
    """Return the trials with a plan as a list offers them, the newest first."""
    planned = [trial for trial in shown.trials if trial.plan]
    found = []
    for trial in reversed(trial_choices(shown, planned, chosen)):
        found.append((label(shown, trial), trial.number))
    return found


def label(shown: Snapshot, trial: TrialRecord) -> str:
    """Return a trial as a list names it: 7: complete, psnr_y 34.12, espcn."""
    parts: list[str] = [trial.state]
    first = shown.study.objectives[0]
    value = {**trial.costs, **trial.values}.get(first)
    if value is not None:
        parts.append(f"{first} {number(value)}")
    architecture = trial.params.get("architecture")
    if architecture:
        parts.append(str(architecture))
    return f"{trial.number}: {', '.join(parts)}"


def _number_of(value: Any) -> int:
    """Return one number. Raises UseError."""
    if isinstance(value, str):
        if not _is_number(value):
            raise UseError(f"{value[:20]!r} is no number of a trial.")
        return int(value)
    found = numbers(value)
    if len(found) != 1:
        raise UseError("A trial is named by its number.")
    return found[0]


def _is_number(text: str) -> bool:
    # `isdigit` alone takes digits of all scripts and superscripts; int refuses some of them, and
    # works for long on thousands of digits.
    text = text.strip()
    return text.isascii() and text.isdigit() and len(text) <= LONGEST_NUMBER
