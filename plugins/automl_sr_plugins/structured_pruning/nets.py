"""Nets and blueprints on their way to a smaller form."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import nn

from automl_sr.api import Blueprint, ModelUpdate, TrialError
from automl_sr_plugins.structured_pruning import CUT, Bounds
from automl_sr_plugins.structured_pruning.channels import Group, groups_of
from automl_sr_plugins.structured_pruning.cutting import (
    Cut,
    first_ones,
    kept_of_each,
    smallest_kept,
)

if TYPE_CHECKING:
    from automl_sr.api import Context, Run, Task


def outlined(blueprint: Blueprint, task: Task, ctx: Context) -> tuple[nn.Module, list[Group]]:
    """Return a net on the meta device, and the groups of its channels."""
    net = ctx.outline(blueprint)
    return net, groups_of(net, task)


def problem(groups: Sequence[Group]) -> str | None:
    """Say why a net cannot be cut, if so."""
    if any(group.count > 1 for group in groups):
        return None
    return (
        "cannot cut this net: each of its channels is read by something that is not known to treat"
        " channels one by one"
    )


def cuttable(blueprint: Blueprint, task: Task, ctx: Context) -> list[Group]:
    """Return the groups of channels of a net that is to be cut.

    Raises TrialError where there are none: a trial that ends uncut would not be what it says.
    """
    _, groups = outlined(blueprint, task, ctx)
    reason = problem(groups)
    if reason is not None:
        raise TrialError(f"The pruning {reason}.")
    return groups


def plain_form(run: Run) -> tuple[nn.Module, Blueprint]:
    """Return a copy of a run's net as it ships, with the weights as they are, and its blueprint.

    An architecture that is trained wide is folded here: its wide blocks have no filters that could
    be removed. Training goes on with the folded net.
    """
    update = run.as_shipped()
    if update is None or update.model is None or update.blueprint is None:
        return run.copy_model(), run.blueprint
    return update.model.to(run.setup.device), update.blueprint


def without(blueprint: Blueprint, name: str) -> Blueprint:
    """Return a blueprint as it would be had an edit never been done."""
    edits = tuple(edit for edit in blueprint.edits if edit[0] != name)
    return Blueprint(blueprint.factory, blueprint.fields, edits)


def with_counts(
    blueprint: Blueprint, net: nn.Module, groups: Sequence[Group], kept: Sequence[int]
) -> Blueprint:
    """Return the blueprint of a net that keeps so many channels of each group: what it costs does
    not depend on which ones they are.
    """
    cut = Cut.of(net, groups, first_ones(groups, kept))
    if not cut.kept:
        return blueprint
    return blueprint.edited(CUT, shapes=cut.shapes(net))


def bounds_by_ratio(
    blueprint: Blueprint,
    task: Task,
    ctx: Context,
    *,
    ratio: float,
    multiple: int,
    floor: int | None,
) -> Bounds:
    """Return the smallest and the largest net without a share of its channels.

    Without a floor each group loses the same share, and both are one net; with it groups lose what
    is found in training, and the smallest has as few channels as each can keep.
    """
    net, groups = outlined(blueprint, task, ctx)
    if floor is None:
        same = with_counts(blueprint, net, groups, kept_of_each(groups, ratio, multiple))
        return same, same
    least = smallest_kept(groups, ratio, floor, multiple)
    return with_counts(blueprint, net, groups, least), blueprint


def cut_update(
    net: nn.Module,
    blueprint: Blueprint,
    groups: Sequence[Group],
    dropped: Sequence[Sequence[int]],
) -> ModelUpdate | None:
    """Cut a net, which is changed; None where no channel goes."""
    cut = Cut.of(net, groups, dropped)
    if not cut.kept:
        return None
    edited = blueprint.edited(CUT, shapes=cut.shapes(net))
    return ModelUpdate(cut.apply(net), edited, optimizer="reset", ema="reset")
