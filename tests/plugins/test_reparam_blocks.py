"""Blocks that are trained wide give the same when folded, at every pixel, and learn the same."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from automl_sr_plugins.reference.reparam import (
    EdgeBlock,
    GatedBlock,
    LinearBlock,
    ThreeLayerBlock,
    Wide,
    conv3,
    fold,
    zero_start,
)

BLOCKS: dict[str, Callable[[], Wide]] = {
    "linear": lambda: LinearBlock(3, 5, 3, 12),
    "linear 5x5": lambda: LinearBlock(1, 4, 5, 16),
    "linear without biases": lambda: LinearBlock(4, 4, 3, 16, bias=False),
    "linear with identity": lambda: LinearBlock(4, 4, 3, 16, identity=True),
    "edge": lambda: EdgeBlock(3, 5),
    "edge with identity": lambda: EdgeBlock(4, 4, identity=True),
    "three layers": lambda: ThreeLayerBlock(3, 5),
    "gated": lambda: GatedBlock(6),
    "gated before an attention": lambda: GatedBlock(6, gathers=True),
}
SIZES = ((1, 1), (1, 4), (2, 2), (3, 5), (9, 8))


def random_block(name: str) -> Wide:
    """Return a block with large weights, biases among them, of which no layer is a special case."""
    torch.manual_seed(3)
    block = BLOCKS[name]()
    for parameter in block.parameters():
        nn.init.normal_(parameter, 0.0, 0.4)
    return block


def by_definition(block: Wide, features: Tensor) -> Tensor:
    output = block.expanded(features)
    return output + features if block.identity else output


def relative(found: Tensor, wanted: Tensor) -> float:
    return float((found - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("size", SIZES)
@torch.no_grad()
def test_a_folded_block_gives_the_same_at_every_pixel(name: str, size: tuple[int, int]) -> None:
    block = random_block(name)
    features = torch.randn(2, block.inputs, *size, generator=torch.Generator().manual_seed(0))
    wanted = by_definition(copy.deepcopy(block).double(), features.double())
    assert relative(block(features), wanted) < 1e-5
    folded = block.folded()
    assert type(folded) is nn.Conv2d
    assert relative(folded(features), wanted) < 1e-5
    assert folded.weight.shape == (block.outputs, block.inputs, block.side, block.side)


@pytest.mark.parametrize("name", BLOCKS)
def test_gradients_are_those_of_the_layers(name: str) -> None:
    block = random_block(name).double()
    features = torch.randn(2, block.inputs, 4, 5, dtype=torch.double)
    found = []
    for run in (block, lambda features: by_definition(block, features)):
        block.zero_grad()
        run(features).square().sum().backward()
        gradients = {key: value.grad for key, value in block.named_parameters()}
        found.append({key: value for key, value in gradients.items() if value is not None})
    once, layers = found
    assert once.keys() == layers.keys() == dict(block.named_parameters()).keys()
    for key, gradient in layers.items():
        assert gradient.any(), key
        torch.testing.assert_close(once[key], gradient, rtol=1e-9, atol=1e-9)


def test_the_bias_of_a_branch_is_what_lies_around_its_image() -> None:
    block = random_block("edge")
    image = torch.zeros(1, 3, 4, 4)
    with torch.no_grad():
        padded_by_zero = block.squeeze(nn.functional.pad(block.expand(image), (1, 1, 1, 1)))
        output = by_definition(block, image)
    assert torch.allclose(output, output[:, :, :1, :1].expand_as(output), atol=1e-5)
    assert not torch.allclose(padded_by_zero, padded_by_zero[:, :, :1, :1], atol=0.1)


@pytest.mark.parametrize("kind", ["none", "linear", "edge"])
def test_a_layer_that_starts_at_zero_learns_all_its_parts(kind: str) -> None:
    torch.manual_seed(0)
    layer = conv3(kind, 3, 8)
    zero_start(layer)
    image = torch.rand(2, 3, 6, 7)
    assert not layer(image).any()
    optimizer = torch.optim.SGD(layer.parameters(), 0.1)
    for _ in range(2):
        optimizer.zero_grad()
        (layer(image) - 1).square().mean().backward()
        optimizer.step()
    assert all(value.grad is not None and value.grad.any() for value in layer.parameters())


def test_linear_blocks_start_about_as_large_as_plain_layers() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(16, 16, 3).weight.std()
    for middle in (32, 64, 256):
        weight = LinearBlock(16, 16, 3, middle).folded().weight
        assert 0.4 * plain < weight.std() < 2 * plain, middle


def test_kernels_are_built_in_full_precision_while_the_net_runs_in_half() -> None:
    block = random_block("linear")
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        output = block(torch.rand(1, 3, 6, 6))
        folded = block.folded()(torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)))
        same = block(torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0)))
    assert output.dtype == torch.bfloat16
    assert torch.equal(folded, same)


def test_every_block_of_a_net_is_folded_under_its_name_on_any_device() -> None:
    net = nn.Sequential(conv3("edge", 1, 4), nn.Sequential(nn.ReLU(), conv3("linear", 4, 4)))
    with torch.device("meta"):
        outline = nn.Sequential(
            conv3("edge", 1, 4), nn.Sequential(nn.ReLU(), conv3("linear", 4, 4))
        )
    names = {"0.weight", "0.bias", "1.1.weight", "1.1.bias"}
    assert fold(net).state_dict().keys() == fold(outline).state_dict().keys() == names
    assert all(value.is_meta for value in outline.parameters())


def test_what_changes_the_number_of_channels_has_no_identity() -> None:
    with pytest.raises(ValueError, match="3 channels cannot be added to 5"):
        LinearBlock(3, 5, 3, 8, identity=True)
