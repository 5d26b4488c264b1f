"""Core's `none` fills a slot that nothing fills: plans mean what they meant before a plugin could
fill it.
"""

from __future__ import annotations

from typing import Any

import space_toys

from automl_sr.plugin import none
from automl_sr.plugin.registry import Registry, discover
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.space.plan import TrialPlan, fingerprint
from automl_sr.testing import TechniqueContract

NOTHING = tuple(none.register_techniques())


class Prune(Technique):
    """Cut something off."""

    slot = Slot.PRUNING
    name = "prune"


class Teach(Technique):
    """Explain something."""

    slot = Slot.TEACHER
    name = "teach"


def registry(*techniques: type[Technique]) -> Registry:
    own = space_toys.plugin([space_toys.Fsrcnn, *techniques], tasks=[space_toys.ToyTask])
    return discover([], plugins=[none, own])


def plan(section: Any, *techniques: type[Technique]) -> TrialPlan:
    return space_toys.resolve(section, registry(*techniques)).default_plan()


class TestNothing(TechniqueContract):
    technique = NOTHING


def test_every_slot_has_one_but_those_that_something_always_fills() -> None:
    assert {cls.slot for cls in NOTHING} == set(Slot) - {Slot.ARCHITECTURE, Slot.RECIPE}
    assert {cls.name for cls in NOTHING} == {"none"}


def test_a_slot_that_no_plugin_fills_is_no_part_of_the_space() -> None:
    assert list(plan(None).techniques) == [Slot.ARCHITECTURE]
    assert list(plan({"pruning": "none"}).techniques) == [Slot.ARCHITECTURE, Slot.PRUNING], (
        "but it may be named"
    )


def test_a_plugin_without_a_none_is_applied_only_to_studies_that_ask_for_it() -> None:
    left_out = plan({"architecture": "fsrcnn"}, Prune)
    assert left_out.params["pruning"] == "none"
    assert plan({"pruning": "prune"}, Prune).params["pruning"] == "prune"


def test_a_plan_keeps_its_fingerprint_when_a_plugin_comes_that_it_does_not_use() -> None:
    before = plan({"architecture": "fsrcnn"})
    after = plan({"architecture": "fsrcnn"}, Prune, Teach)
    assert before.fingerprint == after.fingerprint
    assert plan({"pruning": "prune"}, Prune).fingerprint != before.fingerprint


def test_none_of_the_slots_that_stored_plans_name_still_counts() -> None:
    fsrcnn = {Slot.ARCHITECTURE: space_toys.Fsrcnn()}
    assert fingerprint({**fsrcnn, Slot.SELECTION: none.NoSelection()}) != fingerprint(fsrcnn)
    assert fingerprint({**fsrcnn, Slot.TEACHER: none.NoTeacher()}) == fingerprint(fsrcnn)


def test_two_packages_cannot_both_bring_one() -> None:
    class Own(Technique):
        """Do nothing, again."""

        slot = Slot.PRUNING
        name = "none"

    [refused] = registry(Own).unavailable
    assert "already taken" in refused.reason
