"""The tab Export in a browser: downloads of a trial's model, study file and report, and what is
said instead.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from automl_sr.plugin.registry import installed
from automl_sr.search.trial_study_file import trial_study_file
from automl_sr.space.search_space import SearchSpace
from automl_sr.store.reading import Reader
from automl_sr.study.spec import parse_study

expect = pytest.importorskip(
    "playwright.sync_api", reason="no playwright: pip install playwright"
).expect
pytestmark = pytest.mark.ci

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Page

NAMES = ("model-onnx", "model-safetensors", "README-md", "study-yaml", "everything")


def open_tab(page: Page, url: str, small_study: SmallStudy, number: int) -> None:
    page.goto(f"{url}/?study={small_study.name}&trial={number}&tab=export")
    expect(page.locator("#export-about")).to_contain_text(f"trial {number}")


def downloaded(page: Page, name: str) -> Path:
    """Click a button and give what the browser saved, under the name that it was offered."""
    button = page.locator(f"#export-{name}")
    expect(button).to_be_enabled()
    with page.expect_download() as download:
        button.click()
    return Path(download.value.path()).rename(
        Path(download.value.path()).parent / download.value.suggested_filename
    )


@pytest.mark.everyday
def test_everything_of_a_trial_is_downloaded_as_it_was_stored(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    number = small_study.front[0]
    open_tab(browser_page, app_url, small_study, number)
    reader = Reader.open(small_study.store)
    trial = reader.trial(reader.study(small_study.name), number)
    reader.close()
    for name, kind in (("model-onnx", "onnx"), ("model-safetensors", "weights")):
        saved = downloaded(browser_page, name)
        assert hashlib.sha256(saved.read_bytes()).hexdigest() == trial.artifacts[kind].sha256
        assert saved.name == name.replace("-", ".")
    assert downloaded(browser_page, "README-md").read_text().startswith(f"# small, trial {number}")
    archive = downloaded(browser_page, "everything")
    assert archive.name == f"small-trial-{number}.zip"
    with zipfile.ZipFile(archive) as found:
        assert len(found.namelist()) == 4


def test_the_study_file_trains_this_plan_alone(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    number = small_study.pruned[0]
    open_tab(browser_page, app_url, small_study, number)
    text = downloaded(browser_page, "study-yaml").read_text()
    registry = installed()
    space = SearchSpace(parse_study(text, "study.yaml", registry).space_request, registry)
    reader = Reader.open(small_study.store)
    trial = reader.trial(reader.study(small_study.name), number)
    reader.close()
    assert space.count().total == 1
    assert space.default_plan().fingerprint == trial.fingerprint


def test_every_trial_of_the_study_has_such_a_file(small_study: SmallStudy) -> None:
    registry = installed()
    reader = Reader.open(small_study.store)
    study = reader.study(small_study.name)
    for trial in reader.trials(study):
        text = trial_study_file(study, trial, registry)
        space = SearchSpace(parse_study(text, "study.yaml", registry).space_request, registry)
        assert space.default_plan().fingerprint == (trial.plan or {})["fingerprint"]
    reader.close()


def test_a_trial_without_a_model_says_why_and_has_its_study_file(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    open_tab(browser_page, app_url, small_study, small_study.failed[0])
    about = browser_page.locator("#export-about")
    expect(about).to_contain_text("is failed and left no model")
    expect(about).to_contain_text("the disk took <b>no</b> more")
    for name in NAMES:
        button = browser_page.locator(f"#export-{name}")
        expect(button).to_be_enabled() if name == "study-yaml" else expect(button).to_be_disabled()


def test_without_a_trial_it_says_how_to_select_one(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    browser_page.goto(f"{app_url}/?study={small_study.name}&tab=export")
    expect(browser_page.locator("#export-about")).to_contain_text(
        "Select a trial to export its model"
    )
    for name in NAMES:
        expect(browser_page.locator(f"#export-{name}")).to_be_disabled()


def test_the_report_is_made_when_it_is_asked_for(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    open_tab(browser_page, app_url, small_study, small_study.front[0])
    images = browser_page.locator("#export-images input[type=number]")
    images.fill("1")
    images.press("Tab")
    expect(browser_page.locator("#export-report")).to_be_hidden()
    browser_page.locator("#export-make").click()
    expect(browser_page.locator("#export-status")).to_contain_text("The report is made.")
    saved = downloaded(browser_page, "report")
    assert saved.name == "small.html"
    text = saved.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "<b>no</b> more" not in text


def test_an_address_from_before_the_tab_was_renamed_opens_it(
    browser_page: Page, app_url: str, small_study: SmallStudy
) -> None:
    number = small_study.front[0]
    browser_page.goto(f"{app_url}/?study={small_study.name}&trial={number}&tab=takeaway")
    tab = browser_page.get_by_role("tab", name="Export")
    expect(tab).to_have_attribute("aria-selected", "true")
    expect(browser_page.locator("#export-about")).to_contain_text(f"trial {number}")
    expect(browser_page).to_have_url(re.compile("tab=export"))
