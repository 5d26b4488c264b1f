"""Penalties that grow on filters, and a loss that makes layers agree on which filters they lose."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from automl_sr_plugins.structured_pruning.channels import Group, Place, Role
from automl_sr_plugins.structured_pruning.weight_norm import scale_name, scales_of, with_rates

if TYPE_CHECKING:
    from automl_sr.api import Batch, Output, Run, TrainStep

TINY = 1e-20
"""Under the root of a norm: that of a filter of zeros would have no gradient."""


def layer_sizes(net: nn.Module, group: Group, place: Place) -> Tensor:
    """Return the size of each channel's filter in one layer [channels]: its scale, where it has
    one, or else its norm. Gradients pass through.
    """
    table = group.table(place)
    values = scales_of(net, place.tensor)
    if values is None:
        values = net.get_parameter(place.tensor).movedim(place.dim, 0)
    rows = values[table.to(values.device)].flatten(1)
    return (rows.square().sum(dim=1) + TINY).sqrt()


def sizes(net: nn.Module, group: Group) -> Tensor:
    """Return the size of each channel, summed over all layers that compute it [channels]."""
    with torch.no_grad():
        each = [layer_sizes(net, group, place) for place in group.filters]
    return torch.stack(each).sum(dim=0)


def share_left(net: nn.Module, group: Group, before: Tensor) -> Tensor:
    """Return what is left of each channel's size, relative to what it was."""
    return sizes(net, group) / before


def by_chance(group: Group, generator: torch.Generator) -> Tensor:
    """Return random scores for the channels of a group."""
    return torch.rand(group.count, generator=generator)


def under_penalty(
    step: TrainStep,
    run: Run,
    groups: Sequence[Group],
    chosen: Sequence[Sequence[int]],
    strength: Callable[[Run], float],
) -> TrainStep:
    """Add strength * w to the gradient of the filters and biases of chosen channels.

    Where filters have scales, the scales alone are under the penalty.
    """
    masks = _masks(run.model, groups, chosen)

    @contextmanager
    def penalised(run: Run) -> Iterator[None]:
        amount = strength(run)
        parameters = dict(run.model.named_parameters())
        for name, mask in masks.items():
            value = parameters[name]
            if value.grad is not None:
                value.grad.addcmul_(mask, value.detach(), value=amount)
        yield

    return with_rates(step, run).with_step_context(penalised)


def _masks(
    net: nn.Module, groups: Sequence[Group], chosen: Sequence[Sequence[int]]
) -> dict[str, Tensor]:
    """Return ones for what is under the penalty, by parameter; they spread over its other
    dimensions.
    """
    masks: dict[str, Tensor] = {}
    for group, channels in zip(groups, chosen, strict=True):
        for place in group.having(Role.FILTER, Role.BIAS):
            name = place.tensor
            dim = place.dim
            if scales_of(net, name) is not None and place.role is Role.FILTER:
                name = scale_name(name)
            value = net.get_parameter(name)
            if name not in masks:
                shape = [1] * value.dim()
                shape[dim] = value.shape[dim]
                masks[name] = torch.zeros(shape, device=value.device)
            for channel in channels:
                masks[name].movedim(dim, 0)[group.indices(place, channel)] = 1
    return masks


def alignment(soft: Tensor) -> Tensor:
    """Return ASSL's loss of soft masks [layers, channels]: minus the mean of their inner products
    over all pairs of layers. It is least where all masks are the same.
    """
    # The mean over pairs is the square of the mean mask: no matrix product, which autocast would
    # round.
    return -soft.mean(dim=0).square().sum()


def pulled_together(
    step: TrainStep, run: Run, groups: Sequence[Group], removed: Sequence[int], weight: float
) -> TrainStep:
    """Add a loss that pulls the sizes of filters to the same support in all layers of a group.

    `removed` says how many channels each group will lose.
    """

    def pull(output: Output, batch: Batch, run: Run) -> Tensor:
        total = output.prediction.new_zeros(())
        for group, count in zip(groups, removed, strict=True):
            if len(group.filters) < 2 or count == 0:
                continue
            soft = []
            for place in group.filters:
                found = layer_sizes(run.model, group, place)
                threshold = found.detach().kthvalue(count).values
                soft.append(torch.sigmoid(found - threshold))
            total = total + alignment(torch.stack(soft))
        return weight * total

    return with_rates(step, run).with_loss("alignment", pull)
