"""The folder of a running app, for uploads and downloads: gone with the app, and where it was
killed with the next.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)
PREFIX = "automl-sr-app-"
LOCK = "in-use.lock"
"""Locked as long as the app runs; the system unlocks it however the app ends."""


@contextmanager
def own_folder() -> Iterator[Path]:
    """Yield a new folder that nobody else may read, after removing what killed apps have left."""
    place = Path(tempfile.gettempdir())
    remove_left_over(place)
    made = Path(tempfile.mkdtemp(prefix=f".{PREFIX}", dir=place))
    lock = FileLock(made / LOCK)
    lock.acquire(timeout=0)
    # only now another app may find it: one that is not locked is taken for left over
    folder = made.rename(place / made.name.removeprefix("."))
    files = folder / "files"
    files.mkdir()
    try:
        yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        lock.release()


def remove_left_over(place: Path) -> None:
    """Remove the folders of apps that run no more."""
    for folder in place.glob(f"{PREFIX}*"):
        if not _is_own(folder) or not (folder / LOCK).is_file():
            continue
        try:
            with FileLock(folder / LOCK, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except Timeout:
            continue
        except OSError as error:
            log.warning("%s, left by an app that was killed, cannot be removed: %s", folder, error)


def _is_own(folder: Path) -> bool:
    """Return whether this is a folder of the same user: others can put links with such names
    there.
    """
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid()
