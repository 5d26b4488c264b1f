"""What a hostile visitor or a hostile store may send: each ends in a sentence or a refusal, and
changes nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import sqlite3
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from app_world import copied, running_app

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Page

pytestmark = pytest.mark.ci

SQL = "'; DROP TABLE automl_sr_studies; --"
PATH = "../../../../../../etc/passwd"
URL = "http://127.0.0.1:1/x"
MARKUP = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>'
FILE = {"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}, "orig_name": "x.png"}
PAYLOADS: dict[str, Any] = {
    "SQL": SQL,
    "a path": PATH,
    "an address": URL,
    "markup": MARKUP,
    "a file of this machine": FILE,
    "a file at an address": {**FILE, "path": URL, "url": URL},
    "a huge number": 1e308,
    "a number below zero": -(2**70),
    "a list in a list": [[[SQL, {"a": [None]}]]],
    "a mapping": {"choices": [SQL], "__type__": "update", "value": PATH},
    "nothing": None,
    "a truth": True,
    "a long text": "x" * 100_000,
}
BETRAYING = ("root:x:0:0", "Traceback", "sqlalchemy", "site-packages", "no such table")


class Visitor:
    """Posts events as a page does, but with whatever data."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)
        self.config = self.client.get("/config").json()
        self.components = {item["id"]: item for item in self.config["components"]}
        self.events = [item for item in self.config["dependencies"] if item["backend_fn"]]

    def inputs(self, event: dict[str, Any]) -> list[Any]:
        """Give what a page would send that has chosen the study and a trial."""
        known = {"study": "small", "trial": 0, "opened": self.tab(event)}
        props = [self.components[number]["props"] for number in event["inputs"]]
        return [known.get(item.get("elem_id"), item.get("value")) for item in props]

    def tab(self, event: dict[str, Any]) -> str:
        """Give the tab that an event fills: its components are named after it."""
        outputs = [
            self.components[number]["props"].get("elem_id") or "" for number in event["outputs"]
        ]
        tabs = ("front", "trial", "compare", "why", "preview", "export", "plugins")
        found = next((tab for tab in tabs for name in outputs if name.startswith(tab)), "studies")
        return "trials" if found == "trial" else found

    def send(self, event: int, data: Any, event_data: Any = None, **query: str) -> dict[str, Any]:
        """Post one event and wait for its end; gives `refused`, `error` or `output`."""
        session = uuid.uuid4().hex
        body = {
            "data": data,
            "event_data": event_data,
            "fn_index": event,
            "session_hash": session,
            "trigger_id": None,
        }
        joined = self.client.post("/gradio_api/queue/join", json=body, params=query)
        if joined.status_code != 200:
            return {"refused": joined.status_code, "text": joined.text}
        with self.client.stream(
            "GET", "/gradio_api/queue/data", params={"session_hash": session}
        ) as answers:
            for line in answers.iter_lines():
                if not line.startswith("data: "):
                    continue
                message = json.loads(line.removeprefix("data: "))
                if message["msg"] == "process_completed":
                    return (
                        message["output"]
                        if message["success"]
                        else {"error": message["output"].get("error")}
                    )
                if message["msg"] == "unexpected_error":
                    return {"error": message["message"]}
        return {"error": None}


@pytest.fixture(scope="module")
def visitor(app_url: str) -> Visitor:
    return Visitor(app_url)


@pytest.fixture
def unchanged(small_study: SmallStudy, app_url: str) -> Iterator[None]:
    """The store holds the same bytes afterwards, and the app still answers."""
    file = small_study.folder / "store.db"
    before = hashlib.sha256(file.read_bytes()).hexdigest()
    yield
    assert hashlib.sha256(file.read_bytes()).hexdigest() == before
    # on a connection of its own: the server closes one on which it has refused something
    assert httpx.get(f"{app_url}/config", timeout=60).status_code == 200


def check(answer: dict[str, Any], what: str) -> None:
    """An answer is a refusal, a sentence, or something harmless."""
    text = json.dumps(answer)
    assert not [word for word in BETRAYING if word in text], f"{what}: {text[:500]}"
    assert answer.get("error", "") is not None, f"{what}: an error without a word"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("kind", PAYLOADS)
def test_no_event_takes_hostile_values(kind: str, visitor: Visitor) -> None:
    """Every event of the page, with the same value in place of all that it takes."""
    payload = PAYLOADS[kind]
    for event in visitor.events:
        answer = visitor.send(
            event["id"],
            [payload] * len(event["inputs"]),
            {"number": payload, "row_value": [payload]},
        )
        check(answer, f"{kind} to {event['targets']}")


@pytest.mark.usefixtures("unchanged")
def test_no_event_takes_a_hostile_value_among_good_ones(visitor: Visitor) -> None:
    kinds = itertools.cycle(PAYLOADS)
    for event in visitor.events:
        good = visitor.inputs(event)
        for place in range(len(good)):
            kind = next(kinds)
            data = [*good[:place], PAYLOADS[kind], *good[place + 1 :]]
            check(visitor.send(event["id"], data), f"{kind} at {place} of {event['targets']}")


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("data", [[], None, "text", {"a": 1}], ids=str)
def test_the_number_of_values_is_checked(data: Any, visitor: Visitor) -> None:
    for event in visitor.events:
        if event["inputs"]:
            answer = visitor.send(event["id"], data)
            assert "refused" in answer or "error" in answer, f"{event['targets']}: {answer}"


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("number", [10**6, -1, 2**70, "0; x", None])
def test_events_that_are_not_there_are_refused(number: Any, visitor: Visitor) -> None:
    answer = visitor.send(number, [])
    assert "refused" in answer or "error" in answer
    check(answer, str(number))


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("value", [SQL, PATH, MARKUP, "9" * 5000, "²", "-1", "1e9"])
def test_an_address_of_the_page_may_hold_anything(value: str, visitor: Visitor) -> None:
    [load] = [
        event for event in visitor.events if [name for _, name in event["targets"]] == ["load"]
    ]
    answer = visitor.send(load["id"], [], study=value, trial=value, tab=value, compare=value)
    assert "error" not in answer
    study, trial = answer["data"][:2]
    assert study["value"] == "small"
    assert trial is None
    check(answer, value)


