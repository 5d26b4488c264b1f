"""The search space: what is asked, when, under which name, and what a plan means."""

from __future__ import annotations

import itertools
import json
from types import SimpleNamespace
from typing import Annotated, Any

import optuna
import pytest
import space_toys
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution
from optuna.trial import FixedTrial
from pydantic import Field, model_validator
from tiers import examples

from automl_sr.errors import PluginError, StudyFileError, TrialError
from automl_sr.plugin.registry import Registry
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
    inactive_fields,
    search_fields,
)
from automl_sr.search.trial_study_file import trial_study_file
from automl_sr.space.domains import tidy
from automl_sr.space.plan import TrialPlan
from automl_sr.space.search_space import SearchSpace
from automl_sr.study.spec import parse_study

optuna.logging.set_verbosity(optuna.logging.ERROR)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return space_toys.registry()


def resolved(space: Any, registry: Registry) -> SearchSpace:
    return space_toys.resolve(space, registry)


class Scripted:
    """A trial that answers from a mapping, and with the first value where that says nothing."""

    def __init__(self, answers: dict[str, Any] | None = None) -> None:
        self.answers = answers or {}
        self.asked: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name, choices[0], list(choices))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._answer(name, low, (low, high, step, log))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return self._answer(name, low, (low, high, step, log))

    def _answer(self, name: str, default: Any, domain: Any) -> Any:
        assert name not in self.asked, f"{name} is asked twice"
        self.asked[name] = domain
        return self.answers.get(name, default)


