"""Results that trials share: made once, whoever asks and whoever dies; bounded in size;
reported.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import torch
import toy_techniques as toys
import typer
from search_world import find, load, run_fast
from torch import Tensor
from trial_notes import Notes, digits
from typer.testing import CliRunner

from automl_sr.cli.trials import show
from automl_sr.errors import PluginError, StopRequestedError, UseError
from automl_sr.files import load_tensors
from automl_sr.search.workers.trial_folder import TrialFolder
from automl_sr.space.plan import TrialPlan
from automl_sr.store.artifacts import Artifacts
from automl_sr.trial.cache import (
    ABANDONED_SECONDS,
    DEFAULT_GB,
    LIMIT,
    POLL_SECONDS,
    Cache,
    cache_limit,
)
from automl_sr.trial.run import run_trial
from automl_sr.trial.types import Outcome, Setting

FORK = multiprocessing.get_context("fork")
PATIENCE = 60.0
"""Seconds after which a test gives up on another process."""


def value(number: float = 1.0, size: int = 1) -> dict[str, Tensor]:
    return {"value": torch.full((size,), number)}


def ask(cache: Cache, number: int, size: int = 1, **more: Any) -> Tensor:
    """Ask for a result that is told from others by a number."""
    return cache.get(f"result {number}", {"number": number}, lambda _: value(number, size), **more)[
        "value"
    ]


def files(cache: Cache) -> list[str]:
    """Give what lies in the cache by kind, without the file through which locks are taken."""
    return sorted(
        path.name.split(".", 1)[1] for path in cache.folder.iterdir() if path.name != "door.lock"
    )


def held(cache: Cache) -> list[int]:
    """Give the numbers of the results that are kept."""
    return sorted(
        load_tensors(path)[1]["parts"]["number"] for path in cache.folder.glob("*.safetensors")
    )


class Maker:
    """A process that makes result 0 and stands still half-way, with something kept, until it is
    told to go on.
    """

    def __init__(self, folder: Path) -> None:
        self.pipe, theirs = FORK.Pipe()
        self.process = FORK.Process(target=_make_slowly, args=(folder, theirs))
        self.process.start()
        assert self.pipe.poll(PATIENCE)
        self.pipe.recv()

    def go(self) -> None:
        self.pipe.send("go")
        self.process.join(PATIENCE)
        assert self.process.exitcode == 0

    def die(self) -> None:
        os.kill(self.process.pid or 0, signal.SIGKILL)
        self.process.join(PATIENCE)


def _make_slowly(folder: Path, pipe: Connection) -> None:
    def make(scratch: Path) -> Mapping[str, Tensor]:
        (scratch / "checkpoint").write_text("half")
        pipe.send("half-way")
        pipe.recv()
        return value(7)

    Cache(folder).get("result 0", {"number": 0}, make)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


# ---- made once ----


def _count(folder: Path, log: Path, barrier: Any) -> None:
    def make(_: Path) -> Mapping[str, Tensor]:
        with log.open("a") as file:
            file.write("made\n")
        return value()

    barrier.wait(PATIENCE)
    Cache(folder).get("slow", {}, make)


def test_processes_that_ask_at_the_same_moment_make_it_once(folder: Path, tmp_path: Path) -> None:
    barrier = FORK.Barrier(6)
    asking = [
        FORK.Process(target=_count, args=(folder, tmp_path / "log", barrier)) for _ in range(6)
    ]
    for process in asking:
        process.start()
    for process in asking:
        process.join(PATIENCE)
    assert [process.exitcode for process in asking] == [0] * 6
    assert (tmp_path / "log").read_text() == "made\n"
    assert files(Cache(folder)) == ["safetensors"], "locks and work folders are gone"


def test_who_waits_gets_what_the_other_one_made(folder: Path) -> None:
    maker, cache, looks = Maker(folder), Cache(folder), []

    def stop() -> bool:
        looks.append(1)
        if len(looks) == 3:
            maker.go()
        return False

    assert ask(cache, 0, stop=stop).item() == 7
    (told,) = cache.shared().values()
    assert told["reused"]
    assert told["waited"] >= 2 * POLL_SECONDS


def test_who_waits_can_be_stopped(folder: Path) -> None:
    maker, looks = Maker(folder), iter([False, False, True])
    with pytest.raises(StopRequestedError, match="another worker makes 'result 0'"):
        ask(Cache(folder), 0, stop=lambda: next(looks))
    maker.go()
    assert held(Cache(folder)) == [0], "the other worker was not disturbed"


def test_when_a_maker_dies_the_next_one_goes_on_with_its_checkpoints(folder: Path) -> None:
    Maker(folder).die()
    found = []

    def make(scratch: Path) -> Mapping[str, Tensor]:
        found.append((scratch / "checkpoint").read_text())
        return value(7)

    assert Cache(folder).get("result 0", {"number": 0}, make)["value"].item() == 7
    assert found == ["half"]
    assert files(Cache(folder)) == ["safetensors"]


def test_a_maker_that_stands_still_for_too_long_is_not_waited_for(folder: Path) -> None:
    maker = Maker(folder)  # like a process that was suspended
    assert ask(Cache(folder, patience=3 * POLL_SECONDS), 0).item() == 0
    maker.go()
    assert ask(Cache(folder), 0).item() == 7, "the last writer's file is whole too"


def test_a_maker_that_keeps_something_now_and_then_is_waited_for(folder: Path) -> None:
    maker, looks = Maker(folder), []
    (work,) = folder.glob("*.work")

    def stop() -> bool:
        looks.append(1)
        os.utime(work / "checkpoint", (time.time() + len(looks),) * 2)
        return len(looks) == 12

    with pytest.raises(StopRequestedError):
        ask(Cache(folder, patience=3 * POLL_SECONDS), 0, stop=stop)
    maker.die()


def test_locks_exclude_each_other_although_their_files_are_removed(
    folder: Path, tmp_path: Path
) -> None:
    """Every holder removes the file of its lock: no two may ever be inside together."""
    folder.mkdir()
    crowd = [FORK.Process(target=_enter, args=(folder, tmp_path / "inside")) for _ in range(4)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(PATIENCE)
    assert [process.exitcode for process in crowd] == [0] * 4


def _enter(folder: Path, inside: Path) -> None:
    cache = Cache(folder)
    for _ in range(60):
        while (lock := cache._take("0" * 32)) is None:
            pass
        inside.mkdir()  # fails where somebody else is inside
        inside.rmdir()
        cache._give_back("0" * 32, lock)


def test_a_result_that_needs_itself_is_an_error_and_no_deadlock(folder: Path) -> None:
    cache = Cache(folder)
    with pytest.raises(PluginError, match="'outer' is needed to make itself"):
        cache.get("outer", {}, lambda _: cache.get("outer", {}, lambda _: value()))


def test_cold_and_warm_give_the_same_bits_and_the_same_layout(folder: Path) -> None:
    turned = torch.randn(3, 5).T
    cold, warm = (
        Cache(folder).get("turned", {}, lambda _: {"value": turned})["value"] for _ in range(2)
    )
    assert torch.equal(cold, warm)
    assert torch.equal(cold, turned)
    assert cold.stride() == warm.stride()


# ---- bounded ----

KB = 1000
FLOATS = 200
"""So many are less than 1 KB together, and more with the header."""


def age(cache: Cache, **seconds: float) -> None:
    """Make files look as if they were last used so long ago."""
    for path in cache.folder.glob("*.safetensors"):
        number = load_tensors(path)[1]["parts"]["number"]
        then = time.time() - seconds[f"n{number}"]
        os.utime(path, (then, then))


def test_what_was_not_used_for_the_longest_time_goes_first(folder: Path) -> None:
    cache = Cache(folder, limit=4 * KB)
    for number in range(3):
        ask(cache, number, FLOATS)
    age(cache, n0=300, n1=200, n2=100)
    ask(cache, 0)  # a use
    ask(cache, 3, FLOATS)
    assert held(cache) == [0, 2, 3]
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * KB


def test_a_result_that_is_too_large_is_given_and_makes_no_other_one_go(
    folder: Path, caplog: Any
) -> None:
    cache = Cache(folder, limit=4 * KB)
    ask(cache, 0, FLOATS)
    assert len(ask(cache, 1, 10 * FLOATS)) == 10 * FLOATS
    assert held(cache) == [0]
    assert "is not kept for others" in caplog.text
    assert files(cache) == ["safetensors"]


def test_what_somebody_makes_stays_however_full_it_is(folder: Path) -> None:
    maker = Maker(folder)
    ask(Cache(folder, limit=4 * KB), 1, 2 * FLOATS)
    cache = Cache(folder, limit=2 * KB)
    ask(cache, 2, FLOATS)
    assert files(cache) == ["lock", "safetensors", "work"]
    assert held(cache) == [2]
    maker.go()


def test_what_dead_workers_left_goes(folder: Path) -> None:
    Maker(folder).die()
    cache = Cache(folder)
    ask(cache, 1)
    (path,) = folder.glob("*.safetensors")
    half = folder / f".{path.name}.abc123.partial"
    half.write_text("half a file")
    assert files(cache).count("lock") == 0
    ask(cache, 2)
    assert not half.exists()
    (work,) = folder.glob("*.work")  # a trial that was stopped yesterday goes on with it
    for item in (work / "checkpoint", work):
        os.utime(item, (time.time() - ABANDONED_SECONDS - 60,) * 2)
    ask(cache, 3)
    assert files(cache) == ["safetensors"] * 3


def test_abandoned_work_counts_and_goes_like_results_do(folder: Path) -> None:
    Maker(folder).die()
    (work,) = folder.glob("*.work")
    (work / "checkpoint").write_bytes(bytes(3 * KB))
    ask(Cache(folder, limit=3 * KB), 1, FLOATS)
    assert files(Cache(folder)) == ["safetensors"]


def _fill(folder: Path, first: int, barrier: Any) -> None:
    cache = Cache(folder, limit=4 * KB)
    barrier.wait(PATIENCE)
    for number in [(first + step) % 20 for step in range(60)]:
        assert torch.equal(ask(cache, number, FLOATS), torch.full((FLOATS,), float(number)))


def test_several_processes_evict_at_once_and_all_get_what_they_ask_for(folder: Path) -> None:
    barrier = FORK.Barrier(4)
    crowd = [FORK.Process(target=_fill, args=(folder, 5 * index, barrier)) for index in range(4)]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(PATIENCE)
    assert [process.exitcode for process in crowd] == [0] * 4
    cache = Cache(folder, limit=4 * KB)
    ask(cache, 99, FLOATS)
    assert set(files(cache)) == {"safetensors"}
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 4 * KB


def test_other_files_are_left_alone(folder: Path) -> None:
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    ask(Cache(folder, limit=0), 1)
    assert sorted(path.name for path in folder.iterdir()) == ["door.lock", "notes.txt"]


@pytest.mark.parametrize(
    ("text", "size"), [("2.5", 2_500_000_000), ("", int(DEFAULT_GB * 1e9)), ("0", 0)]
)
def test_the_limit_is_set_in_gigabytes(
    text: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, text)
    assert cache_limit() == size


@pytest.mark.parametrize("text", ["much", "-1", "nan", "inf"])
def test_a_limit_that_is_no_size_is_refused_in_one_sentence(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, text)
    with pytest.raises(UseError, match=f"{LIMIT} is '{text}', which is no size in gigabytes"):
        cache_limit()


def test_a_disk_that_is_full_costs_the_sharing_and_not_the_trial(
    folder: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("automl_sr.trial.cache.save_tensors", full)
    assert ask(Cache(folder), 3).item() == 3
    assert "'result 3' cannot be kept for others" in caplog.text


# ---- reported ----


class Clock:
    """Time that passes when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr("automl_sr.trial.cache.time.monotonic", lambda: self.now)

    def takes(
        self, seconds: float, then: Callable[[], Mapping[str, Tensor]] = value
    ) -> Callable[[Path], Any]:
        """Give a `make` that takes so long before what is done then."""

        def make(_: Path) -> Mapping[str, Tensor]:
            self.now += seconds
            return then()

        return make


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_a_trial_says_what_it_made_and_another_one_what_that_saved(
    folder: Path, clock: Clock
) -> None:
    first, second = Cache(folder), Cache(folder)
    for cache in (first, second):
        cache.get("fit/srcnn", {}, clock.takes(12.5))
        cache.get("fit/srcnn", {}, clock.takes(12.5))
    assert first.shared() == {"fit/srcnn": {"seconds": 12.5, "reused": False}}
    assert second.shared() == {"fit/srcnn": {"seconds": 12.5, "reused": True}}


