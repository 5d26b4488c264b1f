"""Files of trials: whole or not there, checked when they are fetched, local or not."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fsspec
import pytest

from automl_sr.errors import StoreError
from automl_sr.store import artifacts as module
from automl_sr.store.artifacts import ArtifactError, Artifacts, FileLost, delete, fetch


@pytest.fixture
def memory() -> Any:
    """Give a file system in memory, which shows a file while it is written."""
    fs = fsspec.filesystem("memory")
    if fs.exists("/store-test"):
        fs.rm("/store-test", recursive=True)
    return fs


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source" / "model.onnx"
    path.parent.mkdir()
    path.write_bytes(b"weights")
    return path


def test_a_file_is_kept_under_its_name_and_fetched_again(tmp_path: Path) -> None:
    source = tmp_path / "model.onnx"
    source.write_bytes(b"weights" * 1000)
    place = Artifacts(str(tmp_path / "files"))
    record = place.put(source, "onnx", "study", "00001", "model.onnx")
    assert (record.kind, record.bytes) == ("onnx", 7000)
    assert Path(record.url) == tmp_path / "files" / "study" / "00001" / "model.onnx"
    assert fetch(record, tmp_path / "out" / "copy.onnx").read_bytes() == source.read_bytes()
    assert not list(tmp_path.rglob("*.partial"))


def test_a_file_that_cannot_be_written_leaves_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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
    with pytest.raises(FileLost, match="its content has changed"):
        fetch(record, tmp_path / "out.onnx")
    with pytest.raises(FileLost, match="is gone"):
        fetch(replace(record, url=f"{record.url}.none"), tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_another_file_system_works_by_url(tmp_path: Path, source: Path, memory: Any) -> None:
    place = Artifacts("memory://store-test")
    record = place.put(source, "onnx", "study", "00001", "model.onnx")
    assert place.folder is None
    assert record.url == "memory://store-test/study/00001/model.onnx"
    assert memory.cat("/store-test/study/00001/model.onnx") == b"weights"
    assert memory.find("/store-test") == ["/store-test/study/00001/model.onnx"]
    assert fetch(record, tmp_path / "copy.onnx").read_bytes() == b"weights"


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("memory://store-test/", "memory://store-test/a/b"),
        ("s3://bucket/files", "s3://bucket/files/a/b"),
        ("sftp://person@host:22/files", "sftp://person@host:22/files/a/b"),
    ],
)
def test_what_is_recorded_names_the_server_as_well(
    location: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """File systems drop it from their own paths."""
    monkeypatch.setattr(
        module.fsspec, "url_to_fs", lambda _: (fsspec.filesystem("memory"), "/files")
    )
    assert Artifacts(location).url_of("a", "b") == url


# ---- half a file ---------------------------------------------------------------------------------


def broken_upload(fs: Any, monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    """Let uploads end after three bytes, with an error or as if all were well; gives the names that
    were written to.
    """
    names = []

    def put_file(_: Any, path: str, target: str, **__: Any) -> None:
        names.append(target)
        fs.pipe(target, Path(path).read_bytes()[:3])
        if error is not None:
            raise error

    monkeypatch.setattr(type(fs), "put_file", put_file)
    return names


def test_an_upload_that_breaks_leaves_nothing_under_the_name(
    source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = broken_upload(memory, monkeypatch, ConnectionError("the line is dead"))
    with pytest.raises(StoreError, match=r"model\.onnx cannot be written: the line is dead"):
        Artifacts("memory://store-test").put(source, "onnx", "model.onnx")
    assert [name.endswith(".partial") for name in names] == [True]
    assert memory.find("/store-test") == []


def test_an_upload_that_breaks_leaves_the_former_file(
    source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = Artifacts("memory://store-test")
    place.put(source, "onnx", "model.onnx")
    broken_upload(memory, monkeypatch, ConnectionError())
    with pytest.raises(StoreError, match="cannot be written: ConnectionError"):
        place.put(source, "onnx", "model.onnx")
    assert memory.cat("/store-test/model.onnx") == b"weights"


def test_an_upload_of_which_only_a_part_arrived_is_noticed(
    source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_upload(memory, monkeypatch, None)
    with pytest.raises(StoreError, match="3 of 7 bytes have arrived"):
        Artifacts("memory://store-test").put(source, "onnx", "model.onnx")


def test_a_server_that_moves_no_file_onto_another_gets_the_place_cleared(
    source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mv(fs: Any, old: str, new: str) -> None:
        if fs.exists(new):
            raise OSError("550 file exists")
        real(fs, old, new)

    real = type(memory).mv
    monkeypatch.setattr(type(memory), "mv", mv)
    place = Artifacts("memory://store-test")
    for content in (b"first", b"second"):
        source.write_bytes(content)
        place.put(source, "onnx", "model.onnx")
    assert memory.cat("/store-test/model.onnx") == b"second"
    assert len(memory.find("/store-test")) == 1


def test_object_stores_show_no_half_file_and_are_not_made_to_copy(
    source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a move copies there, and folders are buckets")

    monkeypatch.setattr(type(memory), "protocol", ("s3", "s3a"))
    monkeypatch.setattr(type(memory), "mv", refused)
    monkeypatch.setattr(type(memory), "makedirs", refused)
    place = Artifacts("memory://store-test")
    monkeypatch.setattr(
        type(memory), "put_file", lambda fs, path, to: fs.pipe(to, Path(path).read_bytes())
    )
    place.put(source, "onnx", "model.onnx")
    assert memory.cat("/store-test/model.onnx") == b"weights"


# ---- a full disk, and power that goes ------------------------------------------------------------


@pytest.mark.parametrize("reason", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_from_other_failures(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch, reason: int
) -> None:
    monkeypatch.setattr(module.os, "fsync", failing(OSError(reason, "no room")))
    with pytest.raises(ArtifactError, match="no room"):
        Artifacts(str(tmp_path / "files")).put(source, "onnx", "model.onnx")


def test_another_failure_is_no_full_disk(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module.os, "fsync", failing(OSError(errno.EIO, "broken")))
    with pytest.raises(StoreError, match="broken") as caught:
        Artifacts(str(tmp_path / "files")).put(source, "onnx", "model.onnx")
    assert not isinstance(caught.value, ArtifactError)


def test_a_full_disk_elsewhere_is_told_as_well(
    source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken_upload(memory, monkeypatch, OSError(errno.ENOSPC, "no room"))
    with pytest.raises(ArtifactError, match="no room"):
        Artifacts("memory://store-test").put(source, "onnx", "model.onnx")


def test_a_disk_without_room_for_a_file_that_is_fetched_is_full(
    tmp_path: Path, source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    record = Artifacts("memory://store-test").put(source, "onnx", "model.onnx")
    monkeypatch.setattr(type(memory), "get_file", failing(OSError(errno.ENOSPC, "no room")))
    with pytest.raises(ArtifactError, match="no room"):
        fetch(record, tmp_path / "copy.onnx")


def test_the_names_of_a_file_and_of_new_folders_are_on_the_disk_before_it_is_announced(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    monkeypatch.setattr(
        module, "_sync_folder", lambda folder: synced.append((folder, target.exists()))
    )
    target = tmp_path / "files" / "study" / "00001" / "model.onnx"
    Artifacts(str(tmp_path / "files")).put(source, "onnx", "study", "00001", "model.onnx")
    assert set(synced) == {(folder, True) for folder in list(target.parents)[:4]}


def failing(error: Exception) -> Callable[..., None]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# ---- listing and removing ------------------------------------------------------------------------


@pytest.fixture(params=["local", "memory"])
def place(request: pytest.FixtureRequest, tmp_path: Path, memory: Any) -> Artifacts:
    return Artifacts(str(tmp_path / "files") if request.param == "local" else "memory://store-test")


def test_files_are_listed_with_their_sizes_and_removed(place: Artifacts, source: Path) -> None:
    assert place.files("study") == {}
    record = place.put(source, "onnx", "study", "00001", "model.onnx")
    place.put(source, "onnx", "study", "00002", "attempt-2", "model.onnx")
    place.put(source, "onnx", "studying", "00001", "model.onnx")
    assert place.files("study") == {"00001/model.onnx": 7, "00002/attempt-2/model.onnx": 7}
    delete(record.url)
    delete(record.url)
    assert place.files("study") == {"00002/attempt-2/model.onnx": 7}
    assert place.files("studying") == {"00001/model.onnx": 7}


def test_partial_files_are_listed_too(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    (tmp_path / "study" / ".model.onnx.x.partial").write_text("half")
    assert Artifacts(str(tmp_path)).files("study") == {".model.onnx.x.partial": 4}


def test_links_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "precious").write_text("x")
    (tmp_path / "files" / "study").mkdir(parents=True)
    (tmp_path / "files" / "study" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "files" / "study" / "one").symlink_to(tmp_path / "elsewhere" / "precious")
    place = Artifacts(str(tmp_path / "files"))
    assert list(place.files("study")) == ["one"]
    delete(place.url_of("study", "one"))
    assert (tmp_path / "elsewhere" / "precious").exists()


def test_empty_folders_are_removed_and_no_others(place: Artifacts, source: Path) -> None:
    record = place.put(source, "onnx", "study", "00001", "attempt-2", "model.onnx")
    place.put(source, "onnx", "study", "00002", "model.onnx")
    delete(record.url)
    place.prune("study", "00001")
    place.prune("study", "00002")
    place.prune("study", "00003")
    assert list(place.files("study")) == ["00002/model.onnx"]
    if place.folder is not None:
        assert [path.name for path in (place.folder / "study").iterdir()] == ["00002"]


def test_a_place_that_does_not_answer_is_said_in_one_sentence(
    memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    error = ConnectionError("no route\nto host")
    for method in ("find", "rm_file", "info"):
        monkeypatch.setattr(type(memory), method, failing(error))
    with pytest.raises(StoreError, match="cannot be reached: no route to host"):
        Artifacts("memory://store-test").files("study")
    with pytest.raises(StoreError, match="cannot be reached: no route to host"):
        delete("memory://store-test/x")


def test_a_server_says_in_its_own_words_that_a_file_is_gone(
    tmp_path: Path, source: Path, memory: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As FTP does; that must not be taken for a place that does not answer."""
    record = Artifacts("memory://store-test").put(source, "onnx", "model.onnx")
    error = RuntimeError("550 No such file or directory.")
    monkeypatch.setattr(type(memory), "rm_file", failing(error))
    monkeypatch.setattr(type(memory), "get_file", failing(error))
    with pytest.raises(StoreError, match="cannot be reached: 550"):
        delete(record.url)
    with pytest.raises(StoreError, match="cannot be fetched: 550"):
        fetch(record, tmp_path / "copy.onnx")
    memory.store.pop("/store-test/model.onnx")
    delete(record.url)
    with pytest.raises(FileLost):
        fetch(record, tmp_path / "copy.onnx")


