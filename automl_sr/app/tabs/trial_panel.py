"""Everything about one trial as HTML: what it is, what was measured, where its time went, and what
went wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from automl_sr.app.figures.tables import table
from automl_sr.app.html_text import state_words
from automl_sr.presentation.markup import Markup, el, join
from automl_sr.presentation.numbers import duration, number, size
from automl_sr.presentation.trial_details import shared_words
from automl_sr.study.limits import Limits, stored_limits

if TYPE_CHECKING:
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.store.records import TrialRecord


def panel(shown: Snapshot, trial: TrialRecord, found: Mapping[str, Any]) -> str:
    """Describe a trial; `found` is what `automl_sr.cli.trials.details` says of it."""
    measured = el("div", _values(shown, trial), _time(found), _shared(found), _rungs(found))
    wide = []
    for part in (_refinements(shown, found), _files(found)):
        if part:
            wide.append(part)
    return el(
        "section",
        _head(shown, trial, found),
        el("div", measured, _plan(found), wide, class_="panels"),
    )


def events(found: Mapping[str, Any]) -> str:
    """Tell what happened to a trial; tracebacks are long, so that only a failure is open at
    first.
    """
    told = found["events"]
    if not told:
        return ""
    title = "1 event"
    if len(told) != 1:
        title = f"{len(told)} events"
    inside = []
    for event in told:
        inside.append(
            [el("p", el("b", event["kind"]), f", {event['at']}"), el("pre", event["text"])]
        )
    summary = el("summary", f"{title}: what happened to this trial")
    return el("details", summary, inside, open=found["state"] == "failed")


def seconds_words(seconds: float) -> str:
    """Write a time with tenths where whole seconds say little."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return duration(seconds)


def saved_seconds(shared: Mapping[str, Mapping[str, Any]]) -> float:
    """Sum up what the results that other trials had made saved this one."""
    return sum(
        max(0.0, float(entry["seconds"]) - float(entry.get("waited", 0.0)))
        for entry in shared.values()
        if entry["reused"]
    )


def _head(shown: Snapshot, trial: TrialRecord, found: Mapping[str, Any]) -> Markup:
    lines = list(_lines(found))
    return join(
        [
            el("h3", f"Trial {trial.number}: {state_words(shown, trial)}"),
            [el("p", line) for line in lines],
        ]
    )


def _lines(found: Mapping[str, Any]) -> Iterator[str]:
    """Say in sentences what became of a trial, and where it comes from."""
    if found["reason"]:
        yield str(found["reason"])
    if found["state"] == "running":
        yield _progress(found)
    if found["duplicate_of"] is not None:
        yield f"Its plan is that of trial {found['duplicate_of']}, whose values it took over."
    if found["origin"]:
        origin = found["origin"]
        yield f"Imported from {origin.get('study')}, trial {origin.get('number')}."
    if not found["plan"]:
        yield "It has no plan yet."


def _progress(found: Mapping[str, Any]) -> str:
    stage = found["stage"] or "beginning"
    if not found["curve"]:
        return f"Now: {stage}."
    last = found["curve"][-1]
    loss = ""
    if last["loss"] is not None:
        loss = f", loss {number(float(last['loss']))}"
    return f"Now: {stage}; trained {last['step']:,} steps{loss}."


def _values(shown: Snapshot, trial: TrialRecord) -> Markup | None:
    """Set what was measured beside what was known before training, and beside the study's
    limits.
    """
    limits = stored_limits(shown.study.spec)
    names = list(
        dict.fromkeys([*(metric.name for metric in shown.metrics), *trial.values, *trial.costs])
    )
    known = [name for name in names if name in trial.values or name in trial.costs]
    if not known:
        return None
    rows = []
    for name in known:
        measured, before = trial.values.get(name), trial.costs.get(name)
        if measured is None:
            last = before
        else:
            last = measured
        rows.append([name, measured, before, _limit(limits.get(name), last)])
    return table(
        "Values and costs", ["metric", "measured", "before training", "limit"], rows, right=(1, 2)
    )


def _limit(limits: Limits | None, value: float | None) -> Markup | str:
    """Write the limit of a metric, and whether it is broken."""
    if limits is None:
        return ""
    if value is None or limits.allow(value):
        return limits.words()
    return el("span", f"{limits.words()}, broken", class_="breaks")


def _plan(found: Mapping[str, Any]) -> Markup | None:
    if found["plan"]:
        return table("Plan", ["parameter", "value"], found["plan"].items(), right=(1,))
    return None


def _time(found: Mapping[str, Any]) -> Markup:
    stages = {}
    for name, value in found["stage_seconds"].items():
        stages[name] = float(value)
    rows = []
    for name, value in stages.items():
        rows.append([name, seconds_words(value)])
    return table(
        "Time",
        ["stage", "seconds"],
        [*rows, ["in all", seconds_words(found["seconds"])]],
        right=(1,),
    )


def _shared(found: Mapping[str, Any]) -> Markup | None:
    shared = found["shared"]
    if not shared:
        return None
    saved = saved_seconds(shared)
    end = ""
    if saved:
        end = f"; {seconds_words(saved)} saved"
    lines = []
    for name, entry in shared.items():
        lines.append(el("li", shared_words(name, entry)))
    return join([el("p", el("b", f"Results shared between trials{end}")), el("ul", lines)])


def _rungs(found: Mapping[str, Any]) -> Markup | None:
    rows = found["rungs"]
    if not rows:
        return None
    names = list(dict.fromkeys(name for row in rows for name in row["values"]))
    cells = []
    for row in rows:
        cells.append(
            [
                row["rung"] + 1,
                row["step"],
                *[row["values"].get(name) for name in names],
                _then(row["go_on"]),
                row.get("reason", ""),
            ]
        )
    head = ["rung", "step", *names, "then", "why"]
    return table("Rungs", head, cells, right=range(len(names) + 2))


def _then(promoted: bool) -> str:
    if promoted:
        return "promoted"
    return "stopped"


def _refinements(shown: Snapshot, found: Mapping[str, Any]) -> Markup | None:
    from automl_sr.presentation.refinements import headings
    from automl_sr.presentation.refinements import table as refined_table

    rows = found["refinements"]
    if not rows:
        return None
    metrics = []
    for metric in shown.metrics:
        metrics.append(metric.name)
    head = ["trial", "seed", "steps", *headings(rows, metrics)]
    made = table(
        "Refined; values of the search stand first",
        head,
        refined_table(rows, metrics),
        range(len(head)),
    )
    told = []
    for row in rows:
        if row["state"] != "complete" or row["reason"]:
            told.append(
                el(
                    "p",
                    f"Seed {row['seed']}: {row['state']}"
                    + (f": {row['reason']}" if row["reason"] else ""),
                )
            )
    return el("div", made, told, class_="wide")


def _files(found: Mapping[str, Any]) -> Markup | None:
    if not found["artifacts"]:
        return None
    rows = []
    for file in found["artifacts"]:
        rows.append([file["kind"], size(file["bytes"]), file["url"]])
    return el("div", table("Files", ["kind", "size", "place"], rows, right=(1,)), class_="wide")
