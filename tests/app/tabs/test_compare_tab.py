"""The tab Compare in a browser: choosing trials, the table, the curves, and addresses that lead to
it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

expect = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
).expect
pytestmark = pytest.mark.ci

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Locator, Page


def table(page: Page) -> Locator:
    return page.locator("#compare-table")


def choice(page: Page) -> Locator:
    return page.locator("#compare-trials input")


def drawn(page: Page, name: str) -> None:
    page.locator(f"#compare-{name} .chart[data-drawn]").wait_for()


@pytest.fixture
def opened(browser_page: Page, app_url: str, small_study: SmallStudy) -> Page:
    """The tab, with nothing chosen."""
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=compare")
    expect(table(browser_page)).to_contain_text("Choose two to 6 trials")
    return browser_page


@pytest.mark.everyday
def test_an_address_leads_to_a_comparison(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    first, second = small_study.front[0], small_study.pruned[0]
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=compare&compare={first},{second}")
    for part in (
        f"trial {first}",
        f"trial {second}",
        "psnr_y",
        "Plan, where it differs",
        "Time by stage",
        "★",
    ):
        expect(table(browser_page)).to_contain_text(part)
    for name in ("steps", "seconds", "costs"):
        drawn(browser_page, name)
    names = browser_page.locator("#compare-steps .legendtext")
    expect(names).to_have_text([f"trial {first}", f"trial {second}"])
    expect(browser_page.locator("#compare-trials")).to_contain_text(f"{first}: complete")
    assert f"compare={first}" in browser_page.url


def test_trials_are_chosen_from_the_list(opened: Page, small_study: SmallStudy) -> None:
    chosen = small_study.complete[:1] + small_study.infeasible[:1]
    for number in chosen:
        choice(opened).click()
        opened.get_by_role("option", name=re.compile(rf"^\W*{number}: ")).click()
        expect(opened.locator("#compare-trials .token", has_text=f"{number}: ")).to_have_count(1)
    for number in chosen:
        expect(table(opened)).to_contain_text(f"trial {number}")
    opened.wait_for_function(
        f"new URL(location.href).searchParams.get('compare') === '{','.join(map(str, chosen))}'"
    )


def test_numbers_may_be_typed_and_wrong_ones_are_told(
    opened: Page, small_study: SmallStudy
) -> None:
    first, second = small_study.complete[0], small_study.failed[0]
    for text, answer in (
        (str(first), opened.locator("#compare-trials .token", has_text=f"{first}: ")),
        ("999", opened.get_by_text("small has no trial 999.").first),
        (str(second), opened.locator("#compare-trials .token", has_text=f"{second}: ")),
    ):
        choice(opened).fill(text)
        choice(opened).press("Enter")
        expect(answer).to_be_visible()
    expect(table(opened)).to_contain_text(f"trial {second}")
    expect(opened.locator("#compare-trials .token")).to_have_count(2)
    expect(opened.locator("#compare-trials")).not_to_contain_text("999")


def test_whole_plans_on_demand(browser_page: Page, app_url: str, small_study: SmallStudy) -> None:
    first, second = small_study.complete[0], small_study.failed[0]
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=compare&compare={first},{second}")
    expect(table(browser_page)).to_contain_text("Plan, where it differs")
    expect(table(browser_page)).not_to_contain_text("recipe.batch")
    browser_page.locator("#compare-all").get_by_role("checkbox").check()
    expect(table(browser_page)).to_contain_text("recipe.batch")


def test_a_number_that_is_not_there_is_told(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=compare&compare=0,999")
    expect(table(browser_page)).to_contain_text("small has no trial 999.")
    expect(table(browser_page)).to_contain_text("Choose two to 6 trials")
