"""Cutting a net: the same structural change serves all techniques that remove channels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from automl_sr_plugins.structured_pruning.channels import Group, Role

if TYPE_CHECKING:
    from collections.abc import Callable

Dropped = Sequence[Sequence[int]]
"""For each group the channels that go."""
Shapes = dict[str, list[int]]
"""Parameters that are smaller after a cut, by name."""


@dataclass(frozen=True)
class Cut:
    """Which indices are left along the dimensions of a net's parameters."""

    kept: Mapping[tuple[str, int], Sequence[int]]
    """By the name of a parameter and a dimension."""

    @classmethod
    def of(cls, net: nn.Module, groups: Sequence[Group], dropped: Dropped) -> Cut:
        """Return the cut that takes channels away from all places where they are."""
        gone: dict[tuple[str, int], set[int]] = {}
        for group, channels in zip(groups, dropped, strict=True):
            for channel in channels:
                for place, indices in zip(group.places, group.rows[channel], strict=True):
                    gone.setdefault((place.tensor, place.dim), set()).update(indices)

        kept = {}
        for (name, dim), left_out in gone.items():
            size = net.get_parameter(name).shape[dim]
            kept[name, dim] = [index for index in range(size) if index not in left_out]
        return cls(kept)

    def shapes(self, net: nn.Module) -> Shapes:
        """Return what the shapes of the parameters that it cuts are afterwards."""
        found: Shapes = {}
        for (name, dim), indices in self.kept.items():
            if name not in found:
                found[name] = list(net.get_parameter(name).shape)
            found[name][dim] = len(indices)
        return found

    def apply(self, net: nn.Module) -> nn.Module:
        """Cut a net, which is changed; a parameter that modules share is cut in all of them."""
        for (name, dim), indices in self.kept.items():
            before = net.get_parameter(name)
            chosen = torch.tensor(indices, device=before.device)
            value = before.detach().index_select(dim, chosen)
            _replace(net, before, value)
        return net


def narrow(net: nn.Module, *, shapes: Shapes) -> nn.Module:
    """Give parameters of a net the shapes that they have after a cut.

    It is the edit of the blueprint, in which counts are enough: which channels are left can be seen
    in the weights alone.
    """
    for name, shape in shapes.items():
        before = net.get_parameter(name)
        part = tuple(slice(0, size) for size in shape)
        _replace(net, before, before.detach()[part].clone())
    return net


def _replace(net: nn.Module, before: nn.Parameter, value: Tensor) -> None:
    after = nn.Parameter(value, before.requires_grad)
    for module in net.modules():
        for name, present in list(module._parameters.items()):
            if present is before:
                setattr(module, name, after)
                _resize(module)


def _resize(module: nn.Module) -> None:
    """Let a layer say of itself what size it has now."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        weight = module.weight
        if module.groups > 1:
            module.groups = weight.shape[0]  # of those with groups only depthwise ones are cut
        module.out_channels = weight.shape[0]
        module.in_channels = weight.shape[1] * module.groups
    elif isinstance(module, nn.ConvTranspose1d | nn.ConvTranspose2d | nn.ConvTranspose3d):
        module.in_channels = module.weight.shape[0]
        module.out_channels = module.weight.shape[1]
    elif isinstance(module, nn.Linear):
        module.out_features, module.in_features = module.weight.shape
    elif isinstance(module, nn.PReLU):
        module.num_parameters = module.weight.numel()


# ---- how many ------------------------------------------------------------------------------------


def rounded(count: int, kept: int, multiple: int) -> int:
    """Round what is kept of `count` channels to a multiple, so that something goes if it was to.

    Where there is no fitting multiple below `count`, it stays as it is.
    """
    if kept >= count:
        return count
    nearest = max(1, round(kept / multiple)) * multiple
    if nearest >= count:
        nearest -= multiple
    if 0 < nearest < count:
        return nearest
    return kept


def kept_of(count: int, ratio: float, multiple: int) -> int:
    """Return how many of `count` channels are kept where a share of each layer goes, 1 at least."""
    removed = min(math.ceil(ratio * count), count - 1)
    return rounded(count, count - removed, multiple)


def kept_of_each(groups: Sequence[Group], ratio: float, multiple: int) -> list[int]:
    """Return how many channels of each group are kept where each loses the same share."""
    return [kept_of(group.count, ratio, multiple) for group in groups]


def smallest_kept(groups: Sequence[Group], ratio: float, floor: int, multiple: int) -> list[int]:
    """Return how few channels of each group a global ranking can leave at the least."""
    total = sum(group.count for group in groups)
    removed = math.ceil(ratio * total)
    least = []
    for group in groups:
        lowest = min(group.count, max(floor, group.count - removed))
        least.append(rounded(group.count, lowest, multiple))
    return least


def kept_globally(scores: Sequence[Tensor], ratio: float, floor: int, multiple: int) -> list[int]:
    """Return how many channels each group keeps where all of a net are ranked together.

    `scores` are one vector for each group, larger is more important; each is divided by its mean,
    because layers differ in scale. No group is cut below `floor`.
    """
    ranked = []
    for number, values in enumerate(scores):
        mean = values.mean().clamp(min=torch.finfo(values.dtype).tiny)
        for value in (values / mean).tolist():
            ranked.append((value, number))
    ranked.sort()

    kept = [len(values) for values in scores]
    removed = math.ceil(ratio * len(ranked))
    for _, number in ranked:
        if removed == 0:
            break
        if kept[number] > floor:
            kept[number] -= 1
            removed -= 1

    found = []
    for values, left in zip(scores, kept, strict=True):
        found.append(rounded(len(values), left, multiple))
    return found


# ---- which ---------------------------------------------------------------------------------------


def lowest(scores: Tensor, kept: int) -> list[int]:
    """Return all but the `kept` best channels, in ascending order; of equals the later ones go."""
    order = torch.argsort(scores, descending=True, stable=True)
    return sorted(order[kept:].tolist())


def first_ones(groups: Sequence[Group], kept: Sequence[int]) -> list[list[int]]:
    """Drop channels by number alone: what a net costs does not depend on which of them go."""
    dropped = []
    for group, count in zip(groups, kept, strict=True):
        dropped.append(list(range(count, group.count)))
    return dropped


def l1_scores(net: nn.Module, group: Group) -> Tensor:
    """Return the importance of each channel: the mean size of its filter's weights, over all layers
    that compute it (Li et al., ICLR 2017).
    """
    return _over_filters(net, group, lambda rows: rows.abs().mean(dim=1))


def filter_norms(net: nn.Module, group: Group) -> Tensor:
    """Return the norm of each channel's filter, over all layers that compute it."""
    return _over_filters(net, group, lambda rows: rows.norm(dim=1))


def _over_filters(net: nn.Module, group: Group, measure: Callable[[Tensor], Tensor]) -> Tensor:
    total = torch.zeros(group.count, dtype=torch.float64)
    for place in group.filters:
        weight = net.get_parameter(place.tensor).detach().double().cpu()
        table = group.table(place)
        rows = weight.movedim(place.dim, 0)[table].flatten(1)
        total += measure(rows)
    return total


def zero_channels(net: nn.Module, group: Group, channels: Sequence[int]) -> None:
    """Make the filters and biases of some channels zero, in every layer that computes them."""
    with torch.no_grad():
        for place in group.having(Role.FILTER, Role.BIAS):
            value = net.get_parameter(place.tensor)
            for channel in channels:
                value.movedim(place.dim, 0)[group.indices(place, channel)] = 0
