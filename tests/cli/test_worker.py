"""`automl-sr search --workers` and `automl-sr worker`: real processes on a small real study, and
what is refused.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from photographs import write_photographs
from processes import has_ended, wait_until
from search_world import find, load, registry, study_text
from sqlalchemy import update

from automl_sr.cli import main as program
from automl_sr.cli.worker import _say_how_it_ended
from automl_sr.errors import AutomlSRError, Offer, StopRequestedError
from automl_sr.search.engine import SearchEnd
from automl_sr.store import models
from automl_sr.store.reading import Reader
from automl_sr.store.repository import Store

ROOT = Path(__file__).parents[2]
TRIALS = 4
STUDY = f"""
name: shared
task: {{{{kind: image-sr, scale: 2, train: {{folder}}/train, valid: {{folder}}/valid}}}}
objectives: [psnr_y, params]
budget: {{{{trials: {TRIALS}, steps: 240}}}}
search: {{{{sampler: random, scheduler: none, threads: 1}}}}
space:
  architecture: {{{{fsrcnn: {{{{d: 16, s: 8, m: 1}}}}, espcn: {{{{}}}}}}}}
  recipe: {{{{batch: 8, patch: 16, precision: fp32}}}}
"""


def environment(place: Path) -> dict[str, str]:
    paths = os.pathsep.join(str(ROOT / part) for part in (".", "plugins"))
    where = {"AUTOML_SR_STORE": url(place), "AUTOML_SR_ARTIFACTS": str(place / "artifacts")}
    return {**os.environ, "PYTHONPATH": paths, **where}


def url(place: Path) -> str:
    return f"sqlite:///{place}/store.db"


class Running:
    """A command in a process of its own, which can be read while it runs."""

    def __init__(self, place: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "automl_sr", *arguments, "--device", "cpu"],
            env=environment(place),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def until(self, start: str) -> None:
        """Wait for a line on standard error."""
        assert self.process.stderr
        seen = []
        for line in self.process.stderr:
            seen.append(line)
            if line.startswith(start):
                return
        raise AssertionError("".join(seen))

    def rest(self) -> tuple[int, str, str]:
        output, errors = self.process.communicate(timeout=100)
        return self.process.returncode, output, errors

    def workers(self) -> list[int]:
        pid = self.process.pid
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]


def trials(place: Path) -> list[Any]:
    opened = Reader.open(url(place))
    return opened.trials(opened.study("shared"))


def results(place: Path) -> list[Any]:
    return [
        (
            row.number,
            row.state,
            row.params,
            row.values,
            {kind: file.sha256 for kind, file in row.artifacts.items()},
        )
        for row in trials(place)
    ]


def left_behind(place: Path) -> bool:
    """Whether the study is half-way, and its workers have given their trials back."""
    found = trials(place)
    assert not [row for row in found if row.owner]
    return len([row for row in found if row.state == "complete"]) < TRIALS


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("study")
    path = folder / "study.yaml"
    path.write_text(STUDY.format(folder=write_photographs(folder)))
    return path


@pytest.fixture(scope="module")
def expected(study: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """What a single worker finds that nobody disturbs."""
    place = tmp_path_factory.mktemp("alone")
    code, _, errors = Running(place, "search", str(study), "--quiet").rest()
    assert code == 0, errors
    return results(place)


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_two_workers_interrupted_and_continued_find_what_one_finds(
    study: Path, expected: list[Any], tmp_path: Path
) -> None:
    begun = Running(tmp_path, "search", str(study), "--workers", "2")
    begun.until("trial 1: ")
    children = begun.workers()
    begun.process.send_signal(signal.SIGINT)
    code, output, errors = begun.rest()
    assert code == 130, errors
    assert errors.splitlines()[-1].endswith(
        f"Go on with: automl-sr search {study} --workers 2 --device cpu"
    )
    assert output.startswith("shared: ")
    assert len(children) == 2
    assert all(has_ended(pid) for pid in children)
    assert left_behind(tmp_path)

    code, output, errors = Running(
        tmp_path, "search", str(study), "--workers", "2", "--json"
    ).rest()
    assert code == 0, errors
    assert json.loads(output)["trials"]["complete"] == TRIALS
    assert results(tmp_path) == expected


@pytest.mark.ci
@pytest.mark.timeout(300)
def test_workers_end_with_their_parent_and_one_that_joins_by_name_goes_on(
    study: Path, expected: list[Any], tmp_path: Path
) -> None:
    begun = Running(tmp_path, "search", str(study), "--workers", "2")
    begun.until("trial 1: ")
    children = begun.workers()
    assert len(children) == 2
    commands = [Path(f"/proc/{pid}/cmdline").read_text() for pid in children]
    assert not [line for line in commands if str(tmp_path) in line], (
        "`ps` does not show the store's URL"
    )
    begun.process.kill()
    begun.process.wait()
    wait_until(lambda: all(has_ended(pid) for pid in children), "the workers end")
    assert left_behind(tmp_path)

    code, output, errors = Running(tmp_path, "worker", "shared").rest()
    assert code == 0, errors
    assert output.startswith(f"shared: {TRIALS} complete")
    assert f"trial {TRIALS - 1}: complete: psnr_y" in errors
    assert results(tmp_path) == expected


# ---- what a supervisor asks, and is told ----

OBEYING = """
import os, signal, sys, time
from automl_sr.cli.worker import _obey_standard_input
came = []
signal.signal(signal.SIGTERM, lambda number, frame: (came.append(number), print("asked", flush=True)))
_obey_standard_input()
print("ready", flush=True)
while not came:
    time.sleep(0.01)