def test_two_names_of_one_place_are_one_place(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "files")
    assert Artifacts(str(tmp_path / "files")).identity == Artifacts(str(tmp_path / "link")).identity
    assert Artifacts("memory://store-test").identity == Artifacts("memory:///store-test/").identity
    assert Artifacts("memory://store-test").identity != Artifacts("memory://other").identity


# ---- passwords -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    [
        "ftp://person:hunter2@host/files",
        "s3://AKIA123:hun/ter2@bucket/files",
        "simplecache::ftp://person:hunter2@host/files",
        "ftp://:hunter2@host",
        "az://container/files?sas_token=hunter2",
    ],
)
def test_a_password_in_the_location_is_refused_and_not_repeated(location: str) -> None:
    with pytest.raises(StoreError, match="environment") as refused:
        Artifacts(location)
    assert "ter2" not in str(refused.value)


@pytest.mark.parametrize("name", ["a:b@c", "https:x@y"])
def test_a_folder_may_be_named_as_it_likes(tmp_path: Path, name: str) -> None:
    assert Artifacts(str(tmp_path / name)).folder == tmp_path / name


def test_an_unknown_kind_of_place_is_refused() -> None:
    with pytest.raises(StoreError, match="Choose another --artifacts"):
        Artifacts("nowhere://x")
