"""Files are written whole or not at all, and tensors come back bit for bit, whatever memory they
lay in.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from nets import Espcn, seeded
from tiers import examples

from automl_sr.errors import DataError
from automl_sr.files import load_tensors, save_tensors, sweep, write_atomically


def test_weights_and_blueprint_come_back(tmp_path: Path) -> None:
    net = seeded(Espcn)
    size = save_tensors(
        tmp_path / "model.safetensors", net.state_dict(), {"blueprint": '{"factory": "espcn"}'}
    )
    state, metadata = load_tensors(tmp_path / "model.safetensors")
    assert metadata == {"blueprint": '{"factory": "espcn"}'}
    assert all(torch.equal(state[name], tensor) for name, tensor in net.state_dict().items())
    assert list(state)
    assert set(state) == set(net.state_dict())
    assert size == (tmp_path / "model.safetensors").stat().st_size


@given(
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
    dtype=st.sampled_from([torch.float32, torch.int64, torch.bool]),
)
@examples(25)
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
    save_tensors(path, state, {})
    loaded, metadata = load_tensors(path)
    assert metadata == {}
    assert all(
        torch.equal(loaded[name], tensor) and loaded[name].dtype == tensor.dtype
        for name, tensor in state.items()
    )


def test_loaded_weights_do_not_hang_on_the_file(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    save_tensors(path, {"w": torch.ones(3)}, {})
    state, _ = load_tensors(path)
    save_tensors(path, {"w": torch.zeros(3)}, {})
    assert torch.equal(state["w"], torch.ones(3))
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize(
    "content", [b"", b"no weights", b"\x08\x00\x00\x00\x00\x00\x00\x00{}      "[:12]]
)
def test_a_damaged_or_missing_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    with pytest.raises(DataError, match=r"model\.safetensors"):
        load_tensors(path)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"model\.safetensors cannot be read"):
        load_tensors(path)


def test_equal_content_gives_equal_bytes(tmp_path: Path) -> None:
    header = {f"key {i}": i for i in range(20)}
    for name in ("a", "b"):
        save_tensors(tmp_path / name, {"x": torch.ones(2), "y": torch.zeros(3)}, header)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_of_killed_writers_are_swept(tmp_path: Path) -> None:
    (tmp_path / ".file.abc.partial").write_bytes(b"half")
    (tmp_path / "file").write_bytes(b"whole")
    sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_flipped_bit_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_tensors(path, {"w": torch.arange(6.0).reshape(2, 3)}, {"step": 1})
    content = bytearray(path.read_bytes())
    content[-2] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(DataError, match="not those that were written"):
        load_tensors(path)
