"""Servers with HTTPS in a thread: a proxy in front of the app, as nginx is one, and the site of an
attacker.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.responses import HTMLResponse, Response, StreamingResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"]
HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade"}


def certificate(folder: Path) -> tuple[Path, Path]:
    """Make a certificate that nobody has signed, and give it with its key."""
    made, key = folder / "cert.pem", folder / "key.pem"
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-days",
        "2",
        "-subj",
        "/CN=localhost",
    ]
    command += [
        "-addext",
        "subjectAltName=DNS:localhost,IP:127.0.0.1",
        "-keyout",
        str(key),
        "-out",
        str(made),
    ]
    subprocess.run(command, check=True, capture_output=True)
    return made, key


def listening() -> socket.socket:
    """Give a socket on which connections wait until somebody serves them."""
    found = socket.socket()
    found.bind(("127.0.0.1", 0))
    found.listen(128)
    return found


@contextlib.contextmanager
def serving(app: Starlette, on: socket.socket, keys: tuple[Path, Path]) -> Iterator[int]:
    """Serve with HTTPS until the block ends, and give the port."""
    config = uvicorn.Config(
        app,
        log_level="error",
        ssl_certfile=keys[0],
        ssl_keyfile=keys[1],
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [on]}, daemon=True)
    thread.start()
    try:
        yield int(on.getsockname()[1])
    finally:
        server.should_exit = True
        thread.join(timeout=20)


@dataclass
class Asked:
    """A request that has come through the proxy, and what was answered."""

    method: str
    path: str
    origin: str | None
    site: str | None
    mode: str | None
    has_cookie: bool
    status: int
    headers: dict[str, str] = field(default_factory=dict)


class Proxy:
    """Passes requests on to the app, and notes them."""

    def __init__(self, target: str) -> None:
        self.asked: list[Asked] = []
        self._client = httpx.AsyncClient(base_url=target, timeout=60)
        self.app = Starlette(routes=[Route("/{path:path}", self._pass_on, methods=METHODS)])

    async def _pass_on(self, request: Request) -> Response:
        headers = [(name, value) for name, value in request.headers.items() if name not in HOP]
        headers.append(("x-forwarded-proto", "https"))
        headers.append(("x-forwarded-for", request.client.host if request.client else ""))
        url = httpx.URL(self._client.base_url).copy_with(raw_path=_target(request))
        outgoing = self._client.build_request(
            request.method, url, headers=headers, content=await request.body()
        )
        answer = await self._client.send(outgoing, stream=True)
        given = request.headers
        self.asked.append(
            Asked(
                request.method,
                request.url.path,
                given.get("origin"),
                given.get("sec-fetch-site"),
                given.get("sec-fetch-mode"),
                "cookie" in given,
                answer.status_code,
                dict(answer.headers),
            )
        )
        response = StreamingResponse(
            _raw(answer), answer.status_code, background=BackgroundTask(answer.aclose)
        )
        response.raw_headers = [
            (name, value) for name, value in answer.headers.raw if name.lower().decode() not in HOP
        ]
        return response


async def _raw(answer: httpx.Response) -> AsyncIterator[bytes]:
    async for part in answer.aiter_raw():
        yield part


def _target(request: Request) -> bytes:
    query = request.scope["query_string"]
    path: bytes = request.scope["raw_path"]
    return path + (b"?" + query if query else b"")


def empty_site() -> Starlette:
    """Give the site of an attacker, whose page does what a test tells it."""

    async def page(request: Request) -> Response:
        return HTMLResponse("<!DOCTYPE html><title>elsewhere</title><body></body>")

    return Starlette(routes=[Route("/", page)])
