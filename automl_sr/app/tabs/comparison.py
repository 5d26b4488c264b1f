"""Trials side by side as one table: values, costs, plans, time, and what each took from the
others.
"""

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


def comparison(shown: Snapshot, trials: Sequence[TrialRecord], everything: bool) -> str:
    """Set trials side by side; of their plans what differs, or everything."""
    groups = groups_of(shown, trials, everything)
    body = []
    for title, rows, nothing in groups:
        if rows or nothing:
            body.append(
                el(
                    "tbody",
                    el(
                        "tr",
                        el("th", title, colspan=len(trials) + 1, class_="group", scope="rowgroup"),
                    ),
                    [_line(row) for row in rows]
                    or el("tr", el("td", nothing, colspan=len(trials) + 1)),
                )
            )
    heads = []
    for trial, colour in zip(trials, COLOURS, strict=False):
        heads.append(
            el(
                "th",
                el("span", "", class_="swatch", style=f"background: {colour}"),
                f"trial {trial.number}",
                scope="col",
            )
        )
    caption = f"{STAR} best of these in an objective" + (
        "; what differs is set off" if everything else ""
    )
    whole = el(
        "table",
        el("caption", caption),
        el("thead", el("tr", el("td"), heads)),
        body,
        class_="plain",
    )
    return el("div", whole, class_="scroll")


def groups_of(
    shown: Snapshot, trials: Sequence[TrialRecord], everything: bool
) -> list[tuple[str, list[Row], str]]:
    """Return the parts of the table: title, rows, and what to say where there are none."""
    found = differences(list(trials))
    same = "There are no plans yet."
    if all(trial.plan for trial in trials):
        same = "Their plans do not differ."
    return [
        ("Trial", [Row("state", [state_words(shown, trial) for trial in trials])], ""),
        (
            "Values",
            _values(found["values"], shown.objectives),
            "Nothing has been measured of these trials.",
        ),
        (
            "Costs known before training",
            [Row(name, _cells(row)) for name, row in found["costs"].items()],
            "",
        ),
        (
            "Plan" if everything else "Plan, where it differs",
            _plan(trials, found["plan"], everything),
            same,
        ),
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
    return frozenset(index for index, value in known.items() if value == top)


def _values(table: Mapping[str, Mapping[int, Any]], objectives: Sequence[Metric]) -> list[Row]:
    """List the objectives first, the best of each marked."""
    by_name = {}
    for metric in objectives:
        by_name[metric.name] = metric
    names = [
        *(name for name in by_name if name in table),
        *(name for name in table if name not in by_name),
    ]
    found: list[Row] = []
    for name in names:
        found.append(
            Row(
                name,
                _cells(table[name]),
                best_of(table[name], by_name[name]) if name in by_name else frozenset(),
            )
        )
    return found


def _plan(
    trials: Sequence[TrialRecord], differing: Mapping[str, Any], everything: bool
) -> list[Row]:
    params = [trial.params for trial in trials]
    names = dict.fromkeys(name for plan in params for name in plan)
    found: list[Row] = []
    for name in names:
        if everything or name in differing:
            found.append(
                Row(
                    name,
                    [number(plan.get(name)) for plan in params],
                    differs=everything and name in differing,
                )
            )
    return found


def _time(trials: Sequence[TrialRecord]) -> list[Row]:
    names = dict.fromkeys(name for trial in trials for name in trial.stage_seconds)
    stages = []
    for name in names:
        stages.append(Row(name, [_seconds(trial.stage_seconds.get(name)) for trial in trials]))
    return [*stages, Row("in all", [_seconds(trial.seconds) for trial in trials])]


def _shared(trials: Sequence[TrialRecord]) -> list[Row]:
    names = dict.fromkeys(name for trial in trials for name in trial.shared)
    rows = []
    for name in names:
        rows.append(Row(name, [_share(name, trial.shared.get(name)) for trial in trials]))
    if rows:
        return [*rows, Row("saved", [_seconds(saved_seconds(trial.shared)) for trial in trials])]
    return []


def _share(name: str, entry: Mapping[str, Any] | None) -> str:
    """Say what a trial had of a shared result; its name stands at the row's beginning."""
    if entry is None:
        return "-"
    return shared_words(name, entry).removeprefix(f"{name} (").removesuffix(")")


def _seconds(value: Any) -> str:
    if value is None:
        return "-"
    return seconds_words(float(value))


def _cells(row: Mapping[int, Any]) -> list[str]:
    return [number(value) for value in row.values()]


def _line(row: Row) -> Markup:
    cells = []
    for index, cell in enumerate(row.cells):
        best = index in row.best
        shown = join([cell, " ", el("span", STAR, title="best of these")]) if best else cell
        cells.append(el("td", shown, class_="right best" if best else "right"))
    return el(
        "tr", el("td", row.name, class_="name"), cells, class_="differs" if row.differs else None
    )
