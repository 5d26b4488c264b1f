"""Vectors whose places are counted by a function, differ from each other, or mean nothing now and
then.
"""

from __future__ import annotations

import json
from typing import Annotated, Any

import jsonschema
import optuna
import pytest
import space_toys
from hypothesis import given
from hypothesis import strategies as st
from tiers import examples

from automl_sr.errors import StudyFileError, TrialError
from automl_sr.plugin.declaration import problems_of
from automl_sr.plugin.registry import Registry
from automl_sr.plugin.technique import (
    Choice,
    Each,
    Int,
    Slot,
    Technique,
    search_fields,
    used_places,
)
from automl_sr.search.optuna.samplers import make_sampler
from automl_sr.search.warm_start import Recall
from automl_sr.space.plan import TrialPlan
from automl_sr.space.search_space import SearchSpace
from automl_sr.study.schema import study_schema

optuna.logging.set_verbosity(optuna.logging.ERROR)
NET = "architecture"


class Answers:
    """A trial that answers from a mapping or else draws, and notes what it was asked."""

    def __init__(self, given: dict[str, Any], data: st.DataObject | None = None) -> None:
        self.given = given
        self.data = data
        self.asked: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name, list(choices))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._answer(name, list(range(low, high + 1, step)))

    def suggest_float(self, name: str, low: float, high: float, **_: Any) -> float:
        return self._answer(name, [low, high])

    def _answer(self, name: str, values: list[Any]) -> Any:
        assert name not in self.asked, f"{name} is asked twice"
        value = self.given.get(name, values[0])
        if self.data is not None:
            value = self.data.draw(st.sampled_from(values), label=name)
        assert value in values
        self.asked[name] = value
        return value


@pytest.fixture(scope="module")
def registry() -> Registry:
    found = space_toys.registry(space_toys.CELLS)
    assert found.unavailable == []
    return found


def net(section: Any, registry: Registry) -> SearchSpace:
    return space_toys.resolve({NET: section}, registry)


def suggested(space: SearchSpace, **answers: Any) -> tuple[Any, list[str], dict[str, Any]]:
    """Return the net, what was asked of it and what its plan shows, without the technique's
    prefix.
    """
    cls = space.slots[0].options[0].technique
    prefix = f"{NET}.{cls.name}."
    trial = Answers({prefix + name.replace("_", "."): value for name, value in answers.items()})
    plan = space.suggest(trial)
    params = {
        name.removeprefix(prefix): value
        for name, value in plan.params.items()
        if name.startswith(prefix)
    }
    return (
        plan.techniques[Slot.ARCHITECTURE],
        [name.removeprefix(prefix) for name in trial.asked],
        params,
    )


# ---- what is asked and shown ----


@pytest.mark.parametrize(("nodes", "edges"), [(1, 1), (2, 3), (3, 6)])
def test_places_are_counted_by_a_function_of_other_fields(
    nodes: int, edges: int, registry: Registry
) -> None:
    found, asked, params = suggested(net("edges", registry), nodes=nodes)
    assert asked == ["nodes", *(f"ops.{place}" for place in range(edges))]
    assert found.ops == ("conv3",) * edges
    assert list(params) == asked


def test_each_place_has_its_own_range(registry: Registry) -> None:
    listed = net("jumps", registry).parameters()
    places = {name: listed[name].high for name in listed if ".back." in name}
    assert places == {
        f"{NET}.jumps.back.0": 3,
        f"{NET}.jumps.back.1": 2,
    }, "the last one has one value"


def test_what_is_dead_is_neither_asked_nor_shown(registry: Registry) -> None:
    space = net("jumps", registry)
    found, asked, params = suggested(space, nodes=3, back_0=2, ops_0="skip")
    assert asked == ["nodes", "back.0", "ops.0", "ops.2"]
    assert (found.back, found.ops) == ((2, 1, 1), ("skip", "conv3", "conv3"))
    assert params == {"nodes": 3, "back.0": 2, "back.2": 1, "ops.0": "skip", "ops.2": "conv3"}
    _, asked, _ = suggested(space, nodes=3, back_0=1, back_1=1)
    assert asked == ["nodes", "back.0", "back.1", "ops.0", "ops.1", "ops.2"]


