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
from dataclasses import dataclass
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
    if not given:
        return LEASE_SECONDS
    try:
        seconds = float(given)
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
    # Elsewhere than on Linux the host has to do.
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text()
        parts.append(boot.strip()[:8])
        namespace = Path("/proc/self/ns/pid").readlink()  # pid:[4026531836]
        parts.append(str(namespace).strip("pid:[]"))
    return ".".join(parts).replace(":", "_")  # colons are between the parts of an owner


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


@dataclass(frozen=True)
class Owner:
    """A worker that holds a lease; rows keep it as `machine:pid:token`."""

    machine: str
    """As `node` names it; it holds no colon."""
    pid: int
    token: str
    """Tells the workers of one process apart."""

    @classmethod
    def new(cls) -> Owner:
        """Name a new worker of this process."""
        return cls(node(), os.getpid(), uuid.uuid4().hex[:12])

    @classmethod
    def parse(cls, text: str) -> Owner | None:
        """Return the owner that a row names; nothing where the text names none."""
        machine, _, process = text.rpartition(":")[0].rpartition(":")
        if not machine or not process.isdecimal():
            return None
        return cls(machine, int(process), text.rpartition(":")[2])

    def __str__(self) -> str:
        return f"{self.machine}:{self.pid}:{self.token}"

    @property
    def host(self) -> str:
        """The machine as people name it."""
        return self.machine.partition(".")[0]

    @property
    def is_here(self) -> bool:
        """Whether its process runs on this machine, where its number means something."""
        return self.machine == node()

    def is_dead(self) -> bool:
        """Whether its process has ended; of other machines nothing is known."""
        if not self.is_here:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False
        return _zombie(self.pid)


def new_owner() -> str:
    """Name a new worker of this process, as a row keeps it."""
    return str(Owner.new())


def is_dead(owner: str) -> bool:
    """Return whether the process of an owner is known to have ended."""
    known = Owner.parse(owner)
    return known is not None and known.is_dead()


def is_lost(owner: str) -> bool:
    """Return whether an owner whose lease has ended is taken for dead.

    Of other machines nothing better is known.
    """
    known = Owner.parse(owner)
    return known is None or not known.is_here or known.is_dead()


def has_run_out(owner: str, until_uptime: float | None, *, by_database: bool) -> bool:
    """Return whether a lease has run out: on this machine its uptime says so, else the database.

    So a clock that is set in the middle of a search, by hours perhaps, takes no trial from a
    process that works on it, and leaves none to a process that hangs.
    """
    known = Owner.parse(owner)
    if until_uptime is None or known is None or not known.is_here:
        return by_database
    return uptime() > until_uptime


def _zombie(pid: int) -> bool:
    """Whether a process has ended and only waits for its parent to notice."""
    try:
        said = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # "7 (a name, with ) in it) Z ...": the state follows the last bracket.
    fields = said.rpartition(")")[2].split()
    return bool(fields) and fields[0] in "ZX"


class LeaseHeartbeat:
    """A thread that calls `renew` again and again; it stops, and says so, once the lease is lost.

    `renew` returns False where another owner has taken over.
    """

    def __init__(self, renew: Callable[[], bool], *, every: float) -> None:
        self._renew = renew
        self._every = every
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._work, name="automl-sr lease", daemon=True)
        self.lost = False

    def _work(self) -> None:
        while not self._end.wait(self._every):
            # A database that does not answer is asked again for as long as it takes: whether the
            # lease was lost meanwhile, its answer will tell. So is one that cannot be asked,
            # because a technique has left too little memory or depth of recursion for that.
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
