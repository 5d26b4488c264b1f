"""The study file: what a person asks for.

It is checked so that every mistake is one sentence with its line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    InstanceOf,
    ValidationError,
    field_validator,
    model_validator,
)

from automl_sr.errors import Fail, KeyPath, StudyFileError, located, nearest
from automl_sr.plugin.task import Task
from automl_sr.space.section import read_space
from automl_sr.study.limits import Limits
from automl_sr.study.part import Part
from automl_sr.study.validation_errors import explain, join
from automl_sr.study.yaml_lines import parse, read_text

if TYPE_CHECKING:
    from automl_sr.plugin.registry import Registry
    from automl_sr.space.domains import SlotSpace

Sampler = Literal["tpe", "nsga2", "gp", "random", "qmc"]
SchedulerKind = Literal["pareto-asha", "median", "none", "record"]
NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")


def _one_as_list(value: Any) -> Any:
    if isinstance(value, str):
        return [value]
    return value


def _kind_as_mapping(value: Any) -> Any:
    if isinstance(value, str):
        return {"kind": value}
    return value


def _auto_as_none(value: Any) -> Any:
    if value == "auto":
        return None
    return value


class Device(Part):
    """Where shipped models are measured."""

    provider: Literal["cpu", "cuda"] = "cpu"
    """ONNX Runtime's execution provider."""
    threads: int = Field(default=1, ge=1, le=1024)
    """Threads that a shipped model may use."""
    input: Annotated[tuple[int, int], Field(strict=False)] = (360, 640)
    """Height and width of the low-resolution input, in pixels."""

    @field_validator("input")
    @classmethod
    def _sizes(cls, value: tuple[int, int]) -> tuple[int, int]:
        for side in value:
            if not 8 <= side <= 8192:
                raise ValueError("height and width must be from 8 to 8192 pixels")
        return value


class Budget(Part):
    """When a study ends; trials and minutes are totals over all workers and resumes."""

    trials: int | None = Field(default=None, gt=0)
    """Trials that complete, are pruned or fail; infeasible and duplicate plans are free."""
    minutes: float | None = Field(default=None, gt=0)
    """Wall-clock minutes."""
    steps: int = Field(default=3000, gt=0)
    """Training steps of a trial that is not stopped early."""
    trial_minutes: float | None = Field(default=None, gt=0)
    """Minutes after which a single trial is failed."""
    stall_minutes: float = Field(default=30, gt=0)
    """Minutes without any sign of progress after which a trial is failed."""

    @model_validator(mode="after")
    def _ends(self) -> Self:
        if self.trials is None and self.minutes is None:
            raise ValueError("give trials, minutes or both, so that the study ends")
        return self


class SchedulerSettings(Part):
    """How trials are stopped early."""

    model_config = ConfigDict(title="Scheduler")  # what it is called in the JSON Schema

    kind: SchedulerKind = "pareto-asha"
    """`median` works for a single objective; `record` notes the values at rungs, for `replay`, and
    stops nobody.
    """
    rungs: int = Field(default=3, ge=1, le=20)
    """How often a trial is judged, its end included."""
    reduction: int = Field(default=3, ge=2, le=100)
    """One trial in so many goes on at each rung."""
    first: int | None = Field(default=None, ge=1)
    """Steps before which no rung lies; null: 10 % of the steps or 300, whichever is more."""


class Search(Part):
    """How plans are proposed."""

    sampler: Sampler = "tpe"
    """Optuna's tree-structured Parzen estimator, NSGA-II, Gaussian process, random or quasi-random
    search.
    """
    scheduler: Annotated[SchedulerSettings, BeforeValidator(_kind_as_mapping)] = SchedulerSettings()
    """How trials are stopped early: a name, or a mapping."""
    seed: int = Field(default=0, ge=0, lt=2**32)
    """All randomness of the study follows from it."""
    threads: Annotated[int | None, BeforeValidator(_auto_as_none)] = Field(
        default=None,
        ge=1,
        le=1024,
    )
    """Threads that training uses, for curves that are equal bit by bit on other machines; null or
    auto: all cores.
    """


class StudySpec(Part):
    """A study as its file states it."""

    name: str
    """What the study is called in the store."""
    task: InstanceOf[Task]
    """What is learnt, and from which data."""
    objectives: Annotated[
        tuple[str, ...], Field(strict=False, min_length=1), BeforeValidator(_one_as_list)
    ]
    """The metrics that the front trades against each other."""
    constraints: dict[str, Limits] = Field(default_factory=dict)
    """Limits that every model of the front keeps to, by metric."""
    observe: Annotated[tuple[str, ...], Field(strict=False), BeforeValidator(_one_as_list)] = ()
    """Metrics that are measured too, neither optimised nor limited."""
    device: Device = Device()
    """Where shipped models are measured."""
    budget: Budget
    """When the study ends."""
    search: Search = Search()
    """How plans are proposed."""
    space: dict[str, Any] | None = None
    """What is searched; leave it out to search everything that is installed."""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not NAME.fullmatch(value):
            raise ValueError(
                "a name has up to 64 letters, digits, dots, dashes and underscores, and begins with"
                " a letter or digit"
            )
        return value

    @field_validator("objectives", "observe")
    @classmethod
    def _different(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        seen: set[str] = set()
        for name in value:
            if name in seen:
                raise ValueError(f"{name!r} is listed twice")
            seen.add(name)
        return value

    def metrics(self) -> tuple[str, ...]:
        """Name the metrics that are measured, each once.

        The objectives come first, then what is constrained besides, then what is only observed.
        """
        names = [*self.objectives, *self.constraints, *self.observe]
        return tuple(dict.fromkeys(names))

    def to_json(self) -> dict[str, Any]:
        """Write the study as JSON, to be frozen in the store."""
        data = self.model_dump(mode="json", exclude={"task"})
        # Its kind is a class variable, which pydantic leaves out.
        data["task"] = {"kind": self.task.kind, **self.task.model_dump(mode="json")}
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any], registry: Registry) -> StudySpec:
        """Read what `to_json` wrote.

        Raises StudyFileError, or PluginError for a task that is not installed.
        """
        return read_spec(data, registry, located)