def test_a_dead_place_is_the_same_in_studies_with_other_ranges(registry: Registry) -> None:
    wide = suggested(net("jumps", registry), nodes=3, back_0=2)[0]
    narrow = suggested(net({"jumps": {"ops": ["skip", "conv3"]}}, registry), nodes=3, back_0=2, ops_0="conv3",
                       ops_2="conv3")[0]  # fmt: skip
    assert wide == narrow


def test_a_plan_shows_the_canonical_form(registry: Registry) -> None:
    found, _, params = suggested(net("sum", registry), inputs_0=3, inputs_1=1)
    assert found.inputs == (1, 3)
    assert params == {"inputs.0": 1, "inputs.1": 3}


def test_a_fixed_vector_shows_what_means_something(registry: Registry) -> None:
    section = {
        "jumps": {
            "nodes": 3,
            "back": {"fixed": [2, 1, 1]},
            "ops": {"fixed": ["skip", "skip", "skip"]},
        }
    }
    found, asked, params = suggested(net(section, registry))
    assert asked == []
    assert found.ops == ("skip", "conv3", "skip")
    assert list(params) == ["nodes", "back.0", "back.2", "ops.0", "ops.2"]


def test_a_function_that_fails_ends_its_trial_alone() -> None:
    class Failing(Technique):
        """Counts what cannot be counted."""

        slot = Slot.ARCHITECTURE
        name = "failing"
        size: Annotated[int, Int(0, 2)] = 1
        ops: Annotated[tuple[str, ...], Each(Choice("a", "b"), count="many", max=3)] = ("a",)

        @staticmethod
        def many(size: int) -> int:
            return 2 // size

    space = net("failing", space_toys.registry([Failing]))
    assert space.suggest(Answers({f"{NET}.failing.size": 1})).techniques[Slot.ARCHITECTURE].ops == (
        "a",
        "a",
    )
    with pytest.raises(
        TrialError, match=r"architecture\.failing cannot be made: ZeroDivisionError"
    ):
        space.suggest(Answers({f"{NET}.failing.size": 0}))


# ---- declarations ----


def vector(each: Each, default: Any = (), **functions: Any) -> type[Technique]:
    body = {
        "__annotations__": {"size": int, "field": Annotated[tuple[int, ...], each]},
        "__module__": __name__,
    }
    return type(
        "Toy",
        (Technique,),
        {
            **body,
            "slot": Slot.ARCHITECTURE,
            "name": "toy",
            "size": 1,
            "field": default,
            **{name: staticmethod(call) for name, call in functions.items()},
        },
    )


@pytest.mark.parametrize(
    ("cls", "problem"),
    [
        (vector(Each(Int(0, 1), "size", 2, used="other")), "is used by 'other', which is no static method of Toy"),
        (vector(Each(Int(0, 1), "size", 2, used="size")), "is used by 'size', which is no static method of Toy"),
        (vector(Each(Int(0, 1), "many", 2), many=lambda other: 1), "'many' reads 'other', which is no other field"),
        (vector(Each(Int(0, 1), "many", 2), many=lambda field: 1), "'many' reads 'field', which is no other field"),
        (vector(Each(Int(0, 1), "many", 2), many=lambda place: 1), "'many' reads 'place', which is no other field"),
        (vector(Each((Int(0, 1),), "size", 2)), "field 'field' has 1 ranges for 2 places"),
        (vector(Each((Int(0, 1), Int(3, 2)), "size", 2)), "field 'field' has an empty range 3..2"),
        (vector(Each((Int(0, 1), Choice("a")), 2, 2)), "[0, 'a'] of its ranges is outside its hard limits"),
    ],
)  # fmt: skip
def test_a_wrong_declaration_is_named(cls: type[Technique], problem: str) -> None:
    assert any(problem in found for found in problems_of(cls)), problems_of(cls)


