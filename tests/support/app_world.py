"""What tests of the app share: a small study that was really searched, and the app as a process of
its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock

BROWSER = "AUTOML_SR_BROWSER"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
BROWSER_ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
ROOT = Path(__file__).parents[2]
CODE = os.pathsep.join(str(ROOT / part) for part in (".", "plugins"))
PROGRAM = ("-m", "automl_sr")
FAILURE = "RuntimeError: the disk took <b>no</b> more."
STUDY = """
name: small
task: {{kind: image-sr, scale: 2, train: photos-train, valid: photos-valid}}
objectives: [psnr_y, params]
constraints: {{params: {{max: 4500}}, macs: {{max: 100000000000}}}}
device: {{input: [32, 32]}}
budget: {{trials: {trials}, steps: {steps}}}
search: {{sampler: random, scheduler: {{kind: pareto-asha, first: 8, rungs: 2, reduction: 2}}, seed: 4, threads: 1}}
space:
  selection: {{none: {{}}, random: {{keep: [0.5, 0.9]}}}}
  architecture: {{fsrcnn: {{d: [24, 40], s: 6, m: 1}}, espcn: {{width: [8, 16]}}}}
  quantization: {{none: {{}}, int8_ptq: {{method: minmax, samples: 8}}}}
  recipe: {{batch: 4, patch: 16, lr: [0.001, 0.004], loss: l1, precision: fp32}}
