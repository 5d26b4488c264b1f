"""What is rejected before training, and what is not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from search_world import FakeTask, Line, registry
from torch import nn

from automl_sr.errors import InfeasibleError
from automl_sr.plugin.blueprint import Blueprint, Edit
from automl_sr.plugin.registry import installed
from automl_sr.plugin.task import Task
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.search.decide import gate as gates
from automl_sr.search.decide.gate import Gate
from automl_sr.space.plan import TrialPlan
from automl_sr.study.spec import Limits
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.training.recipe import Recipe
from automl_sr.trial.types import DeviceSpec, Setting


class Halving(Technique):
    """Ships between half and three quarters of the parameters."""

    slot = Slot.PRUNING
    name = "halving"
    tasks = frozenset({"fake"})

    def predict(
        self, cost: Mapping[str, float], task: Task
    ) -> tuple[dict[str, float], dict[str, float]]:
        return {**cost, "params": cost["params"] * 0.5}, {**cost, "params": cost["params"] * 0.75}


class Growing(Technique):
    """Ends with a layer more: what is trained first is not what ships."""

    slot = Slot.DATASET_DISTILLATION
    name = "growing"
    tasks = frozenset({"fake"})
    edits: ClassVar = {
        "gate.grow": Edit(lambda net: nn.Sequential(*net, nn.Conv2d(1, 1, 3, padding=1)))
    }

    def shipped(self, blueprint: Blueprint, task: Task, ctx: Any) -> tuple[Blueprint, Blueprint]:
        grown = blueprint if blueprint.edits else blueprint.edited("gate.grow")
        return grown, grown


class Taught(Technique):
    """Learns from a wide line."""

    slot = Slot.TEACHER
    name = "taught"
    tasks = frozenset({"fake"})

    def companions(self, blueprint: Blueprint, task: Task, ctx: Any) -> list[Blueprint]:
        return [Blueprint("line", {"width": 4096})]


class Shrinking(Technique):
    """Ships anything from a channel to all of them."""

    slot = Slot.QUANTIZATION
    name = "shrinking"
    tasks = frozenset({"fake"})

    def shipped(self, blueprint: Blueprint, task: Task, ctx: Any) -> tuple[Blueprint, Blueprint]:
        return Blueprint("line", {"width": 1}), blueprint


class Picky(Technique):
    """Prunes lines of at least so many channels."""

    slot = Slot.PRUNING
    name = "picky"
    tasks = frozenset({"fake"})

    def refuses(self, blueprint: Blueprint, task: Task, ctx: Any) -> str | None:
        assert ctx.owner is self
        width = blueprint.fields["width"]
        return f"finds too few channels in a line of {width}" if width < 10 else None


class CountedLine(Line):
    """Counts how often it was built."""

    name = "counted_line"
    built: ClassVar[list[int]] = []
    factories: ClassVar = {"counted_line": lambda width: CountedLine.net(width)}

    def blueprint(self, task: Task, ctx: Any) -> Any:
        from automl_sr.plugin.blueprint import Blueprint

        return Blueprint("counted_line", {"width": self.width})

    @classmethod
    def net(cls, width: int) -> Any:
        from search_world import line

        cls.built.append(width)
        return line(width)


def gate_of(tmp_path: Path, limits: dict[str, Limits], *techniques: type[Technique]) -> Gate:
    found = registry()
    for cls in techniques:
        found.techniques[cls.slot][cls.name] = cls
        found.factories.update(cls.factories)
        found.edits.update(cls.edits)
    task = FakeTask()
    setting = Setting(
        registry=found,
        task=task,
        data=task.load(0),
        metrics=("score", *limits),
        objectives=("score",),
        steps=10,
        rungs=1,
        reduction=3,
        seed=0,
        train_device="cpu",
        device=DeviceSpec(),
        cache=tmp_path / "cache",
    )
    return Gate(setting, limits, tmp_path)


def plan_of(*techniques: Technique) -> TrialPlan:
    return TrialPlan.of({item.slot: item for item in (*techniques, Recipe(batch=8, patch=24))}, {})


def params(width: int) -> float:
    return width * 9 + width + width * 9 + 1


def test_a_plan_within_the_limits_passes_with_its_costs(tmp_path: Path) -> None:
    verdict = gate_of(tmp_path, {"params": Limits(max=1000)}).check(plan_of(Line(width=10)))
    assert verdict.reason is None
    assert verdict.costs == {"params": params(10)}
    assert verdict.violations["params"] < 0


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (Limits(max=100), "params would be 191, at most 100 is asked"),
        (Limits(min=200), "params would be 191, at least 200 is asked"),
        (Limits(min=1, max=190), "params would be 191, 1 to 190 is asked"),
    ],
)
def test_a_plan_that_breaks_a_limit_is_rejected_with_both_numbers(
    tmp_path: Path, limits: Limits, words: str
) -> None:
    verdict = gate_of(tmp_path, {"params": limits}).check(plan_of(Line(width=10)))
    assert verdict.reason == words
    assert verdict.violations["params"] > 0


def test_a_technique_says_in_words_that_it_can_do_nothing_with_a_net(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, {"params": Limits(max=1000)}, Picky)
    assert gate.check(plan_of(Line(width=10), Picky())).reason is None
    verdict = gate.check(plan_of(Line(width=9), Picky()))
    assert verdict.reason == "pruning.picky finds too few channels in a line of 9"
    assert verdict.violations == {"refused": 1.0}, "samplers learn from it where not to go"
    assert verdict.costs == {}


def test_what_compression_can_still_bring_below_the_limit_passes(tmp_path: Path) -> None:
    wide = Line(width=100)
    gate = gate_of(tmp_path, {"params": Limits(max=0.5 * params(100))}, Halving)
    assert gate.check(plan_of(wide)).reason is not None
    assert gate.check(plan_of(wide, Halving())).reason is None
    tight = gate_of(tmp_path, {"params": Limits(max=0.4 * params(100))}, Halving)
    assert (
        tight.check(plan_of(wide, Halving())).reason
        == "params would be 950.5 to 1,425.75, at most 760.4 is asked"
    )
    least = gate_of(tmp_path, {"params": Limits(min=0.7 * params(100))}, Halving)
    assert least.check(plan_of(wide, Halving())).reason is None, (
        "its upper bound may keep to the limit"
    )


def test_a_net_that_grows_is_judged_by_what_it_becomes(tmp_path: Path) -> None:
    limits = {"params": Limits(max=params(10))}
    gate = gate_of(tmp_path, limits, Growing)
    assert gate.check(plan_of(Line(width=10))).reason is None
    verdict = gate.check(plan_of(Line(width=10), Growing()))
    assert verdict.reason == "params would be 201, at most 191 is asked"
    assert verdict.costs == {"params": params(10) + 10}


def test_a_net_that_may_shrink_is_judged_by_the_least_that_it_can_become(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, {"params": Limits(max=50)}, Shrinking)
    assert gate.check(plan_of(Line(width=10))).reason is not None
    assert gate.check(plan_of(Line(width=10), Shrinking())).reason is None
    tight = gate_of(tmp_path, {"params": Limits(max=5)}, Shrinking)
    assert (
        tight.check(plan_of(Line(width=10), Shrinking())).reason
        == "params would be 20 to 191, at most 5 is asked"
    )


def test_a_trial_whose_model_has_become_too_large_can_no_longer_fit(tmp_path: Path) -> None:
    gate = gate_of(tmp_path, {"params": Limits(max=params(10)), "score": Limits(min=1)})
    plan = plan_of(Line(width=10))
    gate.still_fits(plan, tmp_path, Blueprint("line", {"width": 10}))
    with pytest.raises(
        InfeasibleError, match="params would be 210, at most 191 is asked, as training"
    ) as caught:
        gate.still_fits(plan, tmp_path, Blueprint("line", {"width": 11}))
    assert caught.value.violations == {"params": pytest.approx(19 / 191)}


def test_memory_counts_what_lies_beside_the_trained_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gate_of(tmp_path, {}, Taught)
    monkeypatch.setattr(gates, "free_memory", lambda device: 8_000_000)
    assert gate.check(plan_of(Line(width=8))).reason is None
    assert "training would take about" in str(gate.check(plan_of(Line(width=8), Taught())).reason)


def test_equal_blueprints_are_measured_once(tmp_path: Path) -> None:
    CountedLine.built.clear()
    gate = gate_of(tmp_path, {"params": Limits(max=1e9), "macs": Limits(max=1e12)}, CountedLine)
    for gain in (0.1, 0.2, 0.3):
        assert gate.check(plan_of(CountedLine(width=8, gain=gain))).reason is None
    assert CountedLine.built == [8, 8], "once for the costs and once for the memory"


def test_quality_is_not_asked_before_training(tmp_path: Path) -> None:
    verdict = gate_of(tmp_path, {"score": Limits(min=99)}).check(plan_of(Line()))
    assert verdict.reason is None


def test_a_plan_that_does_not_fit_into_memory_is_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = gate_of(tmp_path, {})
    monkeypatch.setattr(gates, "free_memory", lambda device: 20_000)
    assert "training would take about" in str(gate.check(plan_of(Line(width=64))).reason)
    monkeypatch.setattr(gates, "free_memory", lambda device: 2**33)
    assert gate.check(plan_of(Line(width=64))).reason is None


@pytest.mark.parametrize(("study", "halved"), [("fp32", False), ("bf16", True), ("fp16", True)])
def test_memory_is_estimated_for_the_format_of_the_study(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: str, halved: bool
) -> None:
    asked: list[bool] = []

    def estimate(*_: object, half: bool) -> int:
        asked.append(half)
        return 1

    monkeypatch.setattr(gates, "training_bytes", estimate)
    gate = gate_of(tmp_path, {})
    gate.setting = replace(gate.setting, precision=study)
    gate.check(plan_of(Line()))
    assert asked == [halved]


def test_a_graph_is_timed_once_for_the_gates_of_all_workers(tmp_path: Path) -> None:
    found = installed()
    task = ImageSR(scale=2, train=("photos-train",), valid=("photos-valid",), color="y")
    setting = replace(
        gate_of(tmp_path, {}).setting,
        registry=found,
        task=task,
        metrics=("latency_ratio",),
        device=DeviceSpec(input=(40, 60)),
    )
    net = found.technique(Slot.ARCHITECTURE, "espcn")(width=8)
    costs = []
    for worker in ("one", "other"):
        gate = Gate(setting, {"latency_ratio": Limits(max=1e9)}, tmp_path)
        costs.append(gate.check(plan_of(net), tmp_path / worker).costs["latency_ratio"])
    assert costs[0] == costs[1] > 0
    notes = [
        json.loads((tmp_path / worker / "shared.json").read_text()) for worker in ("one", "other")
    ]
    assert [entry["reused"] for note in notes for entry in note.values()] == [False, True]
