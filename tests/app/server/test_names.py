"""What the app is called, and which pages are its own."""

from __future__ import annotations

import pytest

from automl_sr.app.server.names import Names, Place, read_public_name
from automl_sr.errors import UseError

HERE = Names("127.0.0.1")
PROXIED = Names("127.0.0.1", (Place("sr.example.org"), Place("sr.example.net", 8443)))


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1:7860", None),
        ("LocalHost", None),
        ("[::1]:80", None),
        ("[0:0::1]", None),
        ("[::ffff:127.0.0.1]:7860", None),
        ("192.168.1.7:7860", "192.168.1.7"),
        ("192.168.1.7:7860", "::ffff:192.168.1.7"),
        ("[2001:DB8::0:1]:7860", "2001:db8::1"),
        ("sr.example.org", None),
        ("SR.EXAMPLE.ORG:443", None),
        ("sr.example.net:8443", None),
    ],
)
def test_it_answers_to_its_names_and_to_the_address_that_was_reached(
    host: str, reached: str | None
) -> None:
    assert PROXIED.answers_to(host, reached)


@pytest.mark.parametrize(
    "host", ["evil.example", "192.168.1.8", "sr.example.org.evil.example", "sr_example.org"]
)
def test_it_answers_to_no_other_name(host: str) -> None:
    assert not PROXIED.answers_to(host, "192.168.1.7")


def test_the_name_of_the_machine_is_known_in_a_network_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("socket.gethostname", lambda: "Box")
    assert Names("0.0.0.0", network=True).answers_to("box:7860", "10.0.0.2")
    assert not HERE.answers_to("box:7860", "127.0.0.1")


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("http://127.0.0.1:7860", "http", "127.0.0.1:7860"),
        ("http://localhost", "http", "LOCALHOST:80"),
        ("http://[::1]:7860", "http", "[0::1]:7860"),
        ("https://sr.example.org", "https", "sr.example.org"),
        ("https://sr.example.org:8443", "https", "sr.example.org:8443"),
        ("https://sr.example.org", "http", "sr.example.org"),
        ("https://sr.example.org", "http", "127.0.0.1:7860"),
        ("https://sr.example.net:8443", "http", "127.0.0.1:7860"),
        ("http://sr.example.org", "http", "sr.example.org"),
    ],
    ids=" ".join,
)
def test_its_own_pages_are_known(origin: str, scheme: str, host: str) -> None:
    """The last four are of proxies that do not tell how, or as what, they were asked."""
    assert PROXIED.is_own_page(origin, scheme, host)


@pytest.mark.parametrize(
    ("origin", "scheme", "host"),
    [
        ("null", "http", "127.0.0.1:7860"),
        ("http://localhost:7860", "http", "127.0.0.1:7860"),
        ("http://127.0.0.1:7861", "http", "127.0.0.1:7860"),
        ("https://127.0.0.1:7860", "http", "127.0.0.1:7860"),
        ("http://sr.example.org", "https", "sr.example.org"),
        ("https://sr.example.org:8443", "https", "sr.example.org"),
        ("https://sr.example.org:9000", "https", "sr.example.org:8443"),
        ("https://sr.example.net", "https", "127.0.0.1:7860"),
        ("https://evil.example", "https", "sr.example.org"),
    ],
    ids=" ".join,
)
def test_other_pages_are_not(origin: str, scheme: str, host: str) -> None:
    assert not PROXIED.is_own_page(origin, scheme, host)


@pytest.mark.parametrize(
    "text", ["", "*", "https://sr.example.org", "sr.example.org/", "a b", "x:99999", "*.example"]
)
def test_a_public_name_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(
        UseError, match=r"is no name of a machine\. Give it as in sr\.example\.org or"
    ):
        read_public_name(text)
