"""What inner maps differ by: nothing between equal nets, and nothing that means nothing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from automl_sr.plugin.blueprint import build
from automl_sr.plugin.registry import installed
from automl_sr.plugin.technique import Slot
from automl_sr.testing.tiny import tiny_task
from automl_sr_plugins.teacher import inner
from automl_sr_plugins.teacher.inner import Part

SIZE = torch.Size((8, 8))


def maps(channels: int = 6, seed: int = 0) -> Tensor:
    return torch.randn(3, channels, 8, 8, generator=torch.Generator().manual_seed(seed))


def turned(channels: int = 6) -> Tensor:
    """Give an orthogonal mixing of channels."""
    square = torch.randn(channels, channels, generator=torch.Generator().manual_seed(5))
    return torch.linalg.qr(square).Q


# ---- 1: equal maps differ by nothing ----


@pytest.mark.parametrize("pool", [1, 2, 4])
def test_equal_maps_have_equal_affinities(pool: int) -> None:
    assert inner.affinity(maps(), maps(), pool) == pytest.approx(0, abs=1e-6)
    assert inner.affinity(maps(), maps(seed=1), pool) > 0.01


def test_equal_maps_have_equal_attentions() -> None:
    assert inner.attention(maps(), maps()) == pytest.approx(0, abs=1e-6)
    assert inner.attention(maps(), maps(seed=1)) > 0.01


def test_a_projection_begins_as_the_identity() -> None:
    same = inner.projection_of(Part("a", 6), Part("b", 6))
    assert inner.projected(same, maps(), maps()).item() == pytest.approx(0, abs=1e-6)
    assert inner.projected(same, maps(), maps(seed=1)) > 0.1


@pytest.mark.parametrize(("narrow", "wide"), [(4, 6), (6, 4)])
def test_a_projection_keeps_the_channels_that_both_nets_have(narrow: int, wide: int) -> None:
    projection = inner.projection_of(Part("a", narrow), Part("b", wide))
    found = projection(maps(narrow))
    both = min(narrow, wide)
    torch.testing.assert_close(found[:, :both], maps(narrow)[:, :both])
    assert not found[:, both:].any()


# ---- 2: affinities are cosines ----


def test_affinities_do_not_depend_on_the_length_or_the_mixing_of_features() -> None:
    found = inner.affinities(maps())
    lengths = 0.1 + torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(2))
    mixed = torch.einsum("oc,bchw->bohw", turned(), maps())
    torch.testing.assert_close(inner.affinities(maps() * lengths), found, atol=1e-5, rtol=0)
    torch.testing.assert_close(inner.affinities(mixed), found, atol=1e-5, rtol=0)


def test_affinities_lie_between_minus_one_and_one_with_ones_on_the_diagonal() -> None:
    found = inner.affinities(maps())
    assert found.shape == (3, 64, 64)
    assert found.abs().max() <= 1 + 1e-6
    diagonal = found.diagonal(dim1=1, dim2=2)
    torch.testing.assert_close(diagonal, torch.ones(3, 64))


def test_pooled_affinities_are_those_of_the_means_of_squares() -> None:
    means = maps().unfold(2, 4, 4).unfold(3, 4, 4).mean(dim=(4, 5))
    torch.testing.assert_close(inner.affinities(maps(), 4), inner.affinities(means))


def test_attentions_have_length_one_in_each_image_whatever_the_channels() -> None:
    for channels in (2, 6):
        found = inner.attentions(maps(channels))
        torch.testing.assert_close(found.square().sum(dim=1), torch.ones(3))
    mixed = torch.einsum("oc,bchw->bohw", turned(), 3 * maps())
    torch.testing.assert_close(inner.attentions(mixed), inner.attentions(maps()))


@pytest.mark.parametrize("form", ["affinity", "attention", "projection"])
def test_flat_maps_have_finite_gradients(form: str) -> None:
    flat = torch.zeros(2, 6, 8, 8, requires_grad=True)
    if form == "affinity":
        loss = inner.affinity(flat, maps()[:2], 1)
    elif form == "attention":
        loss = inner.attention(flat, maps()[:2])
    else:
        same = inner.projection_of(Part("a", 6), Part("b", 6))
        loss = inner.projected(same, flat, maps()[:2])
    loss.backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_a_channel_that_hardly_varies_does_not_count_for_more_than_others() -> None:
    flat = maps()
    flat[:, 0] = 1e-5 * flat[:, 0]
    same = inner.projection_of(Part("a", 6), Part("b", 6))
    with_noise = flat.clone()
    with_noise[:, 0] += 1e-4
    assert inner.projected(same, with_noise, flat) < 1e-3


# ---- where maps are taken ----


@pytest.mark.parametrize("scale", [2, 4])
def test_every_architecture_has_maps_that_can_be_compared(scale: Any) -> None:
    task = tiny_task(scale=scale)
    few = {}
    for name, cls in installed().techniques[Slot.ARCHITECTURE].items():
        if name == "from_file":
            continue  # it is the net of its file
        net = build(cls().blueprint(task, None), installed()).eval()
        parts = inner.parts_of(net, task)
        modules = dict(net.named_modules())
        assert {part.name for part in parts} <= modules.keys()
        few[name] = len(parts)
    assert min(few.values()) >= 2, few


def test_blocks_are_taken_whole_and_what_makes_the_image_is_left_out() -> None:
    task = tiny_task()
    edsr = installed().technique(Slot.ARCHITECTURE, "edsr")(width=8, blocks=2)
    net = build(edsr.blueprint(task, None), installed()).eval()
    names = [part.name for part in inner.parts_of(net, task)]
    assert names == ["conv_first", "body.0", "body.1", "conv_after_body"]


def test_parts_lie_at_equal_distances_up_to_a_depth() -> None:
    parts = [Part(str(number), 1) for number in range(1, 13)]

    def names(layers: int, depth: float) -> list[str]:
        return [part.name for part in inner.spread(parts, layers, depth)]

    assert names(3, 1.0) == ["4", "8", "12"]
    assert names(2, 0.5) == ["3", "6"]
    assert names(1, 0.01) == ["1"]


class TupleNet(nn.Module):
    """Gives a map and something else, as some blocks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3, padding=1)

    def forward(self, image: Tensor) -> tuple[Tensor, str]:
        return self.conv(image), "more"


def test_of_several_outputs_the_first_is_the_map() -> None:
    found = TupleNet()(torch.zeros(1, 1, 8, 8))
    assert inner.of_size(found, SIZE).shape == (1, 4, 8, 8)
    assert inner.of_size(torch.zeros(1, 4, 16, 16), SIZE).shape == (1, 4, 8, 8)
    with pytest.raises(TypeError, match="gave str"):
        inner.of_size("text", SIZE)
