"""`automl-sr search`: run a study, or go on with it."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_sr.errors import PROGRAM, StopRequestedError, UseError
from automl_sr.presentation.console import print_json, print_table, print_text
from automl_sr.presentation.numbers import duration
from automl_sr.presentation.plan_words import plan_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from automl_sr.errors import AutomlSRError
    from automl_sr.search.engine import SearchEnd
    from automl_sr.study.spec import StudySpec

DEVICES = ("auto", "cpu", "cuda")


def search(  # noqa: PLR0913, PLR0917 - one for each option
    study: Annotated[Path, typer.Argument(help="Study file", metavar="STUDY.yaml")],
    store: Annotated[
        str | None,
        typer.Option(
            help="Database; default: AUTOML_SR_STORE, or runs/automl-sr.db", metavar="URL"
        ),
    ] = None,
    artifacts: Annotated[
        str | None,
        typer.Option(
            help="Artifact location; default: AUTOML_SR_ARTIFACTS, or runs/artifacts", metavar="URL"
        ),
    ] = None,
    trials: Annotated[
        int | None, typer.Option(help="Trials in all, over every resume", metavar="N")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes in all, over every resume", metavar="M")
    ] = None,
    workers: Annotated[
        int, typer.Option(help="Processes that search on this machine", metavar="N")
    ] = 1,
    device: Annotated[str, typer.Option(help="Where training runs: auto, cpu or cuda")] = "auto",
    warm_start: Annotated[
        str | None,
        typer.Option(
            help="Begin the new study with the trials of this one that fit", metavar="NAME"
        ),
    ] = None,
    no_cache: Annotated[
        bool,
        typer.Option(
            "--no-cache", help="Share nothing between trials: slower, with the same results"
        ),
    ] = False,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress")] = False,
) -> None:
    """Search for the models that trade the study's objectives best; run it again to go on.

    Ctrl-C or SIGTERM checkpoints the running trials and ends; the same command then goes on where
    it was. In the background of a script, where shells ignore Ctrl-C, `kill PID` ends it. Several
    workers share cores and GPUs; more of them may join from other machines with `automl-sr worker`.

    \b
    Examples:
      automl-sr search studies/quickstart.yaml
      automl-sr search studies/quickstart.yaml --workers 4 --minutes 10
      automl-sr search larger.yaml --warm-start quickstart
    """
    # Before anything heavy is imported: a mistyped option is told at once.
    known_device(device)
    at_least_one("workers", workers)
    if (artifacts or "").startswith("memory:"):
        raise UseError(
            "Files in memory are gone when the search ends.",
            "Name a folder or a server with --artifacts.",
        )
    from automl_sr.cli.live import make_callback
    from automl_sr.plugin.registry import installed
    from automl_sr.study.spec import load_study

    registry = installed()
    loaded = load_study(study, registry)
    from automl_sr.search import engine

    options = engine.Options(
        store,
        artifacts,
        trials,
        minutes,
        device,
        str(study),
        no_cache=no_cache,
        warm_start=warm_start,
    )
    with make_callback(quiet=quiet) as callback:
        if workers == 1:
            end = engine.search(loaded, registry, options, callback=callback)
        else:
            from automl_sr.search.workers.local_workers import search_together

            end = search_together(
                loaded,
                registry,
                options,
                workers,
                callback=callback,
            )
    options_again: dict[str, float | str | None] = {
        "artifacts": artifacts,
        "trials": trials,
        "minutes": minutes,
    }
    # Defaults are left out: the command is to be read and typed.
    if workers > 1:
        options_again["workers"] = workers
    if device != "auto":
        options_again["device"] = device
    # Not --warm-start, which is for a study that begins.
    options_again["no_cache"] = no_cache
    again = next_command(f"search {shlex.quote(str(study))}", store, **options_again)
    show_end(end, loaded.spec, json=json, again=again, store=store)


def next_command(command: str, store: str | None, **options: float | str | None) -> str:
    """Return a command that a person may run next, with the options that have a value.

    `store` is what stood on the command line; one with a password is not printed, but spoken of.
    """
    words = [PROGRAM, command]
    elsewhere = ""
    if store is not None and _secret(store):
        elsewhere = ELSEWHERE
        store = None
    for name, value in {"store": store, **options}.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is True:  # a flag
            continue
        if isinstance(value, float):
            words.append(f"{value:.12g}")  # without the .0 of whole numbers
        else:
            words.append(shlex.quote(str(value)))
    return " ".join(words) + elsewhere


ELSEWHERE = " (with AUTOML_SR_STORE set to this store)"


def _secret(store: str) -> bool:
    """Return whether a store's URL holds what is not for people and logs."""
    from automl_sr.store.database import masked

    shown = masked(store)
    return "***" in shown or shown == "the store"


