"""Layers that are swapped in training, and never where a model is scored or shipped."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_techniques as toys
from resuming import Stop, fingerprint, setup_of
from torch import Tensor, nn

from automl_sr.errors import PluginError, StopRequestedError
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import finish_branch, start_or_resume, train
from automl_sr.training.run import Run
from automl_sr.training.step import TrainStep


class Rounded(nn.Module):
    """Compute a linear layer with weights on a learnt grid; gradients pass the rounding."""

    def __init__(self) -> None:
        super().__init__()
        self.size = nn.Parameter(torch.tensor(0.25))

    def forward(self, layer: Any, inputs: Tensor) -> Tensor:
        scaled = layer.weight / self.size
        grid = scaled + (scaled.round() - scaled).detach()
        return nn.functional.linear(inputs, grid * self.size, layer.bias)


class FakeQuantize(Technique):
    """Round the weights of each linear layer to a coarse grid in the forward pass of training."""

    slot = Slot.QUANTIZATION
    name = "fake"
    tasks = toys.TOY
    scores = True

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        for name, layer in run.model.named_modules():
            if isinstance(layer, nn.Linear):
                rounded = Rounded()
                step = step.with_aux(f"fake {name}", rounded).with_layer(name, rounded)
        return step


class Doubled(FakeQuantize):
    """Give twice what the first layer gives, and tap it."""

    scores = False

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        return step.tapping("0").with_layer("0", self.doubled)

    @staticmethod
    def doubled(layer: nn.Module, inputs: Tensor) -> Tensor:
        return 2 * layer.forward(inputs)


class Astray(FakeQuantize):
    """Swap what is not there."""

    def wrap_step(self, step: TrainStep, run: Any) -> TrainStep:
        return step.with_layer("nowhere", Rounded())


def trained(techniques: list[Technique], folder: Path, stop_every: int = 0) -> Run:
    """Train trunk and branch, from disk again after each stop."""
    while True:
        setup, blueprint = setup_of(techniques, folder)
        checkpoints = Checkpoints(folder / "trunk")
        run = start_or_resume(setup, blueprint, checkpoints)
        try:
            train(run, setup.timetable.trunk_steps, Stop(stop_every), checkpoints)
            run.leave_phase()
            return finish_branch(run, Stop(stop_every), Checkpoints(folder / "branch"))
        except StopRequestedError:
            continue


COMBINATIONS: dict[str, list[Technique]] = {
    "alone": [toys.Mlp(), FakeQuantize()],
    "with pruning rounds": [toys.Mlp(), toys.RewindPruning(), FakeQuantize()],
    "on a net that grows": [toys.Growth(), toys.Mlp(), FakeQuantize()],
}


@pytest.mark.parametrize("techniques", COMBINATIONS.values(), ids=COMBINATIONS)
def test_stopping_changes_nothing(techniques: list[Technique], tmp_path: Path) -> None:
    straight = trained(techniques, tmp_path / "straight")
    for every in (1, 7):
        parts = trained(techniques, tmp_path / f"every {every}", stop_every=every)
        assert fingerprint(parts) == fingerprint(straight), every
    sizes = [part.size for part in straight.train_step.aux.values() if isinstance(part, Rounded)]
    assert len(sizes) > 1
    assert all(float(size.detach()) != 0.25 for size in sizes), "the grid is learnt"


def test_training_sees_the_swap_and_nothing_else_does(tmp_path: Path) -> None:
    run = trained([toys.Mlp(), FakeQuantize()], tmp_path)
    setup, blueprint = setup_of([toys.Mlp()], tmp_path / "plain")
    plain = Run.start(setup, blueprint)
    plain.model.load_state_dict(run.model.state_dict())
    batch = run.batch()
    run.model.eval()
    plain.model.eval()
    with torch.no_grad():
        assert torch.equal(run.model(batch.inputs), plain.model(batch.inputs))
        swapped = run.forward(batch).prediction
        assert not torch.allclose(swapped, plain.forward(batch).prediction)
        assert torch.equal(run.model(batch.inputs), plain.model(batch.inputs)), "it is over"
        assert torch.equal(run.copy_model()(batch.inputs), plain.model(batch.inputs))
    assert run.model.state_dict().keys() == plain.model.state_dict().keys()
    assert run.blueprint == plain.blueprint
    shipped = run.finish(tmp_path).module
    held = run.setup.scorer.data.valid  # type: ignore[union-attr]
    with torch.no_grad():
        right = (shipped(held.x).argmax(1) == held.y).double().mean()
    assert run.score() == pytest.approx(float(right))
    assert not any("forward" in vars(part) for part in (*shipped.modules(), *run.model.modules()))


def test_a_swap_may_ask_the_layer_and_is_tapped_in_its_place(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp(), Doubled()], tmp_path)
    run = Run.start(setup, blueprint)
    batch = run.batch()
    (seen,) = run.forward(batch).taps["0"]
    assert torch.equal(seen, 2 * run.model[0](batch.inputs))  # type: ignore[index]


def test_layers_are_themselves_again_after_an_error(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp(), Doubled()], tmp_path)
    run = Run.start(setup, blueprint)
    batch = run.batch()
    with pytest.raises(RuntimeError):
        run.forward(replace(batch, inputs=batch.inputs[:, :3]))
    assert not any("forward" in vars(part) for part in run.model.modules())


def test_a_layer_that_is_not_there_or_is_swapped_twice_is_refused(tmp_path: Path) -> None:
    setup, blueprint = setup_of([toys.Mlp(), Astray()], tmp_path)
    with pytest.raises(PluginError, match="swaps the layer 'nowhere', which is not there"):
        Run.start(setup, blueprint)
    with pytest.raises(PluginError, match="Two techniques want to swap the layer '0'"):
        TrainStep({}).with_layer("0", Rounded()).with_layer("0", Rounded())
