"""Merging channels whose maps are alike, so that one of them stands for all.

With a = the maps of a group's channels and y = R a those that are left (rows of R sum to 1), the
layers that compute a get R folded into their filters (the backward fold), and those that read it
weigh each merged channel c by what y says best of it, beta = <a_c, y> / <y, y>. That is exact for
maps that are proportional, through a ReLU too. Cosine 1 does not mean equal: without beta the
reader's sum would be wrong.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from automl_sr_plugins.structured_pruning.channels import (
    Group,
    Role,
    layer_call,
    plain_name,
)

if TYPE_CHECKING:
    from automl_sr.api import Run


@dataclass
class Maps:
    """What is known of the maps that a layer reads, over all calls and pixels, in double."""

    products: Tensor
    """Inner products of all pairs [inputs, inputs]."""
    sums: Tensor
    count: int = 0

    def add(self, maps: Tensor) -> None:
        """Take more pixels [inputs, pixels]."""
        exact = maps.double()
        self.products += (exact @ exact.T).cpu()
        self.sums += exact.sum(dim=1).cpu()
        self.count += maps.shape[1]

    def centred(self) -> Tensor:
        """Return the inner products without the mean of each map."""
        return self.products - torch.outer(self.sums, self.sums) / max(1, self.count)


class Recorder(TorchFunctionMode):
    """Takes note of what layers read while a net runs."""

    def __init__(self, net: nn.Module, tensors: set[str]) -> None:
        super().__init__()
        self.names: dict[int, str] = {}
        for name, value in net.named_parameters():
            if name in tensors:
                self.names[id(value)] = name
        self.maps: dict[str, Maps] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        call = layer_call(plain_name(func), args, named)
        if call is not None and id(call.weight) in self.names:
            axis = -1
            if call.kind != "linear":
                axis = 1 - call.weight.dim()
            self._note(self.names[id(call.weight)], call.read.movedim(axis, 0).flatten(1))
        return func(*args, **named)

    def _note(self, name: str, maps: Tensor) -> None:
        size = len(maps)
        if name not in self.maps:
            zeros = torch.zeros(size, dtype=torch.float64)
            self.maps[name] = Maps(torch.outer(zeros, zeros), zeros)
        self.maps[name].add(maps)


def recorded(net: nn.Module, groups: Sequence[Group], run: Run, batches: int) -> dict[str, Maps]:
    """Return the maps that the readers of all groups read, on batches of the training samples."""
    readers = set()
    for group in groups:
        for place in group.having(Role.READER):
            readers.add(place.tensor)

    net.eval()
    recorder = Recorder(net, readers)
    with torch.no_grad():
        for number in range(batches):
            batch = run.batch(f"similarity {number}")
            with recorder:
                run.task.forward(net, batch)
    return recorder.maps


def reduced(count: int, largest: float, few: int, many: int) -> int:
    """Return how many of `count` channels are left: all of `few`, and a share of 1 - largest from
    `many` on; in between the share falls with the logarithm of the count.
    """
    if count <= few:
        return count
    portion = 1.0
    if many > few:
        portion = min(1.0, math.log2(count / few) / math.log2(many / few))
    return max(1, math.ceil(count * (1 - largest * portion)))


def likeness(group: Group, maps: Mapping[str, Maps], *, centred: bool) -> Tensor:
    """Return the inner products of the maps of a group's channels [channels, channels].

    Every reader counts the same, whatever the scale of what it reads.
    """
    total = torch.zeros(group.count, group.count, dtype=torch.float64)
    for place in group.having(Role.READER):
        known = maps[place.tensor]
        products = known.products
        if centred:
            products = known.centred()
        for column in group.table(place).T:
            part = products[column][:, column]
            total += part / part.trace().clamp(min=torch.finfo(part.dtype).tiny)
    return total


@dataclass(frozen=True)
class Partition:
    """Which channels become one, and what each of them contributes."""

    rows: Tensor
    """[left, channels]: sums to 1 in each row, and one entry in each column is not zero."""
    members: tuple[tuple[int, ...], ...]
    """The channels of each row, in ascending order; the first one stands for all."""


def merged(alike: Tensor, left: int, metric: str, *, weighted: bool) -> Partition:
    """Merge the two channels that are most alike, again and again, until so many are left.

    Of pairs that are equally alike the first one is merged.
    """
    count = len(alike)
    rows = torch.eye(count, dtype=alike.dtype)
    members = [[number] for number in range(count)]
    while len(members) > left:
        one, other = _most_alike(rows @ alike @ rows.T, metric)
        first, second = 0.5, 0.5
        if weighted:
            both = len(members[one]) + len(members[other])
            first, second = len(members[one]) / both, len(members[other]) / both
        rows[one] = first * rows[one] + second * rows[other]
        others = [number for number in range(len(members)) if number != other]
        rows = rows[others]
        members[one] = sorted(members[one] + members[other])
        members = [members[number] for number in others]
    return Partition(rows, tuple(tuple(group) for group in members))


def _most_alike(products: Tensor, metric: str) -> tuple[int, int]:
    """Return the pair that is most alike, the smaller number first."""
    squares = products.diagonal().clamp(min=0)
    if metric == "euclidean":
        scores = 2 * products - squares[:, None] - squares[None, :]
    else:
        lengths = squares.sqrt()
        lengths = torch.where(lengths > 1e-9 * lengths.max(), lengths, torch.zeros_like(lengths))
        both = torch.outer(lengths, lengths)
        dead = lengths == 0
        scores = products / both.clamp(min=torch.finfo(both.dtype).tiny)
        # A map of zeros has no angle: it is like another one of zeros, and like nothing else.
        scores[dead] = 0
        scores[:, dead] = 0
        scores[torch.outer(dead, dead)] = 1
    upper = torch.ones_like(scores, dtype=torch.bool).triu(diagonal=1)
    scores = scores.masked_fill(~upper, -math.inf)
    best = int(scores.flatten().argmax())
    return divmod(best, len(scores))


def absorbed(partition: Partition) -> list[int]:
    """Return the channels for which another one stands, in ascending order."""
    gone: list[int] = []
    for group in partition.members:
        gone.extend(group[1:])
    return sorted(gone)


@torch.no_grad()
def fold_into(
    net: nn.Module,
    group: Group,
    partition: Partition,
    maps: Mapping[str, Maps],
    *,
    fitted: bool = True,
) -> None:
    """Write merged channels into the weights of those that stand for them.

    The others can then be cut. `fitted=False` leaves the readers' least squares out.
    """
    for place in group.places:
        value = net.get_parameter(place.tensor).movedim(place.dim, 0)
        for column in group.table(place).T:
            weights = partition.rows
            if place.role is Role.READER:
                products = maps[place.tensor].products[column][:, column]
                weights = _reading(partition, products, fitted=fitted)
            joined = torch.tensordot(weights.to(value), value[column.to(value.device)], dims=1)
            firsts = [members[0] for members in partition.members]
            value[column[firsts].to(value.device)] = joined


def _reading(partition: Partition, products: Tensor, *, fitted: bool) -> Tensor:
    """Return by how much a reader's weights of each channel count for the one that is left [left,
    channels].
    """
    rows = partition.rows
    chosen = (rows != 0).to(rows)
    if not fitted:
        return chosen
    with_left = rows @ products
    squares = (with_left @ rows.T).diagonal().clamp(min=torch.finfo(rows.dtype).tiny)
    return chosen * with_left / squares[:, None]