@dataclass(frozen=True)
class LoadedStudy:
    """A study file that was read.

    That is its meaning, its resolved slots, its text and notes for the person.
    """

    spec: StudySpec
    space_request: tuple[SlotSpace, ...]
    source_text: str
    notes: tuple[str, ...] = ()


def load_study(path: Path | str, registry: Registry) -> LoadedStudy:
    """Read a study file.

    Raises StudyFileError that names file, line, value, what is allowed and the nearest name.
    """
    path = Path(path)
    return parse_study(
        read_text(path),
        str(path),
        registry,
        path.parent,
    )


def parse_study(
    text: str,
    file: str,
    registry: Registry,
    folder: Path | None = None,
) -> LoadedStudy:
    """Read the text of a study file; `file` is what errors call it. Raises StudyFileError.

    `folder` is where the paths of a technique's files begin, the working folder by default.
    """
    raw, lines = parse(text, file)
    if raw is None:
        raise StudyFileError(
            f"{file}: the study file is empty.", "Begin with a copy of studies/quickstart.yaml."
        )
    spec = read_spec(raw, registry, lines.error)
    # The space comes last: which techniques fit depends on the task.
    slots, notes = read_space(
        spec.space,
        spec.task.kind,
        registry,
        lines.error,
        folder,
    )
    return LoadedStudy(spec, slots, text, notes)


def read_spec(raw: Any, registry: Registry, fail: Fail) -> StudySpec:
    """Check everything but the space. Raises StudyFileError through `fail`."""
    if not isinstance(raw, Mapping):
        raise fail(
            (),
            f"the study file is a {type(raw).__name__}, not a mapping of keys.",
            "It begins with `name: ...`.",
        )
    # First of all: a misspelt key is also a missing one.
    for key in raw:
        if key not in StudySpec.model_fields:
            keys = f"Keys: {', '.join(StudySpec.model_fields)}."
            hint = join(nearest(key, StudySpec.model_fields), keys)
            raise fail((key,), f"unknown key {key!r}.", hint)

    content = dict(raw)
    if "task" in raw:
        content["task"] = _read_task(raw["task"], registry, fail)
    try:
        spec = StudySpec.model_validate(content)
    except ValidationError as error:
        raise explain(error, StudySpec, raw, (), fail) from None
    _check_metrics(spec, registry, fail)
    if spec.search.scheduler.kind == "median" and len(spec.objectives) > 1:
        hint = "Write pareto-asha or none."
        raise fail(
            ("search", "scheduler"),
            "the scheduler 'median' works for one objective.",
            hint,
        )
    return spec


def _read_task(raw: Any, registry: Registry, fail: Fail) -> Task:
    """Make the registered task that `kind` names, with the other keys as its fields."""
    kinds = f"{', '.join(sorted(registry.tasks))}."
    if not isinstance(raw, Mapping):
        hint = f"Write `task: {{kind: ..., ...}}`; kinds: {kinds}"
        raise fail(("task",), f"{raw!r} is not a mapping.", hint)
    if "kind" not in raw:
        raise fail(
            ("task",),
            "'kind' is missing.",
            f"Kinds: {kinds}",
        )
    kind = raw["kind"]
    # A list cannot even be looked up.
    if not isinstance(kind, str) or kind not in registry.tasks:
        hint = join(nearest(str(kind), registry.tasks), f"Kinds: {kinds}")
        raise fail(("task", "kind"), f"unknown task {kind!r}.", hint)

    fields = dict(raw)
    del fields["kind"]
    cls = registry.tasks[kind]
    try:
        return cls.model_validate(fields)
    except ValidationError as error:
        raise explain(error, cls, fields, ("task",), fail) from None


def _check_metrics(
    spec: StudySpec,
    registry: Registry,
    fail: Fail,
) -> None:
    """Refuse metrics that are unknown, or that only another task can measure."""
    task = type(spec.task)
    usable = [metric.name for metric in registry.metrics_of(task)]
    all_of_them = f"Metrics: {', '.join(usable)}."
    for path, name in _named_metrics(spec):
        if name not in registry.metrics:
            hint = join(nearest(name, usable), all_of_them)
            raise fail(path, f"unknown metric {name!r}.", hint)
        reason = registry.why_not(registry.metrics[name], task)
        if reason is not None:
            raise fail(path, f"{reason}.", all_of_them)


def _named_metrics(spec: StudySpec) -> list[tuple[KeyPath, str]]:
    """Return the metrics that a study names, each with its place in the file."""
    found: list[tuple[KeyPath, str]] = []
    for index, name in enumerate(spec.objectives):
        found.append((("objectives", index), name))
    for name in spec.constraints:
        found.append((("constraints", name), name))
    for index, name in enumerate(spec.observe):
        found.append((("observe", index), name))
    return found
