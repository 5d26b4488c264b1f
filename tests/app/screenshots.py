"""Take pictures of every tab: for a look at all of them at once, and for the documentation.

    python tests/app/screenshots.py -o DIR [--store URL] [--tab ID...] [--study NAME] [--trial NUMBER]

Without a store a small study is searched first. Each tab is taken in a window of 1280x800 and in
one of a phone's 390x844, light and dark: DIR/front-1280-dark.png.
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlencode

ROOT = Path(__file__).parents[2]
for part in ("tests/support", "plugins", ""):
    sys.path.insert(0, str(ROOT / part))

import app_world  # noqa: E402 - the checkout has to be on the path first
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402

SIZES = ((1280, 800), (390, 844))
SCHEMES = ("light", "dark")
QUIET_MS, PATIENCE_MS = 1500, 20_000
"""How long nothing may change on a page before its picture is taken; after how long it is taken
anyway.
"""
QUIET = """([quiet, patience]) => new Promise(done => {
  let timer = setTimeout(done, quiet);
  setTimeout(done, patience);
  const again = () => { clearTimeout(timer); timer = setTimeout(done, quiet); };
  new MutationObserver(again).observe(document.body, {subtree: true, childList: true, characterData: true});
})"""


def tabs() -> list[str]:
    """Name the tabs as addresses do."""
    from automl_sr.app.page import TABS

    return [tab.id for tab in TABS]


def worth_a_look(store: str, study: str | None) -> tuple[str, list[int]]:
    """Give a study and trials that are worth looking at: the newest one, and the best of its
    front.
    """
    from automl_sr.app.store_cache import StoreCache
    from automl_sr.plugin.registry import installed

    cache = StoreCache(store, installed())
    name = study or cache.names()[0]
    front = cache.snapshot(name).front
    cache.close()
    return name, [trial.number for trial in front[:3]]


def take(browser: Browser, url: str, tab: str, query: dict[str, object], folder: Path) -> None:
    """Take a tab in all sizes and schemes."""
    for (width, height), scheme in itertools.product(SIZES, SCHEMES):
        context = browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme
        )
        page: Page = context.new_page()
        page.goto(f"{url}/?{urlencode({**query, 'tab': tab})}")
        page.wait_for_function(
            "() => document.querySelector('#study input')?.value", timeout=60_000
        )
        if tab == "preview":
            page.get_by_label("Example photograph").check()
            page.evaluate(QUIET, [QUIET_MS, PATIENCE_MS])
            page.locator("#preview-show").click()
            page.locator("#preview-status").get_by_text("Done.").wait_for(timeout=60_000)
        page.evaluate(QUIET, [QUIET_MS, PATIENCE_MS])
        path = folder / f"{tab}-{width}-{scheme}.png"
        page.screenshot(path=path, full_page=True)
        wide = page.evaluate("() => document.documentElement.scrollWidth")
        print(path, f"is {wide} px wide" if wide > width else "")
        context.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--store")
    parser.add_argument("--study")
    parser.add_argument("--trial", type=int)
    parser.add_argument("--tab", nargs="+", choices=tabs())
    asked = parser.parse_args()
    asked.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as driver:
        store = asked.store or app_world.small_study(Path(folder)).store
        name, best = worth_a_look(store, asked.study)
        query: dict[str, object] = {"study": name, "compare": ",".join(map(str, best))}
        if best or asked.trial is not None:
            query["trial"] = best[0] if asked.trial is None else asked.trial
        browser = driver.chromium.launch(
            executable_path=app_world.browser_program(), args=app_world.BROWSER_ARGUMENTS
        )
        with app_world.running_app(store) as app:
            for tab in asked.tab or tabs():
                take(browser, app.url, tab, query, asked.output)
        browser.close()


if __name__ == "__main__":
    main()
