"""How long a person waits for the app on a store with many trials, in a real browser.

    python tests/benchmarks/app.py [--trials 5000] [--tries 9]

`first page` is the time from opening the address until the list of studies is there; `cold` is the
first one after the app has started. `selection` is the time from pressing the button on a point of
the front until the line on top tells the trial. Beside them: the bare answer to `GET /`, and a page
of Gradio that holds one line and nothing else, served the same way, until that line is there. All
are medians, in a new browser context for each try.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
for part in ("tests/support", "plugins", ""):
    sys.path.insert(0, str(ROOT / part))

import app_world  # noqa: E402 - the checkout has to be on the path first
from playwright.sync_api import Browser, Page, sync_playwright  # noqa: E402
from sqlalchemy import insert, select  # noqa: E402

STUDY = """
name: large
task: {kind: image-sr, scale: 2, train: photos-train, valid: photos-valid}
objectives: [psnr_y, params]
constraints: {params: {max: 20000}}
budget: {trials: 40, steps: 1000}
search: {sampler: random, scheduler: none, threads: 1}
"""
SEARCHED = 40
"""Trials with plans of their own; the others have the same plans with other values."""
STATES = ("complete",) * 12 + ("pruned",) * 5 + ("infeasible",) * 3
EMPTY = """
import socket, sys
import fastapi, gradio, uvicorn
with gradio.Blocks() as page:
    gradio.HTML("<p id='there'>there</p>")
app = gradio.mount_gradio_app(fastapi.FastAPI(), page, path="/", ssr_mode=False)
listening = socket.socket(fileno=int(sys.argv[1]))
uvicorn.Server(uvicorn.Config(app, log_level="error")).run(sockets=[listening])
"""
ROW = "#studies-table tbody tr"
WATCH = """() => new Promise(done => {
  const line = document.querySelector('#line'), before = line.textContent;
  let pressed = null;
  document.addEventListener('mousedown', () => { pressed = performance.now(); }, {capture: true, once: true});
  const look = () => {
    if (pressed === null || line.textContent === before) return;  // points lie close: another one may be hit
    requestAnimationFrame(() => { window.waited = performance.now() - pressed; });
    observer.disconnect();
  };
  const observer = new MutationObserver(look);
  window.waited = null;
  observer.observe(line, {childList: true, subtree: true, characterData: true});
  done();
})"""


def made_up(plan: Any, setting: Any, observer: Any, folder: Path) -> Any:
    """End a trial at once with values that nobody measured."""
    from automl_sr.trial.types import Outcome

    return Outcome(
        "complete", {"psnr_y": 30.0 + random.random(), "params": 1000.0}, {}, {"train": 1.0}
    )


def fill(url: str, folder: Path, trials: int) -> None:
    """Make the store: a study whose plans are real, and many trials with them."""
    from automl_sr.plugin.registry import installed
    from automl_sr.search.engine import Options, search
    from automl_sr.store import models
    from automl_sr.store.database import open_engine
    from automl_sr.study.spec import parse_study

    registry = installed()
    loaded = parse_study(STUDY, "large.yaml", registry)
    search(loaded, registry, Options(url, str(folder / "artifacts"), device="cpu"), run=made_up)
    table = models.Trial.__table__
    engine = open_engine(url, write=True)
    with engine.begin() as database:
        rows = [dict(row) for row in database.execute(select(table)).mappings() if row["plan"]]
        first = 1 + max(row["number"] for row in rows)
        ids = [1 + max(row["id"] for row in rows) + place for place in range(trials - first)]
        many = [
            like(rows[place % len(rows)], number, first + place) for place, number in enumerate(ids)
        ]
        database.execute(insert(table), many)
        measured = [row for row in many if row["state"] != "infeasible"]
        database.execute(
            insert(models.Artifact.__table__), [file for row in measured for file in files(row)]
        )
        database.execute(
            insert(models.Rung.__table__), [rung for row in measured for rung in rungs(row)]
        )
        database.execute(
            insert(models.CurvePoint.__table__), [at for row in measured for at in points(row)]
        )
    engine.dispose()


def like(row: dict[str, Any], number: int, place: int) -> dict[str, Any]:
    """Make a trial with the plan of another one, somewhere around a front of size against
    quality.
    """
    params = round(10 ** random.uniform(2.7, 4.6))
    state = random.choice(STATES)
    values = {"psnr_y": 28.0 + params**0.2 - random.expovariate(2.0), "params": float(params)}
    costs = {"params": float(params), "macs": 230_400.0 * params}
    return {
        **row,
        "id": number,
        "number": place,
        "key": uuid.uuid4().hex,
        "state": state,
        "values": None if state == "infeasible" else values,
        "costs": costs,
        "reason": "params would be too many" if state == "infeasible" else None,
        "fingerprint": uuid.uuid4().hex,
        "created": 1.0 * place,
        "started": 1.0 * place,
        "finished": 1.0 * place + 10,
    }


def files(row: dict[str, Any]) -> list[dict[str, Any]]:
    about = {"trial_id": row["id"], "sha256": "0" * 64, "bytes": 20_000}
    return [
        {**about, "kind": kind, "url": f"file:///none/{row['number']:05}/{kind}"}
        for kind in ("onnx", "weights")
    ]


def rungs(row: dict[str, Any]) -> list[dict[str, Any]]:
    about = {
        "trial_id": row["id"],
        "study_id": row["study_id"],
        "values": row["values"],
        "go_on": True,
        "at": 1.0,
    }
    return [
        {**about, "rung": rung, "step": 300 * (rung + 1), "seconds": 10.0 * rung}
        for rung in range(2)
    ]


def points(row: dict[str, Any]) -> list[dict[str, Any]]:
    about = {
        "trial_id": row["id"],
        "phase": "train",
        "rate": 1e-3,
        "images_per_second": 300.0,
        "at": 1.0,
    }
    return [
        {**about, "step": 50 * step, "loss": 1 / (1 + step), "values": None} for step in range(20)
    ]


@contextlib.contextmanager
def empty_page() -> Iterator[str]:
    """Serve a page of Gradio with one line."""
    with socket.create_server(
        ("127.0.0.1", 0)
    ) as listening:  # who asks too early waits in its queue
        number = listening.fileno()
        process = subprocess.Popen([sys.executable, "-c", EMPTY, str(number)], pass_fds=[number])
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    try:
        get(url)
        yield url
    finally:
        process.kill()
        process.wait()


def get(url: str) -> float:
    """Time the bare answer, in seconds."""
    began = time.perf_counter()
    with urllib.request.urlopen(url) as answer:
        answer.read()
    return time.perf_counter() - began


def opened(browser: Browser, url: str, there: str) -> float:
    """Time a page until something is to be seen, in seconds."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    began = time.perf_counter()
    page.goto(url, wait_until="commit")
    page.locator(there).first.wait_for(state="visible", timeout=120_000)
    seconds = time.perf_counter() - began
    context.close()
    return seconds


