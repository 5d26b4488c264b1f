"""Who works on a trial: owners that can be told apart, and the thread that keeps their lease
alive.
"""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from automl_sr.errors import AutomlSRError, StoreError

LEASE_SECONDS = 60.0
LEASE_VARIABLE = "AUTOML_SR_LEASE_SECONDS"
RENEWALS = 4
"""How often a lease is renewed in its time."""


def lease_seconds() -> float:
    """Return the seconds for which a silent worker keeps its trial.

    Raises StoreError for a setting that is no time.
    """
    given = os.environ.get(LEASE_VARIABLE, "")
    try:
        if given:
            seconds = float(given)
        else:
            seconds = LEASE_SECONDS
    except ValueError:
        seconds = 0.0
    if not 0.1 <= seconds <= 86_400:
        raise StoreError(
            f"{LEASE_VARIABLE}={given} is no number of seconds from 0.1 to 86400.",
            "Leave it out for 60.",
        )
    return seconds


class LeaseLostError(AutomlSRError):
    """Another worker has taken the trial over; nothing more of it may be written here."""


@functools.cache
def node() -> str:
    """Name this machine so that process ids mean something: host, boot and, on Linux, the namespace
    of process ids.
    """
    parts = [platform.node() or "unknown"]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip()[:8])
        parts.append(str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]"))
    return ".".join(part.replace(":", "_") for part in parts)


def uptime() -> float:
    """Return for how long this machine has been awake: the same for all its processes, however its
    clock is set.
    """
    return time.monotonic()


def held_for(seconds: float) -> dict[str, Any]:
    """Return the fields of a lease that begins now, by the database's clock and by this machine's
    uptime.
    """
    from automl_sr.store.models import now  # owners are named where no database is loaded

    return {"lease_until": now() + seconds, "lease_uptime": uptime() + seconds}


GIVEN_BACK: Mapping[str, Any] = MappingProxyType(
    {"owner": None, "lease_until": None, "lease_uptime": None}
)
"""The fields of a lease that nobody has."""


def has_run_out(owner: str, until_uptime: float | None, *, by_database: bool) -> bool:
    """Return whether a lease has run out: for an owner on this machine its uptime says so, else the
    database's clock.

    So a clock that is set in the middle of a search, by hours perhaps, takes no trial from a
    process that works on it, and leaves none to a process that hangs.
    """
    if until_uptime is None or _place(owner)[0] != node():
        return by_database
    return uptime() > until_uptime


def new_owner() -> str:
    """Name a new worker of this process: `host:pid:uuid`."""
    return f"{node()}:{os.getpid()}:{uuid.uuid4().hex[:12]}"


def is_dead(owner: str) -> bool:
    """Whether the process of an owner on this machine has ended; of other machines nothing is
    known.
    """
    where, process = _place(owner)
    if where != node():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (PermissionError, ValueError):
        return False
    return _zombie(int(process))


def is_lost(owner: str) -> bool:
    """Whether an owner whose lease has ended is taken for dead: of other machines nothing better is
    known.
    """
    return _place(owner)[0] != node() or is_dead(owner)


def _place(owner: str) -> tuple[str, str]:
    """Return the machine and the process of an owner."""
    where, _, process = owner.rpartition(":")[0].rpartition(":")
    return where, process


def _zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to notice."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    except (OSError, IndexError):
        return False


class LeaseHeartbeat:
    """A thread that calls `renew` again and again; it stops, and says so, once the lease is lost.

    `renew` returns False where another owner has taken over. A database that does not answer is
    asked again for as long as it takes: whether the lease was lost meanwhile, its answer will tell.
    So is one that cannot be asked, because a technique has left too little memory or depth of
    recursion for that.
    """

    def __init__(self, renew: Callable[[], bool], *, every: float) -> None:
        self._renew = renew
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="automl-sr lease", daemon=True)
        self.lost = False

    def _work(self) -> None:
        while not self._end.wait(self._every):
            with contextlib.suppress(Exception):
                if not self._renew():
                    self.lost = True
                    return

    @contextlib.contextmanager
    def running(self) -> Iterator[LeaseHeartbeat]:
        """Keep the lease alive inside a `with`."""
        self._thread.start()
        try:
            yield self
        finally:
            self._end.set()
            self._thread.join()
