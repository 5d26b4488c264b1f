"""The packed weights file: everything comes back bit for bit, whatever memory the tensors lay in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from automl_sr.compression.compact import load_weights, save_weights
from automl_sr.errors import DataError
from tests.evaluation.nets import Espcn, seeded


def test_weights_and_blueprint_come_back(tmp_path: Path) -> None:
    net = seeded(Espcn)
    size = save_weights(tmp_path / "model.safetensors", net.state_dict(), {"blueprint": '{"factory": "espcn"}'})
    state, metadata = load_weights(tmp_path / "model.safetensors")
    assert metadata == {"blueprint": '{"factory": "espcn"}'}
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert list(state)
    assert set(state) == set(net.state_dict())
    assert size == (tmp_path / "model.safetensors").stat().st_size


@given(
    rows=st.integers(1, 5), columns=st.integers(1, 5), dtype=st.sampled_from([torch.float32, torch.int64, torch.bool])
)
@settings(max_examples=25, deadline=None)
def test_tied_tensors_views_and_other_layouts_are_kept(
    tmp_path_factory: pytest.TempPathFactory, rows: int, columns: int, dtype: torch.dtype
) -> None:
    base = torch.arange(rows * columns * 2).reshape(rows, columns, 2).to(dtype)
    state = {
        "own": base,
        "tied": base,
        "view": base[:, :1],
        "turned": base.permute(2, 1, 0),
        "channels_last": base[None].to(memory_format=torch.channels_last),
        "number": torch.tensor(3),
        "empty": torch.zeros(0, 4),
    }
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    save_weights(path, state, {})
    loaded, metadata = load_weights(path)
    assert metadata == {}
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype for name, tensor in state.items()
    )


def test_loaded_weights_do_not_hang_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_weights(path, {"w": torch.ones(3)}, {})
    state, _ = load_weights(path)
    save_weights(path, {"w": torch.zeros(3)}, {})
    assert torch.equal(state["w"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("content", [b"", b"no weights", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "[:12]])
def test_a_damaged_or_missing_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(DataError, match=r"model\.safetensors"):
        load_weights(path)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load_weights(path)
