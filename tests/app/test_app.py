"""The app in a browser, on a study that was really searched: selecting, addresses, and a store that
changes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from app_world import CODE, App, SmallStudy, click_point, copied, running_app, wait_drawn
from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from automl_sr.store import models
from automl_sr.store.database import open_engine
from automl_sr.store.repository import Store

expect = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
).expect
pytestmark = pytest.mark.ci

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page, Route

SEARCHED = """
name: {name}
task: {{kind: image-sr, scale: 2, train: photos-train, valid: photos-valid}}
objectives: [psnr_y, params]
device: {{input: [32, 32]}}
budget: {{trials: 2, steps: {steps}}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  selection: none
  architecture: {{espcn: {{width: [8, 16]}}}}
  quantization: none
  recipe: {{batch: 4, patch: 16, precision: fp32}}
"""
ROW = "#studies-table tbody tr"
RECORD_LINE = """() => {
  window.lines = [];
  const line = document.querySelector('#line');
  const options = {childList: true, subtree: true, characterData: true};
  new MutationObserver(() => window.lines.push(line.textContent)).observe(line, options);
}"""
"""Keeps every text that the line on top shows from now on."""


def cell(page: Page, column: int) -> Locator:
    """A cell of the newest study."""
    return page.locator(ROW).first.locator("td").nth(column)


def select_trial(page: Page, number: int) -> None:
    """Type the number of a trial, when the page is there."""
    expect(page.locator("#study input")).not_to_have_value("")
    page.get_by_label("Trial", exact=True).fill(str(number))
    page.keyboard.press("Tab")


@pytest.mark.everyday
def test_the_list_shows_what_a_study_has_found(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    browser_page.goto(app_url)
    row = browser_page.locator(ROW).filter(has_text=small_study.name).first
    expect(row).to_contain_text("finished")
    for column, state in ((3, "complete"), (4, "pruned"), (5, "infeasible"), (7, "failed")):
        expect(cell(browser_page, column)).to_have_text(str(len(getattr(small_study, state))))
    expect(cell(browser_page, 2)).to_have_text(re.compile(r"psnr_y 3\d\.\d+, params \d"))
    expect(browser_page.locator("#work")).to_contain_text("No worker is searching at the moment.")


def second_study(url: str) -> None:
    """Add a study without trials."""
    table = models.Study.__table__
    engine = open_engine(url, write=True)
    with engine.begin() as database:
        first = dict(database.execute(select(table)).mappings().one())
        database.execute(
            insert(table).values({**first, "id": first["id"] + 1, "name": "other & more"})
        )
    engine.dispose()


def change(url: str) -> None:
    """Let the newest study take longer than it did."""
    engine = open_engine(url, write=True)
    with Session(engine) as database, database.begin():
        database.execute(
            update(models.Study).where(models.Study.name == "other & more").values(seconds=7200.0)
        )
    engine.dispose()


@pytest.fixture
def two_studies(small_study: SmallStudy, tmp_path: Path) -> Iterator[App]:
    """The app on a store with the small study and another one."""
    url = copied(small_study, tmp_path / "store.db")
    second_study(url)
    with running_app(url) as app:
        yield app


def test_a_study_is_chosen_in_the_list_by_click_by_key_and_as_a_link(
    two_studies: App, browser_page: Page
) -> None:
    page = browser_page
    study, names = page.locator("#study input"), page.locator("#studies-table a")
    page.goto(two_studies.url)
    expect(names).to_have_text(["other & more", "small"])
    expect(study).to_have_value("other & more")
    expect(names.first).to_have_attribute("aria-current", "true")
    page.locator(ROW).last.locator("td").nth(2).click()
    expect(study).to_have_value("small")
    expect(names.last).to_have_attribute("aria-current", "true")
    expect(names.first).not_to_have_attribute("aria-current", "true")
    names.first.focus()
    page.keyboard.press("Enter")
    expect(study).to_have_value("other & more")
    expect(page).to_have_url(re.compile(r"study=other"))
    change(two_studies.store)
    expect(cell(page, 8)).to_have_text("2 h 0 min")
    expect(names.first).to_be_focused()
    expect(names.first).to_have_attribute("aria-current", "true")
    expect(names.first).to_have_attribute("href", "?study=other+%26+more")


@pytest.mark.everyday
def test_a_click_on_a_point_selects_its_trial(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    browser_page.goto(f"{app_url}/?study=small&tab=front")
    for number in (small_study.front[0], small_study.front[-1]):
        click_point(browser_page, number)
        expect(browser_page.locator("#line")).to_contain_text(
            f"trial {number}, complete in the front"
        )
        expect(browser_page.locator("#trial input")).to_have_value(str(number))
        expect(browser_page).to_have_url(re.compile(rf"\?study=small&tab=front&trial={number}$"))
    ring = "() => document.querySelector('#front-chart .chart').layout.shapes.at(-1)?.name"
    browser_page.wait_for_function(f"({ring})() === 'ring'")


def test_a_number_can_be_typed_instead(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    number = small_study.infeasible[0]
    browser_page.goto(f"{app_url}/?study=small")
    select_trial(browser_page, number)
    expect(browser_page.locator("#line")).to_contain_text(f"trial {number}, infeasible")
    expect(browser_page.locator("#line")).to_contain_text("at most 4,500 is asked")


def test_what_was_asked_earlier_and_comes_later_is_dropped(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    page = browser_page
    held: list[Route] = []

    def overtaken(route: Route) -> None:
        """Hold the first question about no trial back."""
        values = route.request.post_data_json["data"]
        if not held and values[-2:] == [small_study.name, None]:
            held.append(route)
        else:
            route.continue_()

    page.route("**/queue/join*", overtaken)
    page.goto(f"{app_url}/?study=small")
    first, second = small_study.infeasible[:2]
    select_trial(page, first)
    expect(page.locator("#line")).to_contain_text(f"trial {first}, infeasible")
    page.evaluate(RECORD_LINE)
    held.pop().continue_()
    select_trial(page, second)
    expect(page.locator("#line")).to_contain_text(f"trial {second}, infeasible")
    assert not [text for text in page.evaluate("lines") if "Select a trial" in text]


def test_an_address_leads_back(browser_page: Page, app_url: str, small_study: SmallStudy) -> None:
    number = small_study.pruned[0]
    browser_page.goto(f"{app_url}/?study=small&trial={number}&tab=front")
    expect(browser_page.get_by_role("tab", name="Front")).to_have_attribute("aria-selected", "true")
    expect(browser_page.locator("#line")).to_contain_text(f"trial {number}, pruned")
    wait_drawn(browser_page)
    browser_page.get_by_role("tab", name="Studies").click()
    expect(browser_page).not_to_have_url(re.compile("tab="))
    expect(browser_page.locator(ROW).first).to_contain_text("small")


def test_the_axes_are_those_that_the_controls_name(browser_page: Page, app_url: str) -> None:
    browser_page.goto(f"{app_url}/?study=small&tab=front")
    wait_drawn(browser_page)
    title = (
        "axis => document.querySelector('#front-chart .chart').layout[axis].title.text.split('"
        " ')[0]"
    )
    assert (
        browser_page.evaluate(title, "xaxis")
        == browser_page.get_by_label("Across", exact=True).input_value()
        == "params"
    )
    assert (
        browser_page.evaluate(title, "yaxis")
        == browser_page.get_by_label("Up", exact=True).input_value()
        == "psnr_y"
    )
    browser_page.get_by_label("Across", exact=True).click()
    browser_page.get_by_role("option", name="macs").click()
    browser_page.wait_for_function(f"({title})('xaxis') === 'macs'")


def test_infeasible_trials_are_shown_when_that_is_asked(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    browser_page.goto(f"{app_url}/?study=small&tab=front")
    wait_drawn(browser_page)
    browser_page.get_by_label("Up", exact=True).click()
    browser_page.get_by_role("option", name="macs").click()
    browser_page.locator("#front-states").get_by_label("infeasible").check()
    names = "() => document.querySelector('#front-chart .chart').data.map(trace => trace.name)"
    browser_page.wait_for_function(f"({names})().includes('infeasible')")
    number = small_study.infeasible[-1]
    browser_page.goto(f"{app_url}/?study=small&tab=front&trial={number}")
    expect(browser_page.locator("#line")).to_contain_text(f"trial {number}, infeasible")


def test_an_address_that_leads_nowhere_says_so(browser_page: Page, app_url: str) -> None:
    browser_page.goto(f"{app_url}/?study=smal&trial=99999&tab=nothing")
    expect(browser_page.get_by_text("There is no study 'smal' in this store.")).to_be_visible()
    expect(browser_page.get_by_text("small has no trial 99999.").first).to_be_visible()
    expect(browser_page.locator("#line")).to_contain_text("Select a trial")
    expect(browser_page.locator(ROW).first).to_contain_text("small")


@pytest.mark.parametrize("tab", ["studies", "front"])
def test_a_page_fits_a_phone(tab: str, browser_page: Page, app_url: str) -> None:
    browser_page.set_viewport_size({"width": 390, "height": 844})
    browser_page.goto(f"{app_url}/?study=small&tab={tab}")
    if tab == "front":
        wait_drawn(browser_page)
    else:
        expect(browser_page.locator(ROW).first).to_contain_text("small")
    assert browser_page.evaluate("() => document.documentElement.scrollWidth") <= 390


# A store that changes while somebody looks at it


@pytest.fixture
def changing(tmp_path: Path) -> Iterator[App]:
    """The app on a store that is not there yet."""
    with running_app(f"sqlite:///{tmp_path}/store/automl-sr.db") as app:
        yield app


def search(app: App, folder: Path, name: str, steps: int = 400) -> subprocess.Popen[str]:
    """Search on the app's store, in a process of its own."""
    file = folder / f"{name}.yaml"
    file.write_text(SEARCHED.format(name=name, steps=steps))
    places = [
        "--store",
        app.store,
        "--artifacts",
        str(folder / "artifacts"),
        "--device",
        "cpu",
        "--quiet",
    ]
    return subprocess.Popen(
        [sys.executable, "-m", "automl_sr", "search", str(file), *places],
        env={**os.environ, "PYTHONPATH": CODE},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait(process: subprocess.Popen[str]) -> None:
    _, error = process.communicate(timeout=200)
    assert process.returncode == 0, error


@pytest.mark.timeout(600)
def test_a_page_follows_its_store(
    changing: App, browser_page: Page, complaints: list[str], tmp_path: Path
) -> None:
    """From a store that is not there, over searches, to one that was removed: without a reload."""
    page = browser_page
    page.goto(changing.url)
    empty = page.locator("#studies-empty")
    expect(empty).to_contain_text("Nothing to show yet")
    expect(empty).to_contain_text("There is no store at")
    expect(empty).to_contain_text("automl-sr search studies/quickstart.yaml")
    page.get_by_role("tab", name="Front").click()
    expect(page.locator("#front-chart")).to_contain_text("Choose a study above.")
    page.get_by_role("tab", name="Studies").click()

    Store.open(changing.store).close()
    expect(empty).to_contain_text("There are no studies in")

    first = search(changing, tmp_path, "first")
    name, state = cell(page, 0), cell(page, 1)
    expect(name).to_have_text("first", timeout=200_000)
    expect(state).to_have_text("running")
    wait(first)
    expect(state).to_have_text("finished")
    expect(page.locator("#study input")).to_have_value("first")
    select_trial(page, 1)
    line = page.locator("#line")
    expect(line).to_contain_text("trial 1, complete")

    second = search(changing, tmp_path, "second")
    expect(name).to_have_text("second", timeout=200_000)
    expect(state).to_have_text("running")
    expect(page.locator("#work")).to_contain_text("second")
    wait(second)
    expect(state).to_have_text("finished")
    expect(page.locator("#study input")).to_have_value("first")
    expect(line).to_contain_text("trial 1, complete")
    expect(page).to_have_url(re.compile(r"study=first.*trial=1"))
    expect(page.locator("#work")).to_contain_text("No worker is searching at the moment.")

    assert complaints == []
    for path in (tmp_path / "store").glob("automl-sr.db*"):
        path.unlink()
    expect(empty).to_contain_text("There is no store at")
    page.get_by_role("tab", name="Front").click()
    expect(page.get_by_text("There is no store at").last).to_be_visible()

    Store.open(changing.store).close()
    page.get_by_role("tab", name="Studies").click()
    expect(empty).to_contain_text("There are no studies in")
