"""The first weights of a trial can come from a file: once before step 0, never on resume or refine."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import pytest
import torch
import toy_techniques as toys
from resuming import registry
from torch import Tensor
from trial_notes import Notes, digits

from automl_sr.api import File, PluginError, TrialError
from automl_sr.errors import StopRequestedError
from automl_sr.files import load_tensors, save_tensors
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.registry import Source
from automl_sr.search.refine.run import Job, run_refinement
from automl_sr.space.plan import TrialPlan
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.run import Run
from automl_sr.trial.run import run_trial
from automl_sr.trial.setup import make_context, make_setup
from automl_sr.trial.types import Setting

FIELDS = {"width": 8, "depth": 1}


class Warm(toys.Mlp):
    """A perceptron that begins with what a file holds, which has other names for the same."""

    name = "warm"
    baseline = False
    weights: Annotated[str, File()] = ""
    asked: ClassVar[list[str]] = []

    def blueprint(self, task: Any, ctx: Any) -> Blueprint:
        fields = self.dump()
        del fields["weights"]
        return Blueprint("toys.mlp", {**fields, **task.dims()})

    def first_weights(self, blueprint: Blueprint, ctx: Any) -> Mapping[str, Tensor] | None:
        self.asked.append(self.weights)
        return ctx.weights(self.weights, blueprint) if self.weights else None

    def read_checkpoint(self, tensors: Mapping[str, Tensor], task: Any) -> Any:
        if not all(name.startswith("old.") for name in tensors):
            return None
        ours = {name.removeprefix("old."): value for name, value in tensors.items()}
        return Warm(width=len(next(iter(ours.values())))), ours


@pytest.fixture(autouse=True)
def nobody_asked_yet() -> None:
    Warm.asked.clear()


def model_of(fields: Mapping[str, int]) -> dict[str, Tensor]:
    torch.manual_seed(4)
    blueprint = Blueprint("toys.mlp", {**fields, **toys.DigitsTask().dims()})
    return build(blueprint, registry()).state_dict()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A foreign checkpoint of the net with 8 units."""
    tensors = {f"old.{name}": value for name, value in model_of(FIELDS).items()}
    torch.save({"params": tensors}, tmp_path / "net.pth")
    return tmp_path / "net.pth"


def trial_of(folder: Path, technique: toys.Mlp, steps: int = 60) -> tuple[TrialPlan, Setting]:
    plan, setting = digits(folder, [technique], steps=steps)
    known = registry()
    if Warm.name not in known.techniques[Warm.slot]:  # it is the same for all tests
        known.add_technique(Warm, Source("warm", "warm", "1"))
    return plan, replace(setting, registry=known)


def started(folder: Path, technique: toys.Mlp) -> Run:
    plan, setting = trial_of(folder, technique)
    context = make_context(plan, setting, folder / "trial")
    setup = make_setup(plan, setting, context, setting.data.train)
    return Run.start(setup, technique.blueprint(setting.task, context))


def assert_begins_with(run: Run, weights: Mapping[str, Tensor]) -> None:
    found = run.model.state_dict()
    assert found.keys() == weights.keys()
    assert all(torch.equal(found[name], value) for name, value in weights.items())


def test_training_begins_with_what_is_in_the_file(tmp_path: Path, file: Path) -> None:
    assert_begins_with(started(tmp_path, Warm(width=8, weights=str(file))), model_of(FIELDS))


def test_without_a_file_weights_are_drawn_as_ever(tmp_path: Path) -> None:
    drawn = started(tmp_path, toys.Mlp(width=8))
    run = started(tmp_path, Warm(width=8))
    assert Warm.asked == [""]
    assert run.model.state_dict().keys() == drawn.model.state_dict().keys()


def test_our_own_file_is_taken_as_it_is(tmp_path: Path) -> None:
    blueprint = Blueprint("toys.mlp", {**FIELDS, **toys.DigitsTask().dims()})
    plan, setting = trial_of(tmp_path, Warm(width=8))
    own = run_trial(plan, setting, Notes(), tmp_path / "first").artifacts["weights"]
    weights, header = load_tensors(own)
    assert Blueprint.from_json(json.loads(header["blueprint"])) == blueprint
    assert_begins_with(started(tmp_path, Warm(width=8, weights=str(own))), weights)