class Drawn:
    """A trial whose answers hypothesis draws."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.params: dict[str, Any] = {}

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._keep(name, st.sampled_from(list(choices)))

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        return self._keep(name, st.sampled_from(range(low, high + 1, step)))

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        if step is None:
            return self._keep(name, st.floats(low, high))
        return self._keep(
            name,
            st.integers(0, round((high - low) / step)).map(lambda n: min(high, low + n * step)),
        )

    def _keep(self, name: str, values: st.SearchStrategy[Any]) -> Any:
        assert name not in self.params, f"{name} is asked twice"
        self.params[name] = self.data.draw(values, label=name)
        return self.params[name]


# ---- what is asked ----


def test_slots_are_asked_in_the_order_of_the_pipeline_with_their_fields(registry: Registry) -> None:
    trial = Scripted({"selection": "loss", "architecture": "edsr"})
    resolved(None, registry).suggest(trial)
    assert list(trial.asked) == [
        "selection",
        "selection.loss.keep",
        "selection.loss.order",
        "selection.loss.drop_hardest",
        "architecture",
        "architecture.edsr.width",
        "teacher",
        "pruning",
        "quantization[none|int8_ptq]",
        "recipe.lr",
        "recipe.batch",
    ]
    assert trial.asked["selection.loss.keep"] == (0.25, 1.0, 0.05, False)
    assert trial.asked["architecture.edsr.width"] == (16, 256, 1, True)
    assert trial.asked["recipe.batch"] == [8, 16, 32]


def test_an_inactive_field_is_not_asked_and_takes_its_default(registry: Registry) -> None:
    trial = Scripted({"selection": "loss", "selection.loss.order": "ascending"})
    plan = resolved(None, registry).suggest(trial)
    assert "selection.loss.drop_hardest" not in trial.asked
    assert "selection.loss.drop_hardest" not in plan.params
    assert plan.techniques[Slot.SELECTION] == space_toys.LossSelection(
        keep=0.25, order="ascending", drop_hardest=0.05
    )


def test_what_has_one_value_is_not_asked_but_stands_in_the_plan(registry: Registry) -> None:
    space = {
        "selection": {"loss": {"keep": 0.3, "order": ["ascending"]}},
        "architecture": {"fsrcnn": {"width": [16, 16]}},
    }
    trial = Scripted()
    plan = resolved(space, registry).suggest(trial)
    assert trial.asked == {}
    assert plan.params == {
        "selection": "loss",
        "selection.loss.keep": 0.3,
        "selection.loss.order": "ascending",
        "architecture": "fsrcnn",
        "architecture.fsrcnn.width": 16,
        "teacher": "none",
        "pruning": "none",
        "quantization": "none",
        "recipe.lr": 1e-3,
        "recipe.batch": 16,
        "recipe.ema": 0.99,
    }


@pytest.mark.parametrize(("layers", "places"), [(1, 1), (3, 3), (4, 4)])
def test_a_vector_has_one_parameter_for_each_place(
    layers: int, places: int, registry: Registry
) -> None:
    trial = Scripted({"architecture.cells.layers": layers, "architecture.cells.ops.0": "skip"})
    plan = resolved({"architecture": "cells"}, registry).suggest(trial)
    assert [name for name in trial.asked if ".ops." in name] == [
        f"architecture.cells.ops.{n}" for n in range(places)
    ]
    assert plan.techniques[Slot.ARCHITECTURE].ops == ("skip", *["conv3"] * (places - 1))
    assert plan.params["architecture.cells.ops.0"] == "skip"


def test_a_vector_is_never_longer_than_its_maximum(registry: Registry) -> None:
    plan = resolved({"architecture": {"cells": {"layers": 8}}}, registry).suggest(Scripted())
    assert len(plan.techniques[Slot.ARCHITECTURE].ops) == 4


def test_a_nested_technique_is_asked_below_its_field(registry: Registry) -> None:
    trial = Scripted(
        {
            "teacher": "kd",
            "teacher.kd.architecture": "edsr",
            "teacher.kd.architecture.edsr.width": 99,
        }
    )
    plan = resolved(None, registry).suggest(trial)
    teacher = plan.techniques[Slot.TEACHER]
    assert teacher.architecture == space_toys.Edsr(width=99)
    assert plan.params["teacher.kd.architecture"] == "edsr"
    assert plan.params["teacher.kd.architecture.edsr.width"] == 99
    assert "teacher.kd.architecture.fsrcnn.width" not in trial.asked


def test_a_field_is_asked_after_those_that_it_depends_on() -> None:
    class Backwards(Technique):
        """Declares its fields in the wrong order."""

        slot = Slot.ARCHITECTURE
        name = "backwards"
        ops: Annotated[tuple[str, ...], Each(Choice("a", "b"), count="size", max=3)] = ("a",)
        gain: Annotated[float, Float(0, 1), When(mode=["on"])] = 0.5
        mode: Annotated[str, Choice("off", "on"), When(size=[2])] = "off"
        size: Annotated[int, Int(1, 3)] = 1

    space = resolved(None, space_toys.registry([Backwards]))
    trial = Scripted({"architecture.backwards.size": 2, "architecture.backwards.mode": "on"})
    space.suggest(trial)
    assert [name.removeprefix("architecture.backwards.") for name in trial.asked] == [
        "size",
        "ops.0",
        "ops.1",
        "mode",
        "gain",
    ]
    assert not [
        name
        for name in asked_with(space, {"architecture.backwards.size": 1})
        if "mode" in name or "gain" in name
    ]


def asked_with(space: SearchSpace, answers: dict[str, Any]) -> list[str]:
    trial = Scripted(answers)
    space.suggest(trial)
    return list(trial.asked)


def test_a_technique_is_never_nested_in_itself() -> None:
    class Ensemble(Technique):
        """Two networks."""

        slot = Slot.ARCHITECTURE
        name = "ensemble"
        member: Annotated[Technique | None, Pick(Slot.ARCHITECTURE)] = None

    space = resolved(None, space_toys.registry([*space_toys.TECHNIQUES, Ensemble]))
    names = set(space.parameters())
    assert "architecture.ensemble.member.edsr.width" in names
    assert "teacher.kd.architecture.ensemble.member" in names
    assert not [name for name in names if "ensemble.member.ensemble" in name]


def test_a_nested_technique_can_be_asked_to_provide_something_or_not() -> None:
    class Twice(Technique):
        """Two prunings."""

        slot = Slot.PRUNING
        name = "twice"
        first: Annotated[
            Technique | None, Pick(Slot.PRUNING, lacks=frozenset({"sparse_weights"}))
        ] = None
        then: Annotated[
            Technique | None, Pick(Slot.PRUNING, provides=frozenset({"sparse_weights"}))
        ] = None

    class Narrow(Technique):
        """Cut channels."""

        slot = Slot.PRUNING
        name = "narrow"

    registry = space_toys.registry([*space_toys.TECHNIQUES, Twice, Narrow])
    parameters = resolved({"pruning": "twice"}, registry).parameters()
    assert "pruning.twice.then.sparse.share" in parameters
    assert parameters["pruning.twice.first"].choices == ("none", "narrow")
    with pytest.raises(
        StudyFileError, match="'sparse' cannot be used here: it provides sparse_weights, which"
    ):
        resolved({"pruning": {"twice": {"first": "sparse"}}}, registry)
    with pytest.raises(
        StudyFileError, match="'narrow' cannot be used here: it does not provide sparse_weights"
    ):
        resolved({"pruning": {"twice": {"then": "narrow"}}}, registry)

    others = [cls for cls in space_toys.TECHNIQUES if cls is not space_toys.Sparse]
    with pytest.raises(StudyFileError, match="its field 'then' needs a technique"):
        resolved({"pruning": "twice"}, space_toys.registry([*others, Twice]))


def test_a_refused_combination_of_fields_fails_the_trial_alone() -> None:
    class Picky(Technique):
        """Refuses two small numbers."""

        slot = Slot.ARCHITECTURE
        name = "picky"
        a: Annotated[int, Int(0, 3)] = 3
        b: Annotated[int, Int(0, 3)] = 3

        @model_validator(mode="after")
        def _not_both_small(self) -> Picky:
            if self.a + self.b < 2:
                raise ValueError("a + b must be at least 2")
            return self

    space = resolved(None, space_toys.registry([Picky]))
    assert space.suggest(Scripted({"architecture.picky.a": 2})).params["architecture.picky.a"] == 2
    with pytest.raises(
        TrialError,
        match=r"architecture\.picky refuses this combination of its fields: .*at least 2",
    ):
        space.suggest(Scripted())


# ---- what goes together ----


def test_a_choice_that_does_not_fit_is_not_offered_and_the_name_says_among_which(
    registry: Registry,
) -> None:
    space = resolved(None, registry)
    sparse, dense, recurrent = (
        Scripted({"pruning": "sparse"}),
        Scripted(),
        Scripted({"architecture": "cells"}),
    )
    assert space.suggest(sparse).params["quantization"] == "none"
    assert sparse.asked["quantization[none|packed]"] == ["none", "packed"]
    space.suggest(dense)
    assert dense.asked["quantization[none|int8_ptq]"] == ["none", "int8_ptq"]
    assert space.suggest(recurrent).params["pruning"] == "none"  # the only one left: not asked
    assert "pruning[none]" not in recurrent.asked


def test_the_name_is_plain_while_nothing_is_ruled_out(registry: Registry) -> None:
    trial = Scripted()
    resolved({"quantization": ["none", "int8_ptq"]}, registry).suggest(trial)
    assert trial.asked["quantization"] == ["none", "int8_ptq"]


def test_a_requirement_may_be_met_by_a_later_slot() -> None:
    class Early(Technique):
        """Wants sparse weights later on."""

        slot = Slot.SELECTION
        name = "early"
        requires = frozenset({"sparse_weights"})

    space = resolved(None, space_toys.registry([*space_toys.TECHNIQUES, Early]))
    trial = Scripted({"selection": "early"})
    plan = space.suggest(trial)
    assert "early" in trial.asked["selection"]
    assert plan.params["pruning"] == "sparse"
    assert trial.asked["architecture[fsrcnn|edsr]"] == [
        "fsrcnn",
        "edsr",
    ]  # cells would rule pruning out


def test_a_technique_whose_need_nobody_meets_is_left_out_with_a_note(registry: Registry) -> None:
    from automl_sr.space.section import read_space

    slots, notes = read_space({"quantization": ["none", "packed"]}, "image-sr", registry)
    assert [option.name for option in slots[-2].options] == ["none"]
    reason = "it requires 'sparse_weights', which no technique of this space provides"
    assert notes == (f"quantization.packed is never offered: {reason}.",)


class Dear(Technique):
    """A network that is searched only where a study file names it."""

    slot = Slot.ARCHITECTURE
    name = "dear"
    asked_only = True
    width: Annotated[int, Int(8, 64)] = 32


@pytest.mark.parametrize(
    "space", [None, {"architecture": {}}, {"teacher": {"kd": {}}}, {"selection": "loss"}]
)
def test_what_has_to_be_asked_for_changes_no_space_that_does_not_name_it(
    space: Any, registry: Registry
) -> None:
    more = space_toys.registry([Dear, *space_toys.TECHNIQUES])
    assert resolved(space, more).slots == resolved(space, registry).slots


@pytest.mark.parametrize(
    ("space", "names"),
    [
        ("dear", ["dear"]),
        (["fsrcnn", "dear"], ["fsrcnn", "dear"]),
        ({"dear": {"width": [8, 16]}}, ["dear"]),
    ],
)
def test_what_has_to_be_asked_for_is_searched_where_it_is_named(
    space: Any, names: list[str]
) -> None:
    more = space_toys.registry([Dear, *space_toys.TECHNIQUES])
    slots = {slot.slot: slot for slot in resolved({"architecture": space}, more).slots}
    assert [option.name for option in slots[Slot.ARCHITECTURE].options] == names


def test_a_search_of_a_whole_slot_notes_what_would_have_to_be_named() -> None:
    from automl_sr.space.section import read_space

    more = space_toys.registry([Dear, *space_toys.TECHNIQUES])
    note = "of architecture, searched only where the study file names it: dear."
    assert read_space(None, "image-sr", more)[1] == (note,)
    assert read_space({"architecture": {}}, "image-sr", more)[1] == (note,)
    assert read_space({"architecture": "fsrcnn"}, "image-sr", more)[1] == ()


def test_a_slot_of_which_everything_has_to_be_asked_for_wants_a_name() -> None:
    dear_alone = space_toys.registry([Dear, space_toys.Recipe])
    for space in (None, {}, {"architecture": {}}):
        with pytest.raises(StudyFileError, match=r"searched only where it is named.*of: dear\."):
            resolved(space, dear_alone)
    assert resolved({"architecture": "dear"}, dear_alone).default_params() is not None


def test_a_slot_that_only_a_name_would_fill_is_no_part_of_the_space(registry: Registry) -> None:
    class Far(Technique):
        """Trains in many places, where that is asked for."""

        slot = Slot.FEDERATION
        name = "far"
        asked_only = True

    more = space_toys.registry([Far, *space_toys.TECHNIQUES])
    assert resolved(None, more).slots == resolved(None, registry).slots
    assert "federation.far" not in str(resolved(None, more).default_params())
    assert resolved({"federation": "far"}, more).default_params() is not None


def test_a_space_in_which_nothing_goes_together_is_refused(registry: Registry) -> None:
    with pytest.raises(
        StudyFileError, match=r"no choice of these techniques goes together: .*quantization\.packed"
    ):
        resolved({"quantization": "packed"}, registry)


def test_a_nested_technique_that_needs_others_is_refused(registry: Registry) -> None:
    class Needy(space_toys.Edsr):
        """Needs something."""

        name = "needy"
        requires = frozenset({"sparse_weights"})

    with pytest.raises(
        StudyFileError, match="'needy' cannot be used here: it requires sparse_weights"
    ):
        resolved(
            {"teacher": {"kd": {"architecture": "needy"}}},
            space_toys.registry([*space_toys.TECHNIQUES, Needy]),
        )


# ---- trial 0 ----


def test_trial_0_is_the_baseline_of_every_slot_with_default_fields(registry: Registry) -> None:
    space = resolved(None, registry)
    plan = space.suggest(FixedTrial(space.default_params()))
    for slot in space.slots:
        baseline = registry.baseline(slot.slot)
        assert baseline is not None
        assert plan.techniques[slot.slot] == baseline()


def test_trial_0_uses_the_first_listed_where_the_baseline_is_left_out(registry: Registry) -> None:
    space = resolved({"architecture": ["edsr", "cells"], "selection": ["loss", "none"]}, registry)
    assert space.default_params()["architecture"] == "edsr"
    assert space.default_params()["selection"] == "none"


@pytest.mark.parametrize(
    ("space", "name", "value"),
    [
        ({"selection": {"loss": {"keep": [0.6, 0.9]}}}, "selection.loss.keep", 0.6),
        (
            {"selection": {"loss": {"keep": {"low": 0.25, "high": 1, "step": 0.2}}}},
            "selection.loss.keep",
            0.45,
        ),
        (
            {"selection": {"loss": {"order": ["ascending", "descending"]}}},
            "selection.loss.order",
            "descending",
        ),
        ({"architecture": {"fsrcnn": {"width": [40, 64]}}}, "architecture.fsrcnn.width", 40),
        (
            {"architecture": {"fsrcnn": {"width": {"low": 1, "high": 100, "step": 9}}}},
            "architecture.fsrcnn.width",
            28,
        ),
        ({"recipe": {"batch": [8, 32]}}, "recipe.batch", 8),
        ({"recipe": {"lr": [1e-5, 1e-4]}}, "recipe.lr", 1e-4),
    ],
)
def test_defaults_are_moved_into_narrowed_ranges(
    space: Any, name: str, value: Any, registry: Registry
) -> None:
    assert resolved(space, registry).default_params()[name] == pytest.approx(value)


def test_default_vectors_are_cut_and_continued(registry: Registry) -> None:
    params = resolved({"architecture": {"cells": {"layers": [3, 4]}}}, registry).default_params()
    assert [params[f"architecture.cells.ops.{n}"] for n in range(3)] == ["conv3", "skip", "skip"]
    assert "architecture.cells.ops.3" not in params


def test_trial_0_avoids_what_does_not_go_together(registry: Registry) -> None:
    space = resolved({"architecture": ["cells", "edsr"], "pruning": "sparse"}, registry)
    assert space.suggest(FixedTrial(space.default_params())).params["architecture"] == "edsr"


# ---- plans ----


def test_a_plan_survives_json(registry: Registry) -> None:
    trial = Scripted({"teacher": "kd", "architecture": "cells", "architecture.cells.layers": 3})
    plan = resolved(None, registry).suggest(trial)
    again = TrialPlan.from_json(json.loads(json.dumps(plan.to_json(), allow_nan=False)), registry)
    assert again == plan
    assert hash(again) == hash(plan)
    assert list(again.techniques) == list(plan.techniques)
    assert again.techniques[Slot.TEACHER].architecture == plan.techniques[Slot.TEACHER].architecture


def test_a_plan_is_frozen(registry: Registry) -> None:
    plan = resolved(None, registry).suggest(Scripted())
    with pytest.raises(TypeError):
        plan.params["selection"] = "loss"
    with pytest.raises(AttributeError):
        plan.fingerprint = ""


def test_a_fingerprint_ignores_inactive_fields_and_sees_all_others() -> None:
    def mark(**fields: Any) -> str:
        return TrialPlan.of({Slot.SELECTION: space_toys.LossSelection(**fields)}, {}).fingerprint

    assert mark(order="ascending", drop_hardest=0.01) == mark(order="ascending", drop_hardest=0.09)
    assert mark(order="descending", drop_hardest=0.01) != mark(
        order="descending", drop_hardest=0.09
    )
    assert mark(keep=0.5) == mark()
    assert mark(keep=0.55) != mark()


def test_a_fingerprint_holds_versions_also_of_nested_techniques() -> None:
    class Newer(space_toys.Edsr):
        """The same, but better."""

        version = "2"

    def mark(inner: Technique) -> str:
        return TrialPlan.of(
            {Slot.TEACHER: space_toys.Distilled(architecture=inner)}, {}
        ).fingerprint

    assert mark(space_toys.Edsr()) != mark(Newer())
    assert mark(space_toys.Edsr()) == mark(space_toys.Edsr())


def test_a_plan_means_what_it_meant_before_its_technique_got_another_field() -> None:
    class Longer(space_toys.Edsr):
        """The same, with one more field."""

        depth: Annotated[int, Int(1, 4), Later()] = 2

    def plans(inner: Technique) -> tuple[TrialPlan, TrialPlan]:
        nested = space_toys.Distilled(architecture=inner)
        return TrialPlan.of({Slot.ARCHITECTURE: inner}, {}), TrialPlan.of(
            {Slot.TEACHER: nested}, {}
        )

    for before, after in zip(plans(space_toys.Edsr()), plans(Longer()), strict=True):
        assert after.fingerprint == before.fingerprint
        assert after.to_json() == before.to_json()
    for before, after in zip(plans(space_toys.Edsr()), plans(Longer(depth=3)), strict=True):
        assert after.fingerprint != before.fingerprint


def test_a_plan_of_a_missing_or_newer_technique_says_so(registry: Registry) -> None:
    class Newer(space_toys.LossSelection):
        """The same, but better."""

        version = "2"

    data = resolved({"selection": "loss"}, registry).suggest(Scripted()).to_json()
    others = [cls for cls in space_toys.TECHNIQUES if cls is not space_toys.LossSelection]
    with pytest.raises(
        PluginError, match=r"No installed plugin provides the selection technique 'loss'"
    ):
        TrialPlan.from_json(data, space_toys.registry(others))
    with pytest.raises(
        PluginError, match=r"version 1 of selection\.loss, but version 2 is installed"
    ):
        TrialPlan.from_json(data, space_toys.registry([*others, Newer]))


# ---- the space in the store ----


def test_a_space_survives_json(registry: Registry) -> None:
    narrowed = {
        "selection": {"loss": {"keep": [0.3, 0.7]}},
        "architecture": {},
        "teacher": {"kd": {"weight": 0.3}},
        "recipe": {},
    }
    for space in (resolved(None, registry), resolved(narrowed, registry)):
        again = SearchSpace.from_json(
            json.loads(json.dumps(space.to_json(), allow_nan=False)), registry
        )
        assert again.slots == space.slots
        assert again.default_params() == space.default_params()


def test_a_stored_space_does_not_grow_with_what_is_installed_later(registry: Registry) -> None:
    few = space_toys.registry(
        [cls for cls in space_toys.TECHNIQUES if cls.name not in ("edsr", "packed")]
    )
    stored = resolved(None, few).to_json()
    assert SearchSpace.from_json(stored, registry).parameters() == resolved(None, few).parameters()


def test_a_stored_space_says_what_is_missing_or_newer(registry: Registry) -> None:
    class Newer(space_toys.Edsr):
        """The same, but better."""

        version = "2"

    stored = resolved(None, registry).to_json()
    others = [cls for cls in space_toys.TECHNIQUES if cls is not space_toys.Edsr]
    with pytest.raises(
        PluginError, match=r"No installed plugin provides the architecture technique 'edsr'"
    ):
        SearchSpace.from_json(stored, space_toys.registry(others))
    with pytest.raises(
        PluginError, match=r"version 1 of architecture\.edsr, but version 2 is installed"
    ):
        SearchSpace.from_json(stored, space_toys.registry([*others, Newer]))
    with pytest.raises(PluginError, match="format 99"):
        SearchSpace.from_json({**stored, "format": 99}, registry)


# ---- counting and listing ----


def walk(space: SearchSpace) -> list[TrialPlan]:
    """Try every answer to every question of a space without continuous dimensions."""
    plans: list[TrialPlan] = []
    unfinished: list[dict[str, Any]] = [{}]
    while unfinished:
        answers = unfinished.pop()
        trial = Scripted(answers)
        plans.append(space.suggest(trial))
        new = [name for name in trial.asked if name not in answers]
        for index, name in enumerate(new):
            known = answers | {other: first(trial.asked[other]) for other in new[:index]}
            unfinished += [known | {name: value} for value in values_of(trial.asked[name])[1:]]
    return plans


def values_of(domain: Any) -> list[Any]:
    if isinstance(domain, list):
        return domain
    low, high, step, _ = domain
    assert step is not None, "a continuous dimension cannot be walked"
    return [tidy(low + n * step) for n in range(round((high - low) / step) + 1)]


def first(domain: Any) -> Any:
    return values_of(domain)[0]


@pytest.mark.parametrize(
    "space",
    [
        {"selection": "loss", "architecture": {"fsrcnn": {}}},
        {"architecture": {"cells": {}, "fsrcnn": {"width": [8, 16]}}},
        {
            "architecture": {"cells": {"layers": [1, 2]}, "edsr": {"width": [1, 3]}},
            "quantization": {},
        },
        {
            "teacher": {
                "kd": {"weight": 0.5, "architecture": {"fsrcnn": {}, "cells": {"layers": 2}}},
                "none": {},
            }
        },
        {
            "pruning": {"none": {}, "sparse": {"share": [0.5, 0.5]}},
            "quantization": {},
            "architecture": ["cells", "edsr"],
        },
    ],
)
def test_the_count_is_the_number_of_different_plans(space: Any, registry: Registry) -> None:
    if "loss" in str(space):
        space = {
            **space,
            "selection": {"loss": {"drop_hardest": {"low": 0, "high": 0.1, "step": 0.05}}},
        }
    found = resolved(space, registry)
    plans = walk(found)
    marks = {plan.fingerprint for plan in plans}
    assert len(marks) == len(plans)
    assert found.count().total == len(plans)
    assert found.count().continuous == 0


def test_continuous_dimensions_are_counted_apart(registry: Registry) -> None:
    count = resolved({"selection": ["none", "loss"], "recipe": {"batch": 16}}, registry).count()
    assert (count.discrete, count.continuous, count.total) == (1 + 16 * 2, 2, None)


@pytest.mark.filterwarnings("error")  # Optuna warns where a range does not end on a step
@pytest.mark.parametrize("share", [{}, {"low": 0.3, "high": 0.8, "step": 0.07}])
def test_every_parameter_that_is_asked_is_listed_with_its_distribution(
    share: Any, registry: Registry
) -> None:
    space = resolved(
        {slot.value: {} for slot in Slot if registry.techniques[slot]}
        | {"pruning": {"none": {}, "sparse": {"share": share}}},
        registry,
    )
    listed = space.parameters()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(200):
        trial = study.ask()
        space.suggest(trial)
        for name, distribution in trial.distributions.items():
            assert listed[name] == distribution
    seen = {name for trial in study.get_trials(deepcopy=False) for name in trial.params}
    assert set(listed) == seen
    assert listed["quantization[none|packed]"] == CategoricalDistribution(("none", "packed"))


def test_the_tree_shows_slots_techniques_fields_and_conditions(registry: Registry) -> None:
    nodes = {node.name: node for node in resolved(None, registry).tree()}
    loss = next(child for child in nodes["selection"].children if child.name == "loss")
    keep, _, drop = loss.children
    assert (keep.parameter, keep.detail, keep.searched) == (
        "selection.loss.keep",
        "0.25 .. 1, step 0.05",
        True,
    )
    assert drop.condition == "order is descending"
    assert [child.parameter for child in nodes["recipe"].children] == [
        "recipe.lr",
        "recipe.batch",
        "recipe.ema",
    ]
    assert not nodes["recipe"].children[2].searched
    assert (
        json.loads(json.dumps(nodes["teacher"].to_json()))["children"][1]["children"][1][
            "children"
        ][0]["name"]
        == "fsrcnn"
    )


# ---- Optuna ----


@pytest.mark.filterwarnings("ignore::optuna.exceptions.ExperimentalWarning")
@pytest.mark.parametrize("sampler", ["tpe", "nsga2", "random"])
def test_optuna_asks_and_is_told(sampler: str, registry: Registry) -> None:
    make = {
        "tpe": lambda: optuna.samplers.TPESampler(
            multivariate=True, group=True, constant_liar=True, seed=3, n_startup_trials=5
        ),
        "nsga2": lambda: optuna.samplers.NSGAIISampler(population_size=6, seed=3),
        "random": lambda: optuna.samplers.RandomSampler(seed=3),
    }[sampler]

    def marks() -> list[str]:
        space = resolved(None, registry)
        study = optuna.create_study(directions=["minimize", "maximize"], sampler=make())
        study.enqueue_trial(space.default_params())
        plans = []
        for number in range(25):
            trial = study.ask()
            plan = space.suggest(trial)
            plans.append(plan)
            study.tell(trial, [float(len(plan.params)), number * 1.0])
        assert all(trial.state.is_finished() for trial in study.trials)
        assert plans[0].params["architecture"] == "fsrcnn"
        return [plan.fingerprint for plan in plans]

    assert marks() == marks()  # the same seed gives the same plans


def test_a_stored_study_is_continued_with_a_stored_space(registry: Registry) -> None:
    storage = optuna.storages.InMemoryStorage()
    optuna.create_study(storage=storage, study_name="a")
    text = json.dumps(resolved(None, registry).to_json())
    for seed in range(3):  # Optuna refuses choices that changed
        study = optuna.load_study(
            study_name="a", storage=storage, sampler=optuna.samplers.RandomSampler(seed=seed)
        )
        space = SearchSpace.from_json(json.loads(text), registry)
        for _ in range(10):
            trial = study.ask()
            space.suggest(trial)
            study.tell(trial, 0.0)
    assert len(study.trials) == 30


# ---- any space ----

CAPABILITIES = ("a", "b", "c")
SLOTS = [slot for slot in Slot if not slot.single]
capabilities = st.frozensets(st.sampled_from(CAPABILITIES), max_size=1)


@st.composite
def numbers(draw: st.DrawFn) -> tuple[Any, Any]:
    """A range with a default that is one of its values."""
    if draw(st.booleans()):
        low, high = sorted(draw(st.tuples(st.integers(1, 50), st.integers(1, 50))))
        log = draw(st.booleans())
        marker = Int(low, high, step=1 if log else draw(st.integers(1, 5)), log=log)
        return Annotated[int, marker, Field(ge=0, le=100)], draw(
            st.sampled_from(range(low, high + 1, marker.step))
        )
    low, high = sorted(draw(st.tuples(st.floats(0.01, 10), st.floats(0.01, 10))))
    kind = draw(st.sampled_from(["plain", "log", "step"]))
    if kind == "step":
        step = draw(st.sampled_from([0.05, 0.1, 0.25]))
        low = tidy(round(low, 2))
        places = draw(st.integers(0, 9))
        marker = Float(low, tidy(low + places * step), step=step)
        return Annotated[float, marker, Field(ge=0, le=20)], tidy(
            low + draw(st.integers(0, places)) * step
        )
    return Annotated[float, Float(low, high, log=kind == "log"), Field(ge=0, le=20)], draw(
        st.floats(low, high)
    )


@st.composite
def techniques(draw: st.DrawFn, slot: Slot, name: str, depth: int = 1) -> type[Technique]:
    """A technique with fields of every kind, conditions and capabilities."""
    annotations: dict[str, Any] = {}
    defaults: dict[str, Any] = {}
    functions: dict[str, Any] = {}
    options = draw(st.lists(st.sampled_from(["x", "y", "z"]), min_size=1, unique=True))
    annotations["kind"], defaults["kind"] = (
        Annotated[str, Choice(*options)],
        draw(st.sampled_from(options)),
    )
    for index in range(draw(st.integers(0, 3))):
        field = f"f{index}"
        annotation, defaults[field] = draw(numbers())
        if draw(st.booleans()):
            annotation = Annotated[annotation, When(kind=[draw(st.sampled_from(options))])]
        if draw(st.integers(0, 4)) == 0:
            annotation = Annotated[annotation, Fixed()]
        annotations[field] = annotation
    if draw(st.booleans()):
        annotations["size"], defaults["size"] = Annotated[int, Int(0, 3)], draw(st.integers(0, 3))
        annotations["vector"] = Annotated[
            tuple[str, ...], Each(Choice("p", "q"), count="size", max=3)
        ]
        defaults["vector"] = tuple(
            draw(st.lists(st.sampled_from(["p", "q"]), min_size=3, max_size=3))
        )[: defaults["size"]]
        if draw(st.booleans()):
            annotations["edges"] = Annotated[
                tuple[str, ...], Each(Choice("p", "q"), count="triangle", max=6)
            ]
            defaults["edges"] = ("q",) * (defaults["size"] * (defaults["size"] + 1) // 2)
            each = Each(
                tuple(Int(0, place) for place in range(3)), count="size", max=3, used="is_even"
            )
            annotations["inputs"], defaults["inputs"] = (
                Annotated[tuple[int, ...], each],
                (0,) * defaults["size"],
            )
            functions["triangle"] = staticmethod(lambda size: size * (size + 1) // 2)
            functions["is_even"] = staticmethod(
                lambda place, inputs: place == 0 or inputs[-1] % 2 == 0
            )
    if slot is Slot.TEACHER and draw(st.booleans()):
        annotations["net"], defaults["net"] = (
            Annotated[Technique | None, Pick(Slot.ARCHITECTURE)],
            None,
        )
    body = {
        "__annotations__": annotations,
        "__module__": __name__,
        "__doc__": f"{name}.",
        **defaults,
        **functions,
        "slot": slot,
        "name": name,
        "provides": draw(capabilities),
        "requires": draw(capabilities),
        "conflicts": draw(capabilities),
    }
    return type(name, (Technique,), body)


@st.composite
def spaces(draw: st.DrawFn) -> SearchSpace:
    """Everything installed of a random set of plugins, where anything goes together at all."""
    made: list[type[Technique]] = []
    for slot in SLOTS:
        names = [
            f"t{index}"
            for index in range(draw(st.integers(1 if slot is Slot.ARCHITECTURE else 0, 3)))
        ]
        made += [draw(techniques(slot, name)) for name in names]
    registry = space_toys.registry([*made, space_toys.Recipe])
    assert registry.unavailable == []
    try:
        return resolved(None, registry)
    except StudyFileError as error:
        if "goes together" not in str(error):
            raise
    return assume(False)


any_space = settings(
    examples(30),
    suppress_health_check=[
        HealthCheck.too_slow,
        HealthCheck.filter_too_much,
        HealthCheck.data_too_large,
    ],
)


def fits_together(plan: TrialPlan) -> bool:
    chosen = [type(item) for item in plan.techniques.values()]
    provided = frozenset().union(*(item.provides for item in chosen))
    if not all(item.requires <= provided for item in chosen):
        return False
    return not any(a.conflicts & b.provides for a, b in itertools.permutations(chosen, 2))


@any_space
@given(space=spaces(), data=st.data())
def test_every_plan_is_valid_fits_together_and_survives_json(
    space: SearchSpace, data: st.DataObject
) -> None:
    trial = Drawn(data)
    plan = space.suggest(trial)
    assert fits_together(plan)
    assert TrialPlan.from_json(json.loads(json.dumps(plan.to_json())), space.registry) == plan
    listed = space.parameters()
    for name, value in trial.params.items():
        assert listed[name]._contains(listed[name].to_internal_repr(value))
    replayed = space.suggest(Scripted(trial.params))
    assert replayed.fingerprint == plan.fingerprint
    assert dict(replayed.params) == dict(plan.params)


@any_space
@given(space=spaces())
def test_trial_0_reproduces_the_defaults_through_optuna(space: SearchSpace) -> None:
    params = space.default_params()
    plan = space.suggest(FixedTrial(params))
    for technique in plan.techniques.values():
        defaults = type(technique)()
        for spec in search_fields(type(technique)):
            if not isinstance(spec.marker, Pick):
                assert getattr(technique, spec.name) == pytest.approx(
                    getattr(defaults, spec.name)
                ), spec.name


@any_space
@given(space=spaces())
def test_a_stored_space_is_the_same_space(space: SearchSpace) -> None:
    again = SearchSpace.from_json(json.loads(json.dumps(space.to_json())), space.registry)
    assert again.slots == space.slots
    assert again.parameters() == space.parameters()


@any_space
@given(space=spaces(), data=st.data())
def test_a_fingerprint_never_depends_on_inactive_fields(
    space: SearchSpace, data: st.DataObject
) -> None:
    plan = space.suggest(Drawn(data))
    changed = {}
    for slot, technique in plan.techniques.items():
        updates = {}
        for spec in search_fields(type(technique)):
            if spec.name in inactive_fields(technique) and isinstance(spec.marker, Int | Float):
                updates[spec.name] = data.draw(st.sampled_from([spec.marker.low, spec.marker.high]))
        changed[slot] = technique.model_copy(update=updates)
    assert TrialPlan.of(changed, {}).fingerprint == plan.fingerprint


@any_space
@given(space=spaces(), seed=st.integers(0, 2**31))
def test_the_same_seed_gives_the_same_plans(space: SearchSpace, seed: int) -> None:
    def marks() -> list[str]:
        study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
        return [space.suggest(study.ask()).fingerprint for _ in range(3)]

    assert marks() == marks()


@any_space
@given(space=spaces(), data=st.data())
def test_every_plan_has_a_study_file_of_its_own(space: SearchSpace, data: st.DataObject) -> None:
    plan = space.suggest(Drawn(data))
    spec = {
        "task": {"kind": "image-sr"},
        "objectives": ["params"],
        "constraints": {},
        "device": {},
        "budget": {"trials": 9, "steps": 10},
        "search": {"sampler": "random", "seed": 3},
    }
    study: Any = SimpleNamespace(name="made", spec=spec)
    trial: Any = SimpleNamespace(
        number=4, state="complete", plan=json.loads(json.dumps(plan.to_json()))
    )
    loaded = parse_study(trial_study_file(study, trial, space.registry), "one.yaml", space.registry)
    alone = SearchSpace(loaded.space_request, space.registry)
    assert alone.count().total == 1
    assert alone.default_params() == {}, "nothing is left to be asked"
    assert alone.default_plan().fingerprint == plan.fingerprint
