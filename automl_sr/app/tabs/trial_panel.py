"""Everything about one trial as HTML: plan, values, where its time went, and what went wrong."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from automl_sr.app.figures.tables import table
from automl_sr.app.html_text import state_words
from automl_sr.presentation.layer_chart import is_compressed, layer_drawing, layer_words
from automl_sr.presentation.markup import Markup, el, join
from automl_sr.presentation.numbers import duration, number, size
from automl_sr.presentation.trial_details import shared_words
from automl_sr.study.limits import Limits, stored_limits

Details = Mapping[str, Any]
"""What `automl_sr.presentation.trial_details.details` says of a trial."""

if TYPE_CHECKING:
    from automl_sr.app.store_cache import Snapshot
    from automl_sr.store.records import TrialRecord


def panel(shown: Snapshot, trial: TrialRecord, found: Details) -> str:
    """Return a trial as a page shows it."""
    measured = el(
        "div",
        _values(shown, trial),
        _time(found),
        _shared(found),
        _rungs(found),
    )
    # What is wide stands below the others, over the whole page.
    wide = [_refinements(shown, found), _files(found)]
    panels = el("div", measured, _plan(found), wide, class_="panels")
    return el("section", _head(shown, trial, found), panels)


def events(found: Details) -> str:
    """Return what happened to a trial."""
    told = found["events"]
    if not told:
        return ""
    title = "1 event"
    if len(told) != 1:
        title = f"{len(told)} events"
    inside = []
    for event in told:
        kind = el("b", event["kind"])
        inside.append(el("p", kind, f", {event['at']}"))
        inside.append(el("pre", event["text"]))
    summary = el("summary", f"{title}: what happened to this trial")
    # Tracebacks are long: only a failure is open at first.
    return el("details", summary, inside, open=found["state"] == "failed")


def layers(table: Mapping[str, Any] | None) -> str:
    """Return what became of the layers of a trial's model; nothing where its files do not tell."""
    if table is None:
        return ""
    title = el("b", "Layers")
    if table.get("reason"):
        return el("p", title, f": {table['reason']}")
    said = el("p", title, f": {layer_words(table)}")
    if not is_compressed(table):
        return said
    return join([said, layer_drawing(table)])


def seconds_words(seconds: float) -> str:
    """Return a time, with tenths where whole seconds say little."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    return duration(seconds)


def saved_seconds(shared: Mapping[str, Mapping[str, Any]]) -> float:
    """Return what the results that other trials had made saved this one."""
    saved: float = 0
    for entry in shared.values():
        if entry["reused"]:
            # Who waited for another worker may have saved nothing.
            waited = float(entry.get("waited", 0.0))
            saved += max(0.0, float(entry["seconds"]) - waited)
    return saved


def _head(shown: Snapshot, trial: TrialRecord, found: Details) -> Markup:
    parts = [el("h3", f"Trial {trial.number}: {state_words(shown, trial)}")]
    for line in _lines(found):
        parts.append(el("p", line))
    return join(parts)


def _lines(found: Details) -> Iterator[str]:
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


def _progress(found: Details) -> str:
    stage = found["stage"] or "beginning"
    if not found["curve"]:
        return f"Now: {stage}."
    last = found["curve"][-1]
    loss = ""
    if last["loss"] is not None:
        loss = f", loss {number(float(last['loss']))}"
    return f"Now: {stage}; trained {last['step']:,} steps{loss}."


def _values(shown: Snapshot, trial: TrialRecord) -> Markup | None:
    """Set what was measured beside what was known before training, and beside the limits."""
    limits = stored_limits(shown.study.spec)
    # The study's metrics first, in its order, then what else is known.
    names = [metric.name for metric in shown.metrics]
    rows = []
    for name in dict.fromkeys([*names, *trial.values, *trial.costs]):
        measured = trial.values.get(name)
        before = trial.costs.get(name)
        if name not in trial.values and name not in trial.costs:
            continue
        last = measured
        if measured is None:
            last = before
        limit = _limit(limits.get(name), last)
        rows.append([name, measured, before, limit])
    if not rows:
        return None
    columns = ["metric", "measured", "before training", "limit"]
    return table("Values and costs", columns, rows, right=(1, 2))


def _limit(limits: Limits | None, value: float | None) -> Markup | str:
    """Return the limit of a metric, and whether it is broken."""
    if limits is None:
        return ""
    if value is None or limits.allow(value):
        return limits.words()
    return el("span", f"{limits.words()}, broken", class_="breaks")


def _plan(found: Details) -> Markup | None:
    if found["plan"]:
        return table(
            "Plan",
            ["parameter", "value"],
            found["plan"].items(),
            right=(1,),
        )
    return None


def _time(found: Details) -> Markup:
    rows = []
    for name, value in found["stage_seconds"].items():
        rows.append([name, seconds_words(float(value))])
    rows.append(["in all", seconds_words(found["seconds"])])
    return table("Time", ["stage", "seconds"], rows, right=(1,))


def _shared(found: Details) -> Markup | None:
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
    title = el("b", f"Results shared between trials{end}")
    return join([el("p", title), el("ul", lines)])


def _rungs(found: Details) -> Markup | None:
    rows = found["rungs"]
    if not rows:
        return None
    names: dict[str, None] = {}  # a set that keeps the order
    for row in rows:
        names.update(dict.fromkeys(row["values"]))
    lines = []
    for row in rows:
        values = map(row["values"].get, names)
        decision = "stopped"
        if row["go_on"]:
            decision = "promoted"
        # People count rungs from one.
        cells = [
            row["rung"] + 1,
            row["step"],
            *values,
            decision,
            row.get("reason", ""),
        ]
        lines.append(cells)
    head = ["rung", "step", *names, "then", "why"]
    return table("Rungs", head, lines, right=range(len(names) + 2))


def _refinements(shown: Snapshot, found: Details) -> Markup | None:
    from automl_sr.presentation.refinements import headings
    from automl_sr.presentation.refinements import table as refined_table

    rows = found["refinements"]
    if not rows:
        return None
    metrics = [metric.name for metric in shown.metrics]
    head = ["trial", "seed", "steps", *headings(rows, metrics)]
    made = table(
        "Refined; values of the search stand first",
        head,
        refined_table(rows, metrics),
        range(len(head)),
    )
    told = []
    for row in rows:
        if row["state"] == "complete" and not row["reason"]:
            continue
        line = f"Seed {row['seed']}: {row['state']}"
        if row["reason"]:
            line = f"{line}: {row['reason']}"
        told.append(el("p", line))
    return el("div", made, told, class_="wide")


def _files(found: Details) -> Markup | None:
    if not found["artifacts"]:
        return None
    rows = []
    for file in found["artifacts"]:
        rows.append([file["kind"], size(file["bytes"]), file["url"]])
    listed = table("Files", ["kind", "size", "place"], rows, right=(1,))
    return el("div", listed, class_="wide")
