"""The artifact location, local or remote: a file appears under its name only when it is whole."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem

from automl_sr.errors import StoreError
from automl_sr.files import PARTIAL
from automl_sr.store.records import ArtifactRecord

DEFAULT_LOCATION = "runs/artifacts"
BLOCK = 1 << 20
_FULL = (errno.ENOSPC, errno.EDQUOT)
_WHOLE_UPLOADS = frozenset(
    {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "oss", "oci", "tos", "hf"}
)
"""Object stores: a file is seen there when its upload is complete, and a move would copy it."""
_PASSWORD = re.compile(r"[^/@:]*:(?!\d+/)[^@]*@")
"""`user:password@` after the `//`; a password may hold a slash, and `host:22/` is a port."""
_SECRET_KEYS = re.compile(
    r"[?&](password|passwd|token|secret|key|sas_token|sig|signature)=", re.IGNORECASE
)


class ArtifactError(StoreError):
    """The artifact location is full: the trial whose file it is fails, the study goes on."""


class FileLost(StoreError):  # noqa: N818 - what happened to the file
    """A stored file is gone, or no longer what was stored."""


def default_location() -> str:
    """Return `AUTOML_SR_ARTIFACTS`, or the folder in `runs`."""
    return os.environ.get("AUTOML_SR_ARTIFACTS") or DEFAULT_LOCATION


class Artifacts:
    """Files under one fsspec location; a plain path is a local folder.

    Raises StoreError where it cannot be used.
    """

    def __init__(self, location: str) -> None:
        _refuse_secrets(location)
        self.location = location
        try:
            self._fs, self._root = fsspec.url_to_fs(location)
        except Exception as error:
            # The clients of servers, which connect here, have exceptions of their own.
            text = f"Files cannot be kept at {location}: {_reason(error)}."
            raise StoreError(text, "Choose another --artifacts.") from error
        self._root = str(self._root).rstrip("/")
        # Resolved now: a technique may enter another folder.
        self._runs = Path("runs").resolve()
        self.local = isinstance(self._fs, LocalFileSystem)

    @property
    def folder(self) -> Path | None:
        """The local folder, where it is one."""
        if self.local:
            return Path(self._root or "/")
        return None

    @property
    def url(self) -> str:
        """The location as it is recorded: local folders as absolute paths."""
        if self.local:
            return str(self.folder)
        return self.location.rstrip("/")

    @property
    def beside(self) -> Path:
        """The folder in which checkpoints and shared results lie: a local location itself, else
        `runs`.
        """
        if self.folder is not None:
            return self.folder
        return self._runs

    @property
    def identity(self) -> tuple[Any, str]:
        """What two locations have in common that are the same place by other names."""
        root = self._root
        if self.local:
            root = os.path.realpath(root)
        return (self._fs, root)

    @property
    def there(self) -> bool:
        """Whether the place can be looked into from here; a local folder may be on another
        machine.
        """
        return self.folder is None or self.folder.is_dir()

    def url_of(self, *name: str) -> str:
        """Return the URL under which a file is recorded."""
        return "/".join([self.url.rstrip("/"), *name])

    def put(self, source: Path, kind: str, *name: str) -> ArtifactRecord:
        """Keep a file under the name.

        Raises ArtifactError where the place is full, StoreError where it fails.
        """
        target = self._path(*name)
        digest, size = sha256(source)
        with written(target):
            if self.local:
                _put_local(source, Path(target))
            else:
                self._upload(source, target, size)
        return ArtifactRecord(kind, self.url_of(*name), digest, size)

    def files(self, *folder: str) -> dict[str, int]:
        """List all files below a folder, also partial ones: names within the folder, and bytes.

        Raises StoreError.
        """
        top = self._path(*folder)
        if self.local:
            return dict(_local_files(Path(top)))
        with _answering(top):
            self._fs.invalidate_cache()  # others write, too
            try:
                found = self._fs.find(top, detail=True)
            except FileNotFoundError:
                return {}
        prefix = f"{top}/"
        result: dict[str, int] = {}
        for path, info in found.items():
            if path != top:
                name = path.removeprefix(prefix)
                result[name] = int(info["size"] or 0)
        return result

    def prune(self, *folder: str) -> None:
        """Remove the empty folders below a folder, and itself if it is empty then; only on this
        machine.
        """
        top = self._path(*folder)
        if not self.local:
            return
        for place, _, _ in os.walk(top, topdown=False):
            with contextlib.suppress(OSError):  # it holds something
                Path(place).rmdir()

    def _path(self, *name: str) -> str:
        return "/".join([self._root, *name])

    def _upload(self, source: Path, target: str, size: int) -> None:
        """Upload a file under a temporary name and move it, where a half-written file would be
        seen.
        """
        if self._protocols() & _WHOLE_UPLOADS:
            self._fs.put_file(str(source), target)
        else:
            self._fs.makedirs(target.rpartition("/")[0], exist_ok=True)
            partial = f"{target}.{uuid.uuid4().hex[:8]}{PARTIAL}"
            try:
                self._fs.put_file(str(source), partial)
                self._move(partial, target)
            except BaseException:
                with contextlib.suppress(Exception):  # where it stays, `automl-sr gc` finds it
                    self._fs.rm_file(partial)
                raise
        # Looked at once more: not every server says that an upload broke off.
        self._fs.invalidate_cache()
        found = self._fs.info(target)["size"]
        if found is not None and found != size:
            raise OSError(errno.EIO, f"{found} of {size} bytes have arrived")

    def _move(self, partial: str, target: str) -> None:
        try:
            self._fs.mv(partial, target)
        except Exception:  # some servers do not move a file onto another one
            if not self._fs.exists(target):
                raise
            self._fs.rm_file(target)
            self._fs.mv(partial, target)

    def _protocols(self) -> set[str]:
        names = self._fs.protocol
        if isinstance(names, str):
            return {names}
        return set(names)


def fetch(record: ArtifactRecord, target: Path) -> Path:
    """Copy a stored file to a local path, whole and checked.

    Raises FileLost where it is gone or altered, StoreError where its place does not answer.
    """
    fs, path = fsspec.url_to_fs(record.url)
    target.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own: two processes may fetch the same file at once.
    descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.", suffix=PARTIAL)
    os.close(descriptor)
    partial = Path(name)
    try:
        _download(fs, path, partial, record.url)
        if sha256(partial)[0] != record.sha256:
            raise FileLost(
                f"{record.url} is not the file that was stored: its content has changed."
            )
        partial.chmod(0o644)  # `mkstemp` lets nobody else read it
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def delete(url: str) -> None:
    """Remove a stored file, if it is there. Raises StoreError."""
    fs, path = fsspec.url_to_fs(url)
    with _answering(url), contextlib.suppress(FileNotFoundError):
        try:
            fs.rm_file(path)
        except Exception:
            if not _gone(fs, path):
                raise


def _download(fs: Any, path: str, partial: Path, url: str) -> None:
    try:
        fs.get_file(path, str(partial))
    except Exception as error:  # the clients of object stores have exceptions of their own
        if isinstance(error, FileNotFoundError) or _gone(fs, path):
            raise FileLost(f"The stored file {url} is gone.") from error
        kind = _kind_of(error)
        raise kind(f"The stored file {url} cannot be fetched: {_reason(error)}.") from error


def _kind_of(error: Exception) -> type[StoreError]:
    """Return what a failed transfer is: a full disk is the trial's trouble, not the study's."""
    if getattr(error, "errno", None) in _FULL:
        return ArtifactError
    return StoreError


def _gone(fs: Any, path: str) -> bool:
    """Whether a file is known not to be there."""
    # Asked for once more: FTP says so in words of its own, and a dead line says nothing.
    try:
        fs.invalidate_cache()
        fs.info(path)
    except FileNotFoundError:
        return True
    except Exception:  # noqa: BLE001 - whatever it is, it does not say that the file is gone
        return False
    return False


def sha256(path: Path) -> tuple[str, int]:
    """Hash a file, and give its size."""
    digest = hashlib.sha256()
    size = 0
    with path.open("rb") as stream:
        # Block by block: models and checkpoints may be larger than the memory that is free.
        while block := stream.read(BLOCK):
            digest.update(block)
            size += len(block)
    return digest.hexdigest(), size


def _put_local(source: Path, path: Path) -> None:
    # A new folder is an entry of the one above it, which has to reach the disk too.
    changed = [path.parent]
    for folder in path.parents:
        if not folder.exists():
            changed.append(folder.parent)
    path.parent.mkdir(parents=True, exist_ok=True)
    chance = uuid.uuid4().hex[:8]  # others may write the same file at once
    partial = path.with_name(f"{path.name}.{chance}{PARTIAL}")
    try:
        with source.open("rb") as reading, partial.open("wb") as writing:
            shutil.copyfileobj(reading, writing, BLOCK)
            # On the disk before it has its name: after a power cut a file is whole or not there.
            writing.flush()
            os.fsync(writing.fileno())
        partial.replace(path)
        for folder in changed:
            _sync_folder(folder)
    finally:
        partial.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """See the new name onto the disk, before the database says that the file is there."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows opens no folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _local_files(top: Path) -> Iterator[tuple[str, int]]:
    for place, _, names in os.walk(top):
        for name in names:
            path = Path(place, name)
            with contextlib.suppress(FileNotFoundError):  # a worker has renamed or removed it
                size = path.lstat().st_size
                yield path.relative_to(top).as_posix(), size


