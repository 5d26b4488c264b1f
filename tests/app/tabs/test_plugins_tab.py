"""The tab Plugins in a browser: it needs no store, finds techniques, and shows method cards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import app_world
import pytest

from automl_sr.plugin.technique import Slot

expect = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
).expect
pytestmark = pytest.mark.ci

if TYPE_CHECKING:
    from playwright.sync_api import Page


@pytest.fixture
def opened(browser_page: Page, app_url: str) -> Page:
    browser_page.goto(f"{app_url}/?tab=plugins")
    expect(browser_page.locator("#plugins-techniques")).to_contain_text("fsrcnn")
    return browser_page


@pytest.mark.everyday
def test_techniques_stand_by_slot_and_unfold(opened: Page) -> None:
    techniques = opened.locator("#plugins-techniques")
    expect(techniques.locator("h4")).to_have_text([slot.value for slot in Slot])
    one = techniques.locator("details", has_text="fsrcnn")
    expect(one.locator("table")).to_be_hidden()
    one.locator("summary").press("Enter")
    expect(one.locator("table")).to_contain_text("whole number from 1 to 512")
    expect(one.locator("table")).to_contain_text("24 .. 64, step 8")


def test_a_search_and_a_slot_leave_what_fits(opened: Page) -> None:
    techniques = opened.locator("#plugins-techniques")
    opened.locator("#plugins-search input, #plugins-search textarea").fill("hardest")
    expect(techniques.locator("summary")).to_have_count(1)
    expect(techniques.locator("summary")).to_contain_text("loss")
    opened.locator("#plugins-search input, #plugins-search textarea").fill("no-such-thing")
    expect(techniques).to_contain_text("No installed technique fits")
    opened.locator("#plugins-search input, #plugins-search textarea").fill("")
    opened.locator("#plugins-slot input").click()
    opened.get_by_role("option", name="quantization").click()
    expect(techniques.locator("h4")).to_have_text(["quantization"])


def test_method_cards_are_read_in_the_page(opened: Page) -> None:
    card = opened.locator("#plugins-card")
    opened.locator("#plugins-card-of input").click()
    opened.get_by_role("option", name="quantization").click()
    expect(card).to_contain_text("quantization: fewer bits in the shipped model")
    opened.locator("#plugins-card-of input").click()
    opened.get_by_role("option", name="selection").click()
    expect(card).to_contain_text("selection")
    expect(card.locator("table").first).to_be_visible()


def test_tasks_metrics_and_what_is_unavailable_are_listed(opened: Page) -> None:
    expect(opened.locator("#plugins-tasks")).to_contain_text("Image super-resolution")
    expect(opened.locator("#plugins-tasks")).to_contain_text("Peak signal-to-noise ratio on luma")
    expect(opened.locator("#plugins-unavailable")).not_to_be_empty()


@pytest.fixture(scope="module")
def url_without_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    nothing: Path = tmp_path_factory.mktemp("nothing") / "store.db"
    with app_world.running_app(f"sqlite:///{nothing}") as app:
        yield app.url


def test_it_needs_no_store(browser_page: Page, url_without_store: str) -> None:
    browser_page.goto(f"{url_without_store}/?tab=plugins")
    expect(browser_page.locator("#plugins-techniques")).to_contain_text("int8_ptq")
