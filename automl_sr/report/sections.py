"""What a report says, section by section, from the collected structure alone."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automl_sr.presentation.explanations import history_words, importance_words
from automl_sr.presentation.layer_chart import layer_drawing, layer_rows, layer_words
from automl_sr.presentation.markup import Markup
from automl_sr.presentation.numbers import duration, number
from automl_sr.report import drawings
from automl_sr.report.document import (
    Block,
    Code,
    Mono,
    Net,
    Picture,
    Pictures,
    Section,
    Table,
    Text,
)

Report = Mapping[str, Any]
Row = Mapping[str, Any]
"""A part of the collected structure: a trial, a metric, a rung."""
ABOVE_FLOOR = {True: "yes", False: "no", None: "unknown"}


def sections(report: Report) -> list[Section]:
    """Return the sections in the order in which they are read.

    What a study does not have is left out or explained.
    """
    environment = Table("What the results hang on", ("what", "value"), _flat(report["environment"]))
    parts = [
        Section("Summary", list(_summary(report))),
        Section("Front", list(_front(report))),
        Section("Nets", list(_nets(report))),
        Section("Layers", list(_layers(report))),
        Section("Images", list(_images(report))),
        Section("Efficiency score", list(_efficiency(report))),
        Section("History", list(_history(report))),
        Section("Importance", list(_importance(report))),
        Section("Parallel coordinates", list(_coordinates(report))),
        Section("Learning curves", list(_curves(report))),
        Section("Early stopping", list(_stopping(report))),
        Section("Failures", list(_failures(report))),
        Section("Costs", list(_costs(report))),
        Section("Study", list(_study(report))),
        Section("Environment", [environment]),
        Section("All trials", list(_trials(report))),
    ]
    return [part for part in parts if part.blocks]


def _summary(report: Report) -> Iterator[Block]:
    study = report["study"]
    counts = []
    for state, count in study["trials"].items():
        if count:
            counts.append(f"{count} {state}")
    said = ", ".join(counts) or "No trials"
    taken = duration(study["seconds"])
    begun = moment(study["created"])
    yield Text(f"{_goals(report)} {said} in {taken}, begun {begun}.")
    if not report["front"]:
        kept = ""
        if study["constraints"]:
            kept = " that keeps to the constraints"
        yield Text(f"No trial has left a model{kept}, so there is no front yet.")
        return

    rows = []
    for metric in _objectives(report):
        name = metric["name"]
        best = _best(report["front"], metric)
        reached = _value(metric, best["values"][name])
        without = _value(metric, study["reference"].get(name))
        found_by = f"trial {best['number']}: {best['words']}"
        rows.append([_titled(metric), reached, without, found_by])
    yield Table(
        "Best of each objective",
        ("objective", "best", "without a model", "plan"),
        rows,
        ("best", "without a model"),
    )


def _best(front: Sequence[Row], metric: Row) -> Row:
    """Return the row of the front that is best in one metric."""
    sign = 1
    if metric["direction"] == "maximize":
        sign = -1
    name = metric["name"]
    return min(front, key=lambda row: sign * row["values"][name])


def _front(report: Report) -> Iterator[Block]:
    front = report["front"]
    if not front:
        return
    these = "This model is"
    if len(front) > 1:
        these = "These models are"
    yield Text(
        f"{these} dominated by no other: whatever is better in one objective is worse in another."
        " All values are those of the exported file on the validation set."
    )
    yield _front_table(report)
    yield from drawings.fronts(report)

    files = []
    plans = []
    for row in front:
        trial = f"trial {row['number']}"
        for file in row["files"]:
            place = Mono(file["url"])
            digest = Mono(file["sha256"])
            cells = [
                trial,
                file["kind"],
                file["bytes"],
                place,
                digest,
            ]
            files.append(cells)
        plan = json.dumps(row["plan"], ensure_ascii=False)
        plans.append(f"{trial}: {plan}")
    columns = ("trial", "kind", "bytes", "place", "sha256")
    yield Table("Files of the front", columns, files, ("bytes",), folded=len(files) > 8)
    yield Code("Plans of the front in full", "\n".join(plans))


def _front_table(report: Report) -> Table:
    """Return the front's values side by side."""
    # Parameters are known of every plan, measured or not.
    extra = []
    if "params" not in _metric_names(report):
        extra = ["params before compression"]

    rows = []
    numbers = []
    for row in report["front"]:
        planned = [_whole(row["planned_params"])] * len(extra)
        numbers.append(row["number"])
        cells = [
            f"trial {row['number']}",
            *_values(report, row["values"]),
            *planned,
            row["state"],
            row["steps"],
            row["words"],
        ]
        rows.append(cells)
    reference = report["study"]["reference"]
    if reference:
        unknown = [None] * len(extra)
        values = _values(report, reference)
        rows.append(["without a model", *values, *unknown, None, None, ""])

    titles = [*map(_titled, report["metrics"]), *extra]
    columns = ["trial", *titles, "state", "steps", "plan"]
    return Table("The front", columns, rows, [*titles, "steps"], trials=numbers)


