"""The door of the app: what is refused before Gradio sees it, and what goes with every answer."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.websockets import WebSocketClose

from automl_sr.app.server.brake import network_of
from automl_sr.app.server.login import LOGIN, LOGIN_BYTES
from automl_sr.app.server.quota import Quota

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from automl_sr.app.server.login import Login
    from automl_sr.app.server.names import Names

API = "/gradio_api/"
USED = frozenset(
    {
        "app_id",
        "cancel",
        "component_server",
        "heartbeat",
        "info",
        "login_check",
        "queue",
        "reset",
        "run",
    }
)
USED |= {"startup-events", "upload", "upload_progress", "user"}
"""Routes of Gradio's that a page asks; the others fetch from the network, record, edit code or keep
state on disk.
"""
PAGES = frozenset({"/", "/config", "/favicon.ico", "/manifest.json", "/robots.txt", "/theme.css"})
FOLDERS = ("/assets/", "/static/")
METHODS = frozenset({"GET", "HEAD", "POST"})
UPLOAD = f"{API}upload"
FILE = f"{API}file="
SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]+:|//|\\\\)", re.IGNORECASE)
EVENT_BYTES = 4 * 2**20
FRAME_BYTES = 2**16
"""What a form adds to the file in it."""
LONGEST_NUMBER = 12
# Gradio's page needs scripts and styles in itself; but nothing may come from another host or go to
# one.
POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; connect-src 'self' data: blob:; "
    "form-action 'self'; base-uri 'self'; object-src 'none'; frame-ancestors 'none'"
)
FILE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox; frame-ancestors 'none'"
"""Of a file that a visitor has uploaded: opened as a page of its own it is a picture, and runs
nothing.
"""
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
CORS = "access-control-"
BELIEVED = re.compile(rb"origin|forwarded|x-forwarded-.*|x-gradio-server")
"""Headers from which Gradio would tell where it is: the door has settled that, and passes them on
to nobody.
"""


class Door:
    """Lets in whoever may come in, and answers everybody else with a sentence before anything is
    read.
    """

    def __init__(
        self,
        app: ASGIApp,
        names: Names,
        login: Login | None,
        quota: Quota,
        upload_bytes: int,
    ) -> None:
        self._app = app
        self._names = names
        self._login = login
        self._quota = quota
        self._upload_bytes = upload_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            await WebSocketClose()(scope, receive, send)
            return
        await self._answer(
            scope,
            receive,
            _with_headers(scope["path"], self._login is not None, send),
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope)
        path = scope["path"]
        refusal = self._stranger(scope, headers)
        login = self._asking(scope)
        # A stranger is told nothing else, and who has not said the password learns of no route.
        if refusal is None:
            if login is None:
                refusal = self._refusal(scope, headers)
            elif path == LOGIN:
                refusal = self._size_refusal(path, headers)
        if refusal is not None:
            code, reason = refusal
            await PlainTextResponse(reason, code)(scope, receive, send)
            return
        if login is not None:
            await login.answer(scope, receive, send)
            return
        kept = []
        for name, value in scope["headers"]:
            if not BELIEVED.fullmatch(name.lower()):
                kept.append((name, value))
        scope = {**scope, "headers": kept}
        if scope["method"] == "POST" and path.rstrip("/") == UPLOAD:
            await self._upload(int(headers.get("content-length", "0")), scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _asking(self, scope: Scope) -> Login | None:
        """Return who answers where the password is asked for, or said."""
        if self._login is None:
            return None
        inside = scope["path"] != LOGIN and self._login.knows(scope)
        if inside:
            return None
        return self._login

    def _stranger(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        """Refuse other names of this machine, and everything that the page of another site has a
        browser send.
        """
        if scope["method"] not in METHODS:
            return 405, "This app has no such method."
        hosts = headers.getlist("host")
        origins = headers.getlist("origin")
        reached = None
        if scope.get("server"):
            reached = scope["server"][0]
        # Of two Host headers nobody knows which one is read behind the door.
        if len(hosts) != 1 or not self._names.answers_to(hosts[0], reached):
            sentence = (
                "This app has another name. A name behind a proxy is told to it with --public-name."
            )
            return 400, sentence
        own = all(self._names.is_own_page(origin, scope["scheme"], hosts[0]) for origin in origins)
        if len(origins) > 1 or not own or _is_from_elsewhere(scope, headers):
            return 403, "This request comes from the page of another site."
        return None

    def _refusal(self, scope: Scope, headers: Headers) -> tuple[int, str] | None:
        path = scope["path"]
        known = path in PAGES or path.startswith((*FOLDERS, API))
        if not known or (path.startswith(API) and not _used(path)):
            return 404, "This app has no such route."
        if "deep_link" in parse_qs(scope["query_string"].decode("latin-1"), keep_blank_values=True):
            return 404, "This app keeps no states."
        return self._size_refusal(path, headers)

    def _size_refusal(
        self,
        path: str,
        headers: Mapping[str, str],
    ) -> tuple[int, str] | None:
        if "transfer-encoding" in headers:
            return 411, "This request does not say how large it is."
        most = EVENT_BYTES
        sentence = f"A request may have {EVENT_BYTES >> 20} MB at most."
        if path.rstrip("/") == UPLOAD:
            most = self._upload_bytes + FRAME_BYTES
            sentence = f"A file may have {self._upload_bytes >> 20} MB at most."
        if path == LOGIN:
            most = LOGIN_BYTES
            sentence = "A name and a password are shorter."
        length = headers.get("content-length", "0")
        if not _is_number(length) or int(length) > most:
            return 413, sentence
        return None

    async def _upload(self, size: int, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client") or ("", 0)
        # By address: a session would be new after each login.
        upload = self._quota.take(network_of(client[0]), size)
        if isinstance(upload, str):
            await PlainTextResponse(upload, 413)(scope, receive, send)
            return
        kept = False

        async def look(message: Message) -> None:
            nonlocal kept
            if message["type"] == "http.response.start":
                kept = message["status"] == 200
            await send(message)

        try:
            await self._app(scope, receive, look)
        finally:
            if not kept:
                self._quota.give_back(upload)


def _with_headers(path: str, private: bool, send: Send) -> Send:
    """Add to every answer what keeps it here, and take out what would show it to other sites."""

    async def with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            found = MutableHeaders(scope=message)
            for name in list(found):  # a copy: names are removed meanwhile
                if name.lower().startswith(CORS):
                    del found[name]
            if path.startswith(FILE):
                found["Content-Security-Policy"] = FILE_POLICY
            for name, value in HEADERS.items():
                found.setdefault(name, value)
            if private and not path.startswith(FOLDERS):
                found.setdefault("Cache-Control", "no-store")
        await send(message)

    return with_headers


def _is_from_elsewhere(scope: Scope, headers: Mapping[str, str]) -> bool:
    """Return whether a browser says that another site asks, for anything but to follow a link to
    the page.
    """
    if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
        return False
    follows = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest")) == (
        "navigate",
        "document",
    )
    return not (follows and scope["method"] in ("GET", "HEAD") and scope["path"] == "/")


def _is_number(text: str) -> bool:
    # Short ones alone: int works for long on thousands of digits.
    return text.isascii() and text.isdigit() and len(text) < LONGEST_NUMBER


def _used(path: str) -> bool:
    if path.startswith(FILE):
        return not SCHEME.match(path.removeprefix(FILE))  # Gradio would fetch an address itself
    route, _, _ = path.removeprefix(API).partition("/")
    return route in USED
