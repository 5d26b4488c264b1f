"""What core expects of a database that holds studies.

Whatever many workers do, nothing is lost and nothing double.
"""

# ruff: noqa: S101 - tests assert, also those that are inherited
from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from sqlalchemy import select, update

from automl_sr.store import models
from automl_sr.store.database import creating
from automl_sr.store.leases import LeaseLostError, Owner, new_owner, node
from automl_sr.store.reading import Reader
from automl_sr.store.records import (
    ArtifactRecord,
    Claim,
    DuplicateOf,
    PointRecord,
    Result,
    RungVerdict,
    StudyRecord,
)
from automl_sr.store.repository import Store

T = TypeVar("T")

PLAN = {"params": {"architecture": "line"}, "techniques": {}, "fingerprint": "f"}
ELSEWHERE = "another-machine:1:0123456789ab"
AWKWARD = 'ü 日本 🙂 "quoted" \\ %s {name} a\x00b'
"""Text with all that has to be escaped somewhere, and a zero byte, which PostgreSQL refuses."""
SCORED = Result("complete", {"score": 1.0})


class StoreContract:
    """Inherit in a class whose name begins with `Test`, and override `url`.

    It is that of a database without tables.
    """

    @pytest.fixture
    def url(self) -> str:
        """Return the URL of a database without tables."""
        raise NotImplementedError("Override the fixture `url` with the URL of an empty database.")

    @pytest.fixture
    def store(self, url: str) -> Iterator[Store]:
        """Open the store."""
        opened = Store.open(url)
        yield opened
        opened.close()

    @pytest.fixture
    def study(self, store: Store) -> StudyRecord:
        """Make a study whose baseline somebody works on already."""
        made = new_study(store, "queue")
        assert store.take_over(made, ELSEWHERE) is not None
        return made

    # Opening

    def test_its_tables_are_made_once_by_workers_that_start_together(self, url: str) -> None:
        """Every one of them can use the store."""
        names = ["study-0", "study-1", "study-2", "study-3"]

        def start(name: str) -> None:
            opened = Store.open(url)
            new_study(opened, name)
            opened.close()

        together([functools.partial(start, name) for name in names])
        reader = Reader.open(url)
        assert sorted(study.name for study in reader.studies()) == names
        reader.close()

    def test_a_study_is_made_once(self, store: Store) -> None:
        """Making it again, also at the same moment, gives the one that is there."""

        def make() -> None:
            with creating(store.engine):
                new_study(store, "queue", source="first")

        together([make] * 4)
        again = new_study(store, "queue", source="other")
        assert again.source == "first"
        [baseline] = store.trials(again)
        assert (baseline.number, baseline.state) == (0, "waiting")

    def test_what_is_stored_comes_back_as_it_was(self, store: Store) -> None:
        """Texts, numbers to the last bit, and structures."""
        # A sum with a rounding error, and a whole number that a float cannot hold.
        values = {
            "n": None,
            "yes": True,
            "float": 0.1 + 0.2,
            "int": 2**53 + 1,
        }
        spec = {"objectives": ["score"], "deep": [values]}
        text = AWKWARD.replace("\x00", "")
        environment = {text: text}
        study = new_study(
            store,
            "queue",
            spec=spec,
            source=text,
            environment=environment,
        )
        assert study.spec == spec
        assert study.source == text
        assert study.environment == environment
        assert store.study("queue") == study

    def test_what_its_environment_lacks_is_settled_once(self, store: Store) -> None:
        """By whoever comes first; the others find that, and the rest of the environment stays."""
        study = new_study(store, "queue", environment={"threads": 2})
        asking = []
        for name in ("bf16", "fp32"):
            asking.append(functools.partial(store.settle_environment, study, "precision", name))
        together([*asking, *asking])

        settled = store.study("queue").environment
        assert settled["precision"] in ("bf16", "fp32")
        assert settled == {"threads": 2, "precision": settled["precision"]}
        store.settle_environment(study, "precision", "fp16")
        assert store.study("queue").environment == settled

    # Slots and numbers

    def test_the_baseline_waits_and_is_taken_first(self, store: Store) -> None:
        """It is trial 0, which nobody has begun."""
        study = new_study(store, "queue")
        claim = store.take_over(study, new_owner())
        assert claim is not None
        assert (claim.number, claim.taken_over) == (0, False)
        assert store.take_over(study, new_owner()) is None, "its lease holds"

    def test_slots_of_the_budget_are_given_out_once_and_numbered_without_gaps(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """However many workers ask at the same moment; the baseline holds a place too."""

        def ask() -> Claim | None:
            return store.claim_new(study, new_owner(), 11)

        numbers = []
        keys = set()
        for claim in together([ask] * 30):
            if claim is not None:
                numbers.append(claim.number)
                keys.add(claim.key)
        assert sorted(numbers) == list(range(1, 11))
        assert len(keys) == 10
        stored = [trial.number for trial in store.trials(study)]
        assert stored == list(range(11))

    def test_free_trials_give_their_slot_back(self, store: Store, study: StudyRecord) -> None:
        """What trains nothing costs nothing; its number stays its own."""
        claim = claimed(store, study, limit=2)
        assert store.claim_new(study, new_owner(), 2) is None
        store.finish(claim, Result("infeasible", reason="too large"), 0.0)
        following = claimed(store, study, limit=2)
        assert following.number == claim.number + 1

    @pytest.mark.parametrize("state", ["complete", "pruned", "failed"])
    def test_trials_that_cost_something_keep_their_slot(
        self,
        store: Store,
        study: StudyRecord,
        state: Any,
    ) -> None:
        """Whatever came of them."""
        claim = claimed(store, study, limit=2)
        store.finish(claim, Result(state, {"score": 1.0}), 1.0)
        assert store.claim_new(study, new_owner(), 2) is None

    def test_studies_in_one_store_do_not_touch_each_other(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """Numbers, keys, equal plans and abandoned trials are each study's own."""
        begun(store, study)
        other = new_study(store, "other")
        assert store.take_over(other, ELSEWHERE) is not None
        claim = claimed(store, other, limit=2)
        assert claim.number == 1
        assert frozen(store, claim) is None, "the equal plan is of another study"
        store.release(claim, 0.0)
        assert store.take_over(study, new_owner()) is None
        assert store.take_over(other, new_owner()) is not None

    # Leases and fences

    def test_a_released_trial_goes_on_under_its_number(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """With its plan and the time that it has taken, and a new fence."""
        claim = begun(store, study)
        store.release(claim, 12.5)
        taken = taken_over(store, study)
        assert taken.number == claim.number
        assert taken.key == claim.key
        assert taken.plan == PLAN
        assert taken.seconds == 12.5
        assert taken.fence == claim.fence + 1
        assert taken.taken_over

    def test_the_oldest_trial_is_taken_first(self, store: Store, study: StudyRecord) -> None:
        """In the order of their numbers, whenever they were released."""
        claims = []
        for fingerprint in "abc":
            claims.append(begun(store, study, fingerprint))
        for claim in reversed(claims):
            store.release(claim, 0.0)
        numbers = [taken_over(store, study).number for _ in claims]
        assert numbers == [1, 2, 3]

    def test_the_trial_of_a_dead_process_is_taken_over_at_once(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """Its lease need not run out, for that process is known to have ended."""
        claim = begun(store, study, owner=dead_owner())
        assert taken_over(store, study).number == claim.number

    def test_the_trial_of_a_living_process_is_left_to_it(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """On this machine or another: a lease that holds is respected."""
        begun(store, study, "a", owner=new_owner())
        begun(store, study, "b", owner=ELSEWHERE)
        assert store.take_over(study, new_owner()) is None

    def test_a_lease_runs_out_on_the_clock_of_the_database(
        self,
        store: Store,
        study: StudyRecord,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A worker whose own clock is a day fast or slow takes over as others do."""
        claim = begun(store, study, owner=ELSEWHERE)
        real = time.time
        day = 86_400
        monkeypatch.setattr(time, "time", lambda: real() + day)
        assert store.take_over(study, new_owner()) is None
        expire(store, claim)
        monkeypatch.setattr(time, "time", lambda: real() - day)
        assert taken_over(store, study).number == claim.number
        assert store.take_over(study, new_owner()) is None, "the new lease holds"

    def test_renewing_extends_the_lease_and_the_time(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """The trial stays with its worker, also where the lease had run out meanwhile."""
        claim = begun(store, study, owner=ELSEWHERE)
        expire(store, claim)
        assert store.renew(claim, 30.0)
        assert store.trial(study, claim.number).seconds == 30.0
        assert store.take_over(study, new_owner()) is None

    def test_one_of_many_takes_over(self, store: Store, study: StudyRecord) -> None:
        """Each trial that was left behind, however many workers look at the same moment."""
        claims = []
        for number in range(12):
            claims.append(begun(store, study, str(number)))
        for claim in claims:
            store.release(claim, 0.0)

        def adopt_all() -> list[int]:
            numbers = []
            while (claim := store.take_over(study, new_owner())) is not None:
                numbers.append(claim.number)
            return numbers

        taken = []
        for numbers in together([adopt_all] * 12):
            taken.extend(numbers)
        assert sorted(taken) == [claim.number for claim in claims]

    def test_a_worker_that_was_replaced_can_write_nothing_any_more(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """Neither while the new owner works nor afterwards."""
        old = begun(store, study, owner=ELSEWHERE)
        expire(store, old)
        new = taken_over(store, study)
        store.points(new, [point(1, 0.1)])
        before = everything_of(store, study)
        better = {"score": 99.0}
        late = Result("complete", better, artifacts=(file("onnx"),))
        writing: list[Callable[[], object]] = [
            lambda: store.stage(old, "export", 99.0),
            lambda: store.points(old, [point(1, 0.9)]),
            lambda: store.record_rung(old, 0, 10, 99.0, better, go_on),
            lambda: store.freeze(old, {"params": {}}, "other", {}),
            lambda: store.freeze(replace(old, plan=PLAN), None, "f", None),
            lambda: store.finish(old, late, 99.0),
        ]
        for write in writing:
            with pytest.raises(LeaseLostError):
                write()
        assert not store.renew(old, 99.0)
        store.release(old, 99.0)
        assert everything_of(store, study) == before

        store.finish(new, SCORED, 1.0)
        with pytest.raises(LeaseLostError):
            store.finish(old, Result("complete", better), 99.0)
        store.release(old, 99.0)
        trial = store.trial(study, 1)
        assert trial.state == "complete"
        assert trial.values == {"score": 1.0}

    def test_of_two_owners_that_finish_together_only_the_newer_counts(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """In every order in which the database takes them."""
        old = begun(store, study, owner=ELSEWHERE)
        expire(store, old)
        new = taken_over(store, study)

        def finish(claim: Claim, score: float) -> str:
            written = file(f"by-{score:g}")
            result = scored(score, written)
            try:
                store.finish(claim, result, 1.0)
            except LeaseLostError:
                return "lost"
            return "written"

        outcomes = together(
            [
                lambda: finish(old, 99.0),
                lambda: finish(new, 1.0),
            ]
        )
        assert outcomes == ["lost", "written"]
        trial = store.trial(study, 1)
        assert trial.values == {"score": 1.0}
        assert list(trial.artifacts) == ["by-1"]

    # Plans

    def test_a_plan_is_frozen_once(self, store: Store, study: StudyRecord) -> None:
        """Who takes the trial over runs the plan that is there."""
        store.release(begun(store, study), 0.0)
        again = taken_over(store, study)
        frozen(store, again, "other", {"params": {}})
        trial = store.trial(study, 1)
        assert trial.plan == PLAN
        assert trial.fingerprint == "f"

    def test_an_equal_plan_is_found_finished_or_running(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """A repetition waits for the first trial, and is taken up when that has ended."""
        first = begun(store, study)
        second = claimed(store, study)
        assert frozen(store, second) == DuplicateOf(1, "running", {})
        store.release(second, 0.0, waiting_for=1)
        assert store.take_over(study, new_owner()) is None, "it waits for the other"
        store.finish(first, scored(3.0), 1.0)
        again = taken_over(store, study)
        assert again.number == second.number
        assert frozen(store, again) == DuplicateOf(1, "complete", {"score": 3.0})

    def test_of_two_equal_plans_the_first_one_runs(self, store: Store, study: StudyRecord) -> None:
        """They never wait for each other, in whatever order they are frozen."""
        first = claimed(store, study)
        second = claimed(store, study)
        assert frozen(store, second) is None
        assert frozen(store, first) is None
        planned = replace(second, plan=PLAN)
        assert frozen(store, planned) == DuplicateOf(first.number, "running", {})

    def test_a_failed_twin_is_no_reason_to_skip(self, store: Store, study: StudyRecord) -> None:
        """What failed may succeed."""
        failed = Result("failed", reason="bad luck")
        store.finish(begun(store, study), failed, 1.0)
        twin = claimed(store, study)
        assert frozen(store, twin) is None

    # Reports and results

    def test_a_rung_is_decided_once_on_what_was_there(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """A takeover reads the answer and changes nothing."""
        seen: list[list[Mapping[str, float]]] = []

        def decide(rows: list[Mapping[str, float]]) -> RungVerdict:
            seen.append(rows)
            others = len(rows)
            return RungVerdict(others == 0, f"others: {others}")

        first = begun(store, study, "a")
        second = begun(store, study, "b")
        one = {"score": 1.0}
        two = {"score": 2.0}
        stopped = RungVerdict(False, "others: 1")
        assert store.record_rung(first, 0, 300, 1.0, one, decide).go_on
        assert store.record_rung(second, 0, 300, 2.0, two, decide) == stopped
        nine = {"score": 9.0}
        assert store.record_rung(second, 0, 300, 9.0, nine, go_on) == stopped
        assert seen == [[], [one]]

        kept = []
        for rung in store.rungs(study):
            kept.append(
                (
                    rung.number,
                    rung.rung,
                    rung.step,
                    rung.values,
                    rung.go_on,
                    rung.reason,
                ),
            )
        assert kept == [
            (1, 0, 300, one, True, "others: 0"),
            (2, 0, 300, two, False, "others: 1"),
        ]

    def test_trials_that_reach_a_rung_together_are_judged_one_after_the_other(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """Each one sees all those before it: no two take the same last place."""
        seen: list[int] = []

        def decide(rows: list[Mapping[str, float]]) -> RungVerdict:
            seen.append(len(rows))
            return RungVerdict(True)

        reaching: list[Callable[[], RungVerdict]] = []
        for number in range(8):
            claim = begun(store, study, str(number))
            score = {"score": 1.0}
            reaching.append(
                functools.partial(
                    store.record_rung,
                    claim,
                    0,
                    300,
                    1.0,
                    score,
                    decide,
                )
            )
        together(reaching)
        assert seen == list(range(8))

    def test_points_written_again_by_a_resumed_trial_replace_the_former_ones(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """The curve has each step once, and no number that the database cannot hold."""
        claim = begun(store, study)
        fast = float("inf")
        store.points(claim, [point(1, 0.9), point(2, 0.8)])
        measured = PointRecord("train", 2, 0.7, 1e-3, fast, {"score": 30.0})
        store.points(claim, [measured])
        # The same step in another phase is another point.
        broken = PointRecord("cooldown", 2, float("nan"), 0.0, 10.0)
        store.points(claim, [broken])

        curve = []
        for p in store.curve(store.trial(study, 1)):
            curve.append(
                (
                    p.phase,
                    p.step,
                    p.loss,
                    p.images_per_second,
                    p.values,
                )
            )
        assert curve == [
            ("train", 1, 0.9, 10.0, {}),
            ("train", 2, 0.7, None, {"score": 30.0}),
            ("cooldown", 2, None, 10.0, {}),
        ]

    def test_a_result_is_written_whole_and_once(self, store: Store, study: StudyRecord) -> None:
        """Values to the last bit, files and the event; what comes later changes nothing."""
        claim = begun(store, study)
        # A rounding error, the smallest and the largest float, and a zero with a sign.
        values = {
            "score": 0.1 + 0.2,
            "tiny": 5e-324,
            "large": 1.7976931348623157e308,
            "zero": -0.0,
        }
        result = Result(
            "complete",
            values,
            {"params": 7.0},
            stage_seconds={"train": 0.5},
            artifacts=(file("onnx"),),
            detail="notes",
        )
        store.finish(claim, result, 3.5)

        trial = store.trial(study, 1)
        assert written_out(trial.values) == written_out(values)
        assert trial.state == "complete"
        assert trial.costs == {"params": 7.0}
        assert trial.stage_seconds == {"train": 0.5}
        assert trial.seconds == 3.5
        assert trial.owner is None
        assert trial.stage is None
        assert trial.artifacts == {"onnx": file("onnx")}
        [event] = store.events(study, 1)
        assert (event.kind, event.text) == ("complete", "notes")

        before = everything_of(store, study)
        other = Result(
            "complete",
            {"score": 2.0},
            artifacts=(file("other"),),
            detail="more",
        )
        with contextlib.suppress(LeaseLostError):
            store.finish(claim, other, 9.0)  # under the same fence
        assert not store.renew(claim, 99.0)
        with pytest.raises(LeaseLostError):
            store.points(claim, [point(1, 0.9)])
        assert everything_of(store, study) == before

    def test_failures_are_written_down_whatever_they_say(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """The message of an error may hold any character."""
        claim = begun(store, study)
        store.stage(claim, "train", 1.0)
        failed = Result("failed", reason=AWKWARD, detail=AWKWARD)
        store.finish(claim, failed, 1.0)
        store.note(study, "note", AWKWARD)
        readable = AWKWARD.replace("\x00", "")
        assert store.trial(study, 1).reason == readable
        texts = [event.text for event in store.events(study)]
        assert texts == [readable, readable]

    # The study's clock

    def test_the_clock_of_a_study_counts_time_once_for_all_workers(
        self,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """Time in which nobody searched is free."""

        def at(seconds_ago: float, used: float) -> None:
            active = models.now() - seconds_ago
            change = update(models.Study).values(active_at=active, seconds=used)
            with store.writing() as session:
                session.execute(change)

        # A second more or less: the database's own clock goes on meanwhile.
        about_110 = pytest.approx(110.0, abs=1.0)
        about_100 = pytest.approx(100.0, abs=1.0)
        at(10.0, 100.0)
        assert store.tick(study) == about_110
        assert store.tick(study) == about_110, "a second worker adds only what has passed since"
        at(3600.0, 100.0)
        assert store.begin_activity(study) == about_100, "an hour in which nobody searched"

    def test_the_clock_runs_until_the_last_worker_stops(self, store: Store) -> None:
        """A worker that ends stops it only where it was the last one."""

        def running() -> bool:
            with store.reading() as session:
                active = session.scalar(select(models.Study.active_at))
            return active is not None

        study = new_study(store, "queue")
        store.begin_activity(study)
        claim = taken_over(store, study)
        store.end_activity(study)
        assert running()
        store.finish(claim, SCORED, 1.0)
        store.end_activity(study)
        assert not running()

    # Reading while others write

    def test_what_is_read_in_one_go_belongs_together(
        self,
        url: str,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """A reader sees the store as it was when it began, however much is written meanwhile."""
        states = select(models.Trial.state).order_by(models.Trial.number)
        claim = begun(store, study)
        reader = Reader.open(url)
        with reader.reading() as session:
            first = list(session.scalars(states))
            store.finish(claim, SCORED, 1.0)
            begun(store, study, "other")
            assert first == ["running", "running"]
            assert list(session.scalars(states)) == first
        with reader.reading() as session:
            assert list(session.scalars(states)) == ["running", "complete", "running"]
        reader.close()

    def test_readers_and_writers_do_not_wait_for_each_other(
        self,
        url: str,
        store: Store,
        study: StudyRecord,
    ) -> None:
        """Neither inside the transaction of the other; what is not committed is not seen."""
        reader = Reader.open(url)
        with store.writing() as session:
            session.execute(update(models.Study).values(source="changed"))
            assert reader.study("queue").source == study.source
        with reader.reading() as session:
            session.execute(select(models.Study.id))
            begun(store, study)
        assert reader.study("queue").source == "changed"
        reader.close()


def new_study(
    store: Store,
    name: str,
    **fields: Any,
) -> StudyRecord:
    """Make a study with one objective."""
    study: dict[str, Any] = {
        "name": name,
        "spec": {"objectives": ["score"], "constraints": {}},
        "source": "",
        "artifacts": "",
        "space": {},
        "environment": {},
        "reference": {},
    }
    study.update(fields)
    store.create_study(study)
    return store.study(name)


def claimed(
    store: Store,
    study: StudyRecord,
    owner: str = "",
    limit: int | None = None,
) -> Claim:
    """Take a place for a new trial."""
    claim = store.claim_new(study, owner or new_owner(), limit)
    assert claim is not None
    return claim


def frozen(
    store: Store,
    claim: Claim,
    fingerprint: str = "f",
    plan: Mapping[str, Any] = PLAN,
) -> DuplicateOf | None:
    """Write the plan of a trial down."""
    return store.freeze(claim, plan, fingerprint, {})


def begun(
    store: Store,
    study: StudyRecord,
    fingerprint: str = "f",
    owner: str = "",
) -> Claim:
    """Take a place for a trial with a plan that no other has."""
    claim = claimed(store, study, owner)
    assert frozen(store, claim, fingerprint) is None
    return claim


def taken_over(store: Store, study: StudyRecord) -> Claim:
    """Take a trial over as a new worker."""
    claim = store.take_over(study, new_owner())
    assert claim is not None
    return claim


def expire(store: Store, claim: Claim) -> None:
    """Let a lease have run out long ago."""
    own = models.Trial.id == claim.trial_id
    change = update(models.Trial).where(own)
    with store.writing() as session:
        # By both clocks that a lease is held by: that of the database, and that of this machine.
        session.execute(change.values(lease_until=1.0, lease_uptime=0.0))


def dead_owner() -> str:
    """Return the name of a worker on this machine whose process has ended."""
    process = subprocess.Popen([sys.executable, "-S", "-c", ""])
    process.wait()
    return str(Owner(node(), process.pid, "0123456789ab"))


def file(kind: str) -> ArtifactRecord:
    """Return a file that a trial left."""
    size = 2**40  # more than 32 bits hold
    digest = "0" * 64
    return ArtifactRecord(kind, f"/files/{kind}", digest, size)


def scored(score: float, *files: ArtifactRecord) -> Result:
    """Return the result of a trial with this score."""
    return Result("complete", {"score": score}, artifacts=files)


def point(step: int, loss: float) -> PointRecord:
    """Return a point of a learning curve."""
    return PointRecord("train", step, loss, 1e-3, 10.0)


def go_on(rows: list[Mapping[str, float]]) -> RungVerdict:
    """Let every trial go on."""
    return RungVerdict(True)


def written_out(values: Mapping[str, float]) -> dict[str, str]:
    """Write numbers so that a zero's sign and the last bit show."""
    return {name: repr(value) for name, value in values.items()}


def everything_of(store: Store, study: StudyRecord) -> list[Any]:
    """Read all that is stored of a study's trials."""
    trials = store.trials(study)
    curves = [store.curve(trial) for trial in trials]
    return [
        trials,
        curves,
        store.rungs(study),
        store.events(study),
    ]


def together(work: list[Callable[[], T]]) -> list[T]:
    """Do several things in threads that begin at the same moment; gives what came of each."""
    barrier = threading.Barrier(len(work))

    def begin(part: Callable[[], T]) -> T:
        barrier.wait()
        return part()

    with ThreadPoolExecutor(len(work)) as pool:
        return list(pool.map(begin, work))