def _nets(report: Report) -> Iterator[Block]:
    nets = report["nets"]
    if not nets["rows"]:
        return
    yield Text(
        "The nets of the front as they ship: blocks that repeat are drawn once, and what only moves"
        " values is left out."
    )
    for row in nets["rows"]:
        trials = f"trial{'s' * (len(row['trials']) > 1)} {_some(row['trials'])}"
        if "reason" in row:
            yield Text(f"There is no drawing for {trials}: {row['reason']}")
            continue
        title = f"{trials.capitalize()}: {row['caption']}"
        yield Net(title, row["words"], Markup(row["svg"]))
    if nets["more"]:
        yield Text(f"{nets['more']} more are not drawn here; see `automl-sr show --draw`.")


def _layers(report: Report) -> Iterator[Block]:
    found = report["layers"]
    if not found["rows"]:
        return
    yield Text(
        "What compression did to each layer of the front's models: how many of its parameters are"
        " gone, how many weights are zero, and in how many bits the others are stored."
    )
    for row in found["rows"]:
        trial = f"Trial {row['number']}"
        if row.get("reason"):
            yield Text(f"{trial}: {row['reason']}")
            continue
        words = "; ".join(f"{name}: {said}" for name, _, said in layer_rows(row))
        yield Net(f"{trial}: {layer_words(row)}", words, layer_drawing(row))
    if found["more"]:
        yield Text(f"{found['more']} more are not shown here; see `automl-sr show`.")


def _images(report: Report) -> Iterator[Block]:
    images = report["images"]
    if "reason" in images:
        yield Text(f"There are no pictures: {images['reason']}")
        return
    yield Text(images["caption"])
    for row in images["rows"]:
        yield _example(row)


def _example(row: Report) -> Block:
    """Return the pieces of one example side by side, or one below the other if they are texts."""
    pictures = []
    lines = []
    for piece in row["pieces"]:
        what = piece["what"]
        if "image" in piece:
            alt = f"{row['name']}, {what}"
            pictures.append(Picture(what, piece["note"], piece["image"], alt))
        lines.append([what, piece.get("text", ""), piece["note"]])
    if len(pictures) == len(lines):
        return Pictures(row["name"], pictures)
    return Table(row["name"], ["of", "text", "value"], lines)


def _efficiency(report: Report) -> Iterator[Block]:
    found = report["efficiency"]
    if "reason" in found:
        yield Text(f"There is no NTIRE efficiency score: {found['reason']}")
        return
    base = found["baseline"]
    # Counts are floats in the structure: as int they get separators and no decimals.
    yield Text(
        f"NTIRE's score for efficient super-resolution, {found['formula']}: runtime, multiply-adds"
        " and parameters relative to a baseline, the smaller the better; the baseline itself has"
        f" 7.389. The baseline is trial {base['number']}, the plain plan with which this study"
        f" began ({found['runtime']} {number(base['runtime'])}, {number(int(base['macs']))}"
        f" multiply-adds, {number(int(base['params']))} parameters), not the challenge's EFDN:"
        " scores compare within this study."
    )
    if found["floor"] is not None:
        yield Text(
            "The challenge leaves out nets that fall below its baseline by more than 0.03 dB:"
            f" here, below {found['floor']:.2f} dB in {found['quality']}. Multiply-adds are those"
            " for which the task quotes them (image-sr: an output of 1280x720), before"
            " quantization."
        )
    yield _efficiency_table(found["rows"])
    yield Text(f"Source of the formula: {found['source']}.")