def selections(browser: Browser, url: str, numbers: list[int]) -> list[float]:
    """Time clicks on points, in seconds."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    page.goto(f"{url}/?tab=front")
    app_world.wait_drawn(page)
    found = [_selection(page, number) for number in numbers]
    context.close()
    return found


def _selection(page: Page, number: int) -> float:
    page.evaluate(WATCH)
    app_world.click_point(page, number)
    page.wait_for_function("() => window.waited !== null", timeout=60_000)
    return float(page.evaluate("() => window.waited")) / 1000


def front_numbers(url: str) -> list[int]:
    """Give the points of the front."""
    from automl_sr.app.store_cache import StoreCache
    from automl_sr.plugin.registry import installed

    cache = StoreCache(url, installed())
    found = [trial.number for trial in cache.snapshot("large").front]
    cache.close()
    return found


def measure(browser: Browser, store: str, tries: int) -> dict[str, list[float]]:
    """Measure the app and the empty page in turns."""
    numbers = front_numbers(store)
    chosen = [numbers[place * (len(numbers) - 1) // max(1, tries - 1)] for place in range(tries)]
    chosen = [number for place, number in enumerate(chosen) if number not in chosen[:place]]
    found: dict[str, list[float]] = {
        "cold": [],
        "first page": [],
        "GET /": [],
        "empty page": [],
        "selection": [],
    }
    with app_world.running_app(store) as app, empty_page() as empty:
        found["cold"].append(opened(browser, app.url, ROW))
        opened(browser, empty, "#there")
        for _ in range(tries):
            found["first page"].append(opened(browser, app.url, ROW))
            found["empty page"].append(opened(browser, empty, "#there"))
            found["GET /"].append(get(app.url))
        selections(browser, app.url, chosen[:1])
        found["selection"] = selections(browser, app.url, chosen)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=5000)
    parser.add_argument("--tries", type=int, default=9)
    asked = parser.parse_args()
    random.seed(0)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as name, sync_playwright() as driver:
        store = f"sqlite:///{name}/store.db"
        fill(store, Path(name), asked.trials)
        browser = driver.chromium.launch(
            executable_path=app_world.browser_program(), args=app_world.BROWSER_ARGUMENTS
        )
        found = measure(browser, store, asked.tries)
        browser.close()
    print(
        f"{asked.trials} trials, {len(found['selection'])} selections, load"
        f" {os.getloadavg()[0]:.1f}"
    )
    empty = statistics.median(found["empty page"])
    for what, seconds in found.items():
        middle = statistics.median(seconds)
        spread = f"{1000 * min(seconds):6.0f} to {1000 * max(seconds):6.0f}"
        print(
            f"{what:12} {1000 * middle:7.0f} ms ({spread}), {middle / empty:5.2f} of the empty page"
        )


if __name__ == "__main__":
    main()
