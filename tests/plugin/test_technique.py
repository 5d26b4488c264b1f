"""A technique: fields that are its search space, and what is wrong with a declaration."""

from __future__ import annotations

import pathlib
from typing import Annotated, Any, Literal

import pytest
import space_toys
from pydantic import Field, ValidationError, model_validator

from automl_sr.plugin.declaration import problems_of
from automl_sr.plugin.technique import (
    Choice,
    Each,
    Fixed,
    Float,
    Int,
    Later,
    Pick,
    Slot,
    Technique,
    When,
    accepts,
    inactive_fields,
    search_fields,
    why_refused,
)


def declared(default: Any = 1, annotation: Any = int, **attributes: Any) -> type[Technique]:
    """Declare a technique with one field, or with the given attributes besides."""
    body = {
        "__annotations__": {"field": annotation},
        "__module__": __name__,
        "__doc__": "A technique.",
        "slot": Slot.SELECTION,
        "name": "toy",
        "field": default,
        **attributes,
    }
    return type("Toy", (Technique,), body)


# ---- reading fields ----


def test_fields_are_read_with_markers_conditions_and_descriptions() -> None:
    keep, order, drop = search_fields(space_toys.LossSelection)
    assert (keep.marker, keep.default, keep.searched) == (Float(0.25, 1.0, step=0.05), 0.5, True)
    assert order.marker == Choice("descending", "ascending")
    assert drop.when == {"order": ("descending",)}
    described = declared(3, Annotated[int, Int(1, 4), Field(description="how many")])
    assert search_fields(described)[0].description == "how many"


def test_bool_and_literal_are_choices_without_a_marker() -> None:
    assert search_fields(declared(True, bool))[0].marker == Choice(False, True)
    assert search_fields(declared("a", Literal["a", "b"]))[0].marker == Choice("a", "b")


@pytest.mark.parametrize("annotation", [int, Annotated[int, Int(0, 3), Fixed()]])
def test_a_field_without_a_marker_or_a_fixed_one_is_not_searched(annotation: Any) -> None:
    assert not search_fields(declared(1, annotation))[0].searched


def test_a_default_may_come_from_a_factory() -> None:
    field = Annotated[tuple[int, ...], Field(default_factory=lambda: (1, 2))]
    cls = type(
        "Toy",
        (Technique,),
        {
            "__annotations__": {"sizes": field},
            "__module__": __name__,
            "slot": Slot.SELECTION,
            "name": "toy",
        },
    )
    assert problems_of(cls) == []
    assert search_fields(cls)[0].default == (1, 2)


def test_a_field_depends_on_its_conditions_and_its_count() -> None:
    marker = Each(Choice("a"), count="size", max=3)
    cls = declared(("a",), Annotated[tuple[str, ...], marker, When(kind=["x"])])
    assert search_fields(cls)[0].depends_on() == {"size", "kind"}


# ---- values ----


def test_a_technique_is_frozen_and_takes_known_fields_only() -> None:
    technique = space_toys.LossSelection(keep=0.3)
    with pytest.raises(ValidationError):
        technique.keep = 0.4
    with pytest.raises(ValidationError):
        space_toys.LossSelection(kep=0.3)
    with pytest.raises(ValidationError):
        space_toys.LossSelection(keep=float("nan"))


def test_an_inactive_field_is_dumped_with_its_default() -> None:
    technique = space_toys.LossSelection(order="ascending", drop_hardest=0.1)
    assert inactive_fields(technique) == {"drop_hardest"}
    assert technique.dump() == {"keep": 0.5, "order": "ascending", "drop_hardest": 0.05}


def test_what_depends_on_an_inactive_field_is_inactive_too() -> None:
    class Chain(Technique):
        """Three in a row."""

        slot = Slot.SELECTION
        name = "chain"
        last: Annotated[int, Int(0, 3), When(middle=[1])] = 0
        middle: Annotated[int, Int(0, 3), When(first=[1])] = 1
        first: Annotated[int, Int(0, 3)] = 0

    assert inactive_fields(Chain()) == {"middle", "last"}
    assert inactive_fields(Chain(first=1, middle=2)) == {"last"}
    assert inactive_fields(Chain(first=1)) == set()


def test_a_nested_technique_is_dumped_with_its_name() -> None:
    dumped = space_toys.Distilled(architecture=space_toys.Fsrcnn(width=8)).dump()
    assert dumped == {"weight": 0.5, "architecture": {"technique": "fsrcnn", "width": 8}}


def test_a_field_that_came_later_is_not_dumped_at_its_default_or_where_it_is_inactive() -> None:
    class Longer(Technique):
        """Had one field first."""

        slot = Slot.SELECTION
        name = "longer"
        first: Annotated[int, Int(0, 3)] = 1
        second: Annotated[int, Int(0, 3), Later()] = 2
        third: Annotated[int, Int(0, 3), Later(), When(first=[1])] = 3

    assert Longer().dump() == {"first": 1}
    assert Longer(second=1, third=0).dump() == {"first": 1, "second": 1, "third": 0}
    assert Longer(first=0, third=0).dump() == {"first": 0}
    assert search_fields(Longer)[1].searched


