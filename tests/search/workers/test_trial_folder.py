"""A trial's folders: each owner has its own, takes over what the last one left, and can be gone on
from elsewhere.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fsspec
import pytest

from automl_sr.errors import StoreError
from automl_sr.search.workers import trial_folder as module
from automl_sr.search.workers.trial_folder import TrialFolder, resumable, work_folder
from automl_sr.store.artifacts import ArtifactError, Artifacts

STUDY = "world-12345678"


@pytest.fixture
def remote() -> Artifacts:
    memory = fsspec.filesystem("memory")
    if memory.exists("/attempts"):
        memory.rm("/attempts", recursive=True)
    return Artifacts("memory://attempts")


def copies() -> list[str]:
    memory = fsspec.filesystem("memory")
    return sorted(path.rpartition("/")[2].rpartition(".")[0] for path in memory.find("/attempts"))


def opened(
    folder: Path, fence: int, place: Artifacts | None = None, kept: Mapping[str, Any] | None = None
) -> TrialFolder:
    return TrialFolder.open(folder / "work", STUDY, 7, fence, place or Artifacts(str(folder)), kept)


def write(trial_folder: TrialFolder, **files: str) -> None:
    """Write files of an attempt, whole, as `step_1="..."` for trunk/step-1.safetensors."""
    for name, content in files.items():
        path = trial_folder.folder / "trunk" / f"{name.replace('_', '-')}.safetensors"
        path.parent.mkdir(exist_ok=True)
        half = path.with_suffix(".half")
        half.write_text(content)
        half.replace(path)


def contents(trial_folder: TrialFolder) -> dict[str, str]:
    return {name: path.read_text() for name, path in resumable(trial_folder.folder).items()}


# ---- one machine ---------------------------------------------------------------------------------


def test_every_owner_has_a_folder_of_its_own_with_what_a_resume_needs(tmp_path: Path) -> None:
    first = opened(tmp_path, 1)
    assert first.folder == tmp_path / "work" / "00007" / "attempt-1"
    assert contents(first) == {}
    write(first, step_1="one", step_2="two", constant_w="w")
    (first.folder / "fork-0").mkdir()
    (first.folder / "fork-0" / "step-3.safetensors").write_text("three")
    (first.folder / "seconds.json").write_text("{}")
    (first.folder / "rung-0").mkdir()
    (first.folder / "rung-0" / "model.onnx").write_text("exported")
    (first.folder / "trunk" / ".step-4.safetensors.x.partial").write_text("half")
    second = opened(tmp_path, 2)
    assert contents(second) == {
        "fork-0/step-3.safetensors": "three",
        "seconds.json": "{}",
        "trunk/constant-w.safetensors": "w",
        "trunk/step-1.safetensors": "one",
        "trunk/step-2.safetensors": "two",
    }
    assert not (second.folder / "rung-0").exists()


def test_owners_do_not_see_what_the_other_writes_afterwards(tmp_path: Path) -> None:
    first = opened(tmp_path, 1)
    write(first, step_1="one")
    (first.folder / "steps").write_text("1")
    second = opened(tmp_path, 2)
    write(first, step_1="written again", step_2="by one that lost its lease")
    (first.folder / "steps").write_text("2")
    (second.folder / "trunk" / "step-1.safetensors").unlink()
    assert contents(second) == {"steps": "1"}
    assert contents(first)["trunk/step-1.safetensors"] == "written again"


def test_the_newest_former_attempt_counts_and_no_later_one(tmp_path: Path) -> None:
    for fence in (1, 9, 10, 12):
        write(
            TrialFolder.open(
                tmp_path / str(fence), STUDY, 7, fence, Artifacts(str(tmp_path)), None
            ),
            step_1=str(fence),
        )
        source = tmp_path / str(fence) / "00007" / f"attempt-{fence}"
        (tmp_path / "work" / "00007").mkdir(parents=True, exist_ok=True)
        source.rename(tmp_path / "work" / "00007" / source.name)
    assert contents(opened(tmp_path, 11)) == {"trunk/step-1.safetensors": "10"}


def test_an_attempt_goes_on_with_its_own_folder(tmp_path: Path) -> None:
    write(opened(tmp_path, 1), step_1="one")
    write(opened(tmp_path, 2), step_2="two")
    assert set(contents(opened(tmp_path, 2))) == {
        "trunk/step-1.safetensors",
        "trunk/step-2.safetensors",
    }


def test_a_folder_of_a_version_that_knew_no_attempts_is_gone_on_with(tmp_path: Path) -> None:
    old = tmp_path / "work" / "00007"
    (old / "trunk").mkdir(parents=True)
    (old / "trunk" / "step-1.safetensors").write_text("one")
    (old / "seconds.json").write_text("{}")
    assert set(contents(opened(tmp_path, 2))) == {"seconds.json", "trunk/step-1.safetensors"}
    assert set(contents(opened(tmp_path, 3))) == {"seconds.json", "trunk/step-1.safetensors"}


@pytest.mark.parametrize("last", range(3))
def test_one_that_is_killed_while_it_takes_over_leaves_a_whole_former_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: int
) -> None:
    write(opened(tmp_path, 1), step_1="one", step_2="two", step_3="three")
    whole = contents(opened(tmp_path, 1))
    taken = []

    def killed(path: Path, target: Path) -> bool:
        if len(taken) == last:
            raise KeyboardInterrupt
        taken.append(path)
        return real(path, target)

    real = module._taken
    with monkeypatch.context() as patched:
        patched.setattr(module, "_taken", killed)
        with pytest.raises(KeyboardInterrupt):
            opened(tmp_path, 2)
    assert not (tmp_path / "work" / "00007" / "attempt-2").exists()
    assert contents(opened(tmp_path, 3)) == whole
    assert contents(opened(tmp_path, 2)) == whole


def test_what_a_slow_former_owner_removes_meanwhile_is_replaced_by_what_it_wrote(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tmp_path, 1)
    write(first, step_1="one", step_2="two")
    links = []

    def link(source: Path, target: Path) -> None:
        if not links:
            write(first, step_3="three", step_4="four")
            for old in ("step-1", "step-2"):
                (first.folder / "trunk" / f"{old}.safetensors").unlink()
        links.append(source.name)
        real(source, target)

    real = os.link
    monkeypatch.setattr(module.os, "link", link)
    assert set(contents(opened(tmp_path, 2))) == {
        "trunk/step-3.safetensors",
        "trunk/step-4.safetensors",
    }
    assert links[:2] == ["step-1.safetensors", "step-2.safetensors"]


def test_a_disk_without_links_gets_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    write(opened(tmp_path, 1), step_1="one")
    monkeypatch.setattr(module.os, "link", refused)
    assert contents(opened(tmp_path, 2)) == {"trunk/step-1.safetensors": "one"}


def test_nothing_is_mirrored_where_files_are_kept_on_this_machine(tmp_path: Path) -> None:
    trial_folder = opened(tmp_path, 1)
    write(trial_folder, step_1="one")
    assert trial_folder.mirror() is None
    trial_folder.stored()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["00007"]


def test_an_owner_that_fails_makes_room_without_touching_the_next_ones_folder(
    tmp_path: Path,
) -> None:
    """It may have lost the trial before it failed, and learns so only when it writes the result."""
    first = opened(tmp_path, 1)
    write(first, step_1="one")
    second = opened(tmp_path, 2)
    first.discard()
    assert not first.folder.exists()
    assert contents(second) == {"trunk/step-1.safetensors": "one"}


@pytest.mark.parametrize(
    ("reason", "kind"), [(errno.ENOSPC, ArtifactError), (errno.EROFS, StoreError)]
)
def test_a_folder_that_cannot_be_filled_is_said_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reason: int, kind: type[StoreError]
) -> None:
    def refused(*_: object) -> None:
        raise OSError(reason, "no room")

    first = opened(tmp_path, 1)
    (first.folder / "seconds.json").write_text("{}")
    monkeypatch.setattr(module, "write_atomically", refused)
    with pytest.raises(kind, match=r"attempt-2 cannot be written: no room") as caught:
        opened(tmp_path, 2)
    assert type(caught.value) is kind


def test_the_end_of_a_trial_removes_all_its_attempts_and_no_other_trial(tmp_path: Path) -> None:
    write(opened(tmp_path, 1), step_1="one")
    other = TrialFolder.open(tmp_path / "work", STUDY, 8, 1, Artifacts(str(tmp_path)), None)
    second = opened(tmp_path, 2)
    second.close()
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["00008"]
    assert other.folder.is_dir()


def test_work_lies_beside_local_files_and_in_runs_where_they_are_remote(
    tmp_path: Path, remote: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert (
        work_folder(Artifacts(str(tmp_path / "files")), STUDY)
        == tmp_path / "files" / "work" / STUDY
    )
    elsewhere = Artifacts(remote.location)
    monkeypatch.chdir("/")
    assert work_folder(elsewhere, STUDY) == tmp_path / "runs" / "work" / STUDY, (
        "whatever folder a technique enters"
    )


# ---- another machine -----------------------------------------------------------------------------


def test_another_machine_goes_on_from_the_mirror(tmp_path: Path, remote: Artifacts) -> None:
    first = opened(tmp_path, 1, remote)
    write(first, step_1="one", step_2="two")
    manifest = first.mirror()
    assert manifest is not None
    assert manifest["fence"] == 1
    assert [(file["name"], file["bytes"]) for file in manifest["files"]] == [
        ("trunk/step-1.safetensors", 3),
        ("trunk/step-2.safetensors", 3),
    ]
    assert all(
        f"{STUDY}/00007/checkpoints/attempt-1/trunk/" in file["url"] for file in manifest["files"]
    )
    left = contents(first)
    shutil.rmtree(tmp_path / "work")
    second = opened(tmp_path, 2, remote, manifest)
    assert contents(second) == left


def test_what_the_next_owner_fetched_is_not_copied_again(tmp_path: Path, remote: Artifacts) -> None:
    first = opened(tmp_path, 1, remote)
    write(first, step_1="one")
    manifest = first.mirror()
    assert manifest is not None
    second = opened(tmp_path / "elsewhere", 2, remote, manifest)
    write(second, step_2="two")
    second_manifest = second.mirror()
    assert second_manifest is not None
    assert second_manifest["fence"] == 2
    assert second_manifest["files"][0] == manifest["files"][0]
    assert "attempt-2" in second_manifest["files"][1]["url"]


def test_a_copy_goes_only_when_a_manifest_without_it_was_stored(
    tmp_path: Path, remote: Artifacts
) -> None:
    trial_folder = opened(tmp_path, 1, remote)
    write(trial_folder, step_1="one")
    assert trial_folder.mirror() is not None
    trial_folder.stored()
    assert trial_folder.mirror() is None, "nothing has changed"
    write(trial_folder, step_2="two")
    (trial_folder.folder / "trunk" / "step-1.safetensors").unlink()
    manifest = trial_folder.mirror()
    assert manifest is not None
    assert [file["name"] for file in manifest["files"]] == ["trunk/step-2.safetensors"]
    assert copies() == ["step-1.safetensors", "step-2.safetensors"]
    assert trial_folder.mirror() == manifest, (
        "the database did not answer: the manifest is still to be stored"
    )
    assert copies() == ["step-1.safetensors", "step-2.safetensors"]
    trial_folder.stored()
    assert copies() == ["step-2.safetensors"]


def test_a_file_that_changed_gets_a_copy_beside_the_one_that_is_still_named(
    tmp_path: Path, remote: Artifacts
) -> None:
    trial_folder = opened(tmp_path, 1, remote)
    write(trial_folder, step_1="one")
    (trial_folder.folder / "seconds.json").write_text("1")
    before = trial_folder.mirror()
    (trial_folder.folder / "seconds.json").write_text("22")
    after = trial_folder.mirror()
    assert before is not None
    assert after is not None
    assert contents(opened(tmp_path / "a", 2, remote, before))["seconds.json"] == "1"
    assert contents(opened(tmp_path / "b", 2, remote, after))["seconds.json"] == "22"


def test_a_damaged_copy_is_skipped_and_copied_anew(tmp_path: Path, remote: Artifacts) -> None:
    """The checkpoint before it counts; when the trial comes to the same point, it is not taken for
    copied.
    """
    first = opened(tmp_path, 1, remote)
    write(first, step_1="one", step_2="two")
    manifest = first.mirror()
    assert manifest is not None
    fsspec.filesystem("memory").pipe(manifest["files"][1]["url"], b"tw\x00")
    second = opened(tmp_path / "elsewhere", 2, remote, manifest)
    assert contents(second) == {"trunk/step-1.safetensors": "one"}
    write(second, step_2="two")
    again = second.mirror()
    assert again is not None
    assert "attempt-2" in again["files"][1]["url"]
    second.stored()
    third = opened(tmp_path / "third", 3, remote, again)
    assert contents(third) == {"trunk/step-1.safetensors": "one", "trunk/step-2.safetensors": "two"}


def test_where_all_copies_are_lost_an_older_attempt_on_this_machine_counts(
    tmp_path: Path, remote: Artifacts
) -> None:
    write(opened(tmp_path, 1, remote), step_1="one")
    elsewhere = opened(tmp_path / "elsewhere", 2, remote)
    write(elsewhere, step_2="two")
    manifest = elsewhere.mirror()
    assert manifest is not None
    fsspec.filesystem("memory").rm("/attempts", recursive=True)
    assert contents(opened(tmp_path, 3, remote, manifest)) == {"trunk/step-1.safetensors": "one"}


def test_the_newer_of_mirror_and_disk_counts(tmp_path: Path, remote: Artifacts) -> None:
    first = opened(tmp_path, 1, remote)
    write(first, step_1="one")
    manifest = first.mirror()
    write(first, step_2="written after the last copy")
    assert "trunk/step-2.safetensors" in contents(opened(tmp_path, 2, remote, manifest))
    newer = {**(manifest or {}), "fence": 4}
    assert set(contents(opened(tmp_path, 5, remote, newer))) == {"trunk/step-1.safetensors"}


def test_a_place_that_does_not_answer_ends_the_worker_and_not_the_work(
    tmp_path: Path, remote: Artifacts, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = opened(tmp_path, 1, remote)
    write(first, step_1="one")
    manifest = first.mirror()

    def down(*_: object, **__: object) -> None:
        raise ConnectionError("no route to host")

    with monkeypatch.context() as patched:
        patched.setattr(type(remote._fs), "get_file", down)
        with pytest.raises(StoreError, match="no route to host"):
            opened(tmp_path / "elsewhere", 2, remote, manifest)
        patched.setattr(type(remote._fs), "put_file", down)
        write(first, step_2="two")
        assert first.mirror() is None, "training goes on without a copy"
    assert contents(opened(tmp_path / "elsewhere", 3, remote, manifest)) == {
        "trunk/step-1.safetensors": "one"
    }
    assert first.mirror() is not None


def test_a_manifest_cannot_name_files_outside_of_the_attempt(
    tmp_path: Path, remote: Artifacts
) -> None:
    first = opened(tmp_path, 1, remote)
    write(first, step_1="one")
    manifest = first.mirror()
    assert manifest is not None
    [entry] = manifest["files"]
    for name in ("../../escaped", str(tmp_path / "escaped")):
        kept = {"fence": 1, "files": [entry, {**entry, "name": name}]}
        place = tmp_path / "elsewhere" / str(len(name))
        assert contents(opened(place, 2, remote, kept)) == {"trunk/step-1.safetensors": "one"}
    assert not list(tmp_path.rglob("escaped"))


def test_the_end_of_a_trial_removes_all_copies_and_nothing_else(
    tmp_path: Path, remote: Artifacts
) -> None:
    model = tmp_path / "model.onnx"
    model.write_text("model")
    remote.put(model, "onnx", STUDY, "00007", "model.onnx.kept")
    first = opened(tmp_path, 1, remote)
    write(first, step_1="one")
    manifest = first.mirror()
    second = opened(tmp_path, 2, remote, manifest)
    write(second, step_2="two")
    assert second.mirror() is not None
    second.close()
    assert copies() == ["model.onnx"]
    assert not (tmp_path / "work" / "00007").exists()
