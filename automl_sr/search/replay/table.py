"""The table of a finished study: every configuration that was trained to its end.

It holds their curves, times and costs. A table is one JSON file that needs neither the store nor
the plugins of its study: the distributions are inside.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import FailFast, Field, ValidationError, model_validator

from automl_sr.errors import UseError, located, shortened, shown
from automl_sr.files import write_atomically
from automl_sr.plugin.metric import Direction, Level, Metric
from automl_sr.plugin.technique import first_error
from automl_sr.search.front import Box
from automl_sr.study.limits import Limits
from automl_sr.study.part import Part
from automl_sr.study.validation_errors import explain

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

FORMAT = 1
LEAST_ROWS = 2
MAX_BYTES = 16_000_000
MAX_VALUES = 500_000
MOST_ROWS = 5_000
"""With more, comparing every row with every other one takes gigabytes."""
MOST_OBJECTIVES = 8
MOST_PARAMETERS = 2_000
MOST_STEPS = 1e15
"""Of a range: with more, a step is lost in rounding."""
SAVED_BY = "A table is written by `automl-sr replay NAME --save TABLE.json`."


Real = Annotated[float, Field(ge=-1e100, le=1e100)]
"""A number with which can be reckoned."""
Whole = Annotated[int, Field(ge=-(2**53), le=2**53)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Seconds = Annotated[float, Field(ge=0, le=1e15)]
Name = Annotated[str, Field(max_length=500)]
Value = str | Whole | Real | bool | None
"""What a parameter is set to."""


class Objective(Part):
    """An objective, as far as comparing needs it."""

    name: Name
    direction: Direction
    level: Level
    log: bool

    def metric(self) -> Metric:
        """Return the description that schedulers and fronts take.

        Nothing can be measured with it.
        """
        return Metric(
            self.name,
            self.direction,
            self.level,
            "",
            log=self.log,
        )


class RungRow(Part):
    """A configuration at a rung."""

    rung: Count
    step: int = Field(gt=0, le=2**53)
    values: dict[str, Real]
    seconds: Seconds
    """Of the trial, until these values were known."""
    judging: Seconds
    """How many of them went into the branch, its export and its evaluation: a trial without rungs
    spares them.
    """


class Row(Part):
    """A configuration, trained to its end, rejected at the gate, or failed."""

    number: Count
    state: Literal["complete", "infeasible", "failed"]
    fingerprint: Name
    params: dict[str, Value]
    """What a sampler is asked for, by stored name."""
    rungs: Annotated[tuple[RungRow, ...], FailFast()] = Field(default=(), strict=False)
    values: dict[str, Real] = Field(default_factory=dict)
    """At the end."""
    costs: dict[str, Real] = Field(default_factory=dict)
    """Known before training."""
    seconds: Seconds
    """Until the end, rungs included."""

    @property
    def unjudged_seconds(self) -> float:
        """Seconds until the end of a trial that is never judged."""
        judging = sum(rung.judging for rung in self.rungs)
        return self.seconds - judging


class IntRange(Part):
    """Whole numbers, as Optuna writes them."""

    low: Whole
    high: Whole
    step: int = Field(default=1, gt=0, le=2**53)
    log: bool = False


class FloatRange(Part):
    """Numbers, as Optuna writes them."""

    low: Real
    high: Real
    step: float | None = Field(
        default=None,
        gt=0,
        le=1e100,
    )
    log: bool = False


class Choices(Part):
    """Values, as Optuna writes them."""

    choices: Annotated[tuple[Value, ...], FailFast()] = Field(
        strict=False,
        min_length=1,
        max_length=MOST_PARAMETERS,
    )


class IntParameter(Part):
    """A parameter with whole numbers."""

    name: Literal["IntDistribution"]
    attributes: IntRange


class FloatParameter(Part):
    """A parameter with numbers."""

    name: Literal["FloatDistribution"]
    attributes: FloatRange


class ChoiceParameter(Part):
    """A parameter with a choice."""

    name: Literal["CategoricalDistribution"]
    attributes: Choices


Parameter = Annotated[IntParameter | FloatParameter | ChoiceParameter, Field(discriminator="name")]


class Table(Part):
    """A finished study as samplers and schedulers can be compared on it."""

    format: Literal[1]
    made_by: Name
    study: Name
    sampler: Name
    """What proposed the configurations."""
    objectives: tuple[Objective, ...] = Field(
        strict=False, min_length=1, max_length=MOST_OBJECTIVES
    )
    constraints: dict[str, Limits]
    steps: int = Field(gt=0, le=2**53)
    reduction: int = Field(ge=2, le=2**53)
    seed: Count
    without_model: dict[str, Real]
    """Quality without any model (bicubic), by metric."""
    reference: dict[str, Real]
    """The corner of the hypervolume that is worst in every objective; fixed before anything is
    compared.
    """
    ideal: dict[str, Real]
    """The opposite corner: the best value of each objective among all rows."""
    threads: int | None = Field(ge=1, le=2**53)
    environment: dict[str, Any]
    space: dict[str, Any]
    distributions: dict[str, Parameter] = Field(max_length=MOST_PARAMETERS)
    """Of every parameter by stored name, as Optuna writes them."""
    rows: Annotated[tuple[Row, ...], FailFast()] = Field(strict=False, max_length=MOST_ROWS)

    @model_validator(mode="after")
    def _fits(self) -> Self:
        complete = len(self.complete)
        if complete < LEAST_ROWS:
            raise ValueError(
                f"there are {complete} complete rows, a comparison needs at least {LEAST_ROWS}"
            )
        numbers = {row.number for row in self.rows}
        if len(numbers) < len(self.rows):
            raise ValueError("a number is there twice")
        for row in self.rows:
            _check_row(row, self)
        for objective in self.objectives:
            self._check_corners(objective)
        return self

    def _check_corners(self, objective: Objective) -> None:
        """Raise ValueError where the box has no extent along an objective."""
        name = objective.name
        if name not in self.reference or name not in self.ideal:
            raise ValueError(f"reference and ideal must name {name}")
        best = self.ideal[name]
        worst = self.reference[name]
        if not objective.metric().better(best, worst):
            raise ValueError(f"the reference of {name} is no worse than the best row")
        if objective.log and min(best, worst) <= 0:
            raise ValueError(f"{name} is compared by ratio and must be above 0")

    @functools.cached_property
    def metrics(self) -> tuple[Metric, ...]:
        """The objectives as metrics."""
        found: list[Metric] = []
        for objective in self.objectives:
            found.append(objective.metric())
        return tuple(found)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the objectives."""
        return tuple(objective.name for objective in self.objectives)

    @functools.cached_property
    def box(self) -> Box:
        """The box in which hypervolumes are measured."""
        return Box(
            self.metrics,
            self.ideal,
            self.reference,
        )

    @functools.cached_property
    def parameters(self) -> dict[str, BaseDistribution]:
        """The distribution of every parameter by stored name."""
        found: dict[str, BaseDistribution] = {}
        for name, item in self.distributions.items():
            found[name] = _distribution(name, item)
        return found

    @property
    def complete(self) -> list[Row]:
        """Rows that were trained to the end."""
        return [row for row in self.rows if row.state == "complete"]

    @property
    def seconds(self) -> float:
        """What it takes to train everything, one after the other, without judging."""
        return sum(row.unjudged_seconds for row in self.rows)

    def save(self, path: Path) -> None:
        """Write the file, a row a line, so that it can be read and compared by people too."""
        data = self.model_dump(mode="json")
        lines: list[str] = []
        for row in data.pop("rows"):
            line = json.dumps(
                row,
                separators=(",", ":"),
                ensure_ascii=False,
            )
            lines.append(line)
        rows = ",\n".join(lines)
        # The rows go in before the closing brace of the rest.
        head = json.dumps(data, indent=1, ensure_ascii=False)
        head = head.removesuffix("\n}")
        text = f'{head},\n "rows": [\n{rows}\n]}}\n'
        write_atomically(path, text.encode())


