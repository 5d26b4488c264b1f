"""Tiles add up to the whole image: weights sum to one, and what padding spoils has no weight."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import IMAGE_AXES, Espcn, Fsrcnn, Recurrent, seeded
from numpy.typing import NDArray
from photos import photo
from tiers import examples
from torch import nn

from automl_sr.compression.export import export_onnx
from automl_sr.errors import UseError
from automl_sr.tasks.image_sr.tiling import (
    LARGEST_MARGIN,
    largest_tensor_bytes,
    receptive_margin,
    run_tiled,
    smallest_tile,
    spans,
    tile_for_memory,
)


def runner(net: nn.Module):  # type: ignore[no-untyped-def]
    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.no_grad():
            return net(torch.from_numpy(batch)).numpy()

    return run


@given(
    length=st.integers(1, 700),
    margin=st.integers(0, 40),
    extra=st.integers(0, 150),
    scale=st.sampled_from([1, 2, 3, 4]),
)
@examples(200)
def test_weights_add_up_to_one_and_spoilt_pixels_have_none(
    length: int, margin: int, extra: int, scale: int
) -> None:
    tile = smallest_tile(margin) + extra
    total = np.zeros(length * scale)
    found = spans(length, tile, margin, scale)
    for index, span in enumerate(found):
        assert 0 <= span.start < span.stop <= length
        assert span.stop - span.start <= tile
        total[span.start * scale : span.stop * scale] += span.weights
        if index > 0:
            assert np.all(span.weights[: margin * scale] == 0)
        if index < len(found) - 1:
            assert np.all(span.weights[len(span.weights) - margin * scale :] == 0)
    assert total == pytest.approx(1)
    assert (found[0].start, found[-1].stop) == (0, length)


def test_a_tile_that_leaves_nothing_is_refused_with_the_smallest_that_does() -> None:
    with pytest.raises(UseError, match=r"tile of 40 pixels is too small.*at least 44"):
        spans(100, 40, 10, 2)
    assert len(spans(100, 44, 10, 2)) > 1


@pytest.mark.parametrize(
    ("kind", "fields", "reach"),
    [
        (Espcn, {"depth": 0}, 2),
        (Espcn, {"depth": 3}, 5),
        (Espcn, {"depth": 2, "scale": 4}, 4),
        (Fsrcnn, {"channels": 1}, 4),
    ],
)
def test_the_measured_margin_covers_the_receptive_field(
    kind: type[nn.Module], fields: dict[str, int], reach: int
) -> None:
    net = seeded(kind, **fields)
    margin = receptive_margin(runner(net), 1, fields.get("scale", 2))
    assert reach <= margin <= reach + 1


def test_a_net_without_a_bounded_field_gets_the_largest_margin() -> None:
    class Everywhere(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            far = x.mean(dim=(2, 3), keepdim=True)
            return (x + 40 * far).repeat_interleave(2, 2).repeat_interleave(2, 3)

    assert receptive_margin(runner(Everywhere()), 1, 2) == LARGEST_MARGIN


@pytest.mark.parametrize(
    ("kind", "fields"), [(Espcn, {}), (Espcn, {"depth": 4, "scale": 3}), (Fsrcnn, {"channels": 1})]
)
@pytest.mark.parametrize("extra", [0, 17])
def test_tiles_give_the_untiled_result(
    kind: type[nn.Module], fields: dict[str, int], extra: int
) -> None:
    net = seeded(kind, **fields)
    scale = fields.get("scale", 2)
    margin = receptive_margin(runner(net), 1, scale)
    batch = photo(height=131, width=150)[:, :, 1][None, None].astype(np.float32) / 255
    whole = runner(net)(batch)
    tiles = run_tiled(runner(net), batch, scale, smallest_tile(margin) + extra, margin)
    assert tiles.shape == whole.shape
    assert (
        np.abs(np.rint(np.clip(tiles, 0, 1) * 255) - np.rint(np.clip(whole, 0, 1) * 255)).max() <= 1
    )
    assert np.abs(tiles - whole).max() < 0.5 / 255


def test_a_margin_that_is_too_small_leaves_seams_that_the_comparison_sees() -> None:
    net = seeded(Espcn, depth=6)
    batch = photo(height=131, width=150)[:, :, 1][None, None].astype(np.float32) / 255
    tiles = run_tiled(runner(net), batch, 2, smallest_tile(0), 0)
    assert np.abs(tiles - runner(net)(batch)).max() > 0.5 / 255


def test_a_small_image_is_run_whole() -> None:
    calls = []

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        calls.append(batch.shape)
        return batch.repeat(2, 2).repeat(2, 3)

    run_tiled(run, np.zeros((1, 3, 60, 50), np.float32), 2, 64, 4)
    assert calls == [(1, 3, 60, 50)]


def test_tile_size_follows_free_memory_and_the_nets_width(tmp_path: Path) -> None:
    sizes = {}
    for width in (8, 32):
        path = tmp_path / f"{width}.onnx"
        example = (torch.rand(1, 1, 12, 12),)
        export_onnx(seeded(Espcn, width=width), path, example, dynamic_axes=IMAGE_AXES)
        sizes[width] = largest_tensor_bytes(path, 1)
    assert sizes == {8: 4 * 8, 32: 4 * 32}
    assert tile_for_memory(sizes[32], 64 * 2**20) == 128
    assert tile_for_memory(sizes[8], 64 * 2**20) == 256
    assert tile_for_memory(sizes[8], 2**50) == 1024
    assert tile_for_memory(sizes[8], 0) == 16
    assert tile_for_memory(sizes[8]) >= 16


def test_recurrent_nets_can_be_tiled(tmp_path: Path) -> None:
    net = seeded(Recurrent)
    margin = receptive_margin(runner(net), 1, 2)
    batch = photo(height=40, width=300)[:, :, 1][None, None].astype(np.float32) / 255
    tiles = run_tiled(runner(net), batch, 2, smallest_tile(margin) + 32, margin)
    assert np.abs(tiles - runner(net)(batch)).max() < 2 / 255
