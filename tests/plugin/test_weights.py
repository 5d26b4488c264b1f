"""Checkpoints are read as tensors and nothing else, wherever a training program put them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from automl_sr.errors import UseError
from automl_sr.files import save_tensors
from automl_sr.plugin.weights import misfit, read_weights

TENSORS = {"head.weight": torch.ones(2, 1, 3, 3), "head.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        {"params": TENSORS},
        {"params": {"head.weight": torch.zeros(1)}, "params_ema": TENSORS, "step": 7},
        {"state_dict": {f"module.{name}": value for name, value in TENSORS.items()}, "epoch": 3},
        {"net_g": TENSORS, "lr": 0.1},
    ],
    ids=["plain", "nested", "average first", "several devices", "another name"],
)
def test_the_tensors_of_a_net_are_found(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pth")
    found = read_weights(tmp_path / "net.pth")
    assert found.tensors.keys() == TENSORS.keys()
    assert all(torch.equal(found.tensors[name], value) for name, value in TENSORS.items())
    assert found.blueprint is None


class RunsCode:
    """What a malicious file would hold."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("ran",)


def test_a_file_that_would_run_code_is_refused_and_runs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": RunsCode()}, "net.pth")
    with pytest.raises(UseError, match=r"^net\.pth holds more than tensors.*could run code"):
        read_weights(Path("net.pth"))
    assert not Path("ran").exists()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"lr": 0.1}, "no tensors by name"),
        (torch.ones(3), "no tensors by name"),
        ({}, "no tensors by name"),
    ],
    ids=["numbers", "one tensor", "nothing"],
)
def test_what_is_no_checkpoint_is_refused(content: Any, said: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "net.pt")
    with pytest.raises(UseError, match=said):
        read_weights(tmp_path / "net.pt")


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
def test_a_damaged_file_is_refused_in_one_sentence(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"no net at all")
    with pytest.raises(UseError, match=name) as refused:
        read_weights(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UseError, match="There is no checkpoint"):
        read_weights(tmp_path / "net.pth")


def test_our_own_files_say_of_which_model_they_are(tmp_path: Path) -> None:
    header = {"blueprint": '{"factory": "a.b", "fields": {"width": 2}, "edits": []}'}
    save_tensors(tmp_path / "model.safetensors", TENSORS, header)
    found = read_weights(tmp_path / "model.safetensors").blueprint
    assert found is not None
    assert (found.factory, found.fields) == ("a.b", {"width": 2})


@pytest.mark.parametrize("said", ["no JSON", "[]", "{}", '{"factory": "a.b", "fields": 3}'])
def test_a_file_that_says_it_in_another_way_is_refused(said: str, tmp_path: Path) -> None:
    save_tensors(tmp_path / "model.safetensors", TENSORS, {"blueprint": said})
    with pytest.raises(UseError, match="cannot be read"):
        _ = read_weights(tmp_path / "model.safetensors").blueprint


def test_what_does_not_fit_is_named() -> None:
    given = {"head.weight": torch.ones(2, 3, 3, 3), "tail.weight": torch.ones(1)}
    found = misfit(TENSORS, given)
    assert len(found) == 3
    assert str(found) == (
        "not in the file: head.bias; not in the net: tail.weight;"
        " of another size: head.weight is 2x3x3x3, not 2x1x3x3"
    )
    assert not misfit(TENSORS, TENSORS)


def test_of_many_the_first_are_named() -> None:
    many = {f"layer.{place}": torch.ones(1) for place in range(9)}
    assert str(misfit(many, {})) == "not in the file: layer.0, layer.1, layer.2 and 6 more"
