"""A brake on guessing passwords: after some wrong ones come pauses, which double."""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass

FREE = 4
"""Wrong passwords of one address before its first pause."""
LONGEST = 900.0
FREE_OF_ALL = 20
"""Wrong passwords of all addresses together before the first pause of all."""
LONGEST_OF_ALL = 60.0
"""Whoever guesses from many addresses must not lock out those who know the password for long."""
FORGOTTEN = 3600.0
"""Seconds without a wrong password after which an address begins anew."""
MOST_ADDRESSES = 10_000


@dataclass
class _Count:
    wrong: int = 0
    last: float = 0.0
    until: float = 0.0

    def add(self, now: float, free: int, longest: float) -> None:
        if now - self.last > FORGOTTEN:
            self.wrong = 0
        self.wrong += 1
        self.last = now
        over = self.wrong - free
        if over >= 0:
            self.until = now + min(longest, 2.0 ** min(over, 30))


class Brake:
    """Counts wrong passwords, and says how long nobody is asked for another one."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of_all = _Count()
        self._by_address: dict[str, _Count] = {}

    def pause(self, address: str) -> float:
        """Return for how many seconds no password of an address is looked at."""
        own = self._by_address.get(network_of(address), _Count())
        return max(0.0, max(own.until, self._of_all.until) - self._clock())

    def wrong(self, address: str) -> None:
        """Count a wrong password."""
        now = self._clock()
        key = network_of(address)
        own = self._by_address.pop(key, None) or _Count()
        own.add(now, FREE, LONGEST)
        self._by_address[key] = own  # the last one is the youngest
        self._of_all.add(now, FREE_OF_ALL, LONGEST_OF_ALL)
        if len(self._by_address) > MOST_ADDRESSES:
            del self._by_address[next(iter(self._by_address))]

    def right(self, address: str) -> None:
        """Let an address begin anew: whoever is there knows the password."""
        self._by_address.pop(network_of(address), None)


def network_of(address: str) -> str:
    """Return what belongs to one visitor: with IPv6 a whole network of addresses does."""
    try:
        found = ipaddress.ip_address(address)
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
