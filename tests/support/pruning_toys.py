"""A toy that cuts filters, and one that does nothing but ask for scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from automl_sr.api import (
    Blueprint,
    Edit,
    Float,
    ModelUpdate,
    Phase,
    Slot,
    Task,
    Technique,
    hookimpl,
)

CUT = "pruning_toys.cut"


def cut(net: nn.Module, *, kept: int) -> nn.Module:
    """Keep the first filters of the block inside the contract's net."""
    first, second = net.conv1, net.conv2
    width = second.out_channels
    net.conv1 = nn.Conv2d(first.in_channels, kept, 3, padding=1)
    net.conv2 = nn.Conv2d(kept, width, 3, padding=1)
    return net


class FewerFilters(Technique):
    """Keep some of the filters of one layer, half-way through the training.

    H. Li et al.: Pruning Filters for Efficient ConvNets, ICLR 2017.
    """

    slot = Slot.PRUNING
    name = "fewer_filters"
    edits: ClassVar = {CUT: Edit(cut)}
    kept: Annotated[int, Field(ge=1, le=8)] = 4
    share: Annotated[float, Float(0.3, 0.6), Field(gt=0, lt=1)] = 0.5

    def phases(self, phases: list[Phase], ctx: Any) -> list[Phase]:
        last = phases[-1]
        dense = replace(last, share=self.share * last.share)
        narrow = replace(last, name="narrow", share=(1 - self.share) * last.share, resets=True)
        return [*phases[:-1], dense, narrow.entering(self.cut)]

    def cut(self, run: Any) -> ModelUpdate:
        former: dict[str, Tensor] = dict(run.model.state_dict())
        blueprint = run.blueprint.edited(CUT, kept=self.kept)
        model = run.context.model(blueprint).requires_grad_(True)
        for name, value in model.state_dict().items():
            sides = tuple(slice(0, side) for side in value.shape)
            value.copy_(former[name][sides])
        return ModelUpdate(model=model, blueprint=blueprint, optimizer="reset", ema="reset")

    def shipped(self, blueprint: Blueprint, task: Task, ctx: Any) -> tuple[Blueprint, Blueprint]:
        if blueprint.edits:
            return blueprint, blueprint
        smaller = blueprint.edited(CUT, kept=self.kept)
        return smaller, smaller

    def predict(
        self, cost: Mapping[str, float], task: Task
    ) -> tuple[dict[str, float], dict[str, float]]:
        return {name: 0.3 * value for name, value in cost.items()}, dict(cost)


class OnlyScored(Technique):
    """Change nothing, and train without the samples that are held out for scores."""

    slot = Slot.PRUNING
    name = "only_scored"
    scores = True


@hookimpl
def register_techniques() -> list[type[Technique]]:
    return [FewerFilters, OnlyScored]
