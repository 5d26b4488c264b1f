"""One trial from plan to measured artefact, for super-resolution and for a task that is not
image-to-image.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import toy_techniques as toys
from trial_notes import Notes, digits, setting

from automl_sr.errors import NotFiniteError, StopRequestedError
from automl_sr.evaluation.runtime import OnnxModel
from automl_sr.plugin.registry import installed
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.space.plan import TrialPlan
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.recipe import Recipe
from automl_sr.trial.run import run_trial
from automl_sr.trial.types import Outcome


@pytest.mark.ci
def test_a_task_that_is_not_image_to_image_goes_all_the_way(tmp_path: Path) -> None:
    plan, where = digits(
        tmp_path,
        [
            toys.Growth(),
            toys.Mlp(width=48),
            toys.TeacherLoss(teacher_steps=400),
            toys.RewindPruning(rounds=2),
        ],
        800,
    )
    notes = Notes()
    outcome = run_trial(plan, where, notes, tmp_path / "trial")
    assert outcome.state == "complete"
    assert outcome.values["accuracy"] > 0.8  # chance is 0.1
    assert outcome.values["size_bytes"] == outcome.artifacts["onnx"].stat().st_size
    assert list(dict.fromkeys(notes.stages)) == ["select", "train", "branch", "export", "evaluate"]
    assert outcome.seconds.keys() == set(notes.stages)


def test_values_are_those_of_the_exported_file(tmp_path: Path) -> None:
    plan, where = digits(tmp_path, [toys.Mlp()], steps=100)
    outcome = run_trial(plan, where, Notes(), tmp_path / "trial")
    valid = where.data.valid
    scores = OnnxModel(outcome.artifacts["onnx"])(valid.x.numpy())
    assert outcome.values["accuracy"] == toys.accuracy(scores, valid.y.numpy())


def test_rungs_come_first_to_last_and_a_stopped_trial_leaves_a_finished_model(
    tmp_path: Path,
) -> None:
    plan, where = digits(tmp_path, [toys.Mlp()], steps=4000, rungs=3)
    going, stopped = Notes(), Notes(keep=False)
    complete = run_trial(plan, where, going, tmp_path / "going")
    pruned = run_trial(plan, where, stopped, tmp_path / "stopped")
    assert [step for _, step, _ in going.rungs] == [400, 1200]
    assert (complete.state, pruned.state) == ("complete", "pruned")
    assert pruned.values == going.rungs[0][2] == stopped.rungs[0][2]
    assert OnnxModel(pruned.artifacts["onnx"])(np.zeros((1, 64), np.float32)).shape == (1, 10)


@pytest.mark.ci
def test_a_trial_that_was_stopped_anywhere_ends_with_the_same_values(tmp_path: Path) -> None:
    techniques = [toys.Mlp(), toys.RewindPruning(rounds=2), toys.TeacherLoss()]
    plan, where = digits(tmp_path, techniques, steps=1000, rungs=2)
    whole = Notes()
    undisturbed = run_trial(plan, where, whole, tmp_path / "whole")
    parts, outcome, starts = Notes(), None, 0
    while outcome is None:
        starts += 1
        try:
            parts.left = 170
            outcome = run_trial(plan, where, parts, tmp_path / "parts")
        except StopRequestedError:
            continue
    assert starts > 5
    assert outcome.seconds.keys() == undisturbed.seconds.keys(), "stages of former attempts count"
    assert outcome.values == undisturbed.values
    assert dict.fromkeys(map(str, parts.rungs)) == dict.fromkeys(map(str, whole.rungs))
    assert weights_of(outcome) == weights_of(undisturbed)


def test_equal_plans_of_a_study_give_equal_models_and_other_seeds_do_not(tmp_path: Path) -> None:
    plan, where = digits(tmp_path, [toys.Mlp()], steps=50)
    first, again = (
        weights_of(run_trial(plan, where, Notes(), tmp_path / name)) for name in ("first", "again")
    )
    other = weights_of(run_trial(plan, replace(where, seed=4), Notes(), tmp_path / "other"))
    assert first == again != other


def test_a_trial_trains_in_the_format_of_its_study(tmp_path: Path) -> None:
    plan, where = digits(tmp_path, [toys.Mlp()], steps=50)
    weights = {}
    for format_ in ("fp32", "bf16"):
        outcome = run_trial(plan, replace(where, precision=format_), Notes(), tmp_path / format_)
        kept = Checkpoints(tmp_path / format_ / "trunk").latest()
        assert kept is not None
        assert kept.meta["precision"]["kind"] == format_
        weights[format_] = weights_of(outcome)
    assert weights["fp32"] != weights["bf16"]


def weights_of(outcome: Outcome) -> bytes:
    return outcome.artifacts["weights"].read_bytes()


def test_a_loss_that_is_not_finite_fails_the_trial_and_says_where(tmp_path: Path) -> None:
    plan, where = digits(tmp_path, [toys.Mlp()], steps=200)
    techniques = {
        **plan.techniques,
        Slot.RECIPE: Recipe(lr=1.0, clip=0.0, patch=8, optimizer="adamw"),
    }
    exploding = TrialPlan.of({**techniques, Slot.TEACHER: Exploding()}, {})
    with pytest.raises(NotFiniteError, match=r"The loss became (inf|nan) by step \d+ \(train"):
        run_trial(exploding, where, Notes(), tmp_path / "trial")


class Exploding(Technique):
    """Square the loss over and over."""

    slot = Slot.TEACHER
    name = "exploding"
    tasks = toys.TOY

    def wrap_step(self, step: object, run: object) -> object:
        return step.with_loss(
            "blow", lambda output, batch, run: (output.prediction * 1e3).exp().mean()
        )


def run_sr(tmp_path: Path, color: str, quantization: str, **fields: object) -> Outcome:
    registry = installed()
    task = ImageSR(scale=2, train=("photos-train",), valid=("photos-valid",), color=color)
    metrics = ("psnr_y", "params", "macs", "size_bytes", "latency_ms", "latency_ratio")
    slots = {Slot.SELECTION: "none", Slot.ARCHITECTURE: "espcn", Slot.QUANTIZATION: quantization}
    techniques = {slot: registry.technique(slot, name)() for slot, name in slots.items()}
    recipe = Recipe(batch=8, patch=24, lr=2e-3, **fields)
    plan = TrialPlan.of({**techniques, Slot.RECIPE: recipe}, {})
    where = setting(registry, task, tmp_path, metrics, 150, 1)
    outcome = run_trial(plan, where, Notes(), tmp_path / f"{color}-{quantization}")
    assert (
        outcome.values["psnr_y"]
        > task.reference(where.data, [registry.metric("psnr_y")])["psnr_y"] - 0.3
    )
    return outcome


def psnr_of(onnx: Path) -> float:
    task = ImageSR(scale=2, train=("photos-train",), valid=("photos-valid",), color="y")
    return task.measure_quality(OnnxModel(onnx), task.load(0), [installed().metric("psnr_y")])[
        "psnr_y"
    ]


def test_super_resolution_on_luma_beats_bicubic_and_int8_ships_smaller(tmp_path: Path) -> None:
    full, small = run_sr(tmp_path, "y", "none"), run_sr(tmp_path, "y", "int8_ptq")
    # The two trials have other seeds: the second one's net shows what quantization does.
    before = small.artifacts["onnx"].with_name("model.onnx")
    assert small.values["size_bytes"] < 0.6 * before.stat().st_size
    assert abs(small.values["psnr_y"] - psnr_of(before)) < 0.5
    assert full.values["params"] == small.values["params"]
    assert full.values["latency_ratio"] > 0


@pytest.mark.ci
def test_a_graph_is_timed_once_for_all_rungs_and_for_trials_that_differ_in_training_alone(
    tmp_path: Path,
) -> None:
    registry = installed()
    task = ImageSR(scale=2, train=("photos-train",), valid=("photos-valid",), color="y")
    where = replace(
        setting(registry, task, tmp_path, ("psnr_y", "latency_ratio"), 60, 3), first_rung=1
    )

    def run(lr: float) -> tuple[list[float], Outcome]:
        architecture = registry.technique(Slot.ARCHITECTURE, "espcn")(width=8)
        plan = TrialPlan.of(
            {item.slot: item for item in (architecture, Recipe(batch=8, patch=24, lr=lr))}, {}
        )
        notes = Notes()
        outcome = run_trial(plan, where, notes, tmp_path / str(lr))
        assert len({values["psnr_y"] for _, _, values in notes.rungs}) == 2, "the models differ"
        return [values["latency_ratio"] for _, _, values in notes.rungs], outcome

    rungs, timed = run(2e-3)
    other_rungs, spared = run(1e-3)
    assert {*rungs, *other_rungs, timed.values["latency_ratio"]} == {spared.values["latency_ratio"]}
    assert timed.values["psnr_y"] != spared.values["psnr_y"]
    assert [outcome.shared["latency"]["reused"] for outcome in (timed, spared)] == [False, True]


@pytest.mark.ci
def test_super_resolution_on_rgb(tmp_path: Path) -> None:
    assert run_sr(tmp_path, "rgb", "none").values["macs"] > 0
