"""The techniques on the page for plugin authors keep the contract and do what they promise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import clipped_weights
import deep_supervision
import deepening_net
import kernel_search
import pytest
import rewound_rounds
import torch

from automl_sr.evaluation.cost import count_params
from automl_sr.plugin.blueprint import build
from automl_sr.testing import ArchitectureContract, TechniqueContract
from automl_sr.testing.tiny import TinyTrial
from automl_sr.training.run import Run


def weights_of(trained: Any) -> list[torch.Tensor]:
    return [value for value in trained[0].module.parameters() if value.dim() > 1]


class TestRewoundRounds(TechniqueContract):
    technique = rewound_rounds.RewoundRounds

    def test_each_round_prunes_its_share_of_what_is_left(
        self, configured: Any, trained: Any
    ) -> None:
        for weight in weights_of(trained):
            left = (1 - configured.rate) ** (configured.rounds - 1) * weight.numel()
            assert int((weight != 0).sum()) == pytest.approx(left, abs=configured.rounds)

    def test_what_is_left_begins_again_with_the_first_weights(self, trial: TinyTrial) -> None:
        run = begun(trial)
        first = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        advance_to(run, trial.timetable().spans[1].start)
        run._enter(trial.timetable().spans[1])
        for name, weight in run.model.named_parameters():
            assert torch.equal(weight, torch.where(weight != 0, first[name], torch.zeros(())))


class TestClippedWeights(TechniqueContract):
    technique = clipped_weights.ClippedWeights

    def test_no_weight_that_ships_is_larger(self, configured: Any, trained: Any) -> None:
        largest = max(float(weight.detach().abs().max()) for weight in weights_of(trained))
        assert largest <= configured.bound * (1 + 1e-6)


class TestDeepeningNet(ArchitectureContract):
    technique = deepening_net.DeepeningNet

    def test_growing_changes_nothing_at_first(self, configured: Any, trial: TinyTrial) -> None:
        run = begun(trial)
        grown = trial.timetable().spans[1]
        advance_to(run, grown.start)
        image = torch.rand(1, 1, 9, 7)
        with torch.no_grad():
            before = run.model(image)
            run._enter(grown)
            assert torch.equal(run.model(image), before)
        assert len(run.blueprint.edits) == 1

    def test_what_the_gate_measures_is_what_ships(
        self, configured: Any, trained: Any, trial: TinyTrial
    ) -> None:
        context = trial.context(configured)
        smallest, largest = configured.shipped(
            configured.blueprint(trial.task, context), trial.task, context
        )
        assert trained[0].blueprint == smallest == largest


class TestKernelSearch(ArchitectureContract):
    technique = kernel_search.KernelSearch

    def test_what_ships_lies_within_what_the_gate_measures(
        self, configured: Any, trained: Any, trial: TinyTrial
    ) -> None:
        context = trial.context(configured)
        bounds = configured.shipped(configured.blueprint(trial.task, context), trial.task, context)
        smallest, largest = (count_params(build(blueprint, trial.registry)) for blueprint in bounds)
        assert smallest <= count_params(trained[0].module) <= largest
        assert len(trained[0].blueprint.fields["sides"]) == configured.layers

    def test_the_choice_is_learnt_on_other_samples_than_the_weights(self, trial: TinyTrial) -> None:
        run = begun(trial)
        drawn: dict[str, set[str]] = {}
        task = run.task

        class Watched(type(task)):
            def draw(self, train: Any, generator: Any, **sizes: Any) -> Any:
                drawn.setdefault("seen", set()).update(train.windows[:, 0].tolist())
                drawn.setdefault("halves", set()).add(train.fingerprint)
                return super().draw(train, generator, **sizes)

        run.task = Watched(**task.model_dump())
        before = [
            value.detach().clone()
            for name, value in run.model.named_parameters()
            if name.endswith("alpha")
        ]
        run.advance()
        after = [value for name, value in run.model.named_parameters() if name.endswith("alpha")]
        assert len(drawn["halves"]) == 2
        assert drawn["seen"] == set(range(len(trial.data)))
        assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
        assert run.ema is None


class TestDeepSupervision(TechniqueContract):
    technique = deep_supervision.DeepSupervision

    def test_the_projection_learns_and_does_not_ship(self, trial: TinyTrial, trained: Any) -> None:
        run = begun(trial)
        projection = run.train_step.aux["deep_supervision"]
        before = projection.weight.detach().clone()
        run.advance()
        assert not torch.equal(projection.weight, before)
        plain = replace(
            trial,
            techniques=tuple(item for item in trial.techniques if item.slot == "architecture"),
        )
        assert count_params(trained[0].module) == count_params(begun(plain).model)


def begun(trial: TinyTrial) -> Run:
    return Run.start(
        trial.setup(), trial.architecture.blueprint(trial.task, trial.context(trial.architecture))
    )


def advance_to(run: Run, step: int) -> None:
    while run.step < step:
        run.advance()
