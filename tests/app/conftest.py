"""The app on a small study, and a browser that looks at it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import app_world
import pytest

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Browser, ConsoleMessage, Page, Request

KEPT = "AUTOML_SR_TEST_FOLDER"
"""Where the study is kept for the next run of the tests, if it is set; remove it after changes to
the engine.
"""
SEARCHING_SECONDS = 300
LOCAL = ("127.0.0.1", "localhost", "::1")
GRADIO_LEAVES = "AbortError: signal is aborted without reason"
"""What Gradio's script logs, now and then, where a page is left: it ends its own connection."""
PATIENCE = 30_000
"""Milliseconds that a page is waited for: machines that run tests are busy."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give time to the test that searches the study."""
    here = Path(__file__).parent
    for item in items:
        used = getattr(item, "fixturenames", ())
        if (
            here in item.path.parents
            and "small_study" in used
            and not item.get_closest_marker("timeout")
        ):
            item.add_marker(pytest.mark.timeout(SEARCHING_SECONDS))


@pytest.fixture(scope="session")
def small_study(tmp_path_factory: pytest.TempPathFactory) -> SmallStudy:
    """A study that was searched, with complete, pruned, infeasible and failed trials; tests only
    read it.
    """
    own = tmp_path_factory.getbasetemp()
    shared = own.parent if os.environ.get("PYTEST_XDIST_WORKER") else own
    return app_world.small_study(Path(os.environ.get(KEPT) or shared))


@pytest.fixture(scope="session")
def app_url(small_study: SmallStudy) -> Iterator[str]:
    """The address of the app on that study."""
    with app_world.running_app(small_study.store) as app:
        yield app.url


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless browser; without one, or without playwright, tests are skipped."""
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="no playwright: pip install playwright"
    )
    program = app_world.browser_program()
    if program is None:
        pytest.skip(f"no browser: install chromium, or name one in {app_world.BROWSER}")
    if not Path(program).is_file():
        pytest.skip(f"there is no browser {program}, which {app_world.BROWSER} names")
    playwright.expect.set_options(timeout=PATIENCE)
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=program, args=app_world.BROWSER_ARGUMENTS)
        yield started
        started.close()


@pytest.fixture
def complaints() -> list[str]:
    """What the page of `browser_page` complained about: a test that provokes errors takes them
    out.
    """
    return []


@pytest.fixture
def browser_page(browser: Browser, complaints: list[str]) -> Iterator[Page]:
    """A page without a cache of other tests; the test fails where it logs errors or asks another
    host for anything.
    """
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE)
    page = context.new_page()

    def said(message: ConsoleMessage) -> None:
        if message.type == "error" and not message.text.startswith(GRADIO_LEAVES):
            complaints.append(f"{message.text} ({message.location.get('url', '')})")

    def asked(request: Request) -> None:
        parts = urlsplit(request.url)
        if parts.scheme not in ("data", "blob") and parts.hostname not in LOCAL:
            complaints.append(f"asked another host: {request.url}")

    page.on("console", said)
    page.on("pageerror", lambda error: complaints.append(f"error in the page: {error}"))
    page.on("request", asked)
    yield page
    context.close()
    assert complaints == [], "the browser had something to say"