def test_a_trial_that_was_killed_goes_on_bit_for_bit_without_asking_again(
    tmp_path: Path, file: Path
) -> None:
    plan, setting = trial_of(tmp_path, Warm(width=8, weights=str(file)))
    whole = run_trial(plan, setting, Notes(), tmp_path / "whole")
    Warm.asked.clear()
    with pytest.raises(StopRequestedError):
        run_trial(plan, setting, Notes(stop_after=20), tmp_path / "resumed")
    file.unlink()
    resumed = run_trial(plan, setting, Notes(), tmp_path / "resumed")
    assert Warm.asked == [str(file)]
    for kind in ("weights", "onnx"):
        assert resumed.artifacts[kind].read_bytes() == whole.artifacts[kind].read_bytes()


def test_refine_goes_on_from_what_was_learnt(tmp_path: Path, file: Path) -> None:
    plan, setting = trial_of(tmp_path, Warm(width=8, weights=str(file)))
    run_trial(plan, setting, Notes(), tmp_path / "trial")
    learnt = Checkpoints(tmp_path / "trial" / "trunk").latest()
    assert learnt is not None
    Warm.asked.clear()
    file.unlink()
    job = Job(steps=40, seed=0, base=tmp_path / "trial" / "trunk")
    refined = run_refinement(plan, setting, job, Notes(), tmp_path / "refined")
    assert Warm.asked == []
    assert refined.values["accuracy"] > 0.2


def test_a_helper_model_begins_with_the_file_too(tmp_path: Path, file: Path) -> None:
    """And trains on from there, so that two steps leave it close."""
    plan, setting = trial_of(tmp_path, Warm(width=8, weights=str(file)))
    context = make_context(plan, setting, tmp_path / "trial").for_technique(toys.TeacherLoss())
    context = replace(context, files={})
    helper = context.fit(Warm(width=8, weights=str(file)), setting.data.train, steps=2)
    for name, value in model_of(FIELDS).items():
        assert torch.allclose(helper.state_dict()[name], value, atol=0.02)


def test_another_net_is_refused_with_the_fields_of_the_file(tmp_path: Path, file: Path) -> None:
    with pytest.raises(TrialError, match=r"another net .* width is 8 there and 16 here"):
        started(tmp_path, Warm(width=16, weights=str(file)))


def test_a_file_that_the_architecture_cannot_read_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "other.safetensors", model_of(FIELDS))
    with pytest.raises(TrialError, match="holds no net of the architecture 'warm'"):
        started(tmp_path, Warm(width=8, weights=str(tmp_path / "other.safetensors")))


def test_weights_that_are_missing_in_the_file_are_named(tmp_path: Path) -> None:
    name, value = next(iter(model_of(FIELDS).items()))
    torch.save({f"old.{name}": value}, tmp_path / "part.pth")
    with pytest.raises(TrialError, match=r"do not fit the net \(not in the file: "):
        started(tmp_path, Warm(width=8, weights=str(tmp_path / "part.pth")))


class Wrong(toys.Mlp):
    """Give weights that the net does not have."""

    name = "wrong"

    def first_weights(self, blueprint: Blueprint, ctx: Any) -> Mapping[str, Tensor]:
        return {"head": torch.ones(1)}


class Partial(toys.Mlp):
    """Give one of the tensors and leave the others as they were drawn."""

    name = "partial"

    def first_weights(self, blueprint: Blueprint, ctx: Any) -> Mapping[str, Tensor]:
        name, value = next(iter(model_of(FIELDS).items()))
        return {name: torch.full_like(value, 0.5)}


def test_weights_that_the_net_does_not_have_are_the_techniques_fault(tmp_path: Path) -> None:
    with pytest.raises(
        PluginError, match=r"first weights of 'wrong' do not fit .*not in the net: head"
    ):
        started(tmp_path, Wrong(width=8))


def test_what_is_left_out_stays_as_it_was_drawn(tmp_path: Path) -> None:
    found = started(tmp_path, Partial(width=8)).model.state_dict()
    first, *others = found.values()
    assert bool((first == 0.5).all())
    assert not any(bool((value == 0.5).all()) for value in others)


def test_a_plan_without_a_file_means_what_it_meant_before_there_could_be_one(
    tmp_path: Path, file: Path
) -> None:
    """Fingerprints, and with them seeds, stay as they were when a technique learns to read files."""

    class Former(toys.Mlp):
        """The same technique before it could read files."""

        name = "warm"

    former, now, begun = (
        trial_of(tmp_path, technique)[0].fingerprint
        for technique in (Former(), Warm(), Warm(weights=str(file)))
    )
    assert now == former != begun
