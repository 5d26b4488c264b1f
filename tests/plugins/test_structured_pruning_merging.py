"""Channels that are alike are merged, and nothing is lost where they are the same."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from automl_sr.evaluation.cost import count_params
from automl_sr.testing.tiny import tiny_task
from automl_sr_plugins.structured_pruning.channels import Group, groups_of
from automl_sr_plugins.structured_pruning.cutting import Cut
from automl_sr_plugins.structured_pruning.merging import (
    Maps,
    Partition,
    Recorder,
    absorbed,
    fold_into,
    likeness,
    merged,
    reduced,
)

WIDTH = 16


class Chain(nn.Module):
    """Two convolutions with a ReLU in between, and a shuffle."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, WIDTH, 3, padding=1)
        self.second = nn.Conv2d(WIDTH, 4, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.second(self.first(image).relu()), 2)


def planted(seed: int, scales: Tensor) -> Chain:
    """Make the second half of the filters copies of the first one, each times a number."""
    torch.manual_seed(seed)
    net = Chain().eval()
    half = WIDTH // 2
    with torch.no_grad():
        net.first.weight[half:] = net.first.weight[:half] * scales[:, None, None, None]
        net.first.bias[half:] = net.first.bias[:half] * scales
    return net


def maps_of(net: nn.Module, images: Tensor) -> dict[str, Maps]:
    recorder = Recorder(net, {"second.weight"})
    with torch.no_grad(), recorder:
        net(images)
    return recorder.maps


def group_of() -> Group:
    with torch.device("meta"):
        [group] = groups_of(Chain(), tiny_task())
    return group


def partition_of(
    net: nn.Module, images: Tensor, left: int, metric: str = "cosine", *, weighted: bool = False
) -> Partition:
    alike = likeness(group_of(), maps_of(net, images), centred=metric == "centred")
    return merged(alike, left, metric, weighted=weighted)


def smaller(net: nn.Module, images: Tensor, partition: Partition, *, fitted: bool) -> nn.Module:
    net = copy.deepcopy(net)
    fold_into(net, group_of(), partition, maps_of(net, images), fitted=fitted)
    return Cut.of(net, [group_of()], [absorbed(partition)]).apply(net)


def noise(seed: int = 0) -> Tensor:
    numbers = torch.Generator().manual_seed(seed)
    return torch.randn(4, 1, 16, 16, generator=numbers)


@pytest.mark.parametrize("metric", ["cosine", "euclidean", "centred"])
@pytest.mark.parametrize("weighted", [False, True])
def test_channels_that_are_the_same_are_merged_and_nothing_changes(
    metric: str, weighted: bool
) -> None:
    half = WIDTH // 2
    net = planted(0, torch.ones(half))
    images = noise()
    partition = partition_of(net, images, half, metric, weighted=weighted)
    assert set(partition.members) == {(number, number + half) for number in range(half)}
    found = smaller(net, images, partition, fitted=True)
    assert found.first.weight.shape[0] == half  # type: ignore[union-attr]
    with torch.no_grad():
        assert (found(images) - net(images)).abs().max() < 1e-5


@pytest.mark.parametrize("seed", range(5))
def test_planted_multiples_are_found_and_merged_without_loss(seed: int) -> None:
    """A channel that is a multiple of another one needs a weight of its own in what reads it."""
    half = WIDTH // 2
    scales = torch.linspace(0.5, 2.0, half)
    net = planted(seed, scales)
    images = noise(seed)
    partition = partition_of(net, images, half)
    assert set(partition.members) == {(number, number + half) for number in range(half)}
    with torch.no_grad():
        wanted = net(images)
        fitted = smaller(net, images, partition, fitted=True)(images)
        plain = smaller(net, images, partition, fitted=False)(images)
    assert (fitted - wanted).abs().max() < 1e-5
    assert (plain - wanted).abs().max() > 1e-3, "without least squares it is another function"


def test_with_all_channels_left_nothing_changes_bit_for_bit() -> None:
    torch.manual_seed(0)
    net = Chain().eval()
    images = noise()
    partition = partition_of(net, images, WIDTH)
    assert torch.equal(partition.rows, torch.eye(WIDTH, dtype=torch.float64))
    found = smaller(net, images, partition, fitted=True)
    for name, value in net.state_dict().items():
        assert torch.equal(found.state_dict()[name], value), name


@pytest.mark.parametrize("weighted", [False, True])
def test_every_channel_belongs_to_one_that_is_left(weighted: bool) -> None:
    torch.manual_seed(1)
    partition = partition_of(Chain().eval(), noise(), 5, weighted=weighted)
    assert partition.rows.shape == (5, WIDTH)
    assert torch.allclose(partition.rows.sum(dim=1), torch.ones(5, dtype=torch.float64))
    assert torch.equal((partition.rows != 0).sum(dim=0), torch.ones(WIDTH, dtype=torch.long))
    assert sum(len(members) for members in partition.members) == WIDTH
    for row, members in zip(partition.rows, partition.members, strict=True):
        assert row.nonzero().flatten().tolist() == list(members)
        if weighted:
            assert row[list(members)].tolist() == pytest.approx([1 / len(members)] * len(members))


def test_other_numbers_for_the_channels_give_the_same_groups() -> None:
    torch.manual_seed(2)
    net = Chain().eval()
    images = noise()
    order = torch.randperm(WIDTH)
    permuted = copy.deepcopy(net)
    with torch.no_grad():
        permuted.first.weight.copy_(net.first.weight[order])
        permuted.first.bias.copy_(net.first.bias[order])
        permuted.second.weight.copy_(net.second.weight[:, order])
    one = {frozenset(members) for members in partition_of(net, images, 9).members}
    other = set()
    for members in partition_of(permuted, images, 9).members:
        other.add(frozenset(int(order[member]) for member in members))
    assert one == other


def test_maps_of_zeros_are_like_each_other_and_like_nothing_else() -> None:
    torch.manual_seed(3)
    net = Chain().eval()
    with torch.no_grad():
        net.first.weight[[4, 11]] = 0
        net.first.bias[[4, 11]] = -1
    [pair] = [
        members for members in partition_of(net, noise(), WIDTH - 1).members if len(members) > 1
    ]
    assert pair == (4, 11)


def test_the_reduction_grows_with_the_number_of_channels() -> None:
    """The card's scale for large nets: 16 stay, 256 lose half, 64 are half way between."""
    assert [reduced(count, 0.5, 16, 256) for count in (8, 16, 64, 256, 512)] == [
        8,
        16,
        48,
        128,
        256,
    ]
    assert reduced(16, 0.0, 4, 64) == 16


def test_both_neighbours_of_what_is_merged_become_smaller() -> None:
    torch.manual_seed(0)
    net = Chain().eval()
    images = noise()
    found = smaller(net, images, partition_of(net, images, 10), fitted=True)
    assert count_params(found) == 10 * 9 + 10 + 4 * 10 * 9 + 4
