"""The tab Preview in a browser: an image of the study, an upload, the slider, the difference, and
Cancel.
"""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from PIL import Image
from skimage import data

if TYPE_CHECKING:
    from app_world import SmallStudy
    from playwright.sync_api import Page

pytestmark = pytest.mark.ci
LOADED = (
    "count => Number(document.querySelector('#preview-viewer .viewer').dataset.loaded) === count"
)
DRAWN = "before => Number(document.querySelector('#preview-viewer .viewer').dataset.drawn) > before"


def opened(page: Page, url: str, study: SmallStudy, trial: int) -> None:
    """Open the tab with one trial picked."""
    page.goto(f"{url}/?study={study.name}&trial={trial}&tab=preview")
    picked(page, trial)


def picked(page: Page, trial: int) -> None:
    """Wait until a trial is among those that are picked."""
    page.locator("#preview-trials .token", has_text=re.compile(rf"trial {trial}\b")).wait_for()


def show(page: Page, panes: int) -> None:
    """Press Show, and wait for all pictures."""
    page.locator("#preview-show").click()
    page.locator("#preview-status").get_by_text("Done.").wait_for()
    page.wait_for_function(LOADED, arg=panes)


def picture(name: str, pixels: np.ndarray[Any, Any]) -> Any:
    """A PNG to upload."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return {"name": name, "mimeType": "image/png", "buffer": stream.getvalue()}


def viewed(page: Page, key: str) -> str:
    return str(page.locator("#preview-viewer .viewer").get_attribute(f"data-{key}"))


def drawn_after(page: Page, act: Any) -> None:
    """Do something, and wait until the viewer has drawn."""
    before = int(viewed(page, "drawn"))
    act()
    page.wait_for_function(DRAWN, arg=before)


def test_two_trials_of_a_validation_image_side_by_side(
    app_url: str, small_study: SmallStudy, browser_page: Page
) -> None:
    page = browser_page
    first, second = [*small_study.front, *small_study.pruned][:2]
    opened(page, app_url, small_study, first)
    page.locator("#trial input").fill(str(second))  # a trial that is selected elsewhere joins
    picked(page, second)
    show(page, 4)
    captions = page.locator(".panes figcaption").all_inner_texts()
    assert [text.split("\n")[0] for text in captions] == [
        "original",
        "bicubic",
        f"trial {first}",
        f"trial {second}",
    ]
    assert all(
        re.search(r"PSNR-Y \d\d\.\d\d dB, SSIM-Y 0\.\d{4}, [\d,]+ ms", text)
        for text in captions[1:]
    )
    canvas = page.locator(".panes canvas").nth(2)
    canvas.focus()
    zoom = float(viewed(page, "zoom"))
    drawn_after(page, lambda: page.keyboard.press("+"))
    assert float(viewed(page, "zoom")) == pytest.approx(1.5 * zoom)
    centre = viewed(page, "centre")
    drawn_after(page, lambda: page.keyboard.press("ArrowRight"))
    assert viewed(page, "centre") != centre
    drawn_after(page, lambda: page.keyboard.press("Enter"))
    assert page.locator(".follow").is_visible()
    page.locator("[data-mode=slider]").click()
    page.locator(".divider").focus()
    drawn_after(page, lambda: page.keyboard.press("ArrowRight"))
    assert (
        page.locator(".divider").get_attribute("aria-valuetext")
        == f"52 % bicubic, then trial {first}"
    )
    page.locator("[data-mode=difference]").click()
    page.get_by_text(
        f"Difference of trial {first} and original on luma, amplified 8 times"
    ).wait_for()
    page.locator("#preview-viewer .against").select_option(label=f"trial {first}")
    page.get_by_text("On average 0.00 of 255 levels, at most 0.0.").wait_for()


@pytest.mark.everyday
def test_an_upload_is_enlarged_and_its_name_is_text(
    app_url: str, small_study: SmallStudy, browser_page: Page
) -> None:
    page = browser_page
    opened(page, app_url, small_study, small_study.front[0])
    page.set_viewport_size({"width": 390, "height": 844})
    page.get_by_label("Your own picture").check()
    page.locator("#preview-file input[type=file]").set_input_files(
        picture("<img src=x>.png", data.camera()[:60, :80])
    )
    page.locator("#preview-file").get_by_text("img src=x").first.wait_for()
    show(page, 2)
    assert page.locator(".panes figcaption").first.inner_text().startswith("bicubic")
    assert "PSNR" not in page.locator(".panes").inner_text()
    with page.expect_download() as saved:
        page.locator(".panes .save").last.click()
    assert saved.value.suggested_filename == f"img-src-x-x2-trial-{small_study.front[0]}.png"
    assert Image.open(saved.value.path()).size == (160, 120)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_label("Use it as the original").check()
    show(page, 3)
    assert "PSNR-Y" in page.locator(".panes").inner_text()


def test_what_is_no_picture_is_refused_in_a_sentence(
    app_url: str, small_study: SmallStudy, browser_page: Page
) -> None:
    page = browser_page
    opened(page, app_url, small_study, small_study.front[0])
    page.get_by_label("Your own picture").check()
    page.locator("#preview-show").click()
    page.get_by_text("No picture has been uploaded yet.").wait_for()
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no picture"}
    page.locator("#preview-file input[type=file]").set_input_files(broken)
    page.locator("#preview-file").get_by_text("broken").first.wait_for()
    page.locator("#preview-show").click()
    page.get_by_text("broken.png is no image that can be read").wait_for()


def test_cancel_ends_the_work_and_leaves_what_was_done(
    app_url: str, small_study: SmallStudy, browser_page: Page
) -> None:
    page = browser_page
    opened(page, app_url, small_study, small_study.front[0])
    page.get_by_label("Your own picture").check()
    page.get_by_label("Use it as the original").check()
    large = np.tile(data.astronaut(), (5, 5, 1))
    page.locator("#preview-file input[type=file]").set_input_files(picture("large.png", large))
    page.locator("#preview-file").get_by_text("large").first.wait_for()
    page.locator("#preview-show").click()
    page.locator("#preview-cancel:not([disabled])").click()
    page.locator("#preview-status").get_by_text("Cancelled.").wait_for()
    page.locator("#preview-cancel[disabled]").wait_for()
    page.get_by_label("Validation image").check()
    status = page.locator("#preview-status")
    while status.get_by_text("Cancelled.").is_visible():
        page.locator("#preview-show").click()  # ignored while Gradio still ends what was cancelled
        page.wait_for_timeout(300)
    status.get_by_text("Done.").wait_for()
    page.wait_for_function(LOADED, arg=3)
