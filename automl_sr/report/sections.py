"""What a report says, section by section, from the collected structure alone."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from automl_sr.presentation.explanations import history_words, importance_words
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


def sections(report: Report) -> list[Section]:
    """Return the sections in the order in which they are read; what a study does not have is left
    out or explained.
    """
    parts = [
        Section("Summary", list(_summary(report))),
        Section("Front", list(_front(report))),
        Section("Nets", list(_nets(report))),
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
        Section(
            "Environment",
            [Table("What the results hang on", ("what", "value"), _flat(report["environment"]))],
        ),
        Section("All trials", list(_trials(report))),
    ]
    found: list[Section] = []
    for part in parts:
        if part.blocks:
            found.append(part)
    return found


def _summary(report: Report) -> Iterator[Block]:
    study = report["study"]
    counts = ", ".join(f"{count} {state}" for state, count in study["trials"].items() if count)
    yield Text(
        f"{_goals(report)} {counts or 'No trials'} in {duration(study['seconds'])}, begun"
        f" {moment(study['created'])}."
    )
    if not report["front"]:
        kept = " that keeps to the constraints" * bool(study["constraints"])
        yield Text(f"No trial has left a model{kept}, so there is no front yet.")
        return
    rows = []
    for metric in report["metrics"]:
        if metric["objective"]:
            best = _best(report["front"], metric)
            without = study["reference"].get(metric["name"])
            values = [_value(metric, best["values"][metric["name"]]), _value(metric, without)]
            rows.append([_titled(metric), *values, f"trial {best['number']}: {best['words']}"])
    yield Table(
        "Best of each objective",
        ("objective", "best", "without a model", "plan"),
        rows,
        ("best", "without a model"),
    )


def _best(front: Sequence[Mapping[str, Any]], metric: Mapping[str, Any]) -> Mapping[str, Any]:
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
    for row in front:
        for file in row["files"]:
            files.append(
                [
                    f"trial {row['number']}",
                    file["kind"],
                    file["bytes"],
                    Mono(file["url"]),
                    Mono(file["sha256"]),
                ]
            )
    columns = ("trial", "kind", "bytes", "place", "sha256")
    yield Table("Files of the front", columns, files, ("bytes",), folded=len(files) > 8)
    plans = "\n".join(
        f"trial {row['number']}: {json.dumps(row['plan'], ensure_ascii=False)}" for row in front
    )
    yield Code("Plans of the front in full", plans)


def _front_table(report: Report) -> Table:
    """Set the front's values side by side; parameters are known of every plan, measured or not."""
    front, reference = report["front"], report["study"]["reference"]
    if "params" in _metric_names(report):
        extra = []
    else:
        extra = ["params before compression"]
    rows = []
    for row in front:
        rows.append(
            [
                f"trial {row['number']}",
                *_values(report, row["values"]),
                *[_whole(row["planned_params"]) for _ in extra],
                row["state"],
                row["steps"],
                row["words"],
            ]
        )
    if reference:
        rows.append(
            ["without a model", *_values(report, reference), *[None for _ in extra], None, None, ""]
        )
    right = [*[_titled(metric) for metric in report["metrics"]], *extra, "steps"]
    columns = ["trial", *right[:-1], "state", "steps", "plan"]
    return Table("The front", columns, rows, right, trials=[row["number"] for row in front])


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


def _images(report: Report) -> Iterator[Block]:
    images = report["images"]
    if "reason" in images:
        yield Text(f"There are no pictures: {images['reason']}")
        return
    yield Text(images["caption"])
    for row in images["rows"]:
        yield _example(row)


def _example(row: Report) -> Block:
    """Set the pieces of one example side by side, or one below the other where they are texts."""
    if all("image" in piece for piece in row["pieces"]):
        pictures = []
        for piece in row["pieces"]:
            pictures.append(
                Picture(
                    piece["what"], piece["note"], piece["image"], f"{row['name']}, {piece['what']}"
                )
            )
        return Pictures(row["name"], pictures)
    lines = []
    for piece in row["pieces"]:
        lines.append([piece["what"], piece.get("text", ""), piece["note"]])
    return Table(row["name"], ["of", "text", "value"], lines)


def _efficiency(report: Report) -> Iterator[Block]:
    found = report["efficiency"]
    if "reason" in found:
        yield Text(f"There is no NTIRE efficiency score: {found['reason']}")
        return
    base = found["baseline"]
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
    rows = []
    for row in found["rows"]:
        rows.append(
            [
                f"trial {row['number']}",
                row["score"],
                {True: "yes", False: "no", None: "unknown"}[row["passes"]],
                *[row["ratios"][name] for name in ("runtime", "macs", "params")],
                int(row["macs"]),
                int(row["params"]),
            ]
        )
    columns = (
        "trial",
        "score",
        "above the floor",
        "t/t0",
        "F/F0",
        "P/P0",
        "multiply-adds",
        "parameters",
    )
    right = tuple(name for name in columns[1:] if name != "above the floor")
    yield Table(
        "NTIRE efficiency score",
        columns,
        rows,
        right,
        trials=[row["number"] for row in found["rows"]],
    )
    yield Text(f"Source of the formula: {found['source']}.")