def test_a_vector_may_read_its_own_earlier_places_and_others_the_vector() -> None:
    assert [problems_of(cls) for cls in space_toys.CELLS] == [[], [], []]
    needs = {spec.name: spec.depends_on() for spec in search_fields(space_toys.Jumps)}
    assert needs == {"nodes": set(), "back": {"nodes"}, "ops": {"nodes", "back"}}


# ---- study files ----


def test_a_range_is_cut_to_what_each_place_takes(registry: Registry) -> None:
    listed = net({"jumps": {"nodes": 3, "back": [1, 2]}}, registry).parameters()
    assert {name[-6:]: listed[name].high for name in listed if ".back." in name} == {
        "back.0": 2,
        "back.1": 2,
    }
    assert suggested(net({"jumps": {"nodes": 3, "back": 1}}, registry))[0].back == (1, 1, 1)


@pytest.mark.parametrize(
    ("back", "message"),
    [
        ([2, 3], r"\[2, 3\] leaves nothing to a place that takes fixed: 1"),
        (2, "2 leaves nothing to a place that takes fixed: 1"),
        ([0, 2], "0 is outside the hard limits: places take 1 to 3"),
        ({"fixed": [1, 3, 1]}, "3 leaves nothing to a place that takes 1 .. 2"),
        ({"fixed": [1, 1, 1, 1]}, "is not a list of at most 3 values"),
    ],
)
def test_what_no_place_takes_is_refused(back: Any, message: str, registry: Registry) -> None:
    with pytest.raises(StudyFileError, match=message):
        net({"jumps": {"back": back}}, registry)


@pytest.mark.parametrize(
    ("fields", "fits"),
    [
        ({"back": [1, 2]}, True),
        ({"back": {"fixed": [3, 2, 1]}}, True),
        ({"back": {"fixed": [3, 3, 1]}}, False),
        ({"ops": {"fixed": ["skip"]}}, True),
        ({"ops": ["skip", "conv9"]}, False),
    ],
)
def test_the_schema_knows_the_places(fields: Any, fits: bool, registry: Registry) -> None:
    schema = study_schema(registry)
    body = {"$ref": "#/$defs/architecture.jumps", "$defs": schema["$defs"]}
    assert jsonschema.Draft202012Validator(body).is_valid(fields) is fits


def test_the_tree_says_what_a_vector_is(registry: Registry) -> None:
    nodes = {child.name: child for child in net("jumps", registry).tree()[0].children[0].children}
    assert nodes["back"].detail == "(1 .. 3, 1 .. 2, fixed: 1) x one for each of nodes, at most 3"
    assert nodes["back"].condition == "is_reached says so of the place"


# ---- counting ----


@pytest.mark.parametrize("name", ["edges", "jumps"])
def test_the_count_is_the_number_of_plans_that_mean_different_things(
    name: str, registry: Registry
) -> None:
    space = net(name, registry)
    found: set[str] = set()
    unfinished: list[dict[str, Any]] = [{}]
    while unfinished:
        answers = unfinished.pop()
        trial = Answers(answers)
        found.add(space.suggest(trial).fingerprint)
        listed = space.parameters()
        new = [asked for asked in trial.asked if asked not in answers]
        for index, asked in enumerate(new):
            known = answers | {other: trial.asked[other] for other in new[:index]}
            domain = listed[asked]
            values = getattr(domain, "choices", None) or range(domain.low, domain.high + 1)
            unfinished += [known | {asked: value} for value in list(values)[1:]]
    assert space.count().total == len(found)


def test_where_a_technique_says_what_means_the_same_the_count_is_a_bound(
    registry: Registry,
) -> None:
    count = net("sum", registry).count()
    assert (count.discrete, count.at_most, count.total) == (16, True, None)


# ---- what was there before ----


@pytest.mark.parametrize(
    ("section", "fingerprint"),
    [
        (None, "f2208eb6c8b3f1186d6bf74da2393d02d6350fb94e293c4d524cbc2c0da1bcde"),
        (
            {NET: {"cells": {"layers": 1, "ops": {"fixed": ["skip", "conv3", "conv5"]}}}},
            "6a2abc2d6d677b5ff752a480457d714c271ec620c76b85e57e31e5a2742eb267",
        ),
    ],
)
def test_plans_keep_the_fingerprints_that_they_had(section: Any, fingerprint: str) -> None:
    """A vector that a field counts is taken as it is, also one that is too long: trials' seeds hang
    on it.
    """
    space = space_toys.resolve(section, space_toys.registry())
    assert space.default_plan().fingerprint == fingerprint