def _efficiency_table(scored: Sequence[Row]) -> Table:
    rows = []
    numbers = []
    for row in scored:
        ratios = row["ratios"]
        numbers.append(row["number"])
        cells = [
            f"trial {row['number']}",
            row["score"],
            ABOVE_FLOOR[row["passes"]],
            ratios["runtime"],
            ratios["macs"],
            ratios["params"],
            int(row["macs"]),
            int(row["params"]),
        ]
        rows.append(cells)
    counted = ("t/t0", "F/F0", "P/P0", "multiply-adds", "parameters")
    columns = ("trial", "score", "above the floor", *counted)
    return Table(
        "NTIRE efficiency score",
        columns,
        rows,
        ("score", *counted),
        trials=numbers,
    )


def _history(report: Report) -> Iterator[Block]:
    found = report["history"]
    if "reason" in found:
        yield Text(found["reason"])
        return
    yield Text(history_words(found))
    yield from drawings.histories(report)

    rows = []
    before = None  # the value of the trials before the first model
    for point in found["points"]:
        value = point["value"]
        if value is not None and value != before:
            elapsed = duration(point["seconds"])
            rows.append([f"trial {point['number']}", point["count"], elapsed, value])
        before = value
    name = _history_name(found)
    yield Table(
        "When the front grew",
        ("trial", "trials so far", "time so far", name),
        rows,
        ("trials so far", "time so far", name),
        folded=True,
    )


def _importance(report: Report) -> Iterator[Block]:
    found = report["importance"]
    if "reason" in found:
        yield Text(f"Importance is not shown: {found['reason']}")
        return
    yield Text(importance_words(found))
    yield from drawings.importances(report)
    for name, shares in found["objectives"].items():
        rows = []
        for parameter, share in shares.items():
            rows.append([parameter, f"{100 * share:.1f} %"])
        yield Table(f"Importance for {name}", ("parameter", "share"), rows, ("share",), folded=True)


def _coordinates(report: Report) -> Iterator[Block]:
    yield from drawings.coordinates(report)


def _curves(report: Report) -> Iterator[Block]:
    curves = [curve for curve in report["curves"] if curve["points"]]
    if not curves:
        return
    members = len(report["front"])
    some = ""
    if members > len(report["curves"]):
        some = f" {len(curves)} of {members} are shown, from end to end of the front."
    yield Text(
        "The training loss of front members, over steps and over seconds of training alone."
        f"{some} Losses compare only where plans have the same loss and data."
    )
    yield from drawings.learning(curves)

    rows = []
    for curve in curves:
        last = curve["points"][-1]
        seconds = _seconds(last["seconds"])
        trial = f"trial {curve['number']}"
        cells = [
            trial,
            last["step"],
            last["phase"],
            last["loss"],
            seconds,
        ]
        rows.append(cells)
    columns = ("trial", "last step", "phase", "loss", "seconds of training")
    yield Table("Where the curves end", columns, rows, ("last step", "loss", "seconds of training"))


def _stopping(report: Report) -> Iterator[Block]:
    scheduler = report["study"]["search"]["scheduler"]
    rungs = report["rungs"]
    if not rungs:
        if scheduler["kind"] == "none":
            yield Text("No trial was stopped early: the scheduler is none.")
        else:
            yield Text("No trial has reached a rung yet.")
        return
    share = ""
    if scheduler["kind"] == "pareto-asha":
        share = f"; one trial in {scheduler['reduction']} goes on at each rung"
    yield Text(
        f"The scheduler is {scheduler['kind']}{share}. Values at a rung are those of a model that"
        " was finished and exported there."
    )
    yield _rung_table(rungs)
    yield from drawings.rungs(report)

    stopped = []
    for rung in rungs:
        if rung["stopped"]:
            numbers = ", ".join(map(str, rung["stopped"]))
            stopped.append([_rung_name(rung), numbers])
    if stopped:
        yield Table("Which trials were stopped where", ("rung", "trials"), stopped)


