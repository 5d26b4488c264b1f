"""Nets that were trained before: which one a file holds, and whether its weights fit a model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from automl_sr.errors import TrialError
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.weights import Misfit, StoredWeights, misfit

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.technique import Technique
    from automl_sr.trial.context import Context


@dataclass(frozen=True)
class Pretrained:
    """A net of a file: its blueprint, with the fields that it has, and its tensors."""

    blueprint: Blueprint
    tensors: Mapping[str, Tensor]

    def misfit(self, registry: Registry) -> Misfit:
        """Compare the tensors with those of the blueprint's model."""
        # On the meta device a model has names and shapes, and takes no memory.
        with torch.device("meta"):
            outline = build(self.blueprint, registry)
        return misfit(outline.state_dict(), self.tensors)

    def model(self, registry: Registry) -> nn.Module:
        """Build the model with the weights, in evaluation mode."""
        made = build(self.blueprint, registry)
        made.load_state_dict(dict(self.tensors))
        return made.eval()


def identified(
    technique: Technique,
    tensors: Mapping[str, Tensor],
    ctx: Context,
) -> Pretrained | None:
    """Return the net that an architecture sees in the tensors of a foreign file, if any."""
    found = technique.read_checkpoint(tensors, ctx.task)
    if found is None:
        return None
    net, own = found
    blueprint = net.blueprint(ctx.task, ctx.for_technique(net))
    return Pretrained(blueprint, own)


def weights_for(
    technique: Technique,
    found: StoredWeights,
    blueprint: Blueprint,
    path: str,
    ctx: Context,
) -> dict[str, Tensor]:
    """Return the weights of a file for the model of a blueprint.

    Raises TrialError where the file is of another net.
    """
    net = identified(technique, found.tensors, ctx)
    if found.blueprint is not None:
        net = Pretrained(found.blueprint, found.tensors)
    if net is None:
        raise TrialError(
            f"{path} holds no net of the architecture {technique.name!r} that can be read.",
            "Name a checkpoint of that net.",
        )
    other = difference(net.blueprint, blueprint)
    if other:
        raise TrialError(
            f"{path} holds another net than the plan has: {other}.",
            f"Set the fields of {technique.name!r} to those of the file.",
        )
    wrong = net.misfit(ctx.registry)
    if wrong:
        raise TrialError(
            f"The weights in {path} do not fit the net ({wrong}).",
            "Name a checkpoint of that net, for this scale.",
        )
    return dict(net.tensors)


def difference(found: Blueprint, wanted: Blueprint) -> str:
    """Say in what two blueprints differ, or nothing where they are equal."""
    if found.digest() == wanted.digest():
        return ""
    if found.factory != wanted.factory:
        return f"it is a {found.factory}, not a {wanted.factory}"
    said: list[str] = []
    for name in sorted({*found.fields, *wanted.fields}):
        there = found.fields.get(name)
        here = wanted.fields.get(name)
        if there != here:
            said.append(f"{name} is {there!r} there and {here!r} here")
    # Equal fields, and yet another digest: something has edited the net.
    return ", ".join(said) or "its layers were changed while it was trained"
