"""The one class a plugin author writes: a technique whose fields are its search space.

A technique is a frozen pydantic model without runtime state. Markers inside `Annotated` give the
default search range of a field; pydantic's own `ge`, `gt`, `le`, `lt` are the hard limits within
which a study file may open it.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from automl_sr.plugin.blueprint import Blueprint, Edit
from automl_sr.plugin.vectors import decided_by, has_dead_ends, is_used, places

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from automl_sr.plugin.task import Samples, Task
    from automl_sr.training.phases import Phase
    from automl_sr.training.run import Run, TrainedModel
    from automl_sr.training.step import TrainStep
    from automl_sr.trial.context import Context

JSON = Union[None, bool, int, float, str, list["JSON"], dict[str, "JSON"]]  # noqa: UP007 - recursive alias at run time
Scalar = bool | int | float | str

NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class Slot(enum.StrEnum):
    """The places that a technique can fill, in the order of the pipeline."""

    SELECTION = "selection"
    DATASET_DISTILLATION = "dataset_distillation"
    ARCHITECTURE = "architecture"
    TEACHER = "teacher"
    PRUNING = "pruning"
    QUANTIZATION = "quantization"
    FEDERATION = "federation"
    RECIPE = "recipe"

    @property
    def single(self) -> bool:
        """Whether one technique always applies.

        Its fields then stand under the slot's own name (`recipe.lr`).
        """
        return self is Slot.RECIPE


@dataclass(frozen=True)
class Int:
    """Search whole numbers from `low` to `high`, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False


@dataclass(frozen=True)
class Float:
    """Search numbers from `low` to `high`, both included."""

    low: float
    high: float
    step: float | None = None
    log: bool = False


@dataclass(frozen=True, init=False)
class Choice:
    """Search among named values; `Literal` and `bool` fields are choices without a marker."""

    options: tuple[Scalar, ...]

    def __init__(self, *options: Scalar) -> None:
        object.__setattr__(self, "options", options)


Range = Int | Float | Choice
"""What one parameter can be."""


@dataclass(frozen=True)
class Each:
    """Search a vector: one `item` for each of `count` places.

    `item` is one range for all places, or a tuple with one for each: node 2 takes its input from
    node 0 or 1, node 3 also from node 2. `count` is a number, the name of an `Int` field of the
    same technique, or that of a static method whose parameters are other fields; `max` bounds it.
    `used` names a static method that also gets `place` and says whether this place means anything:
    one that does not is neither asked nor shown.
    """

    item: Range | tuple[Range, ...]
    count: int | str
    max: int
    used: str | None = None

    def at(self, place: int) -> Range:
        """Return the range of one place."""
        if isinstance(self.item, tuple):
            return self.item[place]
        return self.item

    def ranges(self) -> tuple[Range, ...]:
        """Return the ranges of all places, each once."""
        if not isinstance(self.item, tuple):
            return (self.item,)
        # A dict keeps the order of the places.
        return tuple(dict.fromkeys(self.item))


@dataclass(frozen=True)
class Pick:
    """Search a nested technique, such as the architecture of a teacher.

    Offered are those that provide all of `provides` and nothing of `lacks`: one of two techniques
    of the same slot that do their work one after the other, for instance. No technique is nested
    in itself, nor core's `none` in a technique of its own slot.
    """

    slot: Slot
    provides: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()


@dataclass(frozen=True, init=False)
class When:
    """Make a field part of the space only while other fields have one of the listed values."""

    conditions: Mapping[str, tuple[Scalar, ...]]

    def __init__(self, **conditions: Sequence[Scalar]) -> None:
        listed: dict[str, tuple[Scalar, ...]] = {}
        for name, values in conditions.items():
            listed[name] = tuple(values)
        # A frozen dataclass can be filled only past its own __setattr__.
        object.__setattr__(self, "conditions", listed)

    def __hash__(self) -> int:
        return hash(tuple(sorted(self.conditions)))


@dataclass(frozen=True)
class Fixed:
    """Keep a field at its default unless the study file opens or sets it."""


@dataclass(frozen=True)
class File:
    """Make a text field the path of a file, such as a checkpoint; empty text is none.

    A relative path is one beside the study file. The content stands for the file in the fingerprint
    of a plan and in the keys of shared results, whatever its path is: read it through `ctx.file`.
    """


@dataclass(frozen=True)
class Later:
    """Let a field mean nothing at its default: one that a technique got when plans named it
    already.

    There the technique is what it was before it had the field: `dump` and fingerprints leave it
    out, so that stored plans, blueprints and shared results are found again.
    """


