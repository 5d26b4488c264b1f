"""A batch is a pure function of samples and generator; LR and HR stay aligned under all flips and
turns.
"""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sample_sets import made
from torch import Tensor

from automl_sr.errors import DataError
from automl_sr.tasks.image_sr.batches import Color, PatchSource, to_color
from automl_sr.tasks.image_sr.pixel_store import PixelStore
from automl_sr.tasks.image_sr.samples import SRSamples


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def draw(
    samples: SRSamples,
    generator: torch.Generator,
    batch: int,
    patch: int,
    augment: bool = True,
    color: Color = "y",
) -> tuple[Tensor, Tensor]:
    return PatchSource.of(samples, patch).draw(generator, batch, augment, color)


def as_bytes(batch: Tensor) -> Tensor:
    return (batch * 255).round().to(torch.uint8)


def dihedral(patch: Tensor) -> list[Tensor]:
    """The 8 flips and turns of [C, p, p], by other means than the code under test."""
    return [
        torch.rot90(side, turns, (1, 2)) for side in (patch, patch.flip(2)) for turns in range(4)
    ]


def numbered(height: int, width: int, scale: int = 2) -> SRSamples:
    """One image in which every LR pixel has its own colour, repeated in HR."""
    places = torch.arange(height * width).view(height, width)
    lr = torch.stack([places // 256, places % 256, torch.zeros_like(places)]).to(torch.uint8)
    hr = lr.repeat_interleave(scale, 1).repeat_interleave(scale, 2)
    return SRSamples.whole(
        PixelStore.from_images([hr]), PixelStore.from_images([lr]), scale, ["numbered"]
    )


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 4), st.booleans())
def test_lr_and_hr_show_the_same_place_under_every_transform(
    seed: int, patch: int, scale: int, augment: bool
) -> None:
    data = made([(5, 7), (4, 9), (12, 4)], scale)
    lr, hr = draw(data, seeded(seed), 9, patch, augment, "rgb")
    assert lr.shape == (9, 3, patch, patch)
    assert hr.shape == (9, 3, scale * patch, scale * patch)
    assert torch.equal(lr.repeat_interleave(scale, 2).repeat_interleave(scale, 3), hr)


def test_hr_keeps_its_own_detail_aligned_with_lr() -> None:
    """HR pixels that differ within an LR pixel move as the LR pixels do."""
    hr = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 18, 24), dtype=np.uint8))
    lr = hr.view(3, 9, 2, 12, 2).float().mean((2, 4)).round().to(torch.uint8)
    data = SRSamples.whole(PixelStore.from_images([hr]), PixelStore.from_images([lr]), 2, ["a"])
    low, high = draw(data, seeded(3), 64, 5, color="rgb")
    pooled = torch.nn.functional.avg_pool2d(high * 255, 2).round()
    assert torch.equal(pooled, (low * 255).round())


def test_patches_are_the_eight_transforms_of_real_patches_and_all_of_them_come() -> None:
    data = numbered(6, 7)
    image = data.lr.image(0)
    lr, _ = draw(data, seeded(0), 4000, 3, color="rgb")
    possible = {
        tuple(turned.flatten().tolist()): (top, left, kind)
        for top in range(4)
        for left in range(5)
        for kind, turned in enumerate(dihedral(image[:, top : top + 3, left : left + 3]))
    }
    assert len(possible) == 4 * 5 * 8
    drawn = Counter(possible[tuple(patch.flatten().tolist())] for patch in as_bytes(lr))
    assert set(drawn) == set(possible.values())
    # 4000 draws over 160 equally likely cases: 25 each, standard deviation 5
    assert max(drawn.values()) < 50


def test_without_augmentation_patches_are_cut_as_they_are() -> None:
    data = numbered(6, 7)
    image = data.lr.image(0)
    lr, _ = draw(data, seeded(0), 500, 3, augment=False, color="rgb")
    plain = {
        tuple(image[:, y : y + 3, x : x + 3].flatten().tolist()) for y in range(4) for x in range(5)
    }
    assert {tuple(patch.flatten().tolist()) for patch in as_bytes(lr)} == plain


