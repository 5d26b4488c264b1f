"""The queue of trials: slots of the budget, leases with a fence, takeovers, and results that are written once."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import update

from automl_sr.store import models
from automl_sr.store.leases import LeaseLost, is_dead, new_owner, node
from automl_sr.store.records import Claim, PointRecord, Result, StudyRecord
from automl_sr.store.repository import Store

PLAN = {"params": {"architecture": "line"}, "techniques": {}, "fingerprint": "f"}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(f"sqlite:///{tmp_path}/store.db")


@pytest.fixture
def study(store: Store) -> StudyRecord:
    fields = {
        "name": "queue",
        "spec": {"objectives": ["score"], "constraints": {}},
        "space": {},
        "source": "",
        "environment": {},
        "reference": {},
        "artifacts": "",
    }
    return store.create_study(fields, (0, 1))


def begun(store: Store, study: StudyRecord, owner: str, number: int, fingerprint: str = "f") -> Claim:
    claim = store.claim_new(study, owner, None)
    assert claim is not None
    assert store.freeze(claim, number, number + 1, PLAN, fingerprint) is None
    return claim


def dead_owner() -> str:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return f"{node()}:{process.pid}:0123456789ab"


def expire(store: Store, claim: Claim) -> None:
    with store.writing() as session:
        session.execute(update(models.Trial).where(models.Trial.id == claim.trial_id).values(lease_until=1.0))


def test_creating_a_study_again_gives_the_one_that_is_there(store: Store, study: StudyRecord) -> None:
    fields = {"name": "queue", "spec": {"objectives": ["other"]}}
    again = store.create_study(fields, (0, 7))
    assert (again.id, again.spec) == (study.id, study.spec)
    assert [trial.number for trial in store.trials(study)] == [0]


def test_the_baseline_waits_and_is_adopted_first(store: Store, study: StudyRecord) -> None:
    claim = store.adopt(study, new_owner())
    assert claim is not None
    assert (claim.number, claim.optuna_id, claim.adopted) == (0, 1, False)
    assert store.adopt(study, new_owner()) is None, "its lease holds"


def test_slots_of_the_budget_are_given_out_once(store: Store, study: StudyRecord) -> None:
    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(lambda _: store.claim_new(study, new_owner(), 11), range(30)))
    assert sum(claim is not None for claim in claims) == 10, "the waiting baseline holds a slot too"


def test_free_trials_give_their_slot_back(store: Store, study: StudyRecord) -> None:
    claim = store.claim_new(study, "me", 2)
    assert claim is not None
    assert store.claim_new(study, "me", 2) is None
    store.finish(claim, Result("infeasible", reason="too large"), 0.0)
    assert store.claim_new(study, "me", 2) is not None


def test_a_released_trial_goes_on_under_its_number(store: Store, study: StudyRecord) -> None:
    store.adopt(study, "first")
    claim = begun(store, study, "first", 1)
    store.release(claim, 12.5)
    taken = store.adopt(study, "second")
    assert taken is not None
    assert (taken.number, taken.plan, taken.seconds, taken.fence) == (1, PLAN, 12.5, 2)
    assert taken.adopted


def test_the_trial_of_a_dead_process_is_taken_over_at_once(store: Store, study: StudyRecord) -> None:
    store.adopt(study, "first")
    begun(store, study, dead_owner(), 1)
    taken = store.adopt(study, new_owner())
    assert taken is not None
    assert taken.number == 1


def test_the_trial_of_another_machine_is_taken_over_when_its_lease_runs_out(store: Store, study: StudyRecord) -> None:
    store.adopt(study, "first")
    claim = begun(store, study, "elsewhere:1:abc", 1)
    assert store.adopt(study, new_owner()) is None
    expire(store, claim)
    assert store.adopt(study, new_owner()) is not None


def test_one_of_many_takes_over(store: Store, study: StudyRecord) -> None:
    claim = store.adopt(study, "first")
    assert claim is not None
    store.release(claim, 0.0)
    with ThreadPoolExecutor(8) as pool:
        taken = list(pool.map(lambda _: store.adopt(study, new_owner()), range(16)))
    assert sum(claim is not None for claim in taken) == 1


def test_a_worker_that_was_replaced_can_write_nothing_any_more(store: Store, study: StudyRecord) -> None:
    store.adopt(study, "first")
    old = begun(store, study, "elsewhere:1:abc", 1)
    expire(store, old)
    new = store.adopt(study, new_owner())
    assert new is not None
    assert not store.renew(old, 1.0)
    with pytest.raises(LeaseLost):
        store.points(old, [PointRecord("train", 1, 0.5, 1e-3, 10.0)])
    with pytest.raises(LeaseLost):
        store.judge(old, 0, 10, {"score": 1.0}, lambda rows: True)
    with pytest.raises(LeaseLost):
        store.finish(old, Result("complete", {"score": 99.0}), 1.0)
    store.release(old, 1.0)
    store.finish(new, Result("complete", {"score": 1.0}), 1.0)
    assert store.trial(study, 1).values == {"score": 1.0}
    with pytest.raises(LeaseLost):
        store.finish(new, Result("complete", {"score": 2.0}), 1.0)


def test_renewing_extends_the_lease_and_the_time(store: Store, study: StudyRecord) -> None:
    claim = begun(store, study, new_owner(), 1)
    expire(store, claim)
    assert store.renew(claim, 30.0)
    assert store.trial(study, 1).seconds == 30.0
    store.adopt(study, "baseline")
    assert store.adopt(study, new_owner()) is None


def test_a_plan_is_frozen_once(store: Store, study: StudyRecord) -> None:
    store.adopt(study, "first")
    claim = begun(store, study, "me", 1)
    store.release(claim, 0.0)
    taken = store.adopt(study, "you")
    assert taken is not None
    store.freeze(taken, 1, 2, {"params": {}}, "other")
    assert store.trial(study, 1).plan == PLAN


def test_an_equal_plan_is_found_finished_or_running(store: Store, study: StudyRecord) -> None:
    first = begun(store, study, "me", 1)
    second = store.claim_new(study, "me", None)
    assert second is not None
    twin = store.freeze(second, 2, 3, PLAN, "f")
    assert twin is not None
    assert (twin.number, twin.state) == (1, "running")
    store.adopt(study, "baseline")
    store.release(second, 0.0, waiting_for=1)
    assert store.adopt(study, "me") is None, "it waits for the other"
    store.finish(first, Result("complete", {"score": 3.0}), 1.0)
    again = store.adopt(study, "me")
    assert again is not None
    twin = store.freeze(again, 2, 3, None, "f")
    assert twin is not None
    assert (twin.number, twin.state, twin.values) == (1, "complete", {"score": 3.0})


def test_a_failed_twin_is_no_reason_to_skip(store: Store, study: StudyRecord) -> None:
    first = begun(store, study, "me", 1)
    store.finish(first, Result("failed", reason="bad luck"), 1.0)
    second = store.claim_new(study, "me", None)
    assert second is not None
    assert store.freeze(second, 2, 3, PLAN, "f") is None


def test_a_rung_is_decided_once_on_what_was_there(store: Store, study: StudyRecord) -> None:
    seen: list[list[Mapping[str, float]]] = []

    def decide(rows: list[Mapping[str, float]]) -> bool:
        seen.append(rows)
        return len(rows) == 0

    first, second = begun(store, study, "me", 1, "a"), begun(store, study, "me", 2, "b")
    assert store.judge(first, 0, 300, {"score": 1.0}, decide)
    assert not store.judge(second, 0, 300, {"score": 2.0}, decide)
    assert not store.judge(second, 0, 300, {"score": 9.0}, lambda rows: True), "a takeover reads the answer"
    assert seen == [[], [{"score": 1.0}]]
    assert [(r.number, r.rung, r.values, r.go_on) for r in store.rungs(study)] == [
        (1, 0, {"score": 1.0}, True),
        (2, 0, {"score": 2.0}, False),
    ]


def test_points_written_again_by_a_resumed_trial_replace_the_former_ones(store: Store, study: StudyRecord) -> None:
    claim = begun(store, study, "me", 1)
    store.points(claim, [PointRecord("train", 1, 0.9, 1e-3, 10.0), PointRecord("train", 2, 0.8, 1e-3, 10.0)])
    store.points(claim, [PointRecord("train", 2, 0.7, 1e-3, float("inf"), {"score": 30.0})])
    curve = store.curve(store.trial(study, 1))
    assert [(p.step, p.loss, p.images_per_second, p.values) for p in curve] == [
        (1, 0.9, 10.0, {}),
        (2, 0.7, None, {"score": 30.0}),
    ]


def test_the_clock_of_a_study_counts_time_once_for_all_workers(store: Store, study: StudyRecord) -> None:
    def at(seconds_ago: float, used: float) -> None:
        with store.writing() as session:
            values = {"active_at": models.now() - seconds_ago, "seconds": used}
            session.execute(update(models.Study).values(**values))

    at(10.0, 100.0)
    assert store.tick(study) == pytest.approx(110.0, abs=0.5)
    assert store.tick(study) == pytest.approx(110.0, abs=0.5), "a second worker adds only what has passed since"
    at(3600.0, 100.0)
    assert store.begin_activity(study) == pytest.approx(100.0, abs=0.5), "an hour in which nobody searched is free"


def test_owners_of_this_process_live_and_names_differ() -> None:
    one, other = new_owner(), new_owner()
    assert one != other
    assert not is_dead(one)
    assert one.split(":")[1] == str(os.getpid())
    assert is_dead(dead_owner())
    assert not is_dead("another-host:1:abc"), "of other machines nothing is known"
