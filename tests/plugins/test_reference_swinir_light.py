"""SwinIR's windows: who sees whom, how images are padded, and what positions are told apart."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from automl_sr_plugins.reference.swinir_light import SwinIRLight, SwinLayer, swinir_light

SIDE = 16


@pytest.fixture
def net() -> SwinIRLight:
    """A net with windows of 8 px."""
    torch.manual_seed(0)
    fields = {"width": 12, "stages": 1, "depth": 2, "heads": 2, "window": 8, "skip": "none"}
    return swinir_light(channels=1, scale=2, **fields)


def seen_from(net: SwinIRLight, row: int, column: int, *, shifted: bool) -> Tensor:
    """Which tokens of a 16 x 16 image change when that one changes."""
    layer = SwinLayer(12, 2, 8, shifted=shifted)
    tokens = torch.rand(1, SIDE, SIDE, 12, generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, row, column] = -changed[0, row, column]
    windows = net._windows(SIDE, SIDE)
    with torch.no_grad():
        difference = (layer(changed, windows) - layer(tokens, windows)).abs().amax(dim=-1)[0]
    return difference > 1e-6


def square(rows: range, columns: range) -> Tensor:
    wanted = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    wanted[rows.start : rows.stop, columns.start : columns.stop] = True
    return wanted


@pytest.mark.parametrize(
    ("row", "column", "shifted", "rows", "columns"),
    [
        (0, 0, False, range(8), range(8)),
        (9, 3, False, range(8, 16), range(8)),
        (5, 6, True, range(4, 12), range(4, 12)),
        (0, 6, True, range(4), range(4, 12)),
        (15, 15, True, range(12, 16), range(12, 16)),
    ],
)
def test_a_pixel_is_seen_in_its_window_and_never_round_the_edge(
    net: SwinIRLight, row: int, column: int, shifted: bool, rows: range, columns: range
) -> None:
    assert torch.equal(seen_from(net, row, column, shifted=shifted), square(rows, columns))


def test_images_are_reflected_up_to_whole_windows(net: SwinIRLight) -> None:
    image = torch.rand(1, 1, 13, 10)
    assert torch.equal(net._padded(image), functional.pad(image, (0, 6, 0, 3), mode="reflect"))
    whole = torch.rand(1, 1, 16, 8)
    assert torch.equal(net._padded(whole), whole)


def test_positions_are_told_apart_by_their_offset_alone(net: SwinIRLight) -> None:
    positions = net.positions
    assert len(positions.unique()) == 15 * 15
    to_the_right, to_the_left = positions[0, 1], positions[1, 0]
    assert to_the_right != to_the_left
    assert positions[17, 18] == to_the_right
    assert positions[17, 16] == to_the_left
    assert positions[8, 9] == to_the_right


def test_without_a_skip_the_mean_that_was_subtracted_is_added_again() -> None:
    fields = {"width": 12, "stages": 1, "depth": 2, "heads": 2, "window": 8, "skip": "none"}
    net = swinir_light(channels=3, scale=2, **fields)
    torch.nn.init.zeros_(net.upsample[0].weight)
    torch.nn.init.zeros_(net.upsample[0].bias)
    with torch.no_grad():
        output = net(torch.rand(1, 3, 5, 6))
    assert output.shape == (1, 3, 10, 12)
    assert output.mean(dim=(0, 2, 3)).tolist() == pytest.approx([0.4488, 0.4371, 0.4040])