def test_what_went_into_a_result_counts_as_if_all_had_been_made(folder: Path, clock: Clock) -> None:
    def scores(cache: Cache, key: int) -> None:
        inner = {"scorer": True}
        then = clock.takes(2, lambda: cache.get("scorer", inner, clock.takes(10)))
        cache.get("scores", {"key": key}, then)

    first, second, third = Cache(folder), Cache(folder), Cache(folder)
    scores(first, 1)
    scores(second, 2)
    scores(third, 2)
    assert first.shared()["scores"] == {"seconds": 12, "reused": False}
    assert second.shared()["scores"] == {"seconds": 12, "reused": False}
    assert second.shared()["scorer"] == {"seconds": 10, "reused": True}
    assert third.shared() == {"scores": {"seconds": 12, "reused": True}}


def test_a_trial_that_goes_on_does_not_count_its_own_results_as_reused(
    folder: Path, clock: Clock, tmp_path: Path
) -> None:
    Cache(folder).get("by another trial", {"n": 1}, clock.takes(3))
    for attempt in ("attempt-1", "attempt-2"):
        record = tmp_path / attempt / "shared.json"
        if attempt == "attempt-2":  # as a takeover copies it
            record.parent.mkdir()
            record.write_bytes((tmp_path / "attempt-1" / "shared.json").read_bytes())
        cache = Cache(folder, record=record)
        cache.get("by another trial", {"n": 1}, clock.takes(3))
        cache.get("its own", {"n": 2}, clock.takes(5))
        assert cache.shared() == {
            "by another trial": {"seconds": 3, "reused": True},
            "its own": {"seconds": 5, "reused": False},
        }