OUTSIDE = (
    "/etc/passwd",
    "../../../etc/passwd",
    "..%2f..%2f..%2fetc%2fpasswd",
    "%2e%2e/%2e%2e/etc/passwd",
    "//etc/passwd",
    "file:///etc/passwd",
    URL,
    "https://example.com/x.png",
    "//example.com/x.png",
    "ftp://example.com/x",
    "~/.ssh/id_rsa",
    "/proc/self/environ",
    "C:\\Windows\\win.ini",
    "",
)


@pytest.mark.parametrize("path", OUTSIDE)
def test_no_file_but_those_of_the_app_is_served(
    path: str, visitor: Visitor, small_study: SmallStudy
) -> None:
    for place in (path, str(small_study.folder / "store.db"), str(Path(__file__))):
        for route in ("/gradio_api/file=", "/static/", "/assets/", "/svelte/", "/gradio_api/file/"):
            answer = visitor.client.get(
                httpx.URL(visitor.client.base_url).copy_with(raw_path=(route + place).encode())
            )
            assert answer.status_code in (307, 400, 403, 404), f"{route}{place}"
            assert "root:x:0:0" not in answer.text


def test_a_component_lends_none_of_its_methods(visitor: Visitor) -> None:
    names = itertools.cycle(("__init__", "postprocess", "__class__", "ls", "value"))
    for number in visitor.components:
        body = {"data": PATH, "component_id": number, "session_hash": "x", "fn_name": next(names)}
        assert visitor.client.post("/gradio_api/component_server", json=body).status_code == 404


# A store that somebody else has written


class Pending:
    """What a page has asked for and not got yet."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._requests: set[Any] = set()
        page.on(
            "request",
            lambda request: self._requests.add(request) if "/queue/" in request.url else None,
        )
        page.on("requestfinished", lambda request: self._requests.discard(request))
        page.on("requestfailed", lambda request: self._requests.discard(request))

    def wait(self) -> None:
        """Wait until the page has all answers, after at least one more."""
        self._page.wait_for_event("requestfinished", lambda request: "/queue/data" in request.url)
        while self._requests:
            self._page.wait_for_event("requestfinished")


@pytest.fixture(scope="module")
def hostile_url(small_study: SmallStudy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The app on a copy of the study in which every text is markup: study files cannot hold such
    names, rows can.
    """
    folder = tmp_path_factory.mktemp("hostile")
    url = copied(small_study, folder / "store.db")
    with contextlib.closing(sqlite3.connect(folder / "store.db")) as database, database:
        database.execute("UPDATE automl_sr_studies SET name = ?, source = ?", (MARKUP[:64], MARKUP))
        database.execute("UPDATE automl_sr_trials SET reason = ?, stage = ?", (MARKUP, MARKUP[:64]))
        database.execute("UPDATE automl_sr_events SET text = ?, kind = ?", (MARKUP, MARKUP[:32]))
        plan = "json_set(plan, '$.params.\"quantization\"', ?, '$.params.\"<i>x\"', ?)"
        database.execute(f"UPDATE automl_sr_trials SET plan = {plan}", (MARKUP, MARKUP))
        database.execute("UPDATE automl_sr_artifacts SET url = ?", (f"/etc/{MARKUP}",))
    with running_app(url) as app:
        yield app.url


@pytest.mark.timeout(300)
def test_nothing_of_a_store_is_markup_on_a_page(
    hostile_url: str, browser_page: Page, small_study: SmallStudy
) -> None:
    from playwright.sync_api import expect

    page = browser_page
    asked = Pending(page)
    page.goto(hostile_url)
    expect(page.locator("#studies-table")).to_contain_text("<img src=x")
    expect(page.locator("#study input")).to_have_value(MARKUP[:64])
    tabs = page.get_by_role("tab")
    for number in (small_study.front[0], small_study.failed[0]):
        page.get_by_label("Trial", exact=True).fill(str(number))
        page.keyboard.press("Tab")
        expect(page.locator("#line")).to_contain_text(f"trial {number}")
        for place in range(tabs.count()):
            tabs.nth(place).click()
            expect(tabs.nth(place)).to_have_attribute("aria-selected", "true")
            asked.wait()
    expect(page.locator("#line")).to_contain_text("<script>window.hacked=1</script>")
    assert page.evaluate("() => window.hacked") is None
    assert page.locator("img[src='x']").count() == 0


@pytest.mark.everyday
def test_markup_in_an_address_is_text(app_url: str, browser_page: Page) -> None:
    from playwright.sync_api import expect

    browser_page.goto(
        str(httpx.URL(app_url, params={"study": MARKUP, "trial": MARKUP, "tab": MARKUP}))
    )
    expect(browser_page.get_by_text("There is no study").first).to_contain_text("<img src=x")
    expect(browser_page.locator("#studies-table")).to_contain_text("small")
    assert browser_page.evaluate("() => window.hacked") is None