def test_hard_limits_say_why_they_refuse() -> None:
    assert accepts(space_toys.LossSelection, "keep", 1.0)
    assert (
        why_refused(space_toys.LossSelection, "keep", 1.5)
        == "Input should be less than or equal to 1"
    )


def test_a_rule_between_fields_is_no_hard_limit_of_one_of_them() -> None:
    class Ordered(Technique):
        """Two numbers in order."""

        slot = Slot.SELECTION
        name = "ordered"
        low: Annotated[int, Int(0, 9)] = 0
        high: Annotated[int, Int(0, 9)] = 5

        @model_validator(mode="after")
        def _in_order(self) -> Ordered:
            if self.low > self.high:
                raise ValueError("low is above high")
            return self

    assert problems_of(Ordered) == []
    assert accepts(Ordered, "low", 9)
    with pytest.raises(ValidationError):
        Ordered(low=9)


def test_the_title_is_the_first_line_of_the_docstring() -> None:
    assert space_toys.Fsrcnn.title() == "A small network."


# ---- what is wrong with a declaration ----


@pytest.mark.parametrize("cls", space_toys.TECHNIQUES)
def test_a_sound_declaration_has_no_problems(cls: type[Technique]) -> None:
    assert problems_of(cls) == []


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (declared(slot="selection"), "Toy.slot must be a Slot"),
        (declared(name="Two Words"), "Toy.name must be lower-case"),
        (declared(provides="sparse"), "Toy.provides must be a frozenset of strings"),
        (declared(requires=frozenset({1})), "Toy.requires must be a frozenset of strings"),
        (declared(tasks={"image-sr"}), "Toy.tasks must be a frozenset of strings"),
        (declared(version=2), "Toy.version must be text"),
        (declared(scores="yes"), "Toy.scores must be True or False"),
        (declared(asked_only="yes"), "Toy.asked_only must be True or False"),
        (declared(asked_only=True, baseline=True), "Toy is the baseline, so that it cannot be asked_only"),
        (declared(5, Annotated[int, Int(9, 1)]), "field 'field' has an empty range 9..1"),
        (declared(5, Annotated[int, Int(1, 9), Field(le=8)]), "field 'field': 9 of its range is outside its hard limits"),
        (declared(0.5, Annotated[float, Float(0, 1, log=True)]), "field 'field' has a logarithmic range that starts at 0"),
        (declared(0.5, Annotated[float, Float(0.1, 1, step=0.1, log=True)]), "field 'field' has a step of 0.1"),
        (declared(5, Annotated[int, Int(1, 9, step=0)]), "field 'field' has a step of 0"),
        (declared(5, Annotated[int, Float(1, 9)]), "of its range is outside its hard limits"),
        (declared(1, Annotated[int, Choice(1, 2, 1)]), "field 'field' lists a choice twice: 1, 2, 1"),
        (declared(name="a\n"), "Toy.name must be lower-case"),
        (declared("a", Annotated[str, Choice()]), "field 'field' is a choice between nothing"),
        (declared("a", Annotated[Literal["a"], Choice("a", "b")]), "field 'field' does not accept its own choice 'b'"),
        (declared(5, Annotated[int, Int(1, 9), When(other=[1])]), "field 'field' depends on unknown field 'other'"),
        (declared(5, Annotated[int, Int(1, 9), When(field=[1])]), "'field' depend on each other in a circle"),
        (
            declared(("a",), Annotated[tuple[str, ...], Each(Choice("a"), count="other", max=3)]),
            "field 'field' counts by unknown field 'other'",
        ),
        (
            declared((), Annotated[tuple[str, ...], Each(Choice("a"), count=2, max=0)]),
            "field 'field' has no places: count 2, max 0",
        ),
        (
            declared((1,), Annotated[tuple[Annotated[int, Field(le=4)], ...], Each(Int(1, 8), count=1, max=1)]),
            "field 'field': 8 of its range is outside its hard limits",
        ),
        (declared("edsr", Annotated[str, Pick(Slot.ARCHITECTURE)]), "field 'field' must be declared as `Technique`"),
        (declared(None, Annotated[Technique | None, Pick(Slot.RECIPE)]), "pick from a slot with a choice"),
        (declared(9, Annotated[int, Int(1, 4), Field(le=4)]), "its default settings are invalid: field:"),
        (declared(pathlib.Path(), pathlib.Path), "its default settings cannot be written as JSON"),
    ],
)  # fmt: skip
def test_a_problem_is_named(cls: type[Technique], problem: str) -> None:
    assert any(problem in found for found in problems_of(cls)), problems_of(cls)


@pytest.mark.filterwarnings("ignore:Field name")
@pytest.mark.parametrize("name", ["phases", "predict", "technique"])
def test_a_field_that_hides_a_name_of_technique_is_refused(name: str) -> None:
    cls = type(
        "Toy",
        (Technique,),
        {
            "__annotations__": {name: int},
            "__module__": __name__,
            "slot": Slot.SELECTION,
            "name": "toy",
            name: 1,
        },
    )
    assert f"field {name!r} hides a name of Technique" in problems_of(cls)
