"""What techniques can do inside a run: other batches, losses and gradients, copies, changes by
blueprint alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_techniques as toys
from resuming import Stop, fingerprint, setup_of
from torch import Tensor, nn
from training_toys import SecondOrder

from automl_sr.errors import PluginError, StopRequestedError
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.task import Batch
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import start_or_resume, train
from automl_sr.training.phases import ModelUpdate, Phase
from automl_sr.training.run import Run
from automl_sr.training.step import TrainStep


class Doing(Technique):
    """Do what a test asks in each step."""

    slot = Slot.PRUNING
    name = "doing"
    tasks = toys.TOY


class Still(Doing):
    """Hold the first layer where it is, and see that its gradients do not count for the norm."""

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        return step.with_step_context(self.held)

    @contextmanager
    def held(self, run: Any) -> Iterator[None]:
        for value in run.model[0].parameters():
            value.grad = None
        yield


@dataclass(frozen=True)
class Weighted(Batch):
    """A batch with more in it than inputs and target."""

    weight: float = 1.0


class Sourced(Doing):
    """Bring the batches along, and keep no moving average."""

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        def source(run: Run) -> Batch:
            batch = run.batch("own", run.full_data)
            return Weighted(batch.inputs, batch.target, weight=2.0)

        def loss(output: Any, batch: Any, run: Any) -> Tensor:
            return batch.weight * run.task.loss(output.prediction, batch, "l1")

        return replace(step.with_loss("task", loss), batch=source, ema=False)


class Regrowing(Doing):
    """Widen nothing but the depth, by a blueprint alone: core builds the net and copies what
    fits.
    """

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        return [Phase("shallow", 1.0), phases[0].entering(self.deepen), *phases[1:]]

    def deepen(self, run: Any) -> ModelUpdate:
        run.state["doing.first"] = run.model[0].weight.detach().clone()
        return ModelUpdate(blueprint=Blueprint("toys.mlp", {**run.blueprint.fields, "depth": 2}))


def trained(technique: Technique, folder: Path, stop_every: int = 0) -> Run:
    """Train, from disk again after each stop."""
    setup, blueprint = setup_of([toys.Mlp(), technique], folder)
    checkpoints = Checkpoints(folder / "trunk")
    while True:
        run = start_or_resume(setup, blueprint, checkpoints)
        try:
            train(run, setup.timetable.trunk_steps, Stop(stop_every), checkpoints)
        except StopRequestedError:
            continue
        return run


KINDS = (SecondOrder(), Still(), Sourced(), Regrowing())


@pytest.mark.parametrize("technique", KINDS, ids=lambda technique: type(technique).__name__)
def test_stopping_after_any_step_changes_nothing(technique: Technique, tmp_path: Path) -> None:
    straight = trained(technique, tmp_path / "straight")
    for every in (1, 7):
        parts = trained(technique, tmp_path / f"every {every}", stop_every=every)
        assert fingerprint(parts) == fingerprint(straight), every
    plain = trained(Doing(), tmp_path / "plain")
    assert fingerprint(straight) != fingerprint(plain), "it does something"


def test_weights_that_are_held_still_do_not_move_and_do_not_count_for_the_norm(
    tmp_path: Path,
) -> None:
    setup, blueprint = setup_of([toys.Mlp(), Still()], tmp_path)
    run = Run.start(setup, blueprint)
    before = run.model[0].weight.detach().clone()
    norms: list[float] = []
    clip = nn.utils.clip_grad_norm_

    def watched(parameters: Any, largest: float) -> Tensor:
        norms.append(
            float(torch.stack([p.grad.norm() for p in parameters if p.grad is not None]).norm())
        )
        assert all(p.grad is None for p in run.model[0].parameters())
        return clip(parameters, largest)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(nn.utils, "clip_grad_norm_", watched)
        run.advance()
    assert norms
    assert torch.equal(run.model[0].weight, before)


def test_a_batch_of_a_kind_of_its_own_survives_channels_last(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp()], tmp_path)
    setup = replace(setup, recipe=setup.recipe.model_copy(update={"channels_last": True}))
    run = Run.start(setup, blueprint)
    images = Weighted(torch.rand(2, 3, 4, 5), torch.zeros(2, dtype=torch.long), weight=3.0)
    drawn = type("Drawing", (), {"draw": lambda *_, **__: images})()
    run.task = drawn  # type: ignore[assignment]
    batch = run.batch()
    assert isinstance(batch, Weighted)
    assert batch.weight == 3.0
    assert batch.inputs.is_contiguous(memory_format=torch.channels_last)


def test_a_change_by_blueprint_alone_copies_what_fits(tmp_path: Path) -> None:
    run = trained(Regrowing(), tmp_path)
    assert run.blueprint.fields["depth"] == 2
    assert isinstance(run.model[2], nn.Linear)
    assert run.state["doing.first"].shape == run.model[0].weight.shape


def test_no_moving_average_is_kept_where_a_technique_refuses_it(tmp_path: Path) -> None:
    assert trained(Doing(), tmp_path / "with").ema is not None
    assert trained(Sourced(), tmp_path / "without").ema is None


def test_a_copy_of_the_model_has_no_hooks_and_calls_outside_of_the_step_are_not_tapped(
    tmp_path: Path,
) -> None:
    setup, blueprint = setup_of([toys.Mlp(), toys.Projection()], tmp_path)
    run = Run.start(setup, blueprint)
    run.advance()
    batch = run.batch()
    copy = run.copy_model()
    assert not any(part._forward_hooks for part in copy.modules())
    assert all(
        torch.equal(a, b) for a, b in zip(copy.parameters(), run.model.parameters(), strict=True)
    )
    run.model(batch.inputs)
    assert run.forward(batch).taps["0"][0].shape[0] == len(batch.inputs)
    assert len(run.forward(batch).taps["0"]) == 1


def test_a_gradient_for_nothing_is_refused(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp()], tmp_path)
    run = Run.start(setup, blueprint)
    with pytest.raises(PluginError, match="'nothing', which is no trainable parameter"):
        run.apply({"nothing": torch.zeros(1)}, ["main"])


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_gradients_of_ones_own_are_applied_as_they_are(precision: str, tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp()], tmp_path, precision=precision)
    run = Run.start(setup, blueprint)
    gradients = {name: torch.full_like(p, 1e-3) for name, p in run.model.named_parameters()}
    run.apply(gradients, ["main"])
    average = run.optimizers.state()["main|0.weight|exp_avg"]
    assert torch.allclose(average, torch.full_like(average, 1e-4))


def test_a_step_by_other_losses_knows_no_others(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp()], tmp_path)
    run = Run.start(setup, blueprint)

    def decay(output: Any, batch: Any, run: Run) -> Tensor:
        return (run.model[0].weight ** 2).sum()

    bias = run.model[0].bias.detach().clone()
    weight = run.model[0].weight.detach().clone()
    terms = run.update(run.batch(), losses={"decay": decay})
    assert list(terms) == ["decay"]
    assert torch.equal(run.model[0].bias, bias)
    assert not torch.equal(run.model[0].weight, weight)
