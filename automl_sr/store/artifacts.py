"""The place for files, local or remote: a file appears under its name only when it is whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
import uuid
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from automl_sr.errors import StoreError
from automl_sr.store.records import ArtifactRecord

DEFAULT_LOCATION = "runs/artifacts"
BLOCK = 1 << 20
PARTIAL = ".partial"


def default_location() -> str:
    """Give `AUTOML_SR_ARTIFACTS`, or the folder in `runs`."""
    return os.environ.get("AUTOML_SR_ARTIFACTS") or DEFAULT_LOCATION


class Artifacts:
    """Files under one fsspec location; a plain path is a local folder. Raises StoreError where it cannot be used."""

    def __init__(self, location: str) -> None:
        self.location = location
        try:
            self._fs, self._root = fsspec.url_to_fs(location)
        except (ImportError, ValueError) as error:
            raise StoreError(f"Files cannot be kept at {location}: {error}.", "Choose another --artifacts.") from error
        self.local = isinstance(self._fs, LocalFileSystem)

    @property
    def folder(self) -> Path | None:
        """The local folder, where it is one."""
        return Path(self._root) if self.local else None

    @property
    def url(self) -> str:
        """The location as it is recorded: local folders as absolute paths."""
        return str(self.folder) if self.local else self.location.rstrip("/")

    def put(self, source: Path, kind: str, *name: str) -> ArtifactRecord:
        """Keep a file under the name. Raises StoreError where it cannot be written."""
        target = "/".join([str(self._root).rstrip("/"), *name])
        digest, size = sha256(source)
        try:
            self._put(source, target)
        except Exception as error:  # the clients of object stores have exceptions of their own
            reason = getattr(error, "strerror", None) or error
            raise StoreError(
                f"{target} cannot be written: {reason}.", "Free some space, or choose other --artifacts."
            ) from error
        url = target if self.local else str(self._fs.unstrip_protocol(target))
        return ArtifactRecord(kind, url, digest, size)

    def _put(self, source: Path, target: str) -> None:
        if not self.local:
            self._fs.put_file(str(source), target)  # object stores show a file when its upload is complete
            return
        path = Path(target)
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_name(f"{path.name}.{uuid.uuid4().hex[:8]}{PARTIAL}")
        try:
            with source.open("rb") as reading, partial.open("wb") as writing:
                shutil.copyfileobj(reading, writing, BLOCK)
                writing.flush()
                os.fsync(writing.fileno())
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def fetch(record: ArtifactRecord, target: Path) -> Path:
    """Copy a stored file to a local path, whole and checked. Raises StoreError where it is gone or altered."""
    fs, path = fsspec.url_to_fs(record.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=PARTIAL)
    os.close(descriptor)
    partial = Path(name)
    try:
        _download(fs, path, partial, record.url)
        if sha256(partial)[0] != record.sha256:
            raise StoreError(f"{record.url} is not the file that was stored: its content has changed.")
        partial.chmod(0o644)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _download(fs: Any, path: str, partial: Path, url: str) -> None:
    try:
        fs.get_file(path, str(partial))
    except FileNotFoundError as error:
        raise StoreError(f"The stored file {url} is gone.") from error
    except OSError as error:
        raise StoreError(f"The stored file {url} cannot be read: {error}.") from error


def sha256(path: Path) -> tuple[str, int]:
    """Hash a file, and give its size."""
    digest, size = hashlib.sha256(), 0
    with path.open("rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size
