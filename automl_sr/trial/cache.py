"""Results shared between trials and workers.

They are named by their content, made once, bounded in size, and reported.
A result is `DIGEST.safetensors`; while it is made, `DIGEST.lock` is held and `DIGEST.work` keeps
what a resume needs. A lock ends with the process that holds it. Files of locks are removed, which
is safe only because every attempt to take one, and every removal, goes through one `door` that a
single process passes at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import math
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from torch import Tensor

from automl_sr.errors import DataError, PluginError, StopRequestedError, UseError
from automl_sr.files import load_tensors, save_tensors, write_atomically

log = logging.getLogger(__name__)

LIMIT = "AUTOML_SR_CACHE_GB"
DEFAULT_GB = 10.0
POLL_SECONDS = 0.1
PATIENCE_SECONDS = 1800.0
"""So long a worker that makes a result, and neither ends nor keeps anything, is waited for.

After that it is taken for suspended.
"""
ABANDONED_SECONDS = 7 * 86400.0
"""Work that was begun and left goes after so long, also where there is room."""
_RESULT, _WORK, _LOCK = ".safetensors", ".work", ".lock"
_OURS = re.compile(r"\.?([0-9a-f]{32})(\.safetensors|\.work|\.lock)(.*)")
_SECONDS = "seconds.json"

Make = Callable[[Path], Mapping[str, Tensor]]


def cache_limit() -> int:
    """Return the bytes that shared results may take.

    Raises UseError where AUTOML_SR_CACHE_GB is no size.
    """
    text = os.environ.get(LIMIT, "").strip() or str(DEFAULT_GB)
    try:
        size = float(text)
    except ValueError:
        size = math.nan
    if not 0 <= size < math.inf:
        raise UseError(
            f"{LIMIT} is {text!r}, which is no size in gigabytes.",
            "Write a number such as 10; 0 is none.",
        )
    return int(size * 1e9)


class Cache:
    """A folder of tensors by content key, as one trial uses it.

    `record` is the file in which it is kept what this trial made itself, so that a trial that was
    interrupted and goes on does not count its own results as reused.
    """

    def __init__(
        self,
        folder: Path,
        *,
        record: Path | None = None,
        limit: int | None = None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self.folder = folder
        self.hits: list[str] = []
        self.misses: list[str] = []
        self._record = record
        if limit is None:
            limit = cache_limit()
        self._limit = limit
        self._patience = patience
        self._entries: dict[str, dict[str, Any]] = {}
        if record is not None:
            self._entries = _read(record)
        self._making: list[str] = []
        self._saved = 0.0
        """Seconds that other trials' results, and work of former attempts, have saved so far."""

    def get(
        self,
        name: str,
        parts: Mapping[str, Any],
        make: Make,
        stop: Callable[[], bool] = lambda: False,
    ) -> dict[str, Tensor]:
        """Return the tensors of these parts, made at most once.

        That holds even when several workers ask at the same moment. `parts` is JSON that holds
        everything on which the result depends. `make` gets a folder that lives until the result is
        kept, for the checkpoints of long work. `stop` is asked while another worker makes the
        result. Raises StopRequestedError when it says so.
        """
        digest = _digest(parts)
        if digest in self._making:
            raise PluginError(f"{name!r} is needed to make itself.", "Make it from something else.")
        began = time.monotonic()
        found = self._find(digest, name, began)
        if found is not None:
            return found

        self.folder.mkdir(parents=True, exist_ok=True)
        with self._locked(digest, name, stop) as alone:
            found = self._find(digest, name, began)  # the one that was waited for
            if found is None:
                with self._workplace(digest, alone=alone) as scratch:
                    found = self._made(digest, name, parts, make, scratch)
        self._tidy(digest)
        return found

    def shared(self) -> dict[str, dict[str, Any]]:
        """Say by name what this trial took from here.

        Each entry says what making it took, whether another trial did, and how long it was waited
        for.
        """
        named: dict[str, dict[str, Any]] = {}
        for entry in self._entries.values():
            about = dict(entry)
            first = about.pop("name")
            # Names are for people: two results may have the same one.
            name = first
            number = 2
            while name in named:
                name = f"{first} ({number})"
                number += 1
            named[name] = about
        return named

    def _find(self, digest: str, name: str, began: float) -> dict[str, Tensor] | None:
        """Read a result without a lock: it is written whole or not at all."""
        path = self.folder / f"{digest}{_RESULT}"
        if not path.exists():
            return None
        waited = time.monotonic() - began
        try:
            tensors, header = load_tensors(path)
        except DataError as error:
            if path.exists():  # else it was removed meanwhile
                log.warning("the shared result %r is damaged and made again: %s", name, error)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)  # what was used last goes last
        self.hits.append(name)

        seconds = header.get("seconds", 0.0)
        if digest not in self._entries:
            entry: dict[str, Any] = {"name": name, "seconds": seconds, "reused": True}
            if waited >= POLL_SECONDS:
                entry["waited"] = round(waited, 3)
            self._note(digest, entry)
        if self._entries[digest]["reused"]:
            took = time.monotonic() - began
            self._saved += max(0.0, seconds - took)
        return tensors

    def _made(
        self,
        digest: str,
        name: str,
        parts: Mapping[str, Any],
        make: Make,
        scratch: Path,
    ) -> dict[str, Tensor]:
        """Make a result, and keep it with the seconds that making it from nothing takes."""
        began = time.monotonic()
        saved = self._saved
        self._saved += _read(scratch / _SECONDS).get("seconds", 0.0)

        def seconds() -> float:
            """Count what former attempts, and results of others, have saved meanwhile."""
            spent = time.monotonic() - began
            return round(spent + self._saved - saved, 3)

        made = {}
        self._making.append(digest)
        try:
            for key, value in make(scratch).items():
                made[key] = value.detach().cpu().contiguous()
        except BaseException:  # a request to stop and Ctrl-C as well
            _keep_seconds(scratch, seconds())
            raise
        finally:
            self._making.remove(digest)

        took = seconds()
        self._keep(digest, name, made, {"name": name, "parts": parts, "seconds": took})
        self.misses.append(name)
        self._note(digest, {"name": name, "seconds": took, "reused": False})
        return made

    def _keep(
        self,
        digest: str,
        name: str,
        made: Mapping[str, Tensor],
        header: Mapping[str, Any],
    ) -> None:
        """Write a result, unless it is larger than all of them may be, or the disk is full."""
        # A result that is not written is used all the same: it is only made again by others.
        size = 0
        for value in made.values():
            size += value.numel() * value.element_size()
        if size > self._limit:
            log.warning(
                "%r takes %.2g GB, more than %s allows: it is not kept for others",
                name,
                size / 1e9,
                LIMIT,
            )
            return
        try:
            save_tensors(self.folder / f"{digest}{_RESULT}", made, header)
        except OSError as error:
            log.warning("%r cannot be kept for others: %s", name, error)

    def _note(self, digest: str, entry: dict[str, Any]) -> None:
        self._entries[digest] = entry
        if self._record is not None:
            write_atomically(self._record, json.dumps(self._entries).encode())

    # ---- locks -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _locked(self, digest: str, name: str, stop: Callable[[], bool]) -> Iterator[bool]:
        """Wait until nobody else makes a result.

        Yields True where that one stands still, and this one goes alone.
        """
        moved = self._moved(digest)
        since = time.monotonic()
        while (lock := self._take(digest)) is None:
            if stop():
                raise StopRequestedError(
                    f"Stopped while another worker makes {name!r}; the work up to here is kept."
                )
            now = self._moved(digest)
            if now != moved:
                moved = now
                since = time.monotonic()
            if time.monotonic() - since >= self._patience:
                log.warning("another worker makes %r and stands still: it is made here too", name)
                yield True
                return
            time.sleep(POLL_SECONDS)

        try:
            yield False
        finally:
            self._give_back(digest, lock)

    def _take(self, digest: str) -> FileLock | None:
        """Try once to get the lock of a result."""
        lock = FileLock(self.folder / f"{digest}{_LOCK}")
        with contextlib.suppress(Timeout), self._door():
            lock.acquire(timeout=0)
            return lock
        return None

    def _give_back(self, digest: str, lock: FileLock) -> None:
        """Release a lock, and remove its file while nobody can be about to take it."""
        try:
            with contextlib.suppress(Timeout), self._door():
                lock.release()
                (self.folder / f"{digest}{_LOCK}").unlink(missing_ok=True)
        finally:
            lock.release()  # where the door did not open; a second time it does nothing

    def _door(self) -> contextlib.AbstractContextManager[object]:
        """Let one process at a time take locks and remove them; held for an instant.

        Raises Timeout.
        """
        return FileLock(self.folder / "door.lock").acquire(timeout=0.5, poll_interval=0.005)

    @contextlib.contextmanager
    def _workplace(self, digest: str, *, alone: bool) -> Iterator[Path]:
        """Yield the folder for a result's checkpoints, which goes with success."""
        if alone:
            # Not the one of the worker that stands still: it may go on and write there.
            with tempfile.TemporaryDirectory(
                prefix="automl-sr-",
                ignore_cleanup_errors=True,
            ) as folder:
                yield Path(folder)
            return

        scratch = self.folder / f"{digest}{_WORK}"
        scratch.mkdir(exist_ok=True)
        yield scratch
        shutil.rmtree(scratch, ignore_errors=True)

    def _moved(self, digest: str) -> float:
        """Say when something was last kept of a result that is being made."""
        return _used(self.folder / f"{digest}{_WORK}")

    # ---- size ------------------------------------------------------------------------------------

    def _tidy(self, made: str) -> None:
        """Remove what killed workers left and, above the limit, what was used longest ago."""
        try:
            items = sorted(self._items(), key=lambda item: item.used)
        except OSError:  # somebody has removed the whole folder
            return

        total = sum(item.size for item in items)
        kept = {made, *self._making}
        now = time.time()
        for item in items:
            if item.digest in kept:
                continue
            abandoned = item.kind == _WORK and now - item.used > ABANDONED_SECONDS
            unwanted = item.leftover or abandoned or total > self._limit
            if unwanted and self._remove(item):
                total -= item.size

    def _items(self) -> Iterator[_Item]:
        for path in self.folder.iterdir():
            match = _OURS.fullmatch(path.name)
            if match is None:
                continue
            digest, kind, rest = match.groups()
            yield _Item(
                path=path,
                digest=digest,
                kind=kind,
                used=_used(path),
                size=_size(path),
                leftover=kind == _LOCK or rest != "",
            )

    def _remove(self, item: _Item) -> bool:
        """Remove a file or folder, unless somebody is making it."""
        lock = self._take(item.digest)
        if lock is None:
            return False
        try:
            if item.path.is_dir():
                shutil.rmtree(item.path, ignore_errors=True)
            elif item.kind != _LOCK:
                with contextlib.suppress(OSError):  # on some systems, because it is being read
                    item.path.unlink(missing_ok=True)
        finally:
            self._give_back(item.digest, lock)
        return not item.path.exists()


