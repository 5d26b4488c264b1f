"""The folder in which one owner of a trial works; the next owner takes its checkpoints over into a
folder of its own.

So a worker that has lost its lease, and does not know it yet, never writes where the new owner
reads.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from automl_sr.errors import StoreError
from automl_sr.files import PARTIAL, write_atomically
from automl_sr.store.artifacts import Artifacts, FileLost, delete, fetch, sha256, written
from automl_sr.store.records import ArtifactRecord

log = logging.getLogger(__name__)
KIND = "checkpoint"
MIRROR = "checkpoints"
"""The folder of a trial, in the remote artifact location, that holds copies of its checkpoints."""
TENSORS = ".safetensors"
LOOKS = 10
"""How often a former owner that still writes is looked at again."""
_ATTEMPT = re.compile(r"attempt-(\d+)")
_LEFT = re.compile(r"rung-\d+|attempt-.*")
"""Exported models are made again; other attempts lie in a folder of before there were attempts."""

Entry = dict[str, Any]
"""One file of a manifest: name in the attempt's folder, url, sha256 and bytes."""


class TrialFolder:
    """What one owner of a trial has on disk and, where files are kept in a remote place, the copy
    of it there.

    `mirror` gives a manifest that is to be stored, fenced, in the trial's row, after which `stored`
    is called.
    """

    def __init__(
        self, folder: Path, fence: int, artifacts: Artifacts, place: tuple[str, ...]
    ) -> None:
        self.folder = folder
        self.fence = fence
        self._artifacts = artifacts
        self._place = place
        self._uploaded: dict[tuple[str, str], Entry] = {}
        self._remote: set[str] = set()
        self._given: dict[str, Any] | None = None
        self._stored: dict[str, Any] | None = None

    @classmethod
    def open(
        cls,
        study_folder: Path,
        record_folder: str,
        number: int,
        fence: int,
        artifacts: Artifacts,
        kept: Mapping[str, Any] | None,
    ) -> TrialFolder:
        """Make the folder of this fence, with what the newest former attempt left, or go on with
        it.

        `kept` is the manifest in the trial's row. Raises ArtifactError where the disk is full,
        StoreError where the remote place does not answer or the folder cannot be made.
        """
        trial = f"{number:05d}"
        folder = study_folder / trial / f"attempt-{fence}"
        trial_folder = cls(folder, fence, artifacts, (record_folder, trial, MIRROR))
        if kept:
            trial_folder._remote = {entry["url"] for entry in kept["files"]}
        if not folder.is_dir():
            with written(str(folder)):
                trial_folder._take_over(kept)
        return trial_folder

    def mirror(self) -> dict[str, Any] | None:
        """Copy new checkpoints to a remote artifact location; gives the manifest to store, or
        nothing if none is needed.
        """
        if self._artifacts.local:
            return None
        entries: list[Entry] = []
        try:
            for name, path in resumable(self.folder).items():
                entry = self._upload(name, path)
                if entry is not None:
                    entries.append(entry)
        except StoreError as error:
            # No reason to stop training: the next checkpoint is copied instead.
            log.warning("a checkpoint was not copied: %s", error)
            return None
        manifest = {"fence": self.fence, "files": entries}
        if manifest == self._stored or not entries:
            return None
        self._given = manifest
        return manifest

    def stored(self) -> None:
        """Take note that the last manifest is in the trial's row, and remove copies that it no
        longer needs.
        """
        if self._given is None:
            return
        self._stored = self._given
        needed = {entry["url"] for entry in self._stored["files"]}
        uploaded = {}
        for key, entry in self._uploaded.items():
            if entry["url"] in needed:
                uploaded[key] = entry
        self._uploaded = uploaded
        # Only now that no row names them any more: a takeover reads what the row names.
        self._remove_copies(self._remote - needed)

    def discard(self) -> None:
        """Make room before the result of a trial that failed is written."""
        # This owner may have lost the trial meanwhile: only its own folder goes, not that of the
        # new owner, nor what that one reads.
        shutil.rmtree(self.folder, ignore_errors=True)

    def close(self) -> None:
        """Remove what only a resume needs, of all attempts: only once this owner has written the
        trial's result.
        """
        shutil.rmtree(self.folder.parent, ignore_errors=True)
        if self._artifacts.local:
            return
        found = set()
        try:
            for name in self._artifacts.files(*self._place):
                found.add(self._artifacts.url_of(*self._place, name))
        except StoreError as error:
            log.warning("copies of checkpoints are left for `automl-sr gc`: %s", error)
            return
        self._remove_copies(found | self._remote)

    def _take_over(self, kept: Mapping[str, Any] | None) -> None:
        """Fill the folder with what the newest former attempt left."""
        # Under another name first: a folder of the right name is whole.
        partial = self.folder.with_name(f"{self.folder.name}{PARTIAL}")
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        local_fence, local = _newest_former(self.folder.parent, self.fence)
        mirrored = False
        if kept is not None and kept["fence"] > local_fence:
            mirrored = self._download(kept, partial)
        if not mirrored and local is not None:
            _copy(local, partial)
        partial.rename(self.folder)

    def _download(self, kept: Mapping[str, Any], target: Path) -> bool:
        """Fetch the copies of a former attempt, but for those that were lost; says whether there is
        a checkpoint.
        """
        for entry in kept["files"]:
            name = PurePosixPath(entry["name"])
            # The manifest comes from the database, into which others may write.
            if name.is_absolute() or ".." in name.parts:
                log.warning(
                    "the copy %s is skipped: it would lie outside of the trial's folder", name
                )
                continue
            record = ArtifactRecord(KIND, entry["url"], entry["sha256"], entry["bytes"])
            try:
                fetch(record, target / name)
            except FileLost as error:
                log.warning("a copied checkpoint is skipped: %s", error)
                continue
            self._uploaded[(entry["name"], entry["sha256"])] = dict(entry)
        return any(name.endswith(TENSORS) for name, _ in self._uploaded)

    def _upload(self, name: str, path: Path) -> Entry | None:
        """Copy a file to the remote place, unless it is there; gives nothing for one that has
        vanished meanwhile.
        """
        try:
            digest, _ = sha256(path)
            known = self._uploaded.get((name, digest))
            if known is not None:
                return known
            # The digest in the name: a copy that the stored manifest needs is never replaced by
            # another one.
            place = (*self._place, f"attempt-{self.fence}", f"{name}.{digest[:12]}")
            record = self._artifacts.put(path, KIND, *place)
        except FileNotFoundError:
            return None
        self._remote.add(record.url)
        entry = {
            "name": name,
            "url": record.url,
            "sha256": record.sha256,
            "bytes": record.bytes,
        }
        self._uploaded[name, digest] = entry
        return entry

    def _remove_copies(self, urls: set[str]) -> None:
        for url in sorted(urls):
            try:
                delete(url)
            except StoreError as error:
                log.warning("a copy is left for `automl-sr gc`: %s", error)
            self._remote.discard(url)