def _rung_table(rungs: Sequence[Row]) -> Table:
    names: dict[str, None] = {}  # a set that keeps the order
    for rung in rungs:
        names.update(dict.fromkeys(rung["values"]))
    rows = []
    for rung in rungs:
        steps = " or ".join(map(number, rung["steps"]))
        cells = [_rung_name(rung), steps, rung["reached"], len(rung["stopped"])]
        for name in names:
            cells.append(_spread(rung["values"].get(name)))
        rows.append(cells)
    medians = [f"{name} (median)" for name in names]
    columns = ("rung", "steps", "reached", "stopped", *medians)
    return Table("Rungs", columns, rows, columns[1:])


def _rung_name(rung: Row) -> str:
    # People count from one, the store from zero.
    return f"rung {rung['rung'] + 1}"


def _failures(report: Report) -> Iterator[Block]:
    found = report["failures"]
    if not found:
        yield Text("No trial failed, and no plan was rejected.")
        return
    rows = []
    for row in found:
        numbers = _some(row["trials"])
        taken = duration(row["seconds"])
        cells = [
            row["state"],
            row["count"],
            row["reason"],
            numbers,
            taken,
        ]
        rows.append(cells)
    columns = ("state", "trials", "reason", "numbers", "time")
    yield Table(
        "What came to nothing, by reason (numbers in reasons are those of the first)",
        columns,
        rows,
        ("trials", "time"),
    )
    for row in found:
        if row["detail"]:
            yield Code(f"Trial {row['trials'][0]}: {row['reason']}", row["detail"])


def _costs(report: Report) -> Iterator[Block]:
    costs = report["costs"]
    if costs["states"]:
        yield _state_table(costs)
    if costs["stages"]:
        yield _stage_table(costs["stages"])
    if report["shared"]:
        yield _shared_table(report["shared"])
    stopped = costs["saved_by_stopping"]
    if stopped:
        yield Text(
            f"Stopping {_number_of_trials(stopped)} early saved about"
            f" {duration(stopped['seconds'])} of training, by their own speed up to there."
        )
    reused = costs["saved_by_reuse"]
    if reused:
        yield Text(
            f"{_number_of_trials(reused)} had a plan that was known already; copying its result"
            f" saved about {duration(reused['seconds'])}."
        )


def _state_table(costs: Row) -> Table:
    rows = []
    for state, row in costs["states"].items():
        seconds = row["seconds"]
        share = _share(seconds, costs["seconds"])
        rows.append([state, row["trials"], duration(seconds), share])
    columns = ("state", "trials", "time", "share")
    return Table("Time by state", columns, rows, columns[1:])


def _stage_table(stages: Mapping[str, float]) -> Table:
    # Of the stages, not of the trials, so that the shares add up to 100 %.
    total = sum(stages.values())
    rows = []
    for stage, seconds in stages.items():
        rows.append([stage, duration(seconds), _share(seconds, total)])
    columns = ("stage", "time", "share")
    return Table("Time by stage", columns, rows, columns[1:])


def _shared_table(shared: Sequence[Row]) -> Table:
    rows = []
    for row in shared:
        made_by = _some(row["made_by"])
        reused_by = _some(row["reused_by"])
        rows.append([row["name"], made_by, reused_by, duration(row["saved"])])
    columns = ("result", "made by trials", "reused by trials", "time saved")
    return Table("Results that trials share", columns, rows, ("time saved",))


def _number_of_trials(saved: Row) -> str:
    count = saved["trials"]
    if count > 1:
        return f"{count} trials"
    return f"{count} trial"


def _study(report: Report) -> Iterator[Block]:
    study = report["study"]
    rows: list[list[Any]] = [
        ["name", study["name"]],
        ["store", Mono(study["store"])],
        ["files", Mono(study["artifacts"])],
    ]
    for key in ("objectives", "constraints", "task", "device", "budget", "search"):
        rows += _flat({key: study[key]})
    yield Table("Settings", ("what", "value"), rows)
    # As it was written, with its comments, besides what was made of it.
    yield Code("The study file", study["source"])


