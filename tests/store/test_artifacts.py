"""Files of trials: whole or not there, checked when they are fetched, local or not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import fsspec
import pytest

from automl_sr.errors import StoreError
from automl_sr.store.artifacts import Artifacts, fetch


def test_a_file_is_kept_under_its_name_and_fetched_again(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights" * 1000)
    place = Artifacts(str(tmp_path / "files"))
    record = place.put(source, "onnx", "study", "00001", "model.onnx")
    assert (record.kind, record.bytes) == ("onnx", 7000)
    assert Path(record.url) == tmp_path / "files" / "study" / "00001" / "model.onnx"
    assert fetch(record, tmp_path / "out" / "copy.onnx").read_bytes() == source.read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_file_that_cannot_be_written_leaves_no_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"new")
    place = Artifacts(str(tmp_path / "files"))
    place.put(source, "onnx", "model.onnx")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("automl_sr.store.artifacts.os.fsync", full)
    source.write_bytes(b"newer")
    with pytest.raises(StoreError, match="No space left on device"):
        place.put(source, "onnx", "model.onnx")
    assert (tmp_path / "files" / "model.onnx").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "files").iterdir()] == ["model.onnx"]


def test_a_file_that_changed_or_is_gone_is_not_handed_out(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    record = Artifacts(str(tmp_path / "files")).put(source, "onnx", "model.onnx")
    Path(record.url).write_bytes(b"others")
    with pytest.raises(StoreError, match="its content has changed"):
        fetch(record, tmp_path / "out.onnx")
    with pytest.raises(StoreError, match="is gone"):
        fetch(replace(record, url=f"{record.url}.none"), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_another_file_system_works_by_url(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights")
    place = Artifacts("memory://store-test")
    record = place.put(source, "onnx", "study", "model.onnx")
    assert place.folder is None
    assert fsspec.filesystem("memory").cat("/store-test/study/model.onnx") == b"weights"
    assert fetch(record, tmp_path / "copy.onnx").read_bytes() == b"weights"


def test_an_unknown_kind_of_place_is_refused() -> None:
    with pytest.raises(StoreError, match="Choose another --artifacts"):
        Artifacts("nowhere://x")