def work_folder(artifacts: Artifacts, record_folder: str) -> Path:
    """Return the folder in which the trials of a study keep what a resume needs: one folder for
    each number.
    """
    return artifacts.beside / "work" / record_folder


def resumable(folder: Path) -> dict[str, Path]:
    """Return the files of an attempt that a resume needs, by name: checkpoints and small files, no
    exported models.
    """
    found = {}
    for place, folders, names in os.walk(folder):
        if Path(place) == folder:
            # Changed in place: `os.walk` goes into what is left in its list.
            folders[:] = [name for name in folders if not _LEFT.fullmatch(name)]
        for name in names:
            if name.endswith(PARTIAL):
                continue
            path = Path(place, name)
            inside = path.relative_to(folder)
            found[inside.as_posix()] = path
    return dict(sorted(found.items()))


def _newest_former(trial: Path, fence: int) -> tuple[int, Path | None]:
    """Find the newest attempt before this one on this machine: its fence and folder."""
    newest = -1
    folder: Path | None = None
    if not trial.is_dir():
        return newest, folder
    if (trial / "trunk").is_dir():  # begun by a version that knew no attempts
        newest = 0
        folder = trial
    for path in trial.iterdir():
        match = _ATTEMPT.fullmatch(path.name)
        if match is None or not path.is_dir():
            continue
        attempt = int(match[1])
        if newest < attempt < fence:
            newest = attempt
            folder = path
    return newest, folder


def _copy(source: Path, target: Path) -> None:
    """Copy what a resume needs."""
    # Its owner may still live: where files vanish, newer ones have come, so look again.
    for _ in range(LOOKS):
        complete = True
        for name, path in resumable(source).items():
            if not _taken(path, target / name):
                complete = False
        if complete:
            return


def _taken(path: Path, target: Path) -> bool:
    """Take one file over; False where it has vanished."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # Tensors are never changed in place: a link is enough.
        if path.suffix != TENSORS or not _linked(path, target):
            write_atomically(target, path.read_bytes())
    except FileNotFoundError:
        return False
    return True


def _linked(path: Path, target: Path) -> bool:
    try:
        os.link(path, target)
    except FileExistsError:
        return True  # taken at the last look
    except FileNotFoundError:
        raise
    except OSError:  # a file system without links
        return False
    return True
