"""Ends a PostgreSQL of tests when the process that started it is gone, however that went: a signal
leaves none behind.

    python postgres_guard.py PID FOLDER

waits for the end of its parent PID, stops the server whose data is in FOLDER/data, and removes the
folder.
"""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

STOPPING_SECONDS = 30


@contextlib.contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """Have a process of its own wait for the end of this one while the block runs."""
    # In a session of its own: Ctrl-C reaches all processes of a terminal's foreground.
    guard = subprocess.Popen(
        [sys.executable, "-S", __file__, str(os.getpid()), str(folder)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        guard.kill()
        guard.wait()


def wait_for_the_end_of(pid: int, seconds: float | None = None) -> None:
    """Wait for the end of a process, whether or not it is a child of this one."""
    with contextlib.suppress(ProcessLookupError):
        handle = os.pidfd_open(pid)
        select.select([handle], [], [], seconds)


def stop(data: Path) -> None:
    """Stop the server of a folder of data, if there is one, as a crash would: nobody needs the data
    any more.
    """
    try:
        server = int((data / "postmaster.pid").read_text().split("\n")[0])
        os.kill(server, signal.SIGQUIT)
    except (FileNotFoundError, ProcessLookupError):
        return
    wait_for_the_end_of(server, STOPPING_SECONDS)


def main(pid: int, folder: Path) -> None:
    """Wait, stop and remove."""
    if os.getppid() == pid:  # otherwise it is gone already
        wait_for_the_end_of(pid)
    stop(folder / "data")
    shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), Path(sys.argv[2]))
