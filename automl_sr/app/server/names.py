"""The names under which the app answers, and which pages are its own: everything else is another
site.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from dataclasses import dataclass

from automl_sr.errors import UseError

PLACE = re.compile(
    r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_][a-z0-9_.-]{0,252})(?::([0-9]{1,5}))?",
    re.IGNORECASE,
)
ORIGIN = re.compile(r"(https?)://(.+)", re.IGNORECASE)
PORTS = {"http": 80, "https": 443}
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Place:
    """A name or address, and the port where one is named."""

    name: str
    port: int | None = None

    def port_for(self, scheme: str) -> int:
        """Return the port that is meant, named or not."""
        if self.port is None:
            return PORTS[scheme]
        return self.port


def read_place(text: str) -> Place | None:
    """Return what stands in a Host header, or nothing where it is none."""
    found = PLACE.fullmatch(text)
    if found is None:
        return None
    name, digits = found.groups()
    port = None
    if digits is not None:
        port = int(digits)
        if port > 65535:
            return None
    if not name.startswith("["):
        return Place(name.lower(), port)
    try:
        address = ipaddress.IPv6Address(name[1:-1])
    except ValueError:
        return None
    # One address has many spellings; names are compared as text.
    return Place(plain_address(str(address)), port)


def plain_address(text: str) -> str:
    """Return an address in the one form in which it is compared; any other name in small
    letters.
    """
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return text.lower()
    mapped = None
    if isinstance(address, ipaddress.IPv6Address):
        mapped = address.ipv4_mapped
    return str(mapped or address)


def read_public_name(text: str) -> Place:
    """Return a name behind a proxy, as it was given on the command line. Raises UseError."""
    place = read_place(text.strip())
    if place is None:
        raise UseError(
            f"--public-name {text!r} is no name of a machine.",
            "Give it as in sr.example.org or sr.example.org:8443.",
        )
    return place


@dataclass(frozen=True)
class Names:
    """What the app is called: on this machine, in its network, and behind a proxy."""

    listening: str
    public: tuple[Place, ...] = ()
    network: bool = False

    def answers_to(self, host: str, reached: str | None) -> bool:
        """Return whether a Host header names this app, which was reached at that address.

        A page of another site can let its own name lead here, and would then be no other site.
        """
        place = read_place(host)
        if place is None:
            return False
        own = {*LOCAL_NAMES, plain_address(self.listening), *(known.name for known in self.public)}
        if reached is not None:
            own.add(plain_address(reached))
        if self.network:
            own.add(socket.gethostname().lower())
        return place.name in own

    def is_own_page(self, origin: str, scheme: str, host: str) -> bool:
        """Return whether an Origin header names a page that this app has sent."""
        found = ORIGIN.fullmatch(origin)
        page = None
        if found:
            page = read_place(found[2])
        asked = read_place(host)
        if found is None or page is None or asked is None:
            return False
        secure = found[1].lower()
        port = page.port_for(secure)
        if secure == scheme and (page.name, port) == (asked.name, asked.port_for(scheme)):
            return True
        if secure == "http" and scheme == "https":
            return False
        ports = set()
        for known in self.public:
            if known.name == page.name:
                ports.add(known.port_for(secure))
        if page.name == asked.name and asked.port is not None and ports:
            ports.add(asked.port)  # the proxy listens there, and has passed on what it was asked
        return port in ports
