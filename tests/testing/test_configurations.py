"""The corners of a search space that contracts try."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from automl_sr.plugin.technique import Choice, Each, Fixed, Float, Int, Slot, Technique, When
from automl_sr.testing.configurations import configurations, refusals


class Toy(Technique):
    slot = Slot.PRUNING
    name = "toy"
    depth: Annotated[int, Int(1, 4), Field(ge=1)] = 2
    ratio: Annotated[float, Float(0.1, 0.9)] = 0.5
    mode: Literal["a", "b"] = "a"
    gentle: bool = True
    strength: Annotated[float, Float(1.0, 2.0), When(mode=["b"])] = 1.5
    kind: Annotated[Literal["x", "y"], When(mode=["b"])] = "x"
    bits: Annotated[tuple[int, ...], Each(Choice(4, 8), count="depth", max=3)] = (8, 8)
    patience: Annotated[int, Fixed()] = 7


def test_both_ends_of_all_ranges_are_tried():
    made = configurations(Toy)
    assert made["default"] == Toy()
    assert made["lows"].model_dump() == {
        **Toy().model_dump(),
        "depth": 1,
        "ratio": 0.1,
        "strength": 1.0,
        "bits": (4,),
    }
    assert made["highs"].depth == 4
    assert made["highs"].bits == (8, 8, 8)  # as many as the field holds at most


def test_every_choice_is_tried_once_with_what_it_depends_on():
    made = configurations(Toy)
    assert made["mode=b"].mode == "b"
    assert made["gentle=False"].gentle is False
    assert (made["kind=y"].kind, made["kind=y"].mode) == ("y", "b")
    assert made["bits=4"].bits == (4, 4)


def test_no_configuration_comes_twice():
    made = list(configurations(Toy).values())
    assert all(item not in made[:index] for index, item in enumerate(made))


def test_settings_replace_a_field_everywhere():
    assert {item.patience for item in configurations(Toy, {"patience": 1}).values()} == {1}


def test_a_corner_that_is_refused_is_named():
    class Refusing(Technique):
        slot = Slot.PRUNING
        name = "refusing"
        a: Annotated[int, Int(1, 4)] = 1
        b: Annotated[int, Int(1, 4)] = 1

        @model_validator(mode="after")
        def small(self):
            if self.a + self.b > 6:
                raise ValueError("too large together")
            return self

    assert "highs" not in configurations(Refusing)
    assert refusals(Refusing) == {"highs": "Value error, too large together"}
