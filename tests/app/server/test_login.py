"""The way in: a form, a cookie that stays here, and what a proxy is believed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from automl_sr.app.server.login import MOST_SESSIONS, STAYS, Login, Sessions
from automl_sr.app.server.middleware import Door
from automl_sr.app.server.names import Names, Place
from automl_sr.app.server.password import Secret
from automl_sr.app.server.quota import Quota

if TYPE_CHECKING:
    from starlette.testclient import TestClient
    from starlette.types import Receive, Scope, Send

HERE = "http://127.0.0.1:7860"
RIGHT = {"username": "me", "password": "secret"}
WRONG = {"username": "me", "password": "guess"}
BROWSER = {"accept": "text/html,application/xhtml+xml"}
FORWARDED = {"X-Forwarded-Proto": "https", "X-Forwarded-For": "10.0.0.9", "Host": "sr.example.org"}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Seen:
    """Stands for Gradio: says what has come through the door, and tries to set what it should
    not.
    """

    def __init__(self) -> None:
        self.scopes: list[Scope] = []
        self.status = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        from starlette.responses import PlainTextResponse

        self.scopes.append(scope)
        reflected = {
            "Access-Control-Allow-Origin": "http://evil.example",
            "Access-Control-Allow-Credentials": "true",
        }
        await PlainTextResponse("inside", self.status, headers=reflected)(scope, receive, send)

    def headers(self) -> set[str]:
        return {name.decode() for name, _ in self.scopes[-1]["headers"]}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def seen() -> Seen:
    return Seen()


def client_of(
    seen: Seen, clock: Clock, login: bool = True, client: str = "127.0.0.1", **more: Any
) -> TestClient:
    from starlette.testclient import TestClient
    from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

    names = Names("127.0.0.1", (Place("sr.example.org"),))
    door = Door(
        seen,
        names,
        Login(Secret("me", "secret"), 7860, clock) if login else None,
        Quota(**more),
        2**20,
    )
    app: Any = ProxyHeadersMiddleware(door, trusted_hosts=["127.0.0.1"])
    return TestClient(app, HERE, client=(client, 50000), follow_redirects=False)


@pytest.fixture
def client(seen: Seen, clock: Clock) -> TestClient:
    return client_of(seen, clock)


def test_a_browser_is_led_to_what_its_address_asked_for(client: TestClient) -> None:
    asking = client.get("/?study=a%20b&tab=front", headers=BROWSER)
    assert 'action="/login?study=a%20b&amp;tab=front"' in asking.text
    answer = client.post("/login?study=a%20b&tab=front", data=RIGHT, headers=BROWSER)
    assert (answer.status_code, answer.headers["location"]) == (303, "/?study=a%20b&tab=front")
    assert client.get("/").text == "inside"


def test_a_program_is_told_that_it_is_in(client: TestClient) -> None:
    assert client.post("/login", data=RIGHT).json() == {"success": True}
    assert client.get("/config").text == "inside"


def test_a_wrong_password_is_told_on_the_page(client: TestClient, seen: Seen) -> None:
    answer = client.post("/login", data=WRONG, headers=BROWSER)
    assert answer.status_code == 400
    assert "This name or this password is wrong." in answer.text
    assert "<form" in answer.text
    assert "guess" not in answer.text
    assert seen.scopes == []


def test_no_address_leads_elsewhere(client: TestClient) -> None:
    for query in ("next=//evil.example", "//evil.example", "%0d%0aSet-Cookie:x=1"):
        answer = client.post(f"/login?{query}", data=RIGHT, headers=BROWSER)
        assert answer.headers["location"].startswith("/?")
        assert len(answer.headers.get_list("set-cookie")) == 1


def test_the_cookie_stays_with_this_site(client: TestClient) -> None:
    cookie = client.post("/login", data=RIGHT).headers["set-cookie"]
    assert cookie.startswith("automl-sr-7860=")
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Path=/" in cookie
    assert "Secure" not in cookie


def test_behind_https_the_cookie_never_goes_without_it(client: TestClient) -> None:
    cookie = client.post("/login", data=RIGHT, headers=FORWARDED).headers["set-cookie"]
    assert cookie.startswith("__Host-automl-sr-7860=")
    assert "Secure" in cookie
    name, _, value = cookie.partition(";")[0].partition("=")
    client.cookies.clear()
    assert (
        client.get("/config", headers={**FORWARDED, "Cookie": f"{name}={value}"}).status_code == 200
    )
    assert (
        client.get(
            "/config", headers={**FORWARDED, "Cookie": f"automl-sr-7860={value}"}
        ).status_code
        == 401
    )


def test_https_is_believed_of_a_proxy_alone(seen: Seen, clock: Clock) -> None:
    stranger = client_of(seen, clock, client="10.0.0.66")
    assert (
        "Secure" not in stranger.post("/login", data=RIGHT, headers=FORWARDED).headers["set-cookie"]
    )


@pytest.mark.parametrize(
    "cookie", ["automl-sr-7860=", "automl-sr-7860", "=;=", "automl-sr-7860=x; a[]=\x7f", "\xff=1"]
)
def test_a_cookie_that_is_none_lets_nobody_in(cookie: str, client: TestClient) -> None:
    assert client.get("/config", headers={"Cookie": cookie.encode("latin-1")}).status_code == 401


def test_after_wrong_passwords_the_right_one_waits_too(client: TestClient, clock: Clock) -> None:
    codes = [client.post("/login", data=WRONG).status_code for _ in range(6)]
    assert codes == [400, 400, 400, 400, 429, 429]
    assert client.post("/login", data=RIGHT).status_code == 429
    clock.now += 1
    assert client.post("/login", data=RIGHT).status_code == 200


def test_visitors_of_a_proxy_are_slowed_down_one_by_one(client: TestClient) -> None:
    for _ in range(5):
        slowed = client.post("/login", data=WRONG, headers=FORWARDED)
    assert slowed.status_code == 429
    other = {**FORWARDED, "X-Forwarded-For": "10.0.0.10"}
    assert client.post("/login", data=RIGHT, headers=other).status_code == 200


def test_a_stranger_cannot_pretend_to_be_many(seen: Seen, clock: Clock) -> None:
    stranger = client_of(seen, clock, client="10.0.0.66")
    pretended = [{**FORWARDED, "X-Forwarded-For": f"10.1.0.{number}"} for number in range(5)]
    codes = [
        stranger.post("/login", data=WRONG, headers=headers).status_code for headers in pretended
    ]
    assert codes == [400, 400, 400, 400, 429]


def test_somebody_is_asked_again_after_a_week(client: TestClient, clock: Clock) -> None:
    client.post("/login", data=RIGHT)
    clock.now += STAYS + 1
    client.cookies.jar.clear_expired_cookies()
    assert client.get("/config").status_code == 401


def test_the_oldest_session_ends_where_there_are_too_many() -> None:
    sessions = Sessions()
    tokens = [sessions.begin() for _ in range(MOST_SESSIONS + 1)]
    assert not sessions.knows(tokens[0])
    assert sessions.knows(tokens[1])
    assert not sessions.knows("")


# What passes the door


def test_gradio_is_told_nothing_that_a_visitor_makes_up(seen: Seen, clock: Clock) -> None:
    client = client_of(seen, clock, login=False)
    made_up = {
        "X-Forwarded-Host": "evil.example",
        "X-Gradio-Server": "http://evil.example",
        "Forwarded": "host=evil",
    }
    answer = client.get("/", headers={**made_up, "Origin": HERE})
    assert answer.text == "inside"
    assert not [
        name
        for name in seen.headers()
        if "forwarded" in name or name in ("origin", "x-gradio-server")
    ]
    assert not [name for name in answer.headers if name.startswith("access-control")]
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    assert answer.headers["cross-origin-opener-policy"] == "same-origin"


def test_a_file_that_was_uploaded_runs_nothing(seen: Seen, clock: Clock) -> None:
    answer = client_of(seen, clock, login=False).get("/gradio_api/file=/tmp/x/picture.svg")
    assert "sandbox" in answer.headers["content-security-policy"]
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")


def test_uploads_have_a_limit_by_visitor_and_refused_ones_do_not_count(
    seen: Seen, clock: Clock
) -> None:
    client = client_of(seen, clock, login=False, visitor_bytes=2**20)
    content = b"x" * (600 * 1024)

    def upload() -> int:
        return client.post("/gradio_api/upload", content=content).status_code

    seen.status = 500
    assert [upload(), upload()] == [500, 500]
    seen.status = 200
    assert [upload(), upload()] == [200, 413]
    assert client.get("/config").status_code == 200


def test_a_second_login_gives_no_second_limit(seen: Seen, clock: Clock) -> None:
    client = client_of(seen, clock, visitor_bytes=2**20)
    codes = []
    for _ in range(2):
        client.cookies.clear()
        client.post("/login", data=RIGHT)
        codes.append(client.post("/gradio_api/upload", content=b"x" * 600 * 1024).status_code)
    assert codes == [200, 413]


def test_there_are_no_web_sockets(client: TestClient, seen: Seen) -> None:
    from starlette.websockets import WebSocketDisconnect

    with pytest.raises(WebSocketDisconnect), client.websocket_connect("/gradio_api/queue/join"):
        pass
    assert seen.scopes == []
