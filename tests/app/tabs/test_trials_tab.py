"""The tab Trials in a browser: rows select trials, filters and searches stay, and the panel follows
the selection.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import app_world
import pytest

expect = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
).expect
pytestmark = pytest.mark.ci

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Locator, Page


@pytest.fixture
def opened(browser_page: Page, app_url: str, small_study: SmallStudy) -> Page:
    """The tab, with its table."""
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=trials")
    expect(cell(browser_page, 0)).to_be_visible()
    return browser_page


def cell(page: Page, number: int, column: int = 0) -> Locator:
    """A cell of a trial's row: all trials are listed by number, so that rows have their numbers."""
    return page.locator(f"#trials-table [data-testid='cell-{number}-{column}']")


def panel(page: Page) -> Locator:
    return page.locator("#trial-panel")


def chosen(page: Page) -> Locator:
    return page.locator("#trial input")


@pytest.mark.everyday
def test_a_click_on_a_row_selects_its_trial_everywhere(
    opened: Page, small_study: SmallStudy
) -> None:
    number = small_study.front[0]
    expect(panel(opened)).to_contain_text("Select a trial")
    cell(opened, number, 1).click()
    expect(panel(opened)).to_contain_text(f"Trial {number}: complete in the front")
    for part in ("Values and costs", "Plan", "Time", "Files", "model.onnx", "train"):
        expect(panel(opened)).to_contain_text(part)
    drawing = opened.locator("#trial-drawing")
    drawing.locator("summary", has_text="Drawing of the net").click()
    expect(drawing.get_by_role("img", name="Drawing of the net")).to_be_visible()
    expect(chosen(opened)).to_have_value(str(number))
    opened.wait_for_function(f"new URL(location.href).searchParams.get('trial') === '{number}'")


def test_a_failure_is_told_as_text(opened: Page, small_study: SmallStudy) -> None:
    number = small_study.failed[0]
    cell(opened, number, 1).click()
    expect(panel(opened)).to_contain_text(app_world.FAILURE)
    expect(opened.locator("#trial-events details[open] pre").first).to_contain_text("Traceback")
    expect(opened.locator("#trial-panel b", has_text=re.compile("^no$"))).to_have_count(0)


def test_a_trial_that_is_selected_elsewhere_is_shown(opened: Page, small_study: SmallStudy) -> None:
    number = small_study.infeasible[0]
    chosen(opened).fill(str(number))
    chosen(opened).press("Enter")
    expect(panel(opened)).to_contain_text(f"Trial {number}: infeasible")
    expect(panel(opened)).to_contain_text("broken")


def test_rungs_of_a_trial_that_was_stopped(opened: Page, small_study: SmallStudy) -> None:
    number = small_study.pruned[0]
    cell(opened, number).click()
    expect(panel(opened)).to_contain_text(f"Trial {number}: pruned")
    expect(panel(opened).locator("caption", has_text="Rungs")).to_be_visible()
    expect(panel(opened).get_by_role("cell", name="stopped")).to_be_visible()


def test_states_filter_the_table(opened: Page, small_study: SmallStudy) -> None:
    for state in ("complete", "pruned", "infeasible"):
        opened.locator("#trials-states").get_by_label(state, exact=True).uncheck()
    expect(cell(opened, 0)).to_have_text(re.compile(str(small_study.failed[0])))
    expect(cell(opened, len(small_study.failed))).to_have_count(0)
    opened.locator("#trials-states").get_by_label("failed", exact=True).uncheck()
    expect(opened.locator("#trials-empty")).to_contain_text("tick more of them")


def test_a_search_finds_rows_and_a_row_found_is_the_one_that_is_selected(
    opened: Page, small_study: SmallStudy
) -> None:
    opened.locator("#trials-table input[type=text]").fill("failed")
    number = small_study.failed[0]
    expect(cell(opened, small_study.complete[0])).to_have_count(0)
    cell(opened, number, 1).click()
    expect(panel(opened)).to_contain_text(f"Trial {number}: failed")


def test_the_keyboard_is_enough(opened: Page) -> None:
    opened.locator("#trials-next").focus()
    opened.keyboard.press("Enter")
    expect(panel(opened)).to_contain_text("Trial 0:")
    opened.keyboard.press("Enter")
    expect(panel(opened)).to_contain_text("Trial 1:")
    opened.locator("#trials-previous").focus()
    opened.keyboard.press("Enter")
    expect(panel(opened)).to_contain_text("Trial 0:")
    cell(opened, 0).focus()
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("ArrowDown")
    opened.keyboard.press("Enter")
    expect(panel(opened)).to_contain_text("Trial 2:")


def test_trials_are_added_to_the_comparison(opened: Page, small_study: SmallStudy) -> None:
    first, second = small_study.complete[0], small_study.failed[0]
    said = opened.locator("#trials-compared")
    for number in (first, second):
        cell(opened, number, 1).click()
        expect(panel(opened)).to_contain_text(f"Trial {number}:")
        opened.locator("#trials-add").click()
        expect(said).to_contain_text(str(number))
    opened.wait_for_function(
        f"new URL(location.href).searchParams.get('compare') === '{first},{second}'"
    )
    opened.locator("#trials-clear").click()
    expect(said).to_contain_text("No trial is chosen")
    opened.wait_for_function("!new URL(location.href).searchParams.has('compare')")


def test_a_seventh_trial_is_refused_with_a_sentence(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=trials&trial=6&compare=0,1,2,3,4,5")
    expect(panel(browser_page)).to_contain_text("Trial 6:")
    browser_page.locator("#trials-add").click()
    expect(browser_page.get_by_text("6 trials are compared already")).to_be_visible()
    expect(browser_page.locator("#trials-compared")).to_contain_text("0, 1, 2, 3, 4, 5.")


@pytest.fixture
def own_app(small_study: SmallStudy, tmp_path: Path) -> Iterator[app_world.App]:
    """The app on a copy of the study that a test may change; it ends after the page, which asks it
    to the last.
    """
    with app_world.running_app(app_world.copied(small_study, tmp_path / "store.db")) as app:
        yield app


def test_sort_and_search_stay_while_a_search_adds_trials(
    own_app: app_world.App, browser_page: Page, small_study: SmallStudy
) -> None:
    browser_page.goto(f"{own_app.url}/?study={small_study.name}&tab=trials")
    browser_page.locator("#trials-table input[type=text]").fill("failed")
    expect(cell(browser_page, small_study.complete[0])).to_have_count(0)
    number = small_study.failed[0]
    cell(browser_page, number, 1).click()
    expect(panel(browser_page)).to_contain_text(f"Trial {number}: failed")
    added = app_world.add_failed(own_app.store, small_study.name)
    expect(cell(browser_page, added)).to_have_text(re.compile(str(added)))
    expect(browser_page.locator("#trials-table input[type=text]")).to_have_value("failed")
    expect(cell(browser_page, small_study.complete[0])).to_have_count(0)
    expect(cell(browser_page, number, 1)).to_have_attribute("aria-selected", "true")
