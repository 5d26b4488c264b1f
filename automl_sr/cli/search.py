"""`automl-sr search`: run a study, or go on with it."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from automl_sr.errors import StopRequestedError, UseError
from automl_sr.presentation.console import print_json, print_table, print_text
from automl_sr.presentation.numbers import duration
from automl_sr.presentation.plan_words import plan_words

if TYPE_CHECKING:
    from collections.abc import Mapping

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

            end = search_together(loaded, registry, options, workers, callback=callback)
    again = next_command(
        f"search {shlex.quote(str(study))}",
        store,
        artifacts=artifacts,
        trials=trials,
        minutes=minutes,
        workers=workers if workers > 1 else None,
        device=device if device != "auto" else None,
        no_cache=no_cache,
    )
    show_end(end, loaded.spec, json=json, again=again, store=store)


def next_command(command: str, store: str | None, **options: float | str | None) -> str:
    """Write a command that a person may run next, in the store that they named, with the options
    that have a value.

    `store` is what stood on the command line; one with a password is not printed, but spoken of.
    """
    words = ["automl-sr", command]
    shown = store is not None and not _secret(store)
    for name, value in {"store": store if shown else None, **options}.items():
        if value is None or value is False:
            continue
        words.append(f"--{name.replace('_', '-')}")
        if value is not True:
            words.append(f"{value:.12g}" if isinstance(value, float) else shlex.quote(str(value)))
    return " ".join(words) + ("" if shown or store is None else ELSEWHERE)


ELSEWHERE = " (with AUTOML_SR_STORE set to this store)"


def _secret(store: str) -> bool:
    """Whether a store's URL holds what is not for people and logs."""
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
    elif error is not None:
        error.message = _in_store(error.message, spec.name, store)
        error.hint = _in_store(error.hint, spec.name, store)
    if error is not None:
        raise error


def _in_store(text: str, name: str, store: str | None) -> str:
    """Name the store in the commands that an error offers; a worker, whose store is in its
    environment, cannot.
    """
    offered = re.compile(rf"automl-sr ((?:trials|show) {re.escape(name)}(?: \d+)?)(?![^\s`])(`?)")

    def named(found: re.Match[str]) -> str:
        command, quote = found.groups()
        written = next_command(command, store)
        bare = written.removesuffix(ELSEWHERE)
        return f"{bare}{quote}{written[len(bare) :]}"

    return offered.sub(named, text)


def _print(end: SearchEnd, spec: StudySpec, store: str | None) -> None:
    """Print the front, what needs no model, and where the files are."""
    counts = ", ".join(
        f"{count} {state}" for state, count in end.summary["trials"].items() if count
    )
    print_text(f"{spec.name}: {counts or 'no trials'} in {duration(end.summary['seconds'])}")
    if end.note:
        print_text(end.note)
    front = end.summary["front"]
    if not front:
        print_text(without_front(end.summary["trials"], constrained=bool(spec.constraints)))
        return
    metrics = spec.metrics()
    rows = []
    for row in front:
        rows.append(
            [row["number"], *[row["values"].get(name) for name in metrics], plan_words(row["plan"])]
        )
    if end.reference:
        rows.append(
            ["reference", *[end.reference.get(name) for name in metrics], "without a model"]
        )
    print_text("")
    print_table(["trial", *metrics, "plan"], rows, title="Front", right=["trial", *metrics])
    print_text(f"\nModels: {end.artifacts}, a folder for each trial")
    export = next_command(f"export {spec.name} {front[0]['number']} -o DIR", store)
    print_text(f"Export one: {export}")


def without_front(counts: Mapping[str, int], *, constrained: bool) -> str:
    """Say why a study has no front, from its trials by state."""
    measured = counts["complete"] + counts["pruned"]
    tried = sum(counts.values()) - counts["duplicate"]
    if tried and counts["failed"] == tried:
        return "All trials have failed."
    if constrained and (measured or (tried and counts["infeasible"] == tried)):
        return "No model keeps to the constraints, so there is no front yet."
    if measured:
        return "No trial has values of all objectives, so there is no front yet."
    return "No trial is complete yet."