def _trials(report: Report) -> Iterator[Block]:
    rows = []
    numbers = []
    for row in report["trials"]:
        state = row["state"]
        if row["front"]:
            state = f"{state}, front"
        numbers.append(row["number"])
        cells = [
            f"trial {row['number']}",
            state,
            *_values(report, row["values"]),
            duration(row["seconds"]),
            row["words"],
            row["reason"] or "",
        ]
        rows.append(cells)
    if not rows:
        return
    names = _metric_names(report)
    yield Table(
        f"{len(rows)} trials",
        ("trial", "state", *names, "time", "plan", "reason"),
        rows,
        (*names, "time"),
        folded=True,
        trials=numbers,
        explains=True,  # every mark of a chart is a row of this table
    )


def moment(iso: str) -> str:
    """Return a time of the collected structure as people read it."""
    minute = iso[:16].replace("T", " ")
    return f"{minute} UTC"


def _goals(report: Report) -> str:
    """Return what is asked of models, in words."""
    goals = []
    for metric in _objectives(report):
        wanted = "the smallest"
        if metric["direction"] == "maximize":
            wanted = "the largest"
        goals.append(f"{wanted} {metric['name']}")
    limits = []
    for metric in report["metrics"]:
        for key, words in (("min", "of at least"), ("max", "of at most")):
            limit = metric["limits"].get(key)
            if limit is not None:
                limits.append(f"{metric['name']} {words} {number(limit)}")
    asked = f"Asked for: {' and '.join(goals)}"
    if limits:
        return f"{asked}, with {' and '.join(limits)}."
    return f"{asked}."


def _objectives(report: Report) -> list[Row]:
    return [metric for metric in report["metrics"] if metric["objective"]]


def _metric_names(report: Report) -> list[str]:
    return [metric["name"] for metric in report["metrics"]]


def _titled(metric: Mapping[str, Any]) -> str:
    if metric["unit"]:
        return f"{metric['name']} ({metric['unit']})"
    return str(metric["name"])


def _history_name(found: Mapping[str, Any]) -> str:
    if found["kind"] == "hypervolume":
        return "hypervolume"
    return str(found["metric"])


def _values(report: Report, values: Mapping[str, float]) -> list[Any]:
    """Return measurements in the order of the metrics; None for what was not measured."""
    cells: list[Any] = []
    for metric in report["metrics"]:
        value = values.get(metric["name"])
        cells.append(_value(metric, value))
    return cells


def _value(metric: Row, value: float | None) -> Any:
    """Return a measurement as a cell."""
    if metric["unit"] == "dB" and value is not None:
        return f"{value:.2f}"  # as published tables have them
    return _whole(value)


def _whole(value: float | None) -> int | float | None:
    """Return large counts as what they are, so that they are written alike."""
    if value is None or abs(value) < 1000:
        return value
    # Metrics are floats, and 10,000 parameters would be written otherwise than 9,999.
    if float(value).is_integer():
        return int(value)
    return value


def _flat(values: Row, prefix: str = "") -> list[list[Any]]:
    """Return nested settings as rows of name and value."""
    rows: list[list[Any]] = []
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping):
            rows += _flat(value, f"{path}.")
        else:
            rows.append([path, _words(value)])
    return rows


def _words(value: Any) -> Any:
    # A str is a sequence too, of letters.
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return ", ".join(map(str, value))


def _spread(values: Mapping[str, float] | None) -> str | None:
    if values is None:
        return None
    low = number(values["low"])
    high = number(values["high"])
    median = number(values["median"])
    return f"{low} to {high} ({median})"


def _some(trials: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(map(str, trials[:most]))
    more = len(trials) - most
    if more > 0:
        return f"{shown} and {more} more"
    return shown


def _share(part: float, whole: float) -> str:
    if whole <= 0:  # nothing has taken any time yet
        return "-"
    return f"{100 * part / whole:.0f} %"


def _seconds(value: float | None) -> float | None:
    if value is None:
        return None
    return round(value, 1)