def test_work_that_was_interrupted_counts_with_all_its_attempts(folder: Path, clock: Clock) -> None:
    def interrupted(scratch: Path) -> Mapping[str, Tensor]:
        (scratch / "checkpoint").write_text("half")
        clock.now += 4
        raise StopRequestedError("Stopped.")

    with pytest.raises(StopRequestedError):
        Cache(folder).get("fit", {}, interrupted)
    Cache(folder).get("fit", {}, clock.takes(6))
    again = Cache(folder)
    again.get("fit", {}, clock.takes(6))
    assert again.shared() == {"fit": {"seconds": 10, "reused": True}}


def test_work_of_which_nothing_was_kept_does_not_count(folder: Path, clock: Clock) -> None:
    def failing() -> Mapping[str, Tensor]:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        Cache(folder).get("scores", {}, clock.takes(4, failing))
    assert files(Cache(folder)) == []
    cache = Cache(folder)
    cache.get("scores", {}, clock.takes(6))
    assert cache.shared()["scores"]["seconds"] == 6


def test_different_results_of_one_name_are_both_told(folder: Path) -> None:
    cache = Cache(folder)
    for key in range(3):
        cache.get("scores", {"key": key}, lambda _: value())
    assert list(cache.shared()) == ["scores", "scores (2)", "scores (3)"]


