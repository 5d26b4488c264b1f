"""Trials side by side as one table: values, costs, plans, time, and what they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from automl_sr.app.figures.curves import COLOURS
from automl_sr.app.html_text import state_words
from automl_sr.app.tabs.trial_panel import saved_seconds, seconds_words
from automl_sr.presentation.comparison import differences
from automl_sr.presentation.markup import Markup, el, join
from automl_sr.presentation.numbers import number
from automl_sr.presentation.trial_details import shared_words

if TYPE_CHECKING:
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.records import TrialRecord

STAR = "\N{BLACK STAR}"


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    name: str
    cells: Sequence[str]
    best: frozenset[int] = frozenset()
    """Positions of the best cells."""
    differs: bool = False


def comparison(
    shown: Snapshot,
    trials: Sequence[TrialRecord],
    everything: bool,
) -> str:
    """Set trials side by side; of their plans what differs, or everything."""
    width = len(trials) + 1
    body = []
    for title, rows, nothing in groups_of(shown, trials, everything):
        if not rows and not nothing:
            continue
        head = el("th", title, colspan=width, class_="group", scope="rowgroup")
        lines = list(map(_line, rows))
        if not rows:
            lines = [el("tr", el("td", nothing, colspan=width))]
        body.append(el("tbody", el("tr", head), lines))

    heads = [el("td")]
    # The colours of the charts beside the table, which give them by the same order.
    for trial, colour in zip(trials, COLOURS, strict=False):
        swatch = el("span", "", class_="swatch", style=f"background: {colour}")
        heads.append(el("th", swatch, f"trial {trial.number}", scope="col"))
    caption = f"{STAR} best of these in an objective"
    if everything:
        caption += "; what differs is set off"
    whole = el(
        "table",
        el("caption", caption),
        el("thead", el("tr", heads)),
        body,
        class_="plain",
    )
    return el("div", whole, class_="scroll")


def groups_of(
    shown: Snapshot,
    trials: Sequence[TrialRecord],
    everything: bool,
) -> list[tuple[str, list[Row], str]]:
    """Return the parts of the table: title, rows, and what to say where there are none."""
    found = differences(list(trials))
    states = Row("state", [state_words(shown, trial) for trial in trials])
    values = _values(found["values"], shown.objectives)
    costs = []
    for name, row in found["costs"].items():
        costs.append(Row(name, _cells(row)))
    title = "Plan, where it differs"
    if everything:
        title = "Plan"
    same = "There are no plans yet."
    if all(trial.plan for trial in trials):
        same = "Their plans do not differ."
    return [
        ("Trial", [states], ""),
        ("Values", values, "Nothing has been measured of these trials."),
        ("Costs known before training", costs, ""),
        (title, _plan(trials, found["plan"], everything), same),
        ("Time by stage", _time(trials), ""),
        ("Results shared between trials", _shared(trials), ""),
    ]


def best_of(row: Mapping[int, Any], metric: Metric) -> frozenset[int]:
    """Return the positions of the best values of a row, where there are values to choose from."""
    known = {}
    for index, value in enumerate(row.values()):
        if value is not None:
            known[index] = value
    if len(known) < 2:
        return frozenset()
    top = metric.best(known.values())
    # Several, where trials are equal.
    return frozenset(index for index, value in known.items() if value == top)


def _values(table: Mapping[str, Mapping[int, Any]], objectives: Sequence[Metric]) -> list[Row]:
    """Return the objectives first, the best of each marked, then what else was measured."""
    found = []
    leading = set()
    for metric in objectives:
        leading.add(metric.name)
        if metric.name in table:
            row = table[metric.name]
            found.append(Row(metric.name, _cells(row), best_of(row, metric)))
    for name, row in table.items():
        if name not in leading:
            found.append(Row(name, _cells(row)))
    return found


def _plan(
    trials: Sequence[TrialRecord],
    differing: Mapping[str, Any],
    everything: bool,
) -> list[Row]:
    plans = [trial.params for trial in trials]
    names: dict[str, None] = {}  # a set that keeps the order
    for plan in plans:
        names.update(dict.fromkeys(plan))
    found = []
    for name in names:
        differs = name in differing
        if everything or differs:
            cells = [number(plan.get(name)) for plan in plans]
            # Where only what differs is shown, nothing has to be set off.
            found.append(Row(name, cells, differs=everything and differs))
    return found


def _time(trials: Sequence[TrialRecord]) -> list[Row]:
    names: dict[str, None] = {}  # a set that keeps the order
    for trial in trials:
        names.update(dict.fromkeys(trial.stage_seconds))
    rows = []
    for name in names:
        stage = [trial.stage_seconds.get(name) for trial in trials]
        rows.append(Row(name, list(map(_seconds, stage))))
    whole = [trial.seconds for trial in trials]
    rows.append(Row("in all", list(map(_seconds, whole))))
    return rows


def _shared(trials: Sequence[TrialRecord]) -> list[Row]:
    names: dict[str, None] = {}  # a set that keeps the order
    for trial in trials:
        names.update(dict.fromkeys(trial.shared))
    rows = []
    for name in names:
        shares = [_share(name, trial.shared.get(name)) for trial in trials]
        rows.append(Row(name, shares))
    if rows:
        saved = [saved_seconds(trial.shared) for trial in trials]
        rows.append(Row("saved", list(map(_seconds, saved))))
    return rows


def _share(name: str, entry: Mapping[str, Any] | None) -> str:
    """Return what a trial had of a shared result."""
    if entry is None:
        return "-"
    # Without the name, which stands at the beginning of the row.
    words = shared_words(name, entry)
    return words.removeprefix(f"{name} (").removesuffix(")")


def _seconds(value: Any) -> str:
    if value is None:
        return "-"
    return seconds_words(float(value))


def _cells(row: Mapping[int, Any]) -> list[str]:
    return list(map(number, row.values()))


def _line(row: Row) -> Markup:
    cells = []
    for index, cell in enumerate(row.cells):
        if index in row.best:
            star = el("span", STAR, title="best of these")
            cells.append(el("td", join([cell, " ", star]), class_="right best"))
        else:
            cells.append(el("td", cell, class_="right"))
    differs = None
    if row.differs:
        differs = "differs"
    return el("tr", el("td", row.name, class_="name"), cells, class_=differs)