"""


@dataclass(frozen=True)
class SmallStudy:
    """A finished study of eight trials on scikit-image's photographs; numbers of its trials by what
    became of them.
    """

    store: str
    name: str
    folder: Path
    complete: tuple[int, ...]
    front: tuple[int, ...]
    pruned: tuple[int, ...]
    infeasible: tuple[int, ...]
    failed: tuple[int, ...]


def small_study(shared: Path) -> SmallStudy:
    """Give the study in a folder that test processes share: the first that asks searches it."""
    folder = shared / "small-study"
    described = folder / "study.json"
    shared.mkdir(parents=True, exist_ok=True)
    with FileLock(shared / "small-study.lock"):
        if not described.is_file():
            shutil.rmtree(folder, ignore_errors=True)  # what a run left that was ended
            folder.mkdir()
            described.write_text(json.dumps(asdict(search_small(folder)), default=str))
    found = json.loads(described.read_text())
    numbers = {key: tuple(value) for key, value in found.items() if isinstance(value, list)}
    return SmallStudy(**{**found, **numbers, "folder": Path(found["folder"])})


def search_small(folder: Path, trials: int = 8, steps: int = 24) -> SmallStudy:
    """Search the study, and add a failed trial as a worker would leave it."""
    from automl_sr.plugin.registry import installed
    from automl_sr.search.engine import Options, search
    from automl_sr.search.results import front_of
    from automl_sr.store.reading import Reader
    from automl_sr.study.spec import parse_study

    url, registry = f"sqlite:///{folder}/store.db", installed()
    loaded = parse_study(STUDY.format(trials=trials, steps=steps), "small.yaml", registry)
    search(loaded, registry, Options(store=url, artifacts=str(folder / "artifacts"), device="cpu"))
    add_failed(url, "small")
    reader = Reader.open(url)
    study = reader.study("small")
    rows = reader.trials(study)
    front = tuple(row.number for row in front_of(study, rows, registry.metrics))
    reader.close()
    by_state: dict[str, Any] = {
        state: tuple(row.number for row in rows if row.state == state)
        for state in ("complete", "pruned", "infeasible", "failed")
    }
    assert all([front, *by_state.values()]), by_state
    return SmallStudy(url, "small", folder, front=front, **by_state)


def copied(study: SmallStudy, place: Path) -> str:
    """Copy the study's store into a file and give its URL: as SQLite does it, because others may
    have it open.
    """
    connected = sqlite3.connect(study.folder / "store.db"), sqlite3.connect(place)
    with contextlib.closing(connected[0]) as source, contextlib.closing(connected[1]) as target:
        source.backup(target)
    return f"sqlite:///{place}"


def add_failed(url: str, name: str, reason: str = FAILURE) -> int:
    """Add a trial that has failed, with the plan of the first one, and give its number."""
    from automl_sr.store.records import Result
    from automl_sr.store.repository import Store

    store = Store.open(url)
    study = store.study(name)
    claim = store.claim_new(study, "elsewhere:1:test", None)
    assert claim is not None
    store.freeze(claim, store.trial(study, 0).plan, None, None)
    store.finish(claim, Result("failed", reason=reason, detail=f"Traceback ...\n{reason}"), 1.5)
    store.close()
    return claim.number


def browser_program() -> str | None:
    """Give the browser that a variable names, or one that is installed."""
    named = os.environ.get(BROWSER)
    return named or next((found for name in PROGRAMS if (found := shutil.which(name))), None)


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


class App:
    """The app as a process; its log is a file, so that it never waits for somebody who reads it."""

    def __init__(self, process: subprocess.Popen[str], log: Path, store: str) -> None:
        self.process = process
        self._log = log
        self.store = store
        self.said: dict[str, Any] = {}
        self.output = ""

    @property
    def url(self) -> str:
        return str(self.said["url"])

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def ready(self) -> None:
        """Wait for its JSON, which it writes over several lines."""
        assert self.process.stdout
        while not self.output.endswith("}\n"):
            line = self.process.stdout.readline()
            if not line:
                raise AssertionError(f"the app ended with {self.process.wait()}: {self.log}")
            self.output += line
        self.said = json.loads(self.output)

    def end(self, number: int = signal.SIGINT) -> int:
        """End it with a signal, and give its exit code."""
        self.process.send_signal(number)
        try:
            rest, _ = self.process.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()
            raise AssertionError(f"the app did not end: {self.log}") from None
        self.output += rest
        return self.process.returncode


def start(
    store: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    log: Path,
    program: Sequence[str] = PROGRAM,
) -> App:
    """Start the app without waiting for it."""
    command = [sys.executable, *program, "app", "--store", store, "--json", *arguments]
    if "--port" not in arguments:
        command += ["--port", str(free_port())]
    variables = {**os.environ, "PYTHONPATH": CODE, **(env or {})}
    with log.open("w") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=variables
        )
    return App(process, log, store)


@contextlib.contextmanager
def running_app(
    store: str,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    program: Sequence[str] = PROGRAM,
) -> Iterator[App]:
    """Run the app on a store until the block ends; its `url` can be opened at once."""
    with tempfile.TemporaryDirectory(prefix="app-log-") as folder:
        app = start(store, *arguments, env=env, log=Path(folder) / "log", program=program)
        try:
            app.ready()
            yield app
        finally:
            if app.process.poll() is None:
                app.end()


DRAWN = "chart => Number(document.querySelector(`#${chart} .chart`)?.dataset.drawn || 0)"
PLACE = """([chart, number]) => {
  const plot = document.querySelector(`#${chart} .chart`);
  plot.scrollIntoView({block: 'center'});
  for (const trace of plot._fullData) {
    const at = Array.from(trace.customdata || []).indexOf(number);
    if (at < 0) continue;
    const {left, top} = plot.getBoundingClientRect();
    const {xaxis, yaxis} = plot._fullLayout;
    return [left + xaxis._offset + xaxis.c2p(xaxis.d2c(trace.x[at])),
            top + yaxis._offset + yaxis.c2p(yaxis.d2c(trace.y[at]))];
  }
  return null;
}"""
"""Where on the page the point of a trial is; plotly tells it by its axes alone."""


def wait_drawn(page: Any, chart: str = "front-chart") -> None:
    """Wait until a chart has been drawn."""
    page.wait_for_function(f"chart => ({DRAWN})(chart) > 0", arg=chart)


def click_point(page: Any, number: int, chart: str = "front-chart") -> None:
    """Click the point of a trial."""
    wait_drawn(page, chart)
    place = page.evaluate(PLACE, [chart, number])
    assert place is not None, f"trial {number} is not drawn"
    page.mouse.move(place[0] + 1, place[1])
    page.mouse.move(*place)
    page.mouse.click(*place)
