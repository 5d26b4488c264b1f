"""`automl-sr replay`: samplers and schedulers compared on a finished study, in simulated time."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from automl_sr.errors import UseError
from automl_sr.presentation.console import (
    console,
    note,
    print_json,
    print_lines,
    print_table,
    print_text,
)
from automl_sr.presentation.numbers import duration

if TYPE_CHECKING:
    from automl_sr.search.replay.table import Table

MOST_SEEDS = 1000
MOST_TRIED = 0.75
"""Who tries more of a table has little left to choose from."""


def replay(  # noqa: PLR0913, PLR0917 - one for each option
    study: Annotated[
        str, typer.Argument(help="Name of a study, or a table file", metavar="NAME|TABLE")
    ],
    samplers: Annotated[
        str,
        typer.Option(
            help="Samplers, by commas; a+b is sampler a with scheduler b alone", metavar="A,B"
        ),
    ] = "tpe,nsga2,random",
    schedulers: Annotated[
        str, typer.Option(help="Schedulers, by commas", metavar="A,B")
    ] = "pareto-asha,none",
    seeds: Annotated[
        int, typer.Option(help="Simulated studies of each combination", metavar="N")
    ] = 20,
    minutes: Annotated[
        float | None,
        typer.Option(
            help="Simulated minutes of a study; default: an eighth of what all rows take",
            metavar="M",
        ),
    ] = None,
    workers: Annotated[int, typer.Option(help="Simulated workers of a study", metavar="N")] = 1,
    plot: Annotated[
        Path | None, typer.Option("-o", "--plot", help="Draw the comparison", metavar="PLOT.png")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the study's table", metavar="TABLE.json")
    ] = None,
    reference: Annotated[
        str,
        typer.Option(
            help="Corner of the hypervolume, in the table that is made", metavar="METRIC=VALUE,..."
        ),
    ] = "",
    store: Annotated[
        str | None, typer.Option(help="Database; default: AUTOML_SR_STORE", metavar="URL")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print JSON alone on standard output")
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress")] = False,
) -> None:
    """Compare samplers and schedulers on a finished study, in simulated time.

    They choose among the study's own trials, which take the time that they took. What a combination
    finds is measured as the hypervolume of its front; the best one without our early stopping is
    the rival to reach. It also says how well the rungs foretold the end (Kendall's tau).

    Samplers: tpe, nsga2, random and qmc as `search` has them; optuna-tpe, optuna-nsga2 with
    Optuna's defaults; optuna-tpe-first for the first objective alone. Schedulers: pareto-asha,
    median (on the first objective), none, and optuna-median for optuna-tpe-first.

    \b
    Examples:
      automl-sr replay joint-x2-table --save table.json
      automl-sr replay table.json --seeds 20 -o replay.png
      automl-sr replay table.json --samplers tpe+pareto-asha,optuna-tpe-first+optuna-median
    """
    if not 1 <= seeds <= MOST_SEEDS:
        raise UseError(f"--seeds {seeds} is out of range.", f"Write 1 to {MOST_SEEDS}.")
    if minutes is not None and not 0 < minutes < math.inf:
        raise UseError(
            f"--minutes {minutes:g} is no time.", "It is the simulated time of a study, above 0."
        )
    if workers < 1:
        raise UseError(f"--workers {workers} is no number of workers.", "It is at least 1.")
    from automl_sr.search.replay.comparison import combinations, compare
    from automl_sr.search.replay.fidelity import agreement

    asked = combinations(_listed(samplers), _listed(schedulers))
    table, notes = _table(study, store, _values(reference))
    if save is not None:
        table.save(save)
    seconds = None
    if minutes is not None:
        seconds = 60 * minutes
    with _progress(quiet=quiet) as tell:
        compared = compare(
            table,
            asked,
            seeds=seeds,
            seconds=seconds,
            workers=workers,
            tell=tell,
        )
    found = {
        "study": table.study,
        "table": _about(table),
        **compared.to_json(),
        "kendall": agreement(table),
    }
    found["notes"] = [*notes, *_warnings(found)]
    if plot is not None:
        from automl_sr.search.replay.plot import draw

        draw(plot, found, table.study)
    if json:
        print_json(found)
    else:
        _print(found)


def _listed(text: str) -> list[str]:
    found: list[str] = []
    for item in text.split(","):
        if item.strip():
            found.append(item.strip())
    return found


def _values(text: str) -> dict[str, float]:
    found = {}
    for item in _listed(text):
        name, _, value = item.partition("=")
        try:
            found[name.strip()] = float(value)
        except ValueError:
            raise UseError(
                f"--reference {item!r} is no METRIC=VALUE.", "As in psnr_y=30,params=50000."
            ) from None
    return found


def _table(
    study: str,
    store: str | None,
    reference: dict[str, float],
) -> tuple[Table, list[str]]:
    """Read a table file, or make the table of a stored study."""
    from automl_sr.search.replay.table import load_table

    path = Path(study)
    if path.suffix == ".json" or path.is_file():
        if reference:
            raise UseError(
                "A table file has its reference point.", "Give --reference when the table is made."
            )
        return load_table(path), []
    from automl_sr.plugin.registry import installed
    from automl_sr.search.replay.recording import record
    from automl_sr.store.reading import Reader

    return record(Reader.open(store), study, installed(), reference)


def _about(table: Table) -> dict[str, Any]:
    rows = dict.fromkeys(("complete", "infeasible", "failed"), 0)
    for row in table.rows:
        if row.state in rows:
            rows[row.state] += 1
    objectives = {objective.name: objective.direction for objective in table.objectives}
    return {
        "rows": rows,
        "sampler": table.sampler,
        "steps": table.steps,
        "reduction": table.reduction,
        "seconds": table.seconds,
        "objectives": objectives,
        "reference": table.reference,
        "ideal": table.ideal,
        "threads": table.threads,
    }


def _warnings(found: dict[str, Any]) -> list[str]:
    rows = sum(found["table"]["rows"].values())
    names = []
    for item in found["combinations"]:
        if item["tried"] >= MOST_TRIED * rows:
            names.append(item["name"])
    if not names:
        return []
    return [
        f"{', '.join(names)} tried most of the table: what was left is no draw from the space,"
        " compare fewer --minutes"
    ]


@contextlib.contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    """Show how many studies are simulated, on a terminal."""
    shown = console()
    if quiet or not shown.is_terminal:
        yield None
        return
    with shown.status("simulating") as status:
        yield lambda done, of: status.update(f"simulated {done} of {of} studies")


def _print(found: dict[str, Any]) -> None:
    counts = []
    for state, count in found["table"]["rows"].items():
        if count:
            counts.append(f"{count} {state}")
    print_lines(
        f"{found['study']}: {', '.join(counts)}; {found['seeds']} simulated studies of"
        f" {duration(found['seconds'])} each"
    )
    for text in found["notes"]:
        note(f"note: {text}")
    print_text("")
    columns = [
        "combination",
        "hypervolume",
        "95 %",
        "mean rank",
        "tried",
        "complete",
        "there after",
        "share",
        "95 %",
    ]
    print_table(columns, map(_combination, found["combinations"]), right=columns[1:])
    if found["best_rival"]:
        print_text(
            f"\nThere: where {found['best_rival']}, the best without our early stopping, ends"
            f" ({found['target']:.4f}); share: of its own time until then."
        )
    if found["kendall"]:
        _print_agreement(found["kendall"])


def _print_agreement(rows: Sequence[dict[str, Any]]) -> None:
    print_text("")
    columns = ["objective", "rung", "step", "rows", "tau", "95 %", "tau inside classes", "95 %"]
    print_table(
        columns,
        map(_agreement, rows),
        title="How the order at a rung agrees with that at the end (Kendall's tau-b)",
        right=columns[1:],
    )


def _combination(item: dict[str, Any]) -> Sequence[Any]:
    end = item["hypervolume"]
    # Without a rival in the comparison there is nothing to reach.
    reach = item["to_target"] or {}
    interval = None
    if reach:
        interval = _interval(reach, 2)
    return [
        item["name"],
        f"{end['median']:.4f}",
        _interval(end, 4),
        f"{item['mean_rank']:.2f}",
        f"{item['tried']:g}",
        f"{item['complete']:g}",
        _there_after(reach),
        _digits(reach.get("share"), 2),
        interval,
    ]


def _there_after(reach: dict[str, Any]) -> str | None:
    """Return after which time the rival was reached; None where there is none."""
    if not reach:
        return None
    seconds = reach["seconds"]
    if seconds is None:
        return "never"
    return duration(seconds)


def _agreement(item: dict[str, Any]) -> Sequence[Any]:
    inside = item["inside"]
    return [
        item["objective"],
        item["rung"],
        item["step"],
        item["rows"],
        _digits(item["tau"], 2),
        _interval(item, 2),
        _digits(inside["tau"], 2),
        _interval(inside, 2),
    ]


def _digits(value: float | None, digits: int) -> str | None:
    if value is None:
        return None
    return f"{value:.{digits}f}"


def _interval(item: dict[str, Any], digits: int) -> str:
    low = _digits(item["low"], digits) or "-"
    high = _digits(item["high"], digits) or "-"
    return f"{low} to {high}"