def _history(report: Report) -> Iterator[Block]:
    found = report["history"]
    if "reason" in found:
        yield Text(found["reason"])
        return
    yield Text(history_words(found))
    yield from drawings.histories(report)
    points = found["points"]
    changes = [
        points[0],
        *(
            after
            for before, after in itertools.pairwise(points)
            if after["value"] != before["value"]
        ),
    ]
    rows = []
    for row in changes:
        if row["value"] is not None:
            rows.append(
                [f"trial {row['number']}", row["count"], duration(row["seconds"]), row["value"]]
            )
    yield Table(
        "When the front grew",
        ("trial", "trials so far", "time so far", _history_name(found)),
        rows,
        ("trials so far", "time so far", _history_name(found)),
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
    curves = []
    for curve in report["curves"]:
        if curve["points"]:
            curves.append(curve)
    if not curves:
        return
    more = len(report["front"]) - len(report["curves"])
    yield Text(
        "The training loss of front members, over steps and over seconds of training alone."
        + (
            f" {len(curves)} of {len(report['front'])} are shown, from end to end of the front."
            if more > 0
            else ""
        )
        + " Losses compare only where plans have the same loss and data."
    )
    yield from drawings.learning(curves)
    rows = []
    for curve in curves:
        for last in curve["points"][-1:]:
            rows.append(
                [
                    f"trial {curve['number']}",
                    last["step"],
                    last["phase"],
                    last["loss"],
                    _seconds(last["seconds"]),
                ]
            )
    columns = ("trial", "last step", "phase", "loss", "seconds of training")
    yield Table("Where the curves end", columns, rows, ("last step", "loss", "seconds of training"))


def _stopping(report: Report) -> Iterator[Block]:
    scheduler = report["study"]["search"]["scheduler"]
    if not report["rungs"]:
        none = scheduler["kind"] == "none"
        yield Text(
            "No trial was stopped early: the scheduler is none."
            if none
            else "No trial has reached a rung yet."
        )
        return
    share = ""
    if scheduler["kind"] == "pareto-asha":
        share = f"; one trial in {scheduler['reduction']} goes on at each rung"
    yield Text(
        f"The scheduler is {scheduler['kind']}{share}. Values at a rung are those of a model that"
        " was finished and exported there."
    )
    names = list(dict.fromkeys(name for rung in report["rungs"] for name in rung["values"]))
    rows = []
    for rung in report["rungs"]:
        rows.append(
            [
                f"rung {rung['rung'] + 1}",
                " or ".join(number(step) for step in rung["steps"]),
                rung["reached"],
                len(rung["stopped"]),
                *[_spread(rung["values"].get(name)) for name in names],
            ]
        )
    columns = ("rung", "steps", "reached", "stopped", *[f"{name} (median)" for name in names])
    yield Table("Rungs", columns, rows, columns[1:])
    yield from drawings.rungs(report)
    stopped = []
    for rung in report["rungs"]:
        if rung["stopped"]:
            stopped.append(
                [f"rung {rung['rung'] + 1}", ", ".join(str(trial) for trial in rung["stopped"])]
            )
    if stopped:
        yield Table("Which trials were stopped where", ("rung", "trials"), stopped)


def _failures(report: Report) -> Iterator[Block]:
    found = report["failures"]
    if not found:
        yield Text("No trial failed, and no plan was rejected.")
        return
    rows = [
        [row["state"], row["count"], row["reason"], _some(row["trials"]), duration(row["seconds"])]
        for row in found
    ]
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
        rows = []
        for state, row in costs["states"].items():
            rows.append(
                [
                    state,
                    row["trials"],
                    duration(row["seconds"]),
                    _share(row["seconds"], costs["seconds"]),
                ]
            )
        yield Table(
            "Time by state", ("state", "trials", "time", "share"), rows, ("trials", "time", "share")
        )
    if costs["stages"]:
        total = sum(costs["stages"].values())
        rows = []
        for stage, seconds in costs["stages"].items():
            rows.append([stage, duration(seconds), _share(seconds, total)])
        yield Table("Time by stage", ("stage", "time", "share"), rows, ("time", "share"))
    if report["shared"]:
        rows = []
        for row in report["shared"]:
            rows.append(
                [
                    row["name"],
                    _some(row["made_by"]),
                    _some(row["reused_by"]),
                    duration(row["saved"]),
                ]
            )
        columns = ("result", "made by trials", "reused by trials", "time saved")
        yield Table("Results that trials share", columns, rows, ("time saved",))
    for key, words in (
        (
            "saved_by_stopping",
            "Stopping {} early saved about {} of training, by their own speed up to there.",
        ),
        (
            "saved_by_reuse",
            "{} had a plan that was known already; copying its result saved about {}.",
        ),
    ):
        if costs[key]:
            trials = costs[key]["trials"]
            yield Text(
                words.format(
                    f"{trials} trial{'s' if trials > 1 else ''}", duration(costs[key]["seconds"])
                )
            )


def _study(report: Report) -> Iterator[Block]:
    study = report["study"]
    rows: list[list[Any]] = [
        ["name", study["name"]],
        ["store", Mono(study["store"])],
        ["files", Mono(study["artifacts"])],
    ]
    shown = ("objectives", "constraints", "task", "device", "budget", "search")
    yield Table("Settings", ("what", "value"), rows + _flat({key: study[key] for key in shown}))
    yield Code("The study file", study["source"])


def _trials(report: Report) -> Iterator[Block]:
    names = _metric_names(report)
    rows = []
    for row in report["trials"]:
        rows.append(
            [
                f"trial {row['number']}",
                f"{row['state']}, front" if row["front"] else row["state"],
                *_values(report, row["values"]),
                duration(row["seconds"]),
                row["words"],
                row["reason"] or "",
            ]
        )
    if rows:
        columns = ("trial", "state", *names, "time", "plan", "reason")
        marked = []
        for row in report["trials"]:
            marked.append(row["number"])
        yield Table(
            f"{len(rows)} trials",
            columns,
            rows,
            (*names, "time"),
            folded=True,
            trials=marked,
            explains=True,
        )


def moment(iso: str) -> str:
    """Write a time of the collected structure for people."""
    return f"{iso[:16].replace('T', ' ')} UTC"


def _goals(report: Report) -> str:
    """Say what is asked of models."""
    goals = []
    for metric in report["metrics"]:
        if metric["objective"]:
            wanted = "the smallest"
            if metric["direction"] == "maximize":
                wanted = "the largest"
            goals.append(f"{wanted} {metric['name']}")
    limits = []
    for metric in report["metrics"]:
        for key, words in (("min", "of at least"), ("max", "of at most")):
            if (limit := metric["limits"].get(key)) is not None:
                limits.append(f"{metric['name']} {words} {number(limit)}")
    asked = f"Asked for: {' and '.join(goals)}"
    if limits:
        return f"{asked}, with {' and '.join(limits)}."
    return f"{asked}."


def _metric_names(report: Report) -> list[str]:
    found: list[str] = []
    for metric in report["metrics"]:
        found.append(metric["name"])
    return found


def _titled(metric: Mapping[str, Any]) -> str:
    if metric["unit"]:
        return f"{metric['name']} ({metric['unit']})"
    return str(metric["name"])


def _history_name(found: Mapping[str, Any]) -> str:
    if found["kind"] == "hypervolume":
        return "hypervolume"
    return str(found["metric"])


def _values(report: Report, values: Mapping[str, float]) -> list[Any]:
    """Write measurements in the order of the metrics."""
    found: list[Any] = []
    for metric in report["metrics"]:
        found.append(_value(metric, values.get(metric["name"])))
    return found


def _value(metric: Mapping[str, Any], value: float | None) -> Any:
    """Write a measurement: two decimals for dB, as published tables have them."""
    if metric["unit"] == "dB" and value is not None:
        return f"{value:.2f}"
    return _whole(value)


def _whole(value: float | None) -> int | float | None:
    """Take large counts for what they are, so that they are written alike."""
    if value is not None and abs(value) >= 1000 and float(value).is_integer():
        return int(value)
    return value


def _flat(values: Mapping[str, Any], prefix: str = "") -> list[list[Any]]:
    """Write nested settings as rows of name and value."""
    rows: list[list[Any]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{prefix}{name}.")
        else:
            rows.append([f"{prefix}{name}", _words(value)])
    return rows


def _words(value: Any) -> Any:
    if isinstance(value, str) or not isinstance(value, Sequence):
        return value
    return ", ".join(str(item) for item in value)


def _spread(values: Mapping[str, float] | None) -> str | None:
    if values is None:
        return None
    return f"{number(values['low'])} to {number(values['high'])} ({number(values['median'])})"


def _some(trials: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(str(trial) for trial in trials[:most])
    if len(trials) > most:
        return f"{shown} and {len(trials) - most} more"
    return shown


def _share(part: float, whole: float) -> str:
    if whole > 0:
        return f"{100 * part / whole:.0f} %"
    return "-"


def _seconds(value: float | None) -> float | None:
    if value is None:
        return None
    return round(value, 1)