def test_the_report_is_json(folder: Path) -> None:
    cache = Cache(folder)
    ask(cache, 1)
    assert json.loads(json.dumps(cache.shared())) == cache.shared()


# ---- in trials ----


def test_a_limit_that_is_no_size_is_told_before_a_search_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(LIMIT, "much")
    with pytest.raises(UseError, match=LIMIT):
        find(load(trials=1), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_search_without_a_cache_gives_trials_no_folder_to_share(tmp_path: Path) -> None:
    folders = []

    def run(plan: Any, setting: Setting, *more: Any) -> Outcome:
        folders.append(setting.cache)
        return run_fast(plan, setting, *more)

    find(load(trials=1), tmp_path / "shared", run)
    find(load(trials=1), tmp_path / "alone", run, no_cache=True)
    assert folders == [tmp_path / "shared" / "artifacts" / "cache", None]


SHARED = ("fit/mlp/toy", "teacher/scores/spread")
"""What a toy teacher takes: its weights, and a number that is computed from its outputs."""
MADE, REUSED = dict.fromkeys(SHARED, False), dict.fromkeys(SHARED, True)


def taught(folder: Path, width: int) -> tuple[TrialPlan, Setting]:
    """Give a plan whose teacher is a helper model that does not depend on the student's width."""
    return digits(folder, [toys.Mlp(width=width), toys.TeacherLoss(teacher_steps=60)], steps=60)


def told(outcome: Outcome) -> dict[str, bool]:
    return {name: entry["reused"] for name, entry in outcome.shared.items()}


def test_trials_share_a_helper_model_and_say_so(tmp_path: Path) -> None:
    outcomes = [
        run_trial(*taught(tmp_path, width), Notes(), tmp_path / f"trial-{width}")
        for width in (16, 24)
    ]
    assert [told(outcome) for outcome in outcomes] == [MADE, REUSED]
    seconds = [[entry["seconds"] for entry in outcome.shared.values()] for outcome in outcomes]
    assert seconds[0] == seconds[1]
    assert seconds[0][0] > 0


def test_without_a_cache_results_are_identical_and_every_trial_makes_its_own(
    tmp_path: Path,
) -> None:
    """Values, curves and files; the second trial with a cache reuses the teacher of the first."""
    found: dict[bool, list[Outcome]] = {True: [], False: []}
    curves: dict[bool, list[list[float]]] = {True: [], False: []}
    for caching in (True, False):
        for width in (16, 24):
            plan, setting = taught(tmp_path, width)
            notes = Notes()
            place = tmp_path / f"{caching}-{width}"
            found[caching].append(
                run_trial(plan, setting if caching else replace(setting, cache=None), notes, place)
            )
            curves[caching].append([point.loss for point in notes.points])
    for shared, alone in zip(found[True], found[False], strict=True):
        assert shared.values == alone.values
        assert shared.artifacts.keys() == alone.artifacts.keys()
        assert all(
            path.read_bytes() == alone.artifacts[kind].read_bytes()
            for kind, path in shared.artifacts.items()
        )
    assert curves[True] == curves[False]
    assert [told(outcome) for outcome in found[True]] == [MADE, REUSED]
    assert [told(outcome) for outcome in found[False]] == [MADE, MADE]
    assert len(list((tmp_path / "cache").glob("*.safetensors"))) == len(SHARED)


@pytest.mark.parametrize("caching", [True, False])
def test_a_trial_that_was_stopped_anywhere_tells_the_same(tmp_path: Path, caching: bool) -> None:
    plan, setting = taught(tmp_path, 16)
    where = setting if caching else replace(setting, cache=None)
    notes, outcome, starts = Notes(), None, 0
    while outcome is None:
        starts += 1
        try:
            notes.left = 40
            outcome = run_trial(plan, where, notes, tmp_path / "trial")
        except StopRequestedError:
            continue
    assert starts > 2
    assert told(outcome) == MADE
    again = run_trial(plan, where, Notes(), tmp_path / "another")
    assert told(again) == (REUSED if caching else MADE)
    assert again.artifacts["weights"].read_bytes() == outcome.artifacts["weights"].read_bytes()


def test_the_next_owner_of_a_trial_without_a_cache_takes_over_what_was_made_and_half_made(
    tmp_path: Path,
) -> None:
    place = Artifacts(str(tmp_path / "artifacts"))

    def attempt(fence: int) -> Cache:
        folder = TrialFolder.open(tmp_path / "work", "study", 0, fence, place, None).folder
        return Cache(folder / "cache", record=folder / "shared.json")

    def interrupted(scratch: Path) -> Mapping[str, Tensor]:
        (scratch / "trunk").mkdir()
        (scratch / "trunk" / "step-1.safetensors").write_text("half")
        raise StopRequestedError("Stopped.")

    first = attempt(1)
    ask(first, 1)
    with pytest.raises(StopRequestedError):
        first.get("fit", {}, interrupted)
    second = attempt(2)
    assert ask(second, 1).item() == 1
    assert (second.hits, second.shared()["result 1"]["reused"]) == (["result 1"], False)

    def go_on(scratch: Path) -> Mapping[str, Tensor]:
        assert (scratch / "trunk" / "step-1.safetensors").read_text() == "half"
        return value()

    second.get("fit", {}, go_on)
    assert second.misses == ["fit"]


def test_show_tells_what_was_reused_and_what_that_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = {
        "fit/srcnn": {"seconds": 10.04, "reused": False},
        "scores": {"seconds": 12.34, "reused": True},
        "core-set": {"seconds": 5.0, "reused": True, "waited": 3.5},
    }

    def run(*arguments: Any) -> Outcome:
        return replace(run_fast(*arguments), shared=shared)

    find(load(trials=1), tmp_path, run)
    monkeypatch.setenv("AUTOML_SR_STORE", f"sqlite:///{tmp_path}/store.db")
    app = typer.Typer()
    app.command()(show)
    said = CliRunner().invoke(app, ["world", "0"]).stdout
    assert (
        "shared: fit/srcnn (made in 10.0 s), scores (reused, saved 12.3 s), "
        "core-set (reused after waiting 3.5 s for it, saved 1.5 s)\n"
    ) in said
    assert json.loads(CliRunner().invoke(app, ["world", "0", "--json"]).stdout)["shared"] == shared
