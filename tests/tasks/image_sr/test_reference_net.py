"""The net with which latency is compared: what it does, and that it is the same everywhere."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from automl_sr.compression.export import layer_nodes
from automl_sr.tasks.image_sr.image_model import OnnxImageModel
from automl_sr.tasks.image_sr.reference_net import reference_net


@pytest.mark.parametrize(("scale", "channels"), [(2, 1), (3, 3), (4, 1)])
def test_the_reference_net_enlarges_and_is_made_once(
    scale: int, channels: int, tmp_path: Path
) -> None:
    path = reference_net(scale, channels, tmp_path)
    model = OnnxImageModel(path)
    assert model(model.example(9, 11)).shape == (1, channels, 9 * scale, 11 * scale)
    assert (model.scale, model.channels) == (scale, channels)
    written = path.stat().st_mtime_ns
    assert reference_net(scale, channels, tmp_path) == path
    assert path.stat().st_mtime_ns == written


def test_the_reference_net_is_the_same_on_every_machine(tmp_path: Path) -> None:
    first, second = reference_net(2, 1, tmp_path / "a"), reference_net(2, 1, tmp_path / "b")
    assert first.read_bytes() == second.read_bytes()
    digest = hashlib.sha256()
    model = OnnxImageModel(first)
    digest.update(np.rint(model(model.example(16, 16)) * 1000).astype(np.int32).tobytes())
    assert [operator for _, operator in layer_nodes(first)] == ["Conv"] * 4 + ["ConvTranspose"]
    assert digest.hexdigest()[:16] == "f0f70621cd1b1a02"