# ---- any draw ----

any_draw = examples(60)


@any_draw
@given(data=st.data())
def test_every_draw_is_valid_canonical_and_asked_no_dead_entry(data: st.DataObject) -> None:
    registry = space_toys.registry(space_toys.CELLS)
    space = space_toys.resolve(None, registry)
    trial = Answers({}, data)
    plan = space.suggest(trial)
    found = plan.techniques[Slot.ARCHITECTURE]
    assert type(found)(**found.model_dump()) == found
    assert found.canonical() == found
    prefix = f"{NET}.{found.name}"
    for spec in search_fields(type(found)):
        if isinstance(spec.marker, Each):
            meant = {f"{prefix}.{spec.name}.{place}" for place in used_places(found, spec)}
            start = f"{prefix}.{spec.name}."
            assert {name for name in plan.params if name.startswith(start)} == meant
            assert {name for name in trial.asked if name.startswith(start)} <= meant
    listed = space.parameters()
    assert all(
        listed[name]._contains(listed[name].to_internal_repr(value))
        for name, value in trial.asked.items()
    )
    again = TrialPlan.from_json(json.loads(json.dumps(plan.to_json())), registry)
    assert (again, dict(again.params)) == (plan, dict(plan.params))


@any_draw
@given(cls=st.sampled_from(space_toys.CELLS), data=st.data())
def test_plans_that_are_equal_in_canonical_form_have_one_fingerprint(
    cls: type[Technique], data: st.DataObject
) -> None:
    """Every entry of a vector that is too long, or dead, may be anything."""
    fields = {}
    for spec in search_fields(cls):
        marker: Any = spec.marker
        if isinstance(marker, Each):
            places = [marker.at(place) for place in range(marker.max)]
            fields[spec.name] = tuple(
                data.draw(
                    st.sampled_from(
                        getattr(item, "options", None) or range(item.low, item.high + 1)
                    )
                )
                for item in places
            )
        else:
            fields[spec.name] = data.draw(st.integers(marker.low, marker.high))
    made = cls(**fields)
    settled = made.canonical()
    assert settled.canonical() == settled
    plan = TrialPlan.of({Slot.ARCHITECTURE: made}, {})
    assert plan.fingerprint == TrialPlan.of({Slot.ARCHITECTURE: settled}, {}).fingerprint
    assert plan.techniques[Slot.ARCHITECTURE] == settled
    for spec in search_fields(cls):
        value = getattr(made, spec.name)
        if not isinstance(spec.marker, Each) or cls is space_toys.Sum:
            continue
        for place in set(range(len(value))) - set(used_places(settled, spec)):
            item = spec.marker.at(place)
            last = item.options[-1] if isinstance(item, Choice) else item.high
            other = (*value[:place], last, *value[place + 1 :])
            changed = TrialPlan.of(
                {Slot.ARCHITECTURE: made.model_copy(update={spec.name: other})}, {}
            )
            assert changed.fingerprint == plan.fingerprint


@any_draw
@given(data=st.data())
def test_a_plan_can_be_imported(data: st.DataObject) -> None:
    space = space_toys.resolve(None, space_toys.registry(space_toys.CELLS))
    plan = space.suggest(Answers({}, data))
    again = space.suggest(Recall(plan.params))
    assert (again.fingerprint, dict(again.params)) == (plan.fingerprint, dict(plan.params))


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("kind", ["tpe", "nsga2", "random", "qmc", "gp"])
def test_every_sampler_draws_them(kind: str, registry: Registry) -> None:
    space = space_toys.resolve(None, registry)
    study = optuna.create_study(sampler=make_sampler(kind, 3, space.parameters()))
    for _ in range(12):
        trial = study.ask()
        plan = space.suggest(trial)
        study.tell(trial, float(len(plan.params)))
    assert all(trial.value is not None for trial in study.trials)
