"""What pages show of a store: read again exactly where something has changed, and sentences where
it cannot be read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import search_world
from search_world import load, run_fast
from sqlalchemy import update

from automl_sr.app.store_cache import NOTHING_THERE, StoreCache
from automl_sr.errors import StoreError, UseError
from automl_sr.plugin.registry import discover
from automl_sr.search.engine import Options, search
from automl_sr.store import models
from automl_sr.store.leases import new_owner, node
from automl_sr.store.records import PointRecord, Result, RungVerdict
from automl_sr.store.repository import Store

TRIALS = 4


@pytest.fixture(scope="module")
def registry() -> Any:
    return search_world.registry()


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The database of a finished study."""
    folder = tmp_path_factory.mktemp("searched")
    search_world.find(load(trials=TRIALS), folder)
    with contextlib.closing(sqlite3.connect(folder / "store.db")) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return folder / "store.db"


@pytest.fixture
def sqlite_url(searched: Path, tmp_path: Path) -> str:
    """A copy of it."""
    shutil.copy(searched, tmp_path / "store.db")
    return f"sqlite:///{tmp_path}/store.db"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, registry: Any) -> str:
    """A store, of each kind of database, with a finished study."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    found = str(request.getfixturevalue("postgres_url"))
    search(
        load(trials=TRIALS),
        registry,
        Options(store=found, artifacts=str(tmp_path / "files")),
        run=run_fast,
    )
    return found


@pytest.fixture
def open_cache(registry: Any) -> Iterator[Callable[[str], StoreCache]]:
    opened = []

    def open_one(url: str) -> StoreCache:
        opened.append(StoreCache(url, registry))
        return opened[-1]

    yield open_one
    for cache in opened:
        cache.close()


def test_the_version_changes_exactly_when_something_changes(url: str, open_cache: Any) -> None:
    cache, store = open_cache(url), Store.open(url)
    study = store.study("world")
    plan = store.trial(study, 0).plan
    claim = lead = None

    def claimed() -> None:
        nonlocal claim
        claim = store.claim_new(study, new_owner(), None)

    def taken_over() -> None:
        nonlocal lead
        lead = store.take_over(study, new_owner())

    def finished() -> None:
        store.finish(lead, Result("complete", {"score": 31.0, "params": 1.0}), 1.0)

    changes = (
        ("claimed", claimed),
        ("frozen", lambda: store.freeze(claim, plan, "new", None)),
        ("staged", lambda: store.stage(claim, "train", 0.5)),
        ("trained on", lambda: store.points(claim, [PointRecord("train", 7, 0.5, 1e-3, 10.0)])),
        (
            "measured at a rung",
            lambda: store.record_rung(
                claim, 0, 7, 1.0, {"score": 30.0}, lambda rows: RungVerdict(True)
            ),
        ),
        ("released", lambda: store.release(claim, 1.0)),
        ("taken over", taken_over),
        ("finished", finished),
        ("noted", lambda: store.note(study, "note", "something")),
        ("files removed", lambda: store.forget_artifacts(study, [store.trial(study, 1).id])),
    )
    known = cache.version()
    for name, change in changes:
        before = cache.snapshot("world")
        assert cache.version() == known, f"nothing has happened before: {name}"
        assert cache.snapshot("world") is before, name
        change()
        now = cache.version()
        assert now != known, name
        known = now
    store.close()
    trial = cache.snapshot("world").trial(TRIALS)
    assert (trial.state, trial.values["score"]) == ("complete", 31.0)
    assert not cache.snapshot("world").trial(1).artifacts
    assert cache.snapshot("world").rungs[0].number == TRIALS


def test_a_snapshot_keeps_what_did_not_change(url: str, open_cache: Any) -> None:
    cache = open_cache(url)
    before = cache.snapshot("world")
    assert [trial.number for trial in before.trials] == list(range(TRIALS))
    store = Store.open(url)
    store.claim_new(store.study("world"), new_owner(), None)
    after = cache.snapshot("world")
    assert len(after.trials) == TRIALS + 1
    assert all(new is old for new, old in zip(after.trials, before.trials, strict=False)), (
        "read once"
    )
    assert [trial.number for trial in after.front] == [trial.number for trial in before.front]
    store.close()


def test_a_study_is_running_paused_or_finished(url: str, open_cache: Any) -> None:
    cache, store = open_cache(url), Store.open(url)
    study = store.study("world")

    def state() -> str:
        [found] = cache.summaries(cache.version())
        return found.state

    assert state() == "finished"
    claim = store.claim_new(study, new_owner(), None)
    store.stage(claim, "train", 0.1)
    store.points(claim, [PointRecord("train", 7, 0.5, 1e-3, 10.0)])
    [found] = cache.summaries(cache.version())
    [work] = found.work
    assert (found.state, work.number, work.stage, work.step, work.steps) == (
        "running",
        TRIALS,
        "train",
        7,
        1000,
    )
    assert work.worker.endswith(f"(pid {os.getpid()})")
    store.release(claim, 1.0)
    assert state() == "finished", "all of its budget is spent, whatever is left half-way"
    spec = {**store.study("world").spec, "budget": {"trials": 99, "minutes": None, "steps": 1000}}
    store.update_study(study, {"spec": spec})
    assert state() == "paused"
    store.close()


def test_a_worker_that_was_killed_is_not_at_work(url: str, open_cache: Any) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    cache, store = open_cache(url), Store.open(url)
    store.claim_new(store.study("world"), f"{node()}:{ended.pid}:abc", None)
    [found] = cache.summaries(cache.version())
    assert found.work == ()
    assert found.state != "running"
    store.close()


def test_the_best_values_are_those_of_models_that_keep_to_the_constraints(
    tmp_path: Path, open_cache: Any
) -> None:
    text = search_world.study_text(trials=TRIALS, more="constraints: {params: {max: 700}}\n")
    search_world.find(load(text), tmp_path)
    cache = open_cache(f"sqlite:///{tmp_path}/store.db")
    [found] = cache.summaries(cache.version())
    values = [trial.values for trial in cache.snapshot("world").front]
    assert found.best == {
        "score": max(row["score"] for row in values),
        "params": min(row["params"] for row in values),
    }


def test_a_store_may_come_later(searched: Path, tmp_path: Path, open_cache: Any) -> None:
    cache = open_cache(f"sqlite:///{tmp_path}/store.db")
    version = cache.version()
    assert version.startswith(f"{NOTHING_THERE}: There is no store at")
    assert cache.version() == version
    with pytest.raises(StoreError, match="There is no store at"):
        cache.names()
    shutil.copy(searched, tmp_path / "store.db")
    assert not cache.version().startswith(NOTHING_THERE)
    assert cache.names() == ["world"]


def test_a_store_that_is_removed_is_a_sentence(
    sqlite_url: str, tmp_path: Path, open_cache: Any
) -> None:
    cache = open_cache(sqlite_url)
    cache.snapshot("world")
    for path in tmp_path.glob("store.db*"):
        path.unlink()
    assert cache.version().startswith(f"{NOTHING_THERE}: There is no store at")
    with pytest.raises(StoreError, match="There is no store at"):
        cache.snapshot("world")


def test_a_store_that_is_replaced_is_read_anew(
    sqlite_url: str, tmp_path: Path, open_cache: Any
) -> None:
    cache = open_cache(sqlite_url)
    before = cache.snapshot("world")
    shutil.copy(tmp_path / "store.db", tmp_path / "other.db")
    with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as database, database:
        database.execute("UPDATE automl_sr_trials SET reason = 'other' WHERE number = 1")
    (tmp_path / "other.db").replace(tmp_path / "store.db")
    after = cache.snapshot("world")
    assert after is not before
    assert after.trial(1).reason == "other"


def test_a_file_that_is_no_store_is_a_sentence(tmp_path: Path, open_cache: Any) -> None:
    (tmp_path / "store.db").write_bytes(b"This is a text and no database at all." * 100)
    version = open_cache(f"sqlite:///{tmp_path}/store.db").version()
    assert version.startswith(f"{NOTHING_THERE}: ")
    assert "is no store" in version


def test_a_server_that_does_not_answer_is_a_sentence_without_the_password(open_cache: Any) -> None:
    cache = open_cache("postgresql://sr:very-secret@127.0.0.1:1/sr")
    version = cache.version()
    assert version.startswith(
        f"{NOTHING_THERE}: postgresql://sr:***@127.0.0.1:1/sr does not answer"
    )
    assert "very-secret" not in version + cache.name


def test_names_and_numbers_that_are_not_there(sqlite_url: str, open_cache: Any) -> None:
    cache = open_cache(sqlite_url)
    with pytest.raises(StoreError, match="Did you mean 'world'"):
        cache.snapshot("wordl")
    with pytest.raises(UseError, match="world has no trial 99"):
        cache.snapshot("world").trial(99)


@pytest.mark.parametrize(
    "name", ["'; DROP TABLE automl_sr_studies; --", "world' OR '1'='1", "%", "../../etc/passwd"]
)
def test_a_name_is_never_part_of_a_statement(name: str, url: str, open_cache: Any) -> None:
    cache = open_cache(url)
    with pytest.raises(StoreError, match="There is no study"):
        cache.snapshot(name)
    assert cache.names() == ["world"]


def test_a_study_with_unknown_metrics_leaves_the_list_as_it_is(sqlite_url: str) -> None:
    """Its plugin is not installed here: the other studies are still shown."""
    cache = StoreCache(sqlite_url, discover(entry_points=(), plugins=[]))
    [found] = cache.summaries(cache.version())
    assert found.study.name == "world"
    assert "score" not in found.best
    cache.close()


def test_a_broken_row_leaves_the_list_as_it_is(sqlite_url: str, open_cache: Any) -> None:
    store = Store.open(sqlite_url)
    with store.writing() as session:
        session.execute(
            update(models.Trial)
            .where(models.Trial.number == 1)
            .values(owner="nobody", lease_until=1e12)
        )
        session.execute(
            update(models.Trial).where(models.Trial.number == 1).values(state="running")
        )
    store.close()
    cache = open_cache(sqlite_url)
    [found] = cache.summaries(cache.version())
    assert found.study.name == "world"