@contextlib.contextmanager
def _answering(place: str) -> Iterator[None]:
    """Turn what the clients of file systems raise into a StoreError, but for files that are not
    there.
    """
    try:
        yield
    except FileNotFoundError:
        raise
    except Exception as error:
        raise StoreError(f"{place} cannot be reached: {_reason(error)}.") from error


@contextlib.contextmanager
def written(target: str) -> Iterator[None]:
    """Say in one sentence why a file cannot be written.

    Raises ArtifactError on a full disk, else StoreError.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:  # the clients of object stores have exceptions of their own
        kind = _kind_of(error)
        hint = "Free some space, or choose other --artifacts."
        raise kind(f"{target} cannot be written: {_reason(error)}.", hint) from error


def _reason(error: Exception) -> str:
    said = getattr(error, "strerror", None) or error
    text = str(said) or type(error).__name__
    return " ".join(text.split()).rstrip(".")


def _refuse_secrets(location: str) -> None:
    """The location is written into the database, where passwords have no place.

    Raises StoreError.
    """
    for part in location.split("::"):
        scheme, separator, rest = part.partition("://")
        if separator and (_PASSWORD.match(rest) or _SECRET_KEYS.search(rest)):
            raise StoreError(
                f"The artifact location ({scheme}://...) has a password in its URL, which is stored"
                " with the study.",
                "Leave it out, and put credentials into the environment or into fsspec's"
                " configuration (~/.config/fsspec/conf.json).",
            )