def load_table(path: Path) -> Table:
    """Read a table. Raises UseError in one sentence."""
    data = _read(path)
    if not isinstance(data, Mapping) or "format" not in data:
        raise UseError(f"{path} is no table: the key 'format' is missing.", SAVED_BY)
    # Before the keys are checked: those of another format would all be complained about.
    if data["format"] != FORMAT:
        raise UseError(
            f"{path} has format {shown(data['format'])}, this version reads {FORMAT}.",
            "Update automl-sr.",
        )
    try:
        table = Table.model_validate(data)
        _check_values(table)
    except ValidationError as error:
        fail = functools.partial(located, where=str(path))
        found = explain(error, Table, data, (), fail)
        raise UseError(found.message, found.hint) from None
    except ValueError as error:
        raise UseError(shortened(f"{path}: {error}.")) from None
    return table


def _read(path: Path) -> Any:
    """Read JSON, no more of it than a table can have."""
    content = _content(path)
    if len(content) > MAX_BYTES:
        raise UseError(
            f"{path} is larger than {MAX_BYTES // 1_000_000} MB, which no table is.", SAVED_BY
        )
    # Values as Python objects take many times their bytes, so they are counted before parsing.
    if content.count(b",") > MAX_VALUES:
        raise UseError(
            f"{path} holds more than {MAX_VALUES:,} values, which no table does.", SAVED_BY
        )
    try:
        data = json.loads(content)
    except RecursionError:
        raise UseError(f"{path} is no table: it is nested too deeply.", SAVED_BY) from None
    except ValueError as error:
        raise UseError(f"{path} is no table: {error}.", SAVED_BY) from None
    _check_extent(path, data)
    return data