Marker = Int | Float | Choice | Each | Pick


@dataclass(frozen=True)
class SearchField:
    """One dimension of a technique's own space, read off its pydantic field."""

    name: str
    marker: Marker | None
    default: Any
    when: Mapping[str, tuple[Scalar, ...]] = field(default_factory=dict)
    searched: bool = True
    description: str = ""
    decided_by: frozenset[str] = frozenset()
    """For a vector, the fields that say how many places it has and which of them are used."""
    is_file: bool = False
    later: bool = False
    """Whether it is left out where it has its default."""

    def depends_on(self) -> set[str]:
        """Name the fields that decide whether, or how often, this one is asked."""
        return set(self.when) | self.decided_by


class Technique(BaseModel):
    """A way to choose data, build, train, compress or ship a model.

    Its fields are its search space. Every stage method is the identity unless a technique overrides
    it, so a technique writes only what it does.
    """

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        arbitrary_types_allowed=False,
        validate_default=True,
    )

    slot: ClassVar[Slot]
    name: ClassVar[str]
    version: ClassVar[str] = "1"
    """Raise it when the same fields give another result: cached results of the old version are then
    not reused.
    """
    baseline: ClassVar[bool] = False
    """Exactly one technique of a slot is what trial 0 uses."""
    asked_only: ClassVar[bool] = False
    """Whether it is searched only where the study file names it: it costs more than a study should
    spend unasked.
    """
    tasks: ClassVar[frozenset[str]] = frozenset({"image-sr"})
    provides: ClassVar[frozenset[str]] = frozenset()
    requires: ClassVar[frozenset[str]] = frozenset()
    conflicts: ClassVar[frozenset[str]] = frozenset()
    factories: ClassVar[Mapping[str, str | Callable[..., Any]]] = {}
    """Model factories by blueprint name, as `module:function` so that torch is imported only when
    one is built.
    """
    edits: ClassVar[Mapping[str, Edit]] = {}
    """Structural changes by blueprint name."""
    export_tolerance: ClassVar[float] = 0.0
    """How far the file that `export` gives may be from the trained model, relative to the range of
    its output; 0: as near as a float file."""

    scores: ClassVar[bool] = False
    """Whether it calls `run.score()`: a few training samples are then held out in its trials."""

    def select_data(self, data: Samples, ctx: Context) -> Samples:
        """Return the training samples to keep (or to use instead)."""
        return data

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        """Describe the model to train; only architectures are asked."""
        raise NotImplementedError(f"{self.slot}.{self.name} is not an architecture")

    def read_checkpoint(
        self, tensors: Mapping[str, Tensor], task: Task
    ) -> tuple[Technique, dict[str, Tensor]] | None:
        """Return the net that a foreign file holds: the technique with its fields, and its tensors.

        Only architectures are asked. The names and sizes of the tensors, which are those of the
        file, say which fields the net has; they come back under the names that our model gives
        them. None: the file is of another net. Without a method of its own an architecture takes
        tensors as they are, for the fields that it has. Whether they fit is checked by core.
        """
        return self, dict(tensors)

    def first_weights(self, blueprint: Blueprint, ctx: Context) -> Mapping[str, Tensor] | None:
        """Return tensors with which the training of an architecture begins, by name.

        It is asked once before step 0, after the weights were drawn, and never on resume. Tensors
        that are left out stay as they were drawn; None leaves all.
        """
        return None

    def shipped(
        self, blueprint: Blueprint, task: Task, ctx: Context
    ) -> tuple[Blueprint, Blueprint]:
        """Bound what a model of this blueprint can become before it ships: (smallest, largest).

        It is asked before training with the first blueprint, and again whenever training has
        changed the model.
        """
        return blueprint, blueprint

    def refuses(self, blueprint: Blueprint, task: Task, ctx: Context) -> str | None:
        """Say in words why this technique can do nothing with the model of a plan.

        It is asked at the gate, for what only the net itself tells, such as that it has no layer to
        prune; the blueprint is what the techniques before it ship (the smallest). The plan is then
        infeasible, and the words are the reason: "pruning.l1 ...". None: it can. What classes tell
        belongs into `conflicts`, with which such a plan is never proposed.
        """
        return None

    def companions(
        self,
        blueprint: Blueprint,
        task: Task,
        ctx: Context,
    ) -> list[Blueprint]:
        """List the models that lie in memory beside the trained one, such as a teacher.

        They are not trained.
        """
        return []

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Add phases, or append to the enters and leaves of those of earlier slots."""
        return phases

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Change losses, taps, auxiliary modules, groups or the update.

        It is a pure function of model, state and phase.
        """
        return step

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Change the trained model before it is exported.

        An architecture leaves what it has changed already as it is: a phase of training may go on
        with the form that ships (`run.shipped_form`).
        """
        return finished

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Change the exported ONNX file, for instance to int8."""
        return finished

    def evaluate(
        self, values: dict[str, float], finished: TrainedModel, ctx: Context
    ) -> dict[str, float]:
        """Add values of one's own to those measured on the exported model."""
        return values

    def predict(
        self, cost: Mapping[str, float], task: Task
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Bound what the shipped model will cost: (lower, upper).

        `cost` is its cost before this technique.
        """
        return dict(cost), dict(cost)

    def canonical(self) -> Self:
        """Return the technique that stands for all that mean the same.

        Plans hold it and are compared by it. Here what is inactive gets its default, and vectors
        whose count or use is a function lose what is beyond their count and get the first value of
        its range at each place that is not used. A technique with more ways to say one thing (two
        inputs of a node in either order) overrides it and begins with `super().canonical()`. Doing
        it twice must change nothing more.
        """
        return _settled(self)

    def dump(self) -> dict[str, Any]:
        """Return the fields as JSON.

        Inactive ones are at their defaults, nested techniques are there by name. Fields that came
        `Later` are left out at their defaults.
        """
        found: dict[str, Any] = {}
        for name, value in meant_fields(self).items():
            found[name] = as_json(value)
        return found

    @classmethod
    def title(cls) -> str:
        """Return the first sentence of the docstring."""
        text = (cls.__doc__ or "").strip()
        first, _, _ = text.partition("\n")
        return first


def as_json(value: Any) -> Any:
    """Write the value of a field as JSON; a nested technique as its name and fields."""
    if isinstance(value, Technique):
        return {"technique": value.name, **value.dump()}
    if isinstance(value, tuple | list):
        return [as_json(item) for item in value]
    return value


T = TypeVar("T", bound="Technique")


def first_value(item: Range) -> Scalar:
    """Return the first value of a range: what stands where nothing is used."""
    if isinstance(item, Choice):
        return item.options[0]
    return item.low


def _settled(technique: T) -> T:
    """Return a technique of which nothing is left open that has no meaning.

    It is the technique itself where there is nothing such.
    """
    cls = type(technique)
    specs = search_fields(cls)
    inactive = inactive_fields(technique)
    known = _values_of(technique, specs)
    changed: dict[str, Any] = {}
    # In order: a vector is cut by what its count reads, which is settled by then.
    for spec in in_order(specs):
        value = known[spec.name]
        if spec.name in inactive:
            settled = spec.default
        elif isinstance(value, Technique):
            settled = value.canonical()
        elif isinstance(spec.marker, Each) and has_dead_ends(cls, spec.marker):
            settled = _settled_vector(cls, spec.name, spec.marker, known)
        else:
            continue
        if as_json(settled) != as_json(value):
            changed[spec.name] = settled
            known[spec.name] = settled
    if changed:
        # A copy is not validated again: nothing of it is new to the fields.
        return technique.model_copy(update=changed)
    return technique


def _values_of(technique: Technique, specs: Sequence[SearchField]) -> dict[str, Any]:
    return {spec.name: getattr(technique, spec.name) for spec in specs}


def _settled_vector(
    owner: type[Technique],
    field: str,
    each: Each,
    known: Mapping[str, Any],
) -> tuple[Any, ...]:
    given = known[field]
    count = min(places(owner, each, known), len(given))
    found: tuple[Any, ...] = ()
    for place in range(count):
        value = given[place]
        # By what is found so far: a place that an unused one would have used is unused too.
        if not is_used(owner, field, each, known, found):
            value = first_value(each.at(place))
        found = (*found, value)
    return found


def used_places(technique: Technique, spec: SearchField) -> list[int]:
    """Return the places of a vector field that mean something."""
    owner = type(technique)
    value = getattr(technique, spec.name)
    each = spec.marker
    if not isinstance(each, Each) or not has_dead_ends(owner, each):
        return list(range(len(value)))
    known = _values_of(technique, search_fields(owner))
    count = min(places(owner, each, known), len(value))
    found: list[int] = []
    for place in range(count):
        before = tuple(value[:place])
        if is_used(owner, spec.name, each, known, before):
            found.append(place)
    return found


def in_order(specs: list[SearchField]) -> list[SearchField]:
    """Put every field behind those that decide whether, or how often, it is asked."""
    ordered: list[SearchField] = []
    done: set[str] = set()
    waiting = list(specs)
    while waiting:
        # Fields that wait for each other in a circle are a mistake that `problems_of` says; here
        # the first of them goes on, so that this ends.
        ready = waiting[0]
        for spec in waiting:
            if spec.depends_on() <= done:
                ready = spec
                break
        ordered.append(ready)
        done.add(ready.name)
        waiting.remove(ready)
    return ordered


def inactive_fields(technique: Technique) -> set[str]:
    """Name the fields whose `When` does not hold.

    A field that depends on an inactive one is inactive too.
    """
    inactive: set[str] = set()
    specs = search_fields(type(technique))
    # A field may stand before the one on which it depends: a chain of conditions is at most as
    # long as the list.
    for _ in specs:
        for spec in specs:
            for other, allowed in spec.when.items():
                if other in inactive or getattr(technique, other) not in allowed:
                    inactive.add(spec.name)
    return inactive


def meant_fields(technique: Technique) -> dict[str, Any]:
    """Return the values by which a technique is told apart from others of its name: inactive fields
    have their defaults, and those that came `Later` are left out there.
    """
    inactive = inactive_fields(technique)
    found: dict[str, Any] = {}
    for spec in search_fields(type(technique)):
        value = getattr(technique, spec.name)
        if spec.name in inactive:
            value = spec.default
        says_nothing = spec.later and as_json(value) == as_json(spec.default)
        if not says_nothing:
            found[spec.name] = value
    return found


def files_of(technique: Technique) -> dict[str, str]:
    """Return the paths of the files that a technique and those nested in it name, by field."""
    inactive = inactive_fields(technique)
    found: dict[str, str] = {}
    for spec in search_fields(type(technique)):
        # A file that means nothing need not be there.
        if spec.name in inactive:
            continue
        value = getattr(technique, spec.name)
        if isinstance(value, Technique):
            for name, path in files_of(value).items():
                found[f"{spec.name}.{name}"] = path
        elif spec.is_file and value:
            found[spec.name] = value
    return found


def search_fields(cls: type[Technique]) -> list[SearchField]:
    """Read the dimensions of a technique off its pydantic fields, in the order of declaration."""
    found: list[SearchField] = []
    for name, info in cls.model_fields.items():
        found.append(_search_field(cls, name, info))
    return found


def _search_field(cls: type[Technique], name: str, info: FieldInfo) -> SearchField:
    when: Mapping[str, tuple[Scalar, ...]] = {}
    marker: Marker | None = None
    fixed = False
    is_file = False
    later = False
    for item in info.metadata:
        if isinstance(item, When):
            when = item.conditions
        elif isinstance(item, Fixed):
            fixed = True
        elif isinstance(item, File):
            is_file = True
        elif isinstance(item, Later):
            later = True
        elif isinstance(item, Int | Float | Choice | Each | Pick):
            marker = item
    if marker is None:
        marker = _implied_choice(info.annotation)
    decided: frozenset[str] = frozenset()
    if isinstance(marker, Each):
        decided = frozenset(decided_by(cls, name, marker))
    return SearchField(
        name=name,
        marker=marker,
        default=info.get_default(call_default_factory=True),
        when=when,
        searched=marker is not None and not fixed,
        description=info.description or "",
        decided_by=decided,
        is_file=is_file,
        later=later,
    )


def _implied_choice(annotation: Any) -> Choice | None:
    if annotation is bool:
        return Choice(False, True)
    if get_origin(annotation) is Literal:
        return Choice(*get_args(annotation))
    return None


def accepts(cls: type[Technique], name: str, value: Any) -> bool:
    """Say whether a value lies within the hard limits of a field."""
    return why_refused(cls, name, value) is None


def why_refused(cls: type[Technique], name: str, value: Any) -> str | None:
    """Say why a field does not take a value, or nothing if it does."""
    blank = cls.model_construct()
    try:
        cls.__pydantic_validator__.validate_assignment(blank, name, value)
    except ValidationError as error:
        for item in error.errors():
            # What a validator of the whole model says depends on the other fields, which a study
            # file may set as well. And models are frozen, which is no fault of the value.
            if item["loc"][:1] == (name,) and item["type"] != "frozen_instance":
                return item["msg"]
    return None


def first_error(error: ValidationError) -> str:
    """Put the first complaint of pydantic into one line."""
    item = error.errors()[0]
    where = ".".join(map(str, item["loc"]))
    if where:
        return f"{where}: {item['msg']}"
    return item["msg"]