def test_windows_are_weighted_by_their_number_of_patch_places() -> None:
    data = made([(4, 4), (4, 13)])  # 1 and 10 places for a patch of 4
    data = SRSamples.whole(*(PixelStore.from_images(
        [torch.full((3, s * h, s * w), value, dtype=torch.uint8) for value, (h, w) in enumerate([(4, 4), (4, 13)])]
    ) for s in (2, 1)), 2, data.names)  # fmt: skip
    lr, _ = draw(data, seeded(1), 5500, 4, color="rgb")
    first = int((as_bytes(lr)[:, 0, 0, 0] == 0).sum())
    assert abs(first - 500) < 5 * (5500 * (1 / 11) * (10 / 11)) ** 0.5


@given(st.integers(0, 2**32))
def test_patches_stay_inside_their_windows(seed: int) -> None:
    data = numbered(9, 9).sub_images(8, 8).subset([0, 3])  # top left and centre 4 x 4 windows
    allowed = {
        tuple(data.lr.image(0)[:, y, x].tolist())
        for _, top, left, h, w in data.windows.tolist()
        for y in range(top, top + h)
        for x in range(left, left + w)
    }
    lr, _ = draw(data, seeded(seed), 8, 3, color="rgb")
    assert {
        tuple(pixel) for pixel in as_bytes(lr).permute(0, 2, 3, 1).reshape(-1, 3).tolist()
    } <= allowed


@given(st.integers(0, 2**63 - 1))
def test_a_batch_is_a_pure_function_of_the_seed(seed: int) -> None:
    data = made([(8, 8), (9, 12)])
    torch.manual_seed(0)
    first = draw(data, seeded(seed), 4, 4)
    torch.manual_seed(1)
    torch.rand(3)
    again = draw(data, seeded(seed), 4, 4)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_different_seeds_give_different_batches_and_a_generator_moves_on() -> None:
    data = made([(30, 30)])
    generator = seeded(0)
    batches = [draw(data, generator, 4, 6)[0] for _ in range(3)] + [draw(data, seeded(1), 4, 6)[0]]
    assert all(not torch.equal(a, b) for i, a in enumerate(batches) for b in batches[:i])


def test_windows_that_are_too_small_are_left_out() -> None:
    data = made([(3, 30), (8, 8), (30, 3)])
    source = PatchSource.of(data, 8)
    assert source.windows[:, 0].tolist() == [1]
    lr, _ = source.draw(seeded(0), 3, augment=False, color="rgb")
    assert torch.equal(as_bytes(lr), data.lr.image(1).expand(3, -1, -1, -1))


@pytest.mark.parametrize("patch", [9, 0])
def test_an_impossible_patch_is_refused_with_the_largest_possible_one(patch: int) -> None:
    with pytest.raises(DataError, match="from 1 to 8 LR pixels"):
        PatchSource.of(made([(3, 30), (8, 9)]), patch)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_luma_is_bt601_unrounded(rgb: tuple[int, int, int]) -> None:
    luma = to_color(torch.tensor(rgb, dtype=torch.uint8).view(3, 1, 1), "y")
    expected = 16 + (65.481 * rgb[0] + 128.553 * rgb[1] + 24.966 * rgb[2]) / 255
    assert luma.shape == (1, 1, 1)
    assert luma.dtype == torch.float32
    assert float(luma) * 255 == pytest.approx(expected, abs=1e-4)


def test_luma_batches_are_the_luma_of_rgb_batches() -> None:
    data = made([(10, 10)])
    grey, colour = draw(data, seeded(5), 6, 4, color="y"), draw(data, seeded(5), 6, 4, color="rgb")
    for y, rgb in zip(grey, colour, strict=True):
        assert y.shape[1] == 1
        assert y.is_contiguous()
        torch.testing.assert_close(y, to_color(as_bytes(rgb).transpose(0, 1), "y").transpose(0, 1))