if "twice" in sys.argv:
    import threading
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join()  # it leaves standard input alone, whose end comes now
    os.read(0, 1)
print(f"asked {len(came)} time", flush=True)
"""


def obeying(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", OBEYING, *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_an_attended_worker_is_asked_to_stop_by_the_end_of_standard_input() -> None:
    process = obeying()
    assert process.stdin
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.stdin.write("this is not the end\n")
    process.stdin.flush()
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == ["asked", "asked 1 time"]
    assert process.returncode == 0


def test_an_attended_worker_that_stops_already_is_not_asked_again() -> None:
    process = obeying("twice")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.readline() == "asked\n"
    output, _ = process.communicate(timeout=60)
    assert output.splitlines() == ["asked 1 time"]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (AutomlSRError("No trial was completed.", "See why."), 1),
        (StopRequestedError("Stopped."), 130),
    ],
)
def test_an_attended_worker_says_how_it_ended_as_its_last_line(
    capsys: pytest.CaptureFixture[str], error: AutomlSRError, code: int
) -> None:
    with pytest.raises(typer.Exit) as left:
        _say_how_it_ended(SearchEnd({}, {}, "", "", error))
    assert left.value.exit_code == code
    assert json.loads(capsys.readouterr().out) == {"note": "", "error": str(error)}
    _say_how_it_ended(SearchEnd({}, {}, "", "The time is up."))
    assert json.loads(capsys.readouterr().out) == {"note": "The time is up.", "error": ""}


def test_a_command_that_an_error_offers_reaches_the_supervisor_as_data(
    capsys: pytest.CaptureFixture[str],
) -> None:
    error = AutomlSRError("No trial was completed.", offer=Offer("See why with:", "trials world"))
    with pytest.raises(typer.Exit):
        _say_how_it_ended(SearchEnd({}, {}, "", "", error))
    assert json.loads(capsys.readouterr().out) == {
        "note": "",
        "error": "No trial was completed.",
        "offer": {"words": "See why with:", "command": "trials world", "quoted": False},
    }


# ---- in this process, in a small world ----


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store with a study that has ended."""
    monkeypatch.setattr("automl_sr.plugin.registry.installed", registry)
    monkeypatch.setenv("AUTOML_SR_STORE", url(tmp_path))
    find(load(trials=2), tmp_path)
    return tmp_path


def test_a_worker_prints_what_search_prints(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert program.main(["worker", "world", "--json", "--quiet"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["trials"]["complete"] == 2
    assert shown.err == ""
    assert program.main(["worker", "world", "--quiet"]) == 0
    assert capsys.readouterr().out.startswith("world: 2 complete in ")


def test_other_threads_than_the_study_fixes_are_noted(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    find(load(study_text("fixed", trials=1).replace("seed: 0}", "seed: 0, threads: 1}")), world)
    said = "note: training uses 2 threads here and 1 elsewhere (search.threads)"
    for name, threads, noted in (("fixed", 2, True), ("fixed", 1, False), ("world", 2, False)):
        assert program.main(["worker", name, "--threads", str(threads)]) == 0
        assert (said in capsys.readouterr().err) is noted


def test_a_worker_with_other_plugins_is_refused(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    opened = Store.open(url(world))
    before = opened.study("world")
    plugins = dict.fromkeys(before.environment["plugins"], "automl-sr-world 0.1")
    with opened.writing() as session:
        session.execute(
            update(models.Study).values(environment={**before.environment, "plugins": plugins})
        )
    assert program.main(["worker", "world"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    [line] = shown.err.splitlines()
    assert line.startswith("error: The study 'world' was begun with other versions (")
    assert "automl-sr-world 0.1 there" in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["worker", "wordl"], "error: There is no study 'wordl' in sqlite:///"),
        (["worker", "world", "--device", "tpu"], "error: Unknown device 'tpu'."),
        (["worker", "world", "--threads", "0"], "error: --threads 0 is no number of threads."),
        (["search", "study.yaml", "--workers", "0"], "error: --workers 0 is no number of workers."),
        (
            ["search", "study.yaml", "--workers", "-2"],
            "error: --workers -2 is no number of workers.",
        ),
    ],
)
def test_bad_use_is_one_line(
    world: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert program.main(arguments) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_bad_input_fails_before_a_worker_is_started(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = world / "other.yaml"
    other.write_text(study_text(trials=2, seed=9))
    assert program.main(["search", str(other), "--workers", "2"]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert "was begun with other settings (search.seed: 0 is now 9)" in line
