"""`automl-sr studies`, `trials`, `show` and `compare`: what a store holds, also while a search
writes to it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.errors import UseError
from automl_sr.presentation.comparison import differences
from automl_sr.presentation.console import note, print_json, print_lines, print_table, print_text
from automl_sr.presentation.layer_chart import LEGEND, is_compressed, layer_rows, layer_words
from automl_sr.presentation.model_card import model_files
from automl_sr.presentation.numbers import duration, number
from automl_sr.presentation.plan_words import plan_words
from automl_sr.presentation.trial_details import details, shared_words, when
from automl_sr.search.output import (
    CompareOutput,
    ListedTrial,
    StudiesOutput,
    StudyRow,
    TrialRow,
    TrialsOutput,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from automl_sr.store.reading import Reader
    from automl_sr.store.records import StudyRecord, TrialRecord

Name = Annotated[str, typer.Argument(help="Name of the study", metavar="NAME")]
Place = Annotated[
    str | None, typer.Option("--store", help="Database; default: AUTOML_SR_STORE", metavar="URL")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON alone on standard output")]


def studies(store: Place = None, json: AsJson = False) -> None:
    """List the studies of a store.

    \b
    Examples:
      automl-sr studies
      automl-sr studies --store sqlite:///runs/automl-sr.db --json
    """
    opened = _open(store)
    found = []
    for study in opened.studies():
        found.append(StudyRow.of(study, when(study.created)))
    if json:
        print_json(StudiesOutput(store=opened.name, studies=found).model_dump())
        return
    if not found:
        print_text(f"There are no studies in {opened.name} yet.")
        return
    columns = (
        "study",
        "objectives",
        "complete",
        "pruned",
        "failed",
        "infeasible",
        "duplicate",
        "running",
        "time",
        "begun",
    )
    rows = []
    for row in found:
        counts = map(row.trials.__getitem__, columns[2:8])
        begun = row.created[:16].replace("T", " ")  # to the minute
        objectives = ", ".join(row.objectives)
        rows.append([row.study, objectives, *counts, duration(row.seconds), begun])
    print_table(columns, rows, right=columns[2:9])


def trials(
    name: Name,
    store: Place = None,
    state: Annotated[str, typer.Option(help="Only trials in this state", metavar="STATE")] = "",
    json: AsJson = False,
) -> None:
    """List the trials of a study.

    \b
    Examples:
      automl-sr trials quickstart
      automl-sr trials quickstart --state failed
    """
    from automl_sr.plugin.registry import installed
    from automl_sr.search.results import numbers_in_front
    from automl_sr.store.records import STATES

    if state and state not in STATES:
        raise UseError(f"Unknown state {state!r}.", f"States: {', '.join(STATES)}.")
    opened = _open(store)
    study = opened.study(name)
    everything = opened.trials(study)
    found = [trial for trial in everything if state in ("", trial.state)]
    # Of all trials, also where some are listed: what dominates a trial may be in another state.
    front = numbers_in_front(study, everything, installed().metrics)
    if json:
        listed = []
        for trial in found:
            in_front = None  # unknown without the plugin of an objective
            if front is not None:
                in_front = trial.number in front
            listed.append(ListedTrial.of(trial, front=in_front))
        print_json(TrialsOutput(study=study.name, trials=listed).model_dump())
        return

    metrics = study.metrics
    columns = ["trial", "state", *metrics, "seconds", "plan", "reason"]
    rows = []
    for trial in found:
        shown: str = trial.state
        if trial.number in (front or ()):
            shown = f"{trial.state}, front"
        cells = [
            trial.number,
            shown,
            *map(trial.values.get, metrics),
            f"{trial.seconds:.1f}",
            plan_words(trial.params),
            trial.reason or "",
        ]
        rows.append(cells)
    print_table(columns, rows, right=["trial", *metrics, "seconds"])


def show(
    name: Name,
    trial: Annotated[int, typer.Argument(help="Number of the trial", metavar="NUMBER")],
    drawing: Annotated[
        Path | None,
        typer.Argument(help="File that --draw writes; default: NAME-NUMBER.svg", metavar="FILE"),
    ] = None,
    store: Place = None,
    draw: Annotated[
        bool, typer.Option("--draw", help="Draw the net of its model as SVG instead")
    ] = False,
    json: AsJson = False,
) -> None:
    """Show everything about one trial: plan, values, costs, rungs, files and what went wrong.

    \b
    Examples:
      automl-sr show quickstart 7
      automl-sr show quickstart 7 --draw net.svg
    """
    opened = _open(store)
    study = opened.study(name)
    record = opened.trial(study, trial)
    if draw or drawing is not None:
        _draw(study, record, drawing, asked=draw, quiet=json)
    if draw and not json:
        return
    found = details(opened, study, record)
    if json:
        print_json(found)
        return
    _print_trial(study, found)


def _print_trial(study: StudyRecord, found: dict[str, Any]) -> None:
    _print_state(found)
    for title in ("values", "costs", "plan"):
        if found[title]:
            print_text(f"\n{title}:")
            print_table(("name", "value"), found[title].items())
    if found["rungs"]:
        _print_rungs(found["rungs"])
    if found["refinements"]:
        _print_refinements(found["refinements"], study.metrics)
    if found["layers"]:
        print_layers(found["layers"])
    if found["artifacts"]:
        print_text("\nfiles:")
        rows = []
        for file in found["artifacts"]:
            rows.append([file["kind"], file["bytes"], file["url"]])
        print_table(("kind", "bytes", "place"), rows)
    for event in found["events"]:
        print_text(f"\n{event['at']} {event['kind']}:\n{event['text']}")


def _print_state(found: dict[str, Any]) -> None:
    """Print what became of a trial, how long it took, and what it has from others."""
    reason = ""
    if found["reason"]:
        reason = f" ({found['reason']})"
    print_lines(f"{found['study']}, trial {found['number']}: {found['state']}{reason}")
    print_text(f"time: {duration(found['seconds'])}{_stages(found['stage_seconds'])}")
    if found["origin"]:
        print_lines("imported from: {study}, trial {number}".format(**found["origin"]))
    shared = []
    for name, entry in found["shared"].items():
        shared.append(shared_words(name, entry))
    if shared:
        print_lines(f"shared: {', '.join(shared)}")


def print_layers(table: Mapping[str, Any]) -> None:
    """Print what became of each layer, as bars where anything was compressed."""
    print_text("")
    if table["reason"]:
        print_lines(f"layers: {table['reason']}")
        return
    print_lines(f"layers: {layer_words(table)}")
    if is_compressed(table):
        print_table(("layer", LEGEND, "parameters"), layer_rows(table))


def _print_rungs(rungs: list[dict[str, Any]]) -> None:
    print_text("\nrungs:")
    metrics = list(rungs[0]["values"])
    rows = []
    for row in rungs:
        values = map(row["values"].get, metrics)
        rows.append([row["rung"], row["step"], *values, row["go_on"], row["reason"]])
    print_table(["rung", "step", *metrics, "promoted", "why"], rows)


def _print_refinements(refined: list[dict[str, Any]], metrics: Sequence[str]) -> None:
    from automl_sr.presentation.refinements import headings, table

    print_text("\nrefined (values of the search stand first):")
    columns = ["trial", "seed", "steps", *headings(refined, metrics)]
    print_table(columns, table(refined, metrics))


def _draw(
    study: StudyRecord,
    trial: TrialRecord,
    file: Path | None,
    *,
    asked: bool,
    quiet: bool,
) -> None:
    """Write the drawing of a trial's net and say where it is.

    On standard error where standard output holds JSON alone.
    """
    if not asked:
        raise UseError(f"What is {file} for?", f"Write --draw {file} to draw the net.")
    from automl_sr.files import write_atomically
    from automl_sr.presentation.drawing import stored_drawing

    target = file or Path(f"{study.name}-{trial.number}.svg")
    drawing = stored_drawing(model_files(study, trial)["onnx"])
    try:
        write_atomically(target, drawing.file().encode())
    except OSError as error:
        raise UseError(
            f"{target} cannot be written: {error.strerror}.", "Name another file after --draw."
        ) from error
    said = f"{target}: {drawing.caption}"
    if quiet:
        note(said)
    else:
        print_lines(said)


def compare(
    name: Name,
    numbers: Annotated[
        list[int], typer.Argument(help="Numbers of two or more trials", metavar="NUMBER...")
    ],
    store: Place = None,
    json: AsJson = False,
) -> None:
    """Set trials side by side: values, costs and where their plans differ.

    \b
    Examples:
      automl-sr compare quickstart 0 7 12
    """
    chosen = list(dict.fromkeys(numbers))
    if len(chosen) < 2:
        raise UseError(
            "There is nothing to compare one trial with.", "Name two or more different numbers."
        )
    opened = _open(store)
    study = opened.study(name)
    found = []
    for item in chosen:
        found.append(opened.trial(study, item))
    rows = differences(found)
    if json:
        listed = [TrialRow.of(trial) for trial in found]
        whole = CompareOutput(study=study.name, trials=listed, differences=rows)
        print_json(whole.model_dump())
        return
    columns = [""]
    states = ["state"]
    for trial in found:
        columns.append(f"trial {trial.number}")
        states.append(trial.state)
    table: list[list[Any]] = [states]
    for part in ("values", "costs", "plan"):
        for key, values in rows[part].items():
            table.append([key, *map(values.get, chosen)])
    print_table(columns, table, right=columns[1:])


def _open(store: str | None) -> Reader:
    from automl_sr.store.reading import Reader

    return Reader.open(store)


def _stages(seconds: dict[str, float]) -> str:
    shown = []
    for name, taken in seconds.items():
        shown.append(f"{name} {number(float(taken))} s")
    if shown:
        return f" ({', '.join(shown)})"
    return ""
