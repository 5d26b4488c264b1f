"""Who may come in: a page that asks for the password, a brake on guessing, and a cookie that says
who was let in.
"""

from __future__ import annotations

import math
import secrets
import time
from collections.abc import Callable
from http.cookies import CookieError, SimpleCookie
from typing import TYPE_CHECKING, Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import (
    HTMLResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
)

from automl_sr.app.server.brake import Brake
from automl_sr.app.static_files import static_text
from automl_sr.presentation.markup import Markup, el

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

    from automl_sr.app.server.password import Secret

LOGIN = "/login"
LOGIN_BYTES = 8192
STAYS = 7 * 24 * 3600
"""Seconds after which somebody is asked again."""
MOST_SESSIONS = 1000
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; base-uri 'none';"
    " frame-ancestors 'none'"
)
"""Of the page that asks: it runs no script at all."""


class Sessions:
    """Who was let in, by a token that nobody can guess."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: dict[str, float] = {}

    def begin(self) -> str:
        """Return the token of a new session."""
        token = secrets.token_urlsafe(32)
        self._ends[token] = self._clock() + STAYS
        if len(self._ends) > MOST_SESSIONS:
            del self._ends[next(iter(self._ends))]
        return token

    def knows(self, token: str) -> bool:
        """Return whether a token belongs to somebody who was let in."""
        return self._ends.get(token, 0.0) > self._clock()


class Login:
    """Asks for the password, and remembers who said it."""

    def __init__(
        self,
        secret: Secret,
        port: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._secret = secret
        # Cookies do not know ports: two apps on a machine need two names.
        self._name = f"automl-sr-{port}"
        self._sessions = Sessions(clock)
        self._brake = Brake(clock)

    def knows(self, scope: Scope) -> bool:
        """Return whether a request comes from somebody who was let in."""
        request = Request(scope)
        name = _cookie_name(self._name, request)
        for header in request.headers.getlist("cookie"):
            token = _cookie(header, name)
            if token is not None and self._sessions.knows(token):
                return True
        return False

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer somebody who was not let in: with the page that asks, or that something else needs
        the password.
        """
        request = Request(scope, receive)
        if request.method == "POST" and request.url.path == LOGIN:
            response = await self._asked_in(request)
        elif request.method in ("GET", "HEAD") and request.url.path == "/":
            response = _page(request)
        elif request.method in ("GET", "HEAD") and request.url.path == LOGIN:
            response = RedirectResponse("/", 303)
        else:
            response = PlainTextResponse("This app asks for a password: open its first page.", 401)
        response.headers["Cache-Control"] = "no-store"
        response.headers["Content-Security-Policy"] = POLICY
        await response(scope, receive, send)

    async def _asked_in(self, request: Request) -> Response:
        try:
            async with request.form(max_files=0, max_fields=8, max_part_size=LOGIN_BYTES) as form:
                user, password = form.get("username"), form.get("password")
        except HTTPException:
            return _refused(request, "The name and the password cannot be read.", 400)
        if not (isinstance(user, str) and isinstance(password, str)):
            return _refused(request, "A name and a password are asked for.", 400)
        # nothing waits between the brake and the count: of many requests at once none slips through
        address = ""
        if request.client:
            address = request.client.host
        pause = math.ceil(self._brake.pause(address))
        if pause > 0:
            sentence = f"There were too many wrong passwords. Try again in {pause} s."
            response = _refused(request, sentence, 429)
            response.headers["Retry-After"] = str(pause)
            return response
        if not self._secret.is_said(user.strip(), password):
            self._brake.wrong(address)
            return _refused(request, "This name or this password is wrong.", 400)
        self._brake.right(address)
        response = _let_in(request)
        secure = request.url.scheme == "https"
        name = _cookie_name(self._name, request)
        token = self._sessions.begin()
        response.set_cookie(
            name,
            token,
            STAYS,
            httponly=True,
            samesite="lax",
            secure=secure,
        )
        return response


def _cookie_name(name: str, request: Request) -> str:
    """Return the cookie's name: with HTTPS one that no other machine and no page without HTTPS can
    set.
    """
    if request.url.scheme == "https":
        return f"__Host-{name}"
    return name


def _cookie(header: str, name: str) -> str | None:
    try:
        found = SimpleCookie(header).get(name)
    except CookieError:
        return None
    if found is None:
        return None
    return found.value


def _let_in(request: Request) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return JSONResponse({"success": True})
    query = request.url.query
    return RedirectResponse(f"/?{query}" if query else "/", 303)


def _refused(request: Request, sentence: str, code: int) -> Response:
    if "text/html" not in request.headers.get("accept", ""):
        return PlainTextResponse(sentence, code)
    return _page(request, sentence, code)


def _page(request: Request, sentence: str = "", code: int = 200) -> HTMLResponse:
    query = request.url.query
    fields: list[Any] = [
        el("h1", "automl-sr"),
        el("p", sentence, role="alert") if sentence else "",
        el(
            "label",
            "username ",
            el("input", name="username", autocomplete="username", required=True),
        ),
        el(
            "label",
            "password ",
            el(
                "input",
                name="password",
                type="password",
                autocomplete="current-password",
                required=True,
            ),
        ),
        el("button", "Login", type="submit"),
    ]
    # what the address asks for is shown after the password
    form = el(
        "form",
        fields,
        method="post",
        action=f"{LOGIN}?{query}" if query else LOGIN,
    )
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("title", "automl-sr: login"),
        el("style", Markup(static_text("login.css"))),
    )
    return HTMLResponse(
        f"<!DOCTYPE html>\n{el('html', head, el('body', el('main', form)), lang='en')}\n",
        code,
    )
