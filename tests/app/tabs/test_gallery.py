"""The tab Preview of a study whose task is not super-resolution: examples, as the task shows
them.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import app_world
import pytest
import sequence_world
from sequence_world import search, sequence_registry, store_of

from automl_sr.app.preview import gallery
from automl_sr.app.store_cache import StoreCache
from automl_sr.app.tabs.preview import Wish, answered_in_gallery, why_not
from automl_sr.errors import ModelError
from automl_sr.plugin.registry import installed

if TYPE_CHECKING:
    from playwright.sync_api import Page

pytestmark = pytest.mark.timeout(300)
CAPTION = "The last frame of each sequence."


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The store of a study on sequences."""
    place = tmp_path_factory.mktemp("sequences")
    done = search(place)
    assert done.returncode == 0, done.stderr
    return store_of(place)


@pytest.fixture
def cache(sequences: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> StoreCache:
    """What pages read of that store, with the task installed."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return StoreCache(sequences, sequence_registry())


def wish(*trials: int) -> Wish:
    return Wish("sequences", "valid", None, None, "enlarge", "cut", list(trials))


def answer(cache: StoreCache, *trials: int) -> tuple[str, str]:
    """Give the last gallery and the last words."""
    told: list[Any] = list(answered_in_gallery(cache, wish(*trials), threading.Event()))
    html = [value for value, *_ in told if isinstance(value, str)]
    return (html[-1] if html else "", str(told[-1][1]))


def test_examples_are_shown_with_what_trials_make_of_them(cache: StoreCache) -> None:
    html, words = answer(cache, 0)
    assert words == "<p role='status'>Done.</p>"
    assert CAPTION in html
    assert html.count('<img src="data:image/') == 6, (
        "clean, noisy and one trial, of two photographs"
    )
    assert re.findall(r"<figcaption>(\w+(?: 0)?)<br>", html) == ["clean", "noisy", "trial 0"] * 2
    assert "chelsea" in html


def test_a_trial_without_a_model_is_told(cache: StoreCache) -> None:
    assert "no trial 999" in answer(cache, 999)[1].lower()


def test_what_goes_wrong_with_a_file_is_one_sentence(
    cache: StoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> Any:
        raise ModelError("The file broke <b>down</b>.", "Export it again.")

    monkeypatch.setattr(gallery, "gallery", broken)
    html, words = answer(cache, 0)
    assert (html, words) == (
        "",
        "<p role='status'>The file broke &lt;b&gt;down&lt;/b&gt;. Export it again.</p>",
    )


def test_without_the_task_its_study_is_told_to_show_nothing(sequences: str) -> None:
    cache = StoreCache(sequences, installed())
    assert "'denoise-sequence' is not installed here" in why_not(cache.snapshot("sequences"), cache)


@pytest.fixture(scope="module")
def sequences_url(sequences: str) -> Iterator[str]:
    """The address of the app on that store, with the task installed."""
    program = (str(Path(sequence_world.__file__)), "-1")
    with app_world.running_app(
        sequences, env={"PYTHONPATH": sequence_world.CODE}, program=program
    ) as app:
        yield app.url


@pytest.mark.ci
def test_a_browser_shows_the_gallery_in_the_place_of_the_viewer(
    sequences_url: str, browser_page: Page
) -> None:
    browser_page.goto(f"{sequences_url}/?study=sequences&trial=0&tab=preview")
    browser_page.locator("#preview-trials .token", has_text=re.compile(r"trial 0\b")).wait_for()
    assert not browser_page.locator("#preview-origin").is_visible()
    browser_page.locator("#preview-show").click()
    browser_page.locator("#preview-status").get_by_text("Done.").wait_for()
    assert browser_page.locator("#preview-gallery figure").count() == 6
    assert browser_page.locator("#preview-gallery").get_by_text(CAPTION).is_visible()
    wide = (
        "() => [...document.querySelectorAll('#preview-gallery img')].every(img => img.naturalWidth"
        " === 24)"
    )
    assert browser_page.evaluate(wide)
