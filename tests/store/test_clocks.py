"""Clocks that are set while a study is searched, by an hour in either direction: who works goes on,
time counts once.

A clock that jumps forward makes everything that is stored look so much older, and the reverse: this
is how it is done. The uptime of the machine goes on meanwhile; here it goes on when a test says so.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from search_world import Slowly, load, registry
from sqlalchemy import update

from automl_sr.search.engine import Options, search
from automl_sr.store import models
from automl_sr.store import refinements as stored
from automl_sr.store.leases import new_owner, node
from automl_sr.store.reading import Reader
from automl_sr.store.records import Claim, StudyRecord
from automl_sr.store.repository import Store

pytestmark = pytest.mark.ci

HOUR = 3600.0
ELSEWHERE = "another-machine:1:0123456789ab"
BOTH_WAYS = pytest.mark.parametrize("hours", [1, -1])


def set_clock(store: Store, hours: float) -> None:
    """Set the database's clock forward, or backward where it is negative.

    It writes to every row, so that PostgreSQL may end it for a deadlock with those who work: then
    it is done again.
    """
    by = hours * HOUR

    def everywhere() -> None:
        with store.writing() as session:
            for row in (models.Trial, models.Refinement):
                session.execute(update(row).values(lease_until=row.lease_until - by))
            session.execute(update(models.Study).values(active_at=models.Study.active_at - by))

    store.retry(everywhere)


@dataclass
class Uptime:
    """For how long this machine has been awake."""

    seconds: float = 10_000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def uptime(monkeypatch: pytest.MonkeyPatch) -> Uptime:
    clock = Uptime()
    for module in ("leases", "study_clock"):
        monkeypatch.setattr(f"automl_sr.store.{module}.uptime", clock)
    return clock


@pytest.fixture
def store(store_url: str) -> Iterator[Store]:
    opened = Store.open(store_url)
    yield opened
    opened.close()


@pytest.fixture
def study(store: Store) -> StudyRecord:
    spec = {"objectives": ["score"], "constraints": {}}
    empty: dict[str, Any] = {
        "source": "",
        "artifacts": "",
        "space": {},
        "environment": {},
        "reference": {},
    }
    store.create_study({"name": "timed", "spec": spec, **empty})
    made = store.study("timed")
    claim = store.take_over(made, ELSEWHERE)
    assert claim is not None
    store.release(claim, 0.0)
    return made


def begun(store: Store, study: StudyRecord, owner: str) -> Claim:
    claim = store.take_over(study, owner)
    assert claim is not None
    return claim


def dead_owner() -> str:
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return f"{node()}:{process.pid}:0123456789ab"


# Leases


@BOTH_WAYS
def test_a_process_that_works_keeps_its_trial(
    store: Store, study: StudyRecord, uptime: Uptime, hours: int
) -> None:
    claim = begun(store, study, new_owner())
    uptime.seconds += store.renewal
    set_clock(store, hours)
    assert store.take_over(study, new_owner()) is None
    assert store.renew(claim, 1.0)
    set_clock(store, -hours)
    uptime.seconds += store.lease - 1
    assert store.take_over(study, new_owner()) is None, (
        "renewed in the hour that is over, it holds for a whole lease"
    )


@BOTH_WAYS
def test_a_process_that_hangs_loses_its_trial_when_the_lease_ends(
    store: Store, study: StudyRecord, uptime: Uptime, hours: int
) -> None:
    begun(store, study, new_owner())
    set_clock(store, hours)
    uptime.seconds += store.lease + 1
    assert store.take_over(study, new_owner()) is not None


@pytest.mark.everyday
@BOTH_WAYS
def test_a_process_that_has_died_loses_its_trial_at_once(
    store: Store, study: StudyRecord, uptime: Uptime, hours: int
) -> None:
    begun(store, study, dead_owner())
    set_clock(store, hours)
    assert store.take_over(study, new_owner()) is not None


def test_for_other_machines_the_clock_of_the_database_counts(
    store: Store, study: StudyRecord, uptime: Uptime
) -> None:
    begun(store, study, ELSEWHERE)
    uptime.seconds += 10 * HOUR
    assert store.take_over(study, new_owner()) is None
    set_clock(store, 1)
    assert store.take_over(study, new_owner()) is not None


@BOTH_WAYS
def test_refinements_are_held_in_the_same_way(
    store: Store, study: StudyRecord, uptime: Uptime, hours: int
) -> None:
    trial = store.trial(study, 0)
    [which] = stored.request(store, study, {trial.id: 100}, [0])
    claim = stored.claim(store, study, new_owner(), [which])
    assert claim is not None
    set_clock(store, hours)
    assert stored.claim(store, study, new_owner(), [which]) is None
    assert stored.renew(store, claim, 1.0)
    uptime.seconds += store.lease + 1
    assert stored.claim(store, study, new_owner(), [which]) is not None


@BOTH_WAYS
def test_several_workers_go_on_with_their_own_trials(
    tmp_path: Path, store_url: str, hours: int
) -> None:
    """The clock is set in the middle of every trial, forward and backward, while the others look
    for work.
    """

    def wait(step: int, done: int) -> None:
        if step == 2:
            set_clock(store, hours)
        if step == 4:
            set_clock(store, -hours)

    options = Options(store=store_url, artifacts=str(tmp_path / "files"))
    search(load(trials=1), registry(), options, run=Slowly(1, lambda step, done: None))
    store = Store.open(store_url)

    def work(_: int) -> None:
        search(load(trials=9), registry(), options, run=Slowly(5, wait))

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, range(3)))
    reader = Reader.open(store_url)
    made = reader.study("world")
    assert [(row.state, row.fence) for row in reader.trials(made)] == [("complete", 1)] * 9
    assert "taken over" not in [event.kind for event in reader.events(made)]
    assert reader.study("world").seconds < HOUR / 2
    store.close()


# The time of a study


@pytest.mark.everyday
@BOTH_WAYS
def test_time_that_was_searched_counts_once_however_the_clock_is_set(
    store: Store, study: StudyRecord, uptime: Uptime, hours: int
) -> None:
    assert store.begin_activity(study) == 0.0
    for passed in (10.0, 20.0, 30.0):
        uptime.seconds += 10.0
        set_clock(store, hours)
        assert store.tick(study) == pytest.approx(passed)
    uptime.seconds += 10.0
    set_clock(store, -3 * hours)
    assert store.end_activity(study) == pytest.approx(40.0)


def test_a_clock_that_is_set_by_less_than_a_lease_adds_nothing(
    store: Store, study: StudyRecord, uptime: Uptime
) -> None:
    store.begin_activity(study)
    uptime.seconds += 5.0
    set_clock(store, 40.0 / HOUR)
    assert store.tick(study) == pytest.approx(5.0)


@BOTH_WAYS
def test_another_worker_that_begins_just_then_neither_stops_nor_adds_time(
    store: Store, study: StudyRecord, uptime: Uptime, hours: int
) -> None:
    store.begin_activity(study)
    uptime.seconds += 12.0
    set_clock(store, hours)
    assert store.begin_activity(study) == pytest.approx(12.0)


def test_time_in_which_all_were_suspended_does_not_count(
    store: Store, study: StudyRecord, uptime: Uptime
) -> None:
    store.begin_activity(study)
    uptime.seconds += HOUR
    assert store.tick(study) == 0.0


def test_between_machines_the_clock_of_the_database_counts(
    store: Store, study: StudyRecord, uptime: Uptime
) -> None:
    store.begin_activity(study)
    with store.writing() as session:
        session.execute(update(models.Study).values(active_on="another-machine"))
    uptime.seconds += 50.0
    set_clock(store, 20.0 / HOUR)
    assert store.tick(study) == pytest.approx(20.0, abs=1.0)
