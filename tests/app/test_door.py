"""Hostile requests, written byte by byte: with a password nothing but the page that asks for it is
served.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import httpx
import pytest
from app_world import App, running_app, start

if TYPE_CHECKING:
    from app_world import SmallStudy

PASSWORD = "very-secret"
EVENT = b'{"data": [], "fn_index": 0, "session_hash": "x"}'
pytestmark = pytest.mark.ci

SERVED = (
    "gradio_config",
    "front-chart",
    "root:x:0:0",
    "Traceback",
    "dependencies",
    "small",
    "session_hash",
)
"""What no answer to a stranger holds."""


@pytest.fixture(scope="module")
def guarded(small_study: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app with a password, for a network."""
    env = {
        "AUTOML_SR_APP_AUTH": f"me:{PASSWORD}",
        "TMPDIR": str(tmp_path_factory.mktemp("guarded")),
    }
    with running_app(small_study.store, "--host", "0.0.0.0", env=env) as app:
        yield app
        assert "Traceback" not in app.log


@pytest.fixture(scope="module")
def open_app(small_study: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[App]:
    """The app for a network, in which everybody is let in."""
    env = {"TMPDIR": str(tmp_path_factory.mktemp("open"))}
    with running_app(small_study.store, "--host", "0.0.0.0", "--no-auth", env=env) as app:
        yield app
        assert "Traceback" not in app.log


def port_of(app: App) -> int:
    port = urlsplit(app.url).port
    assert port is not None
    return port


def sent(app: App, lines: list[str], body: bytes = b"") -> tuple[int, bytes]:
    """Send lines as they are, and give the code of the answer and all of it."""
    port = port_of(app)
    text = "\r\n".join([*lines, "Connection: close", "", ""]).replace("PORT", str(port))
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connected:
        connected.sendall(text.encode("latin-1") + body)
        found = b""
        try:
            while part := connected.recv(2**16):
                found += part
        except ConnectionResetError:  # it closes without reading the rest
            pass
    return int(found.split(b" ", 2)[1]) if found else 0, found


HERE = "Host: 127.0.0.1:PORT"
OWN = "Origin: http://127.0.0.1:PORT"
FORM = ["Content-Type: application/x-www-form-urlencoded"]

FOREIGN_HOSTS = (
    "evil.example",
    "evil.example:PORT",
    "127.0.0.1.evil.example:PORT",
    "localhost.evil.example",
    "localhost.",
    "127.0.0.1@evil.example",
    "evil.example#127.0.0.1",
    "evil.example/127.0.0.1",
    "127.0.0.1:PORT:80",
    "127.0.0.1:99999",
    "127.0.0.1:",
    "127.1:PORT",
    "2130706433:PORT",
    "0x7f000001:PORT",
    "0177.0.0.1:PORT",
    "[::1",
    "[::1%25eth0]:PORT",
    "[::ffff:8.8.8.8]:PORT",
    "[2001:db8::1]:PORT",
    "192.0.2.7:PORT",
    "*",
    "-",
    "",
    "127.0.0.1, evil.example",
    "127.0.0.1 evil.example",
    "l\xf6calhost",
)
FOREIGN_ORIGINS = (
    "null",
    "http://evil.example",
    "https://127.0.0.1:PORT",
    "http://127.0.0.1",
    "http://127.0.0.1:1",
    "http://localhost:PORT",
    "http://[::1]:PORT",
    "http://127.0.0.1:PORT.evil.example",
    "http://127.0.0.1:PORT@evil.example",
    "http://evil.example@127.0.0.1:PORT",
    "http://127.0.0.1:PORT/",
    "http://127.0.0.1:PORT/x",
    "http://127.0.0.1:PORT http://evil.example",
    "http://127.0.0.1:PORT, http://evil.example",
    "file://",
    "chrome-extension://abcdefgh",
    "127.0.0.1:PORT",
    "//127.0.0.1:PORT",
    "ftp://127.0.0.1:PORT",
    "http://127.0.0.1:0PORT0",
    "http://2130706433:PORT",
    "http://",
    "",
)
ROUTES = (
    "GET /config",
    "GET /config/",
    "GET /config?page=x",
    "GET //config",
    "GET /./config",
    "GET /%63onfig",
    "GET /openapi.json",
    "GET /docs",
    "GET /redoc",
    "GET /monitoring",
    "GET /monitoring/summary",
    "GET /monitoring/x",
    "GET /logout",
    "GET /token",
    "GET /theme.css",
    "GET /robots.txt",
    "GET /manifest.json",
    "GET /favicon.ico",
    "GET /pwa_icon",
    "GET /svelte/x.js",
    "GET /static/plotly.min.js",
    "GET /assets/index.js",
    "GET /static/img/logo.svg",
    "GET /gradio_api/info",
    "GET /gradio_api/info?serialize=False",
    "GET /gradio_api/openapi.json",
    "GET /gradio_api/user",
    "GET /gradio_api/token",
    "GET /gradio_api/app_id",
    "GET /gradio_api/login_check",
    "GET /gradio_api/startup-events",
    "GET /gradio_api/theme.css",
    "GET /gradio_api/runs",
    "GET /gradio_api/heartbeat/x",
    "GET /gradio_api/queue/data?session_hash=x",
    "GET /gradio_api/queue/status",
    "GET /gradio_api/upload_progress?upload_id=x",
    "GET /gradio_api/file=/etc/passwd",
    "GET /gradio_api/file=%2fetc%2fpasswd",
    "GET /gradio_api/file//etc/passwd",
    "GET /gradio_api/proxy=http://127.0.0.1/",
    "GET /gradio_api/stream/x/1/1/playlist.m3u8",
    "GET /gradio_api/stream/x/1/1/playlist-file",
    "GET /gradio_api/custom_component/x/client/component/index.js",
    "GET /gradio_api/deep_link",
    "GET /gradio_api/vibe-code/",
    "GET /gradio_api/profiling/traces",
    "GET /gradio_api/dev/reload",
    "GET /gradio_api/call/x/y",
    "HEAD /config",
    "HEAD /gradio_api/file=/etc/passwd",
    "POST /gradio_api/reset",
    "POST /gradio_api/cancel",
    "POST /gradio_api/queue/join",
    "POST /gradio_api/queue/join/",
    "POST /gradio_api/run/0",
    "POST /gradio_api/api/0",
    "POST /gradio_api/call/x",
    "POST /gradio_api/call/v2/x",
    "POST /gradio_api/upload",
    "POST /gradio_api/stream/x",
    "POST /gradio_api/stream/x/close",
    "POST /gradio_api/component_server",
    "POST /gradio_api/process_recording",
    "POST /gradio_api/vibe-edit",
    "POST /gradio_api/run-history/connect",
    "POST /",
    "POST /config",
    "POST /logout",
    "POST /login/",
)


@pytest.mark.parametrize("host", FOREIGN_HOSTS)
def test_another_name_is_refused_on_every_address(host: str, open_app: App, guarded: App) -> None:
    for app in (open_app, guarded):
        for line in ("GET / HTTP/1.1", "GET /config HTTP/1.1", "POST /login HTTP/1.1"):
            code, answer = sent(app, [line, f"Host: {host}"])
            assert code == 400, (line, answer[:200])
            refused(answer)


@pytest.mark.parametrize(
    "host", ["127.0.0.1:PORT", "LOCALHOST:PORT", "localhost", "[::1]:PORT", "[0:0:0:0:0:0:0:1]"]
)
def test_its_own_names_are_answered(host: str, open_app: App) -> None:
    code, answer = sent(open_app, ["GET /config HTTP/1.1", f"Host: {host}"])
    assert code == 200
    assert b"front-chart" in answer


@pytest.mark.parametrize("origin", FOREIGN_ORIGINS)
def test_the_page_of_another_site_is_refused_on_every_address(
    origin: str, open_app: App, guarded: App
) -> None:
    for app in (open_app, guarded):
        for line in (
            "GET /config HTTP/1.1",
            "POST /gradio_api/reset HTTP/1.1",
            "POST /login HTTP/1.1",
        ):
            code, answer = sent(app, [line, HERE, f"Origin: {origin}", "Content-Length: 0"])
            assert code == 403, (line, answer[:200])
            refused(answer)


@pytest.mark.parametrize(
    "lines",
    [
        ["GET /config HTTP/1.1"],
        ["GET /config HTTP/1.0"],
        ["GET /config HTTP/1.1", HERE, "Host: evil.example"],
        ["GET /config HTTP/1.1", "Host: evil.example", "X-Forwarded-Host: 127.0.0.1"],
        ["GET /config HTTP/1.1", HERE, OWN, "Origin: http://evil.example"],
        ["GET /config HTTP/1.1", HERE, "Origin: http://evil.example", OWN],
        ["GET /config HTTP/1.1", HERE, "Sec-Fetch-Site: cross-site"],
        ["GET /config HTTP/1.1", HERE, "Sec-Fetch-Site: same-site"],
        ["GET /config HTTP/1.1", HERE, "Sec-Fetch-Site: x"],
        [
            "GET / HTTP/1.1",
            HERE,
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: navigate",
            "Sec-Fetch-Dest: iframe",
        ],
        [
            "GET / HTTP/1.1",
            HERE,
            "Sec-Fetch-Site: cross-site",
            "Sec-Fetch-Mode: no-cors",
            "Sec-Fetch-Dest: image",
        ],
        [
            "OPTIONS /config HTTP/1.1",
            HERE,
            "Origin: http://evil.example",
            "Access-Control-Request-Method: GET",
        ],
        ["OPTIONS / HTTP/1.1", HERE, OWN, "Access-Control-Request-Method: POST"],
        ["OPTIONS * HTTP/1.1", HERE],
        ["PUT /config HTTP/1.1", HERE, "Content-Length: 0"],
        ["DELETE /config HTTP/1.1", HERE],
        ["PATCH / HTTP/1.1", HERE, "Content-Length: 0"],
        ["TRACE / HTTP/1.1", HERE],
        ["CONNECT evil.example:443 HTTP/1.1", HERE],
        ["GET http://evil.example/config HTTP/1.1", "Host: evil.example"],
        ["POST /gradio_api/queue/join HTTP/1.1", HERE, "Transfer-Encoding: chunked"],
        ["POST /gradio_api/queue/join HTTP/1.1", HERE, "Content-Length: 99999999"],
        ["POST /gradio_api/queue/join HTTP/1.1", HERE, "Content-Length: -1"],
        ["POST /gradio_api/queue/join HTTP/1.1", HERE, "Content-Length: 1", "Content-Length: 2"],
        ["GET /?deep_link=x HTTP/1.1", HERE],
        ["GET /config?deep_link= HTTP/1.1", HERE],
        ["GET /monitoring HTTP/1.1", HERE],
        ["GET /openapi.json HTTP/1.1", HERE],
        ["GET /logout HTTP/1.1", HERE],
        ["GET /con\x00fig HTTP/1.1", HERE],
        [
            "GET /config HTTP/1.1",
            HERE,
            "X-Forwarded-Proto: https",
            "Origin: https://127.0.0.1:PORT",
        ],
    ],
    ids=lambda lines: " ".join(lines)[:70].replace("\x00", "0"),
)
def test_an_app_that_lets_everybody_in_refuses_it(lines: list[str], open_app: App) -> None:
    code, answer = sent(open_app, lines)
    assert 400 <= code < 500, answer[:300]
    refused(answer)


@pytest.mark.parametrize(
    "upgrade", [["Upgrade: websocket", "Sec-WebSocket-Key: eA==", "Sec-WebSocket-Version: 13"]]
)
def test_there_are_no_web_sockets(upgrade: list[str], open_app: App) -> None:
    code, answer = sent(open_app, ["GET /gradio_api/queue/join HTTP/1.1", HERE, *upgrade])
    assert code in (404, 405), answer[:300]


@pytest.mark.parametrize("route", ROUTES)
def test_nothing_is_served_without_the_password(route: str, guarded: App) -> None:
    for more in (
        [],
        [OWN],
        ["Cookie: access-token-unsecure-x=x; automl-sr-PORT=x; __Host-automl-sr-PORT=x"],
    ):
        body = EVENT if route.startswith("POST") else b""
        lines = [
            f"{route} HTTP/1.1",
            HERE,
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            *more,
        ]
        code, answer = sent(guarded, lines, body)
        assert code == 401, answer[:300]
        refused(answer)


def test_the_page_that_asks_needs_nothing_else(guarded: App) -> None:
    """No script, no style and no picture from anywhere, so that nothing else has to be served."""
    code, answer = sent(guarded, ["GET /?study=small%22%3E%3Cscript%3E HTTP/1.1", HERE])
    assert code == 200
    for word in (b"<script", b" src=", b"<link", b"url("):
        assert word not in answer
    assert b"default-src 'none'" in answer


def refused(answer: bytes) -> None:
    """A refusal holds nothing of the app, and nothing for other sites."""
    text = answer.decode("latin-1").lower()
    assert not [
        word for word in (*SERVED, "access-control", "set-cookie") if word.lower() in text
    ], text[:500]


# The password


def log_in(app: App, password: str, **headers: str) -> httpx.Response:
    data = {"username": "me", "password": password}
    return httpx.post(
        f"http://127.0.0.1:{port_of(app)}/login", data=data, headers=headers, timeout=20
    )


def test_guessing_is_slowed_down_and_pauses_grow(small_study: SmallStudy) -> None:
    with running_app(small_study.store, env={"AUTOML_SR_APP_AUTH": f"me:{PASSWORD}"}) as app:
        answers = [
            log_in(app, f"guess {number}", **{"X-Forwarded-For": f"10.0.0.{number}"})
            for number in range(60)
        ]
        looked_at = [answer for answer in answers if answer.status_code == 400]
        assert len(looked_at) < 12, "pauses double: twelve take four minutes"
        [slowed, *_] = [answer for answer in answers if answer.status_code != 400]
        assert (slowed.status_code, slowed.headers["retry-after"]) == (429, "1")
        assert slowed.text == "There were too many wrong passwords. Try again in 1 s."


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"username=me",
        b"username=me&password=",
        b"username[]=me&password[]=very-secret",
        b"username=%ff&password=%ff",
        b"a=1&" * 500,
        b"username=me&password=" + b"x" * 20_000,
    ],
    ids=lambda body: str(body[:24]),
)
def test_a_login_that_is_none_is_refused(body: bytes, guarded: App) -> None:
    lines = ["POST /login HTTP/1.1", HERE, *FORM, f"Content-Length: {len(body)}"]
    code, answer = sent(guarded, lines, body)
    assert code in (400, 413, 429), answer[:300]
    refused(answer)


# What a killed app leaves


def folders(place: Path) -> list[str]:
    return sorted(path.name for path in place.iterdir() if "automl-sr-app-" in path.name)


@pytest.mark.timeout(300)
def test_what_a_killed_app_left_goes_with_the_next_one(tmp_path: Path) -> None:
    env = {"TMPDIR": str(tmp_path)}
    killed = start(f"sqlite:///{tmp_path}/none.db", env=env, log=tmp_path / "log")
    killed.ready()
    with running_app(f"sqlite:///{tmp_path}/none.db", env=env):
        assert len(folders(tmp_path)) == 2, "one that runs is left alone"
        [path] = httpx.post(
            f"{killed.url}/gradio_api/upload", files={"files": b"mine"}, timeout=60
        ).json()
        os.kill(killed.process.pid, signal.SIGKILL)
        killed.process.communicate(timeout=60)
        assert Path(path).read_bytes() == b"mine"
    [left] = folders(tmp_path)
    assert Path(path).is_relative_to(tmp_path / left)
    with running_app(f"sqlite:///{tmp_path}/none.db", env=env):
        assert len(folders(tmp_path)) == 1
        assert not Path(path).exists()
    assert folders(tmp_path) == []
