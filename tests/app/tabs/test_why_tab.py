"""The tab Why in a browser: its views, its controls, and clicks that select a trial."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

expect = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
).expect
pytestmark = pytest.mark.ci

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Page

CHART = "#why-chart"


def drawn(page: Page) -> int:
    return int(page.locator(f"{CHART} .chart").get_attribute("data-drawn") or 0)


def show(page: Page, view: str) -> None:
    """Choose a view, and wait for what it shows."""
    before = drawn(page)
    page.get_by_role("radio", name=view, exact=True).check()
    page.wait_for_function(
        f"""before => {{
            const chart = document.querySelector('{CHART} .chart');
            return Number(chart.dataset.drawn || 0) > before || chart.hidden;
        }}""",
        arg=before,
    )


@pytest.fixture
def opened(browser_page: Page, app_url: str, small_study: SmallStudy) -> Page:
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=why")
    browser_page.locator(f"{CHART} .chart[data-drawn]").wait_for()
    return browser_page


@pytest.mark.everyday
def test_it_opens_with_the_history(opened: Page) -> None:
    expect(opened.locator("#why-words")).to_contain_text("The share that the front dominates")
    expect(opened.locator(f"{CHART} .ytitle")).to_have_text("hypervolume")
    expect(opened.locator("#why-parameters")).to_have_count(0)


def test_with_too_few_trials_importance_says_so(opened: Page) -> None:
    show(opened, "Importance")
    expect(opened.locator(f"{CHART} .empty")).to_contain_text("too few to tell: it takes 20")


def test_slices_show_parameters_that_can_be_chosen(opened: Page) -> None:
    show(opened, "Slices")
    tokens = opened.locator("#why-parameters .token")
    expect(tokens.first).to_be_visible()
    panels = opened.locator(f"{CHART} .subplot")
    count = tokens.count()
    expect(panels).to_have_count(min(count, 6))
    before = drawn(opened)
    tokens.first.locator("button, .token-remove").first.click()
    opened.wait_for_function(
        f"before => Number(document.querySelector('{CHART} .chart').dataset.drawn) > before",
        arg=before,
    )
    expect(tokens).to_have_count(count - 1)


def test_a_click_on_a_point_selects_its_trial(opened: Page, small_study: SmallStudy) -> None:
    show(opened, "Slices")
    points = opened.locator(f"{CHART} .points path.point")
    box = points.first.bounding_box()
    assert box is not None
    opened.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    opened.wait_for_function("document.querySelector('#trial input').value !== ''")
    number = int(opened.locator("#trial input").input_value())
    assert number in small_study.complete + small_study.pruned
    expect(opened.locator("#line")).to_contain_text(f"trial {number}")


def test_two_parameters_lie_against_each_other(opened: Page) -> None:
    show(opened, "Two parameters")
    expect(opened.locator("#why-across input")).not_to_have_value("")
    across = opened.locator("#why-across input").input_value()
    expect(opened.locator(f"{CHART} .xtitle")).to_have_text(across)
    expect(opened.locator("#why-words")).to_contain_text("Coloured by the rank")


def test_parallel_coordinates_show_the_selected_trial(
    opened: Page, small_study: SmallStudy
) -> None:
    show(opened, "Parallel coordinates")
    before = drawn(opened)
    number = small_study.front[0]
    opened.locator("#trial input").fill(str(number))
    opened.locator("#trial input").press("Enter")
    opened.wait_for_function(
        f"before => Number(document.querySelector('{CHART} .chart').dataset.drawn) > before",
        arg=before,
    )
    expect(opened.locator(f"{CHART} .legendtext", has_text=f"trial {number}")).to_have_count(1)


def test_rungs_say_who_was_stopped_where(opened: Page, small_study: SmallStudy) -> None:
    show(opened, "Rungs")
    expect(opened.locator(f"{CHART} .legendtext", has_text="stopped here")).to_have_count(1)
    cells = opened.locator("#why-table td")
    expect(cells.nth(3)).to_have_text(str(len(small_study.pruned)))


def test_the_timeline_has_a_bar_for_each_trial(opened: Page, small_study: SmallStudy) -> None:
    show(opened, "Timeline")
    states = opened.locator(f"{CHART} .legendtext")
    expect(states.filter(has_text="complete")).to_have_count(1)
    expect(states.filter(has_text="failed")).to_have_count(1)
    ran = small_study.complete + small_study.pruned + small_study.infeasible + small_study.failed
    expect(opened.locator(f"{CHART} .bars .point")).to_have_count(len(ran))