def _content(path: Path) -> bytes:
    """Read the bytes of a file, one more than a table can have at most."""
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except FileNotFoundError:
        raise UseError(f"There is no table {path}.") from None
    except OSError as error:
        raise UseError(f"{path} cannot be read: {error.strerror or error}.", SAVED_BY) from None


def _check_extent(path: Path, data: Any) -> None:
    """Refuse lists and mappings that are too long."""
    # Pydantic would make a complaint of each of their entries first. A stack, since nesting that
    # json.loads could follow may be too deep for functions that call themselves.
    parts = [data]
    while parts:
        part = parts.pop()
        if not isinstance(part, list | dict):
            continue
        if len(part) > MOST_ROWS:
            raise UseError(
                f"{path} has a list or a mapping of {len(part):,} entries.",
                f"{MOST_ROWS:,} are allowed.",
            )
        if isinstance(part, dict):
            parts.extend(part.values())
        else:
            parts.extend(part)


def _distribution(name: str, item: Parameter) -> BaseDistribution:
    """Make the distribution of a parameter. Raises ValueError for one that is empty."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if not isinstance(item, ChoiceParameter):
        _check_steps(name, item.attributes)
    kinds: dict[str, Any] = {
        "CategoricalDistribution": CategoricalDistribution,
        "FloatDistribution": FloatDistribution,
        "IntDistribution": IntDistribution,
    }
    attributes = dict(item.attributes)
    try:
        made: BaseDistribution = kinds[item.name](**attributes)
    except ValueError as error:
        raise ValueError(f"distributions.{name}: {error}".rstrip(".")) from None
    return made


def _check_steps(name: str, item: IntRange | FloatRange) -> None:
    """Raise ValueError for a range with more steps than can be told apart."""
    if item.step is None:
        return
    extent = float(item.high) - float(item.low)
    if extent / item.step > MOST_STEPS:
        raise ValueError(f"distributions.{name}: its range has too many steps")


def complaint(error: ValidationError) -> str:
    """Put what is wrong with a table that was made here into one line."""
    return first_error(error).removeprefix("Value error, ")


def _check_row(row: Row, table: Table) -> None:
    """Raise ValueError for a row that cannot have come from this table's study."""
    unknown = row.params.keys() - table.distributions.keys()
    if unknown:
        raise ValueError(f"row {row.number}: the parameter {min(unknown)} has no distribution")
    if row.state != "complete":
        return

    _check_objectives(row, row.values, "its values", table)
    number = -1
    last = 0.0
    for rung in row.rungs:
        where = f"rung {rung.rung}"
        _check_objectives(row, rung.values, where, table)
    for rung in row.rungs:
        if rung.rung <= number or rung.seconds < last:
            raise ValueError(f"row {row.number}: its rungs are not in order")
        number = rung.rung
        last = rung.seconds
    if row.seconds < last:
        raise ValueError(f"row {row.number}: its rungs are not in order")
    _check_judging(row)


def _check_judging(row: Row) -> None:
    last = 0.0
    for rung in row.rungs:
        if rung.judging > rung.seconds - last:
            raise ValueError(
                f"row {row.number}: judging rung {rung.rung} took longer than getting there"
            )
        last = rung.seconds


def _check_objectives(
    row: Row,
    values: Mapping[str, float],
    where: str,
    table: Table,
) -> None:
    missing = set(table.names) - values.keys()
    if missing:
        raise ValueError(f"row {row.number}: {min(missing)} is missing in {where}")


def _check_values(table: Table) -> None:
    """Raise ValueError for a parameter outside its distribution."""
    parameters = table.parameters
    for row in table.rows:
        for name, value in row.params.items():
            # No sampler could have proposed it, and its density would be NaN or 0.
            if not _lies_in(parameters[name], value):
                raise ValueError(
                    f"row {row.number}: {name} = {shown(value)} lies outside its distribution"
                )


def _lies_in(item: BaseDistribution, value: Any) -> bool:
    try:
        inside: bool = item._contains(item.to_internal_repr(value))
    except (TypeError, ValueError):
        return False
    return inside