@dataclass(frozen=True)
class _Item:
    """Something in the folder that belongs to one result.

    A leftover is needed only while its lock is held.
    """

    path: Path
    digest: str
    kind: str
    used: float
    size: int
    leftover: bool


def _digest(parts: Mapping[str, Any]) -> str:
    """Name a result by what it depends on."""
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _keep_seconds(scratch: Path, seconds: float) -> None:
    """Note what an attempt took that was interrupted, if it kept something for the next one."""
    with contextlib.suppress(OSError):
        if not any(scratch.iterdir()):
            scratch.rmdir()
            return
        kept = json.dumps({"seconds": seconds})
        write_atomically(scratch / _SECONDS, kept.encode())


def _read(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found


def _files(path: Path) -> Iterator[os.stat_result]:
    """Look at a file or folder and all that is in it, as far as it does not vanish meanwhile."""
    inside = []
    for place, _, names in os.walk(path):
        for name in names:
            inside.append(Path(place, name))
    for item in (path, *inside):
        with contextlib.suppress(OSError):
            yield item.stat()


def _used(path: Path) -> float:
    """Return when something was last written or read, in seconds."""
    latest = 0.0
    for found in _files(path):
        latest = max(latest, found.st_mtime)
    return latest


def _size(path: Path) -> int:
    return sum(found.st_size for found in _files(path))
