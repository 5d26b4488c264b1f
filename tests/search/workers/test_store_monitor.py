"""What the store tells of workers anywhere, in the words of a callback; and what local workers are
given.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from search_world import load, registry
from sqlalchemy import update

from automl_sr.search.open_study import OpenStudy, Options
from automl_sr.search.study import open_study
from automl_sr.search.workers import local_workers
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.search.workers.store_monitor import StoreMonitor
from automl_sr.search.workers.supervisor import State
from automl_sr.store import models
from automl_sr.store.leases import node
from automl_sr.store.records import Claim, PointRecord, Result, RungVerdict
from automl_sr.trial.types import Point

HERE = f"{node()}:{os.getpid()}:abc"
ELSEWHERE = "frodo.1234.5678:77:def"
PATIENCE = 100.0


class Witness(SearchCallback):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def news(self) -> list[tuple[Any, ...]]:
        told, self.told = self.told, []
        return told

    def opened(self, study: OpenStudy) -> None:
        raise AssertionError

    def note(self, text: str) -> None:
        raise AssertionError

    def started(self, number: int, params: Mapping[str, Any], *, resumed: bool) -> None:
        self.told.append(("started", number, params["architecture"], resumed))

    def works(self, number: int, worker: str) -> None:
        self.told.append(("works", number, worker))

    def stage(self, number: int, name: str) -> None:
        self.told.append(("stage", number, name))

    def point(self, number: int, point: Point) -> None:
        self.told.append(("point", number, point))

    def rung(self, number: int, index: int, values: Mapping[str, float], *, go_on: bool) -> None:
        self.told.append(("rung", number, index, dict(values), go_on))

    def finished(self, number: int, result: Result, seconds: float) -> None:
        self.told.append(("finished", number, result.state, dict(result.values), seconds))


class World:
    """A study, one who works on it by hand, and one who follows."""

    def __init__(self, store: str, folder: Path) -> None:
        self.study = open_study(
            load(trials=3), registry(), Options(store=store, artifacts=str(folder))
        )
        self.witness = Witness()
        self.monitor = self.follow(self.witness)

    def follow(self, witness: Witness) -> StoreMonitor:
        return StoreMonitor(self.study, witness, PATIENCE)

    def look(self) -> State:
        return self.monitor.look({os.getpid(): "worker 2"})

    def news(self) -> list[tuple[Any, ...]]:
        self.look()
        return self.witness.news()

    def take(self, owner: str) -> Claim:
        store, record = self.study.store, self.study.record
        claim = store.take_over(record, owner) or store.claim_new(record, owner, None)
        assert claim
        return claim

    def begin(self, owner: str) -> Claim:
        claim = self.take(owner)
        params = {"architecture": "line", "recipe.lr": float(claim.number)}
        self.study.store.freeze(
            claim, {"params": params}, f"print {claim.number}", {"params": params}
        )
        return claim

    def end(self, claim: Claim, state: Any = "complete", **values: float) -> None:
        self.study.store.finish(claim, Result(state, values), 12.0)


@pytest.fixture
def world(store_url: str, tmp_path: Path) -> Iterator[World]:
    made = World(store_url, tmp_path / "artifacts")
    yield made
    made.study.store.close()


def test_a_trial_is_told_from_its_beginning_to_its_end(world: World) -> None:
    assert world.news() == []
    claim = world.take(HERE)
    assert world.news() == [], "what it does is not known yet"
    world.study.store.freeze(claim, {"params": {"architecture": "line"}}, "a print", {"params": {}})
    world.study.store.stage(claim, "train", 1.0)
    began = [
        ("started", 0, "line", False),
        ("works", 0, f"worker 2 (pid {os.getpid()})"),
        ("stage", 0, "train"),
    ]
    assert world.news() == began
    assert world.news() == [], "nothing is told twice"
    points = [PointRecord("train", step, 0.5, 1e-3, 900.0, {"score": 3.0}) for step in (10, 20)]
    world.study.store.points(claim, points)
    assert world.news() == [
        ("point", 0, Point(20, 1000, "train", 0.5, 1e-3, 900.0, {"score": 3.0}))
    ]
    world.study.store.record_rung(claim, 0, 20, 1.5, {"score": 4.0}, lambda rows: RungVerdict(True))
    assert world.news() == [("rung", 0, 0, {"score": 4.0}, True)]
    world.end(claim, score=5.0)
    assert world.news() == [("finished", 0, "complete", {"score": 5.0}, 12.0)]
    assert world.news() == []


def test_a_trial_that_ended_between_two_looks_is_told_whole(world: World) -> None:
    claim = world.begin(ELSEWHERE)
    world.study.store.record_rung(
        claim, 0, 20, 1.5, {"score": 4.0}, lambda rows: RungVerdict(False)
    )
    world.end(claim, "pruned", score=4.0)
    again = world.begin(ELSEWHERE)
    world.end(again, "duplicate", score=4.0)
    assert world.news() == [
        ("started", 0, "line", False),
        ("rung", 0, 0, {"score": 4.0}, False),
        ("finished", 0, "pruned", {"score": 4.0}, 12.0),
        ("finished", 1, "duplicate", {"score": 4.0}, 12.0),
    ], "a duplicate begins nothing"


def test_what_is_there_at_the_beginning_is_no_news(world: World) -> None:
    world.end(world.begin(HERE), score=1.0)
    later = Witness()
    world.monitor = world.follow(later)
    world.look()
    assert later.news() == []


def test_workers_elsewhere_and_other_processes_are_named_by_where_they_run(world: World) -> None:
    world.begin(ELSEWHERE)
    world.begin(f"{node()}:1:ghi")
    named = [told[1:] for told in world.news() if told[0] == "works"]
    assert named == [(0, "frodo (pid 77)"), (1, "pid 1")]


def test_a_trial_that_is_given_back_has_no_worker_and_then_goes_on_with_another(
    world: World,
) -> None:
    claim = world.begin(HERE)
    world.news()
    world.study.store.release(claim, 3.0)
    assert world.news() == [("works", 0, "")]
    assert world.take(ELSEWHERE).number == 0
    assert world.news() == [("started", 0, "line", True), ("works", 0, "frodo (pid 77)")]


def test_a_trial_whose_worker_is_gone_has_no_worker(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.begin(HERE)
    world.news()
    monkeypatch.setattr(
        "automl_sr.search.workers.store_monitor.is_dead", lambda owner: owner == HERE
    )
    assert world.news() == [("works", 0, "")]


def test_the_study_is_over_when_its_trials_are_spent_and_idle_when_nobody_works(
    world: World,
) -> None:
    assert world.look() == State()
    claims = [world.begin(f"{HERE}{index}") for index in range(3)]
    world.end(claims[0], "infeasible")
    world.end(claims[1], "failed")
    assert world.look() == State(ended=2)
    world.end(claims[2], score=1.0)
    assert world.look() == State(ended=3)
    other = world.begin(ELSEWHERE)
    world.end(world.begin(HERE), score=2.0)
    assert world.look() == State(ended=4, over=True)
    world.study.store.release(other, 1.0)
    assert world.look() == State(ended=4, over=True, idle=True)


def test_the_study_is_over_when_its_time_is_up(world: World) -> None:
    budget = world.study.spec.budget.model_copy(update={"minutes": 1.0})
    spec = world.study.spec.model_copy(update={"budget": budget})
    study: Any = SimpleNamespace(spec=spec, store=world.study.store, record=world.study.record)
    monitor = StoreMonitor(study, world.witness, PATIENCE)
    assert not monitor.look({}).over
    world.study.store.update_study(world.study.record, {"seconds": 60.0})
    assert monitor.look({}) == State(over=True, idle=True)


def test_a_process_that_lost_its_lease_and_gives_no_sign_is_stuck(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(
        "automl_sr.search.workers.store_monitor.time", SimpleNamespace(monotonic=lambda: clock[0])
    )
    world.study.store.lease = -1.0  # run out as soon as it is given
    hanging = world.begin(HERE)
    assert world.news() == [], "nobody is seen to work on it"
    world.study.store.lease = 60.0
    world.study.store.renew(hanging, 1.0)
    assert world.look().stuck == frozenset()
    world.study.store.lease = -1.0
    world.study.store.renew(hanging, 1.0)
    clock[0] += PATIENCE - 1
    assert world.look().stuck == frozenset()
    world.study.store.lease = 60.0
    assert world.take(ELSEWHERE).number == 0
    clock[0] += 2
    assert world.look().stuck == {os.getpid()}
    world.begin(HERE)
    assert world.look().stuck == frozenset(), "it works again"


@pytest.mark.parametrize("hours", [1, -1])
def test_a_clock_that_is_set_hides_no_worker_and_shows_none_that_hangs(
    world: World, monkeypatch: pytest.MonkeyPatch, hours: int
) -> None:
    uptime = [1000.0]
    monkeypatch.setattr("automl_sr.store.leases.uptime", lambda: uptime[0])
    world.begin(HERE)
    assert world.news() != []
    with world.study.store.writing() as session:
        session.execute(
            update(models.Trial).values(lease_until=models.Trial.lease_until - 3600 * hours)
        )
    assert world.news() == [], "its lease holds by the uptime of the machine"
    uptime[0] += world.study.store.lease + 1
    assert world.news() == [("works", 0, "")]


def test_workers_get_store_and_files_by_environment_and_a_gpu_each(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    [alone] = local_workers.environments(world.study, 1, 4)
    assert (alone["AUTOML_SR_STORE"], alone["OMP_NUM_THREADS"]) == (world.study.store.url, "4")
    assert alone["AUTOML_SR_ARTIFACTS"] == world.study.artifacts.url
    assert "CUDA_VISIBLE_DEVICES" not in alone, "it trains on the CPU"
    setting = SimpleNamespace(train_device="cuda")
    study: Any = SimpleNamespace(
        setting=setting, store=world.study.store, artifacts=world.study.artifacts
    )
    assert visible(study) == ["0", "1", "0"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-aa, GPU-bb")
    assert visible(study) == ["GPU-aa", "GPU-bb", "GPU-aa"], "of those that this process may use"


def visible(study: Any) -> list[str]:
    return [
        environment["CUDA_VISIBLE_DEVICES"]
        for environment in local_workers.environments(study, 3, 1)
    ]