def known_device(device: str) -> None:
    """Raise UseError for a device that there is not, before anything heavy is imported."""
    if device not in DEVICES:
        raise UseError(f"Unknown device {device!r}.", f"Write one of: {', '.join(DEVICES)}.")


def at_least_one(what: str, count: int) -> None:
    """Raise UseError for a count that is none."""
    if count < 1:
        raise UseError(f"--{what} {count} is no number of {what}.", "Write 1 or more.")


def show_end(
    end: SearchEnd, spec: StudySpec, *, json: bool, again: str, store: str | None = None
) -> None:
    """Print what a search has found; raises the error with which it ended, if any.

    `again` goes on with it; `store` is what stood on the command line.
    """
    if json:
        print_json(end.summary)
    else:
        _print(end, spec, store)
    error = end.error
    if isinstance(error, StopRequestedError):
        error.hint = f"Go on with: {again}"
    if error is not None:
        name_store(error, store)
        raise error


def name_store(error: AutomlSRError, store: str | None) -> None:
    """Name the store that stood on the command line in the command that an error offers.

    A worker cannot do that, as its store is in its environment.
    """
    if error.offer is None or store is None:
        return
    written = next_command(error.offer.command, store)
    typed = written.removesuffix(ELSEWHERE)
    error.hint = error.offer.sentence(typed, written.removeprefix(typed))


def _print(end: SearchEnd, spec: StudySpec, store: str | None) -> None:
    """Print the front, what needs no model, and where the files are."""
    counts = []
    for state, count in end.summary["trials"].items():
        if count:
            counts.append(f"{count} {state}")
    said = ", ".join(counts) or "no trials"
    print_text(f"{spec.name}: {said} in {duration(end.summary['seconds'])}")
    if end.note:
        print_text(end.note)
    front = end.summary["front"]
    if not front:
        print_text(without_front(end.summary["trials"], constrained=bool(spec.constraints)))
        return

    metrics = spec.metrics()
    rows = []
    for row in front:
        values = map(row["values"].get, metrics)
        rows.append([row["number"], *values, plan_words(row["plan"])])
    if end.reference:
        values = map(end.reference.get, metrics)
        rows.append(["reference", *values, "without a model"])
    print_text("")
    print_table(
        ["trial", *metrics, "plan"],
        rows,
        title="Front",
        right=["trial", *metrics],
    )
    print_text(f"\nModels: {end.artifacts}, a folder for each trial")
    export = next_command(f"export {spec.name} {front[0]['number']} -o DIR", store)
    print_text(f"Export one: {export}")


def without_front(counts: Mapping[str, int], *, constrained: bool) -> str:
    """Return why a study has no front, from its trials by state."""
    measured = counts["complete"] + counts["pruned"]
    # A duplicate has what its twin has: it was not tried.
    tried = sum(counts.values()) - counts["duplicate"]
    if tried and counts["failed"] == tried:
        return "All trials have failed."
    all_infeasible = tried > 0 and counts["infeasible"] == tried
    if constrained and (measured or all_infeasible):
        return "No model keeps to the constraints, so there is no front yet."
    if measured:
        return "No trial has values of all objectives, so there is no front yet."
    return "No trial is complete yet."
