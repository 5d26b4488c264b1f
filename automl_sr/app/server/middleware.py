"""What is refused before Gradio sees it: too large bodies, pages of other sites, and routes that are not used."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

API = "/gradio_api/"
USED = frozenset({"app_id", "cancel", "component_server", "heartbeat", "info", "login_check", "queue", "reset", "run"})
USED |= {"startup-events", "upload", "upload_progress", "user"}
"""Routes of Gradio's that a page asks; the others fetch from the network, record, edit code or keep state on disk."""
UPLOAD = f"{API}upload"
FILE = f"{API}file="
SCHEME = re.compile(r"\s*([a-z][a-z0-9+.-]+:|//|\\\\)", re.IGNORECASE)
EVENT_BYTES = 4 * 2**20
FRAME_BYTES = 2**16
"""What a form adds to the file in it."""
LONGEST_NUMBER = 12
HEADERS = {
    # Gradio's page needs scripts and styles in itself; but nothing may come from another host or go to one.
    "Content-Security-Policy": "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
}


class RefusingMiddleware:
    """Answers requests that nobody needs with a sentence, before anything of them is read."""

    def __init__(self, app: ASGIApp, upload_bytes: int, same_origin: bool) -> None:
        self._app = app
        self._upload_bytes = upload_bytes
        self._same_origin = same_origin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, or refuse it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        refusal = self._refusal(scope["path"], Headers(scope=scope))
        if refusal is not None:
            code, reason = refusal
            await PlainTextResponse(reason, code)(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                found = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    found.setdefault(name, value)
            await send(message)

        await self._app(scope, receive, with_headers)

    def _refusal(self, path: str, headers: Headers) -> tuple[int, str] | None:
        if self._same_origin and not _from_here(headers):
            return 403, "This request comes from the page of another site."
        if path.startswith(API) and not _used(path):
            return 404, "This app has no such route."
        return self._size_refusal(path, headers)

    def _size_refusal(self, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        if "transfer-encoding" in headers:
            return 411, "This request does not say how large it is."
        is_upload = path.rstrip("/") == UPLOAD
        most = self._upload_bytes + FRAME_BYTES if is_upload else EVENT_BYTES
        length = headers.get("content-length", "0")
        if not (length.isascii() and length.isdigit() and len(length) < LONGEST_NUMBER and int(length) <= most):
            what = "A file" if is_upload else "A request"
            return 413, f"{what} may have {(self._upload_bytes if is_upload else most) >> 20} MB at most."
        return None


def _from_here(headers: Mapping[str, str]) -> bool:
    """Whether a request comes from a page of this app, or from no page at all."""
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")


def _used(path: str) -> bool:
    if path.startswith(FILE):
        return not SCHEME.match(path.removeprefix(FILE))  # Gradio would fetch an address itself
    return path.removeprefix(API).split("/")[0] in USED
