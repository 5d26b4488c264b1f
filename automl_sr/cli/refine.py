"""`automl-sr refine`: train the best models of a study longer, and look at the test sets."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.cli.search import at_least_one, known_device, name_store
from automl_sr.errors import StopRequestedError, UseError
from automl_sr.presentation.console import (
    console,
    note,
    print_json,
    print_lines,
    print_table,
    print_text,
    safe_line,
)
from automl_sr.presentation.numbers import duration
from automl_sr.presentation.refinements import headings, table
from automl_sr.search.refine.callbacks import RefineCallback

if TYPE_CHECKING:
    from automl_sr.search.open_study import OpenStudy
    from automl_sr.search.refine.refiner import RefineEnd
    from automl_sr.store.refinements import RefinementClaim, RefinementResult
    from automl_sr.trial.types import Point

MOST_MINUTES = 1_000_000
PLAIN_SECONDS = 15.0
"""Without a terminal a refinement says so often where it is."""


def refine(  # noqa: PLR0913, PLR0917 - one for each option
    name: Annotated[str, typer.Argument(help="Name of the study", metavar="NAME")],
    top: Annotated[
        int | None,
        typer.Option(
            help="Only so many members of the front, the best in the first objective", metavar="K"
        ),
    ] = None,
    trials: Annotated[
        list[str] | None,
        typer.Option(
            help="Trials instead of the front: 3,7 or one option for each", metavar="NUMBERS"
        ),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            help="Steps of training; default: four times those of the search", metavar="N"
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Instead of steps: what all of it may take, by the speed of a short trial run",
            metavar="M",
        ),
    ] = None,
    seeds: Annotated[
        int, typer.Option(help="How often each is done, with other batches", metavar="S")
    ] = 1,
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    device: Annotated[str, typer.Option(help="Where training runs: auto, cpu or cuda")] = "auto",
    threads: Annotated[
        int | None,
        typer.Option(help="Threads of training; default: the study's, or all cores", metavar="N"),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress")] = False,
) -> None:
    """Train a study's best models longer, and measure them on the test sets.

    Each member of the front goes on from its checkpoint, on all training data, and is exported like
    a trial; its values stand beside those of the search. Ctrl-C checkpoints, and the same command
    goes on. What is done is not done again, and several of these commands at once share the work.

    \b
    Examples:
      automl-sr refine quickstart --top 3
      automl-sr refine quickstart --trials 3,7 --steps 20000 --seeds 3
      automl-sr refine quickstart --top 1 --minutes 30
    """
    from automl_sr.search.refine.choice import Request

    # What is wrong with the options is told before anything heavy is imported.
    asked = Request(_numbers(trials), top, steps, seeds, minutes)
    _check(asked)
    known_device(device)
    if threads is not None:
        at_least_one("threads", threads)
    from automl_sr.plugin.registry import installed
    from automl_sr.search.open_study import Options
    from automl_sr.search.refine import refiner

    options = Options(store=store, device=device, threads=threads)
    with make_callback(quiet=quiet) as callback:
        end = refiner.refine(name, installed(), options, asked, callback=callback)
    # Also where an error follows: what was done until then is done.
    if json:
        print_json(end.summary)
    else:
        _print(end)
    if isinstance(end.error, StopRequestedError):
        end.error.hint = f"Go on with: automl-sr refine {name}{_again(asked)}"
    if end.error is not None:
        name_store(end.error, store)
        raise end.error


def _numbers(given: Sequence[str] | None) -> tuple[int, ...]:
    """Return the numbers of `3,7`, also where the option is repeated. Raises UseError."""
    numbers: dict[int, None] = {}  # a set that keeps the order
    for text in given or ():
        for part in text.split(","):
            word = part.strip()
            # `isdigit` alone takes digits of all scripts, and superscripts, which int refuses.
            if not (word.isascii() and word.isdigit()):
                raise UseError(
                    f"--trials {word!r} is no number of a trial.",
                    "Write numbers with commas: 3,7.",
                )
            numbers[int(word)] = None
    return tuple(numbers)


def _check(asked: Any) -> None:
    """Raise UseError for what cannot be asked."""
    if asked.trials and asked.top is not None:
        raise UseError(
            "--top chooses from the front, --trials names trials.", "Leave one of them out."
        )
    if asked.steps is not None and asked.minutes is not None:
        raise UseError(
            "--steps and --minutes both say how long to train.", "Leave one of them out."
        )
    if asked.minutes is not None and not 0 < asked.minutes < MOST_MINUTES:
        raise UseError(
            f"--minutes {asked.minutes:g} is no time to train.",
            f"Write a number above 0 and below {MOST_MINUTES:,}.",
        )
    for what, count in (("top", asked.top), ("steps", asked.steps), ("seeds", asked.seeds)):
        if count is not None and count < 1:
            raise UseError(f"--{what} {count} is too few.", "Write 1 or more.")


def _again(asked: Any) -> str:
    """Return the options that say which refinements are meant."""
    words = []
    if asked.top is not None:
        words.append(f" --top {asked.top}")
    if asked.trials:
        words.append(f" --trials {','.join(map(str, asked.trials))}")
    if asked.steps is not None:
        words.append(f" --steps {asked.steps}")
    if asked.minutes is not None:
        words.append(f" --minutes {asked.minutes:g}")
    if asked.seeds != 1:
        words.append(f" --seeds {asked.seeds}")
    return "".join(words)


@contextlib.contextmanager
def make_callback(*, quiet: bool) -> Iterator[RefineCallback]:
    """Return who follows the refinements, on standard error.

    On a terminal one line that changes, elsewhere now and then a new one.
    """
    if quiet:
        yield RefineCallback()
    elif sys.stderr.isatty():
        from rich.text import Text

        with console().status("reading the data ...") as status:
            # As Text, which is no markup: names in a study may hold brackets.
            yield Lines(show=lambda text: status.update(Text(safe_line(text))), every=0.2)
    else:
        yield Lines(show=note, every=PLAIN_SECONDS)


class Lines(RefineCallback):
    """One line for each thing that happens; `show` gets where training is, at most every so many
    seconds.
    """

    def __init__(self, show: Callable[[str], None], every: float) -> None:
        self._show = show
        self._every = every
        self._said = 0.0

    def opened(self, study: OpenStudy, count: int) -> None:
        """Say what begins."""
        for text in study.notes:
            note(f"note: {text}")
        on = f"training on {study.setting.train_device}, {study.setting.threads} threads"
        what = f"{count} refinements"
        if count == 1:
            what = "1 refinement"
        note(f"study {study.spec.name}: {what}; {on}; {study.store.name}")

    def started(self, claim: RefinementClaim) -> None:
        """Say which one begins."""
        self._said = time.monotonic()
        again = ""
        if claim.taken_over:
            again = " goes on"
        note(f"{claim.title}{again}: {claim.steps:,} steps")

    def stage(self, claim: RefinementClaim, name: str) -> None:
        """Show where it is."""
        self._now_and_then(f"{claim.title}: {name}")

    def point(self, claim: RefinementClaim, point: Point) -> None:
        """Show how training goes."""
        from automl_sr.cli.live import progress

        self._now_and_then(f"{claim.title}: {progress(point)}")

    def finished(
        self,
        claim: RefinementClaim,
        result: RefinementResult,
        seconds: float,
    ) -> None:
        """Say what came of it."""
        from automl_sr.cli.live import measured

        parts = [measured(result.values)]
        for name, row in result.tests.items():
            parts.append(f"{name}: {measured(row)}")
        parts.append(result.reason or "")
        said = "; ".join(filter(None, parts))
        note(f"{claim.title}: {result.state}: {said} ({duration(seconds)})")

    def note(self, text: str) -> None:
        """Pass it on."""
        note(text)

    def _now_and_then(self, text: str) -> None:
        if time.monotonic() - self._said >= self._every:
            self._said = time.monotonic()
            self._show(text)


def _print(end: RefineEnd) -> None:
    rows = end.summary["refinements"]
    columns = ["trial", "seed", "steps", *headings(rows, end.metrics)]
    # All but the seed, in whose column `mean of 3` stands as well.
    right = [name for name in columns if name != "seed"]
    title = "Refined; values of the search stand first"
    print_table(columns, table(rows, end.metrics), title=title, right=right)

    done = []
    for row in rows:
        if row["state"] == "complete":
            done.append(row["number"])
        if row["state"] != "complete" or row["reason"]:
            reason = ""
            if row["reason"]:
                reason = f": {row['reason']}"
            print_lines(f"trial {row['number']}, seed {row['seed']}: {row['state']}{reason}")
    print_text(f"\nModels: {end.artifacts}, in the folders `refined-...` of each trial")
    if done:
        print_text(
            f"Export one: automl-sr export {end.summary['study']} {done[0]} --refined -o DIR"
        )
