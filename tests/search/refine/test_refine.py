"""`refine`: each refinement is made once, by one process, survives interruption, and leaves the
search as it was.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from photographs import write_photographs
from refine_world import METRICS, Trainer, World, make, options_in, run_with_checkpoint
from search_world import load, registry
from searched import Once
from sqlalchemy import delete, update

from automl_sr.errors import AutomlSRError, DataError, StopRequestedError, StoreError, UseError
from automl_sr.plugin.registry import installed
from automl_sr.search.engine import Options, search
from automl_sr.search.output import Refinement
from automl_sr.search.refine import pace
from automl_sr.search.refine.callbacks import RefineCallback
from automl_sr.search.refine.choice import Request
from automl_sr.search.refine.refiner import RefineEnd, refine
from automl_sr.search.refine.run import Job, Refined
from automl_sr.search.retention import find_leftovers, remove
from automl_sr.store import models
from automl_sr.store import refinements as stored
from automl_sr.store.leases import node
from automl_sr.store.reading import Reader
from automl_sr.store.refinements import RefinementClaim, RefinementRecord, RefinementResult
from automl_sr.store.repository import Store
from automl_sr.study.spec import parse_study
from automl_sr.tasks.image_sr.image_model import OnnxImageModel, evaluate_pairs
from automl_sr.training.run import Run
from automl_sr.trial.types import Outcome, Point


@pytest.fixture
def world(once: Once, tmp_path: Path) -> World:
    once("six trials", lambda folder: make(options_in(folder)), tmp_path)
    return World(tmp_path)


def steps_of(end: RefineEnd) -> list[tuple[int, int]]:
    return [(row["number"], row["seed"]) for row in end.summary["refinements"]]


# ---- what is made ----


def test_the_front_is_refined_and_the_search_stays_as_it_was(
    store_url: str, tmp_path: Path
) -> None:
    make(options_in(tmp_path, store_url))
    world = World(tmp_path, store_url)
    before = world.trials()
    end = world.refine()
    assert end.error is None
    assert steps_of(end) == [(number, 0) for number in sorted(world.front())]
    assert world.trials() == before, "values, files and states of the search are untouched"
    for row in end.summary["refinements"]:
        trial = world.store.trial(world.study, row["number"])
        assert (row["state"], row["steps"], row["values"]["score"]) == ("complete", 4000, 40.0)
        assert row["search_values"] == trial.values
        assert row["tests"] == {"Set5": {"score": 30.0}}
        assert row["reason"] == "test set Set14: not there"
        assert "4000 more steps" in Path(row["artifacts"]["onnx"]).read_text()
    assert not list(world.work.rglob("steps")), "what only a resume needs is gone"


def test_its_files_have_a_folder_of_their_own_beside_those_of_the_trial(world: World) -> None:
    world.refine(trials=(0,), steps=50, seeds=2)
    for row in world.rows():
        assert Path(row.artifacts["onnx"].url) == world.models / row.folder / "model.onnx"
    assert [row.folder for row in world.rows()] == ["00000/refined-50-0", "00000/refined-50-1"]


def test_the_json_has_exactly_these_keys(world: World) -> None:
    end = world.refine(top=1)
    assert list(end.summary) == ["study", "refinements"]
    [row] = end.summary["refinements"]
    words = "number seed steps state values tests search_values artifacts seconds reason"
    assert list(row) == words.split()
    assert json.loads(json.dumps(row)) == row


def test_top_takes_the_best_in_the_first_objective(world: World) -> None:
    assert len(world.front()) > 1, "or there would be nothing to choose from"
    assert steps_of(world.refine(top=1)) == [(world.front()[0], 0)]


def test_trials_can_be_named_and_length_and_seeds_chosen(world: World) -> None:
    outside = [number for number in world.with_checkpoint() if number not in world.front()]
    end = world.refine(trials=(0, *outside[:1]), steps=77, seeds=3)
    assert steps_of(end) == [(number, seed) for number in (0, *outside[:1]) for seed in range(3)]
    assert {row["steps"] for row in end.summary["refinements"]} == {77}


def test_minutes_are_shared_by_all_refinements_at_the_pace_that_was_measured(world: World) -> None:
    two = tuple(world.with_checkpoint()[:2])
    end = world.refine(trials=two, seeds=2, minutes=10, pace=4.0)
    assert {row["steps"] for row in end.summary["refinements"]} == {10 * 60 * 4 // 4}


def test_what_was_begun_for_some_minutes_goes_on_with_its_steps_whatever_the_pace_is_now(
    world: World,
) -> None:
    def stop(job: Job, step: int) -> None:
        if step == 2:
            os.kill(os.getpid(), signal.SIGINT)

    first = world.refine(Trainer(between=stop), trials=(0,), minutes=1, pace=10.0)
    assert isinstance(first.error, StopRequestedError)
    trainer = Trainer()
    end = world.refine(trainer, trials=(0,), minutes=1, pace=3.0)
    [row] = end.summary["refinements"]
    assert (row["steps"], row["state"]) == (600, "complete")
    assert trainer.trained[0] == (0, 3), "it goes on behind the second step"


def test_the_first_seed_of_all_comes_before_the_second_of_any(world: World) -> None:
    trainer = Trainer(steps=1)
    world.refine(trainer, trials=tuple(world.with_checkpoint()[:2]), seeds=2)
    assert [seed for seed, _ in trainer.trained] == [0, 0, 1, 1]


# ---- what cannot be made ----


def test_a_trial_without_a_checkpoint_is_refused_with_what_to_do_instead(world: World) -> None:
    [failed, *_] = [trial for trial in world.trials() if trial.state == "failed"]
    with pytest.raises(UseError, match=rf"Trial {failed.number} of 'world' is failed .*too narrow"):
        world.refine(trials=(failed.number,))
    world.store.forget_artifacts(
        world.study, [trial.id for trial in world.trials() if trial.number == 0]
    )
    with pytest.raises(UseError, match="Trial 0 of 'world' has no checkpoint any more"):
        world.refine(trials=(0,))
    with pytest.raises(StoreError, match="no trial 99"):
        world.refine(trials=(99,))
    assert world.rows() == []


def test_a_study_without_a_front_is_refused(tmp_path: Path) -> None:
    options = Options(store=f"sqlite:///{tmp_path}/store.db", artifacts=str(tmp_path / "artifacts"))

    def fail(*_: Any) -> Outcome:
        raise ValueError("no luck")

    search(load(trials=1), registry(), options, run=fail)
    with pytest.raises(UseError, match="no front"):
        refine("world", registry(), options, Request(), run=Trainer())


def test_a_mistyped_store_makes_no_new_one(tmp_path: Path) -> None:
    with pytest.raises(StoreError):
        refine(
            "world",
            registry(),
            Options(store=f"sqlite:///{tmp_path}/typo.db"),
            Request(),
            run=Trainer(),
        )
    assert not (tmp_path / "typo.db").exists()


def test_a_member_of_the_front_whose_file_is_gone_fails_and_the_others_go_on(world: World) -> None:
    first, *others = sorted(world.front())
    Path(world.store.trial(world.study, first).artifacts["checkpoint"].url).unlink()
    end = world.refine()
    states = {row["number"]: row["state"] for row in end.summary["refinements"]}
    assert states == {first: "failed", **dict.fromkeys(others, "complete")}
    assert "is gone" in end.summary["refinements"][0]["reason"]
    assert end.error is None


def failing(job: Job, step: int) -> None:
    if job.seed == 1:
        raise RuntimeError("out of memory")


def test_a_member_of_the_front_that_has_no_checkpoint_says_why(world: World) -> None:
    import_trial(world, sorted(world.front())[0])
    end = world.refine()
    reason = end.summary["refinements"][0]["reason"]
    assert (
        reason
        == "The trial was imported from trial 7 of 'older' and has no checkpoint here. Refine it"
        " there."
    )
    assert {row["state"] for row in end.summary["refinements"][1:]} == {"complete"}


def import_trial(world: World, number: int) -> None:
    """Make a trial one of another study, whose files stayed there."""
    with world.store.writing() as session:
        row = session.get(models.Trial, world.store.trial(world.study, number).id)
        assert row is not None
        row.origin = {"study": "older", "number": 7}
        session.execute(delete(models.Artifact).where(models.Artifact.trial_id == row.id))


def test_a_failure_is_recorded_with_its_traceback_and_tried_again_next_time(world: World) -> None:
    end = world.refine(Trainer(between=failing), trials=(0,), seeds=3)
    assert [row["state"] for row in end.summary["refinements"]] == [
        "complete",
        "failed",
        "complete",
    ]
    assert end.summary["refinements"][1]["reason"] == "RuntimeError: out of memory"
    [event] = [
        event for event in world.store.events(world.study, 0) if event.kind == "refinement failed"
    ]
    assert "4000 steps, seed 1" in event.text
    assert "in failing" in event.text
    trainer = Trainer()
    again = world.refine(trainer, trials=(0,), seeds=3)
    assert [row["state"] for row in again.summary["refinements"]] == ["complete"] * 3
    assert {seed for seed, _ in trainer.trained} == {1}
    assert again.summary["refinements"][1]["reason"] == "test set Set14: not there"


class OwnError(BaseException):
    """What no `except Exception` catches."""


def leave() -> None:
    os._exit(0)


def raising(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


@pytest.mark.parametrize(
    ("act", "reason"),
    [
        (leave, "SystemExit: 0"),
        (raising(SystemExit(0)), "SystemExit: 0"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising(OwnError("mine")), "OwnError: mine"),
        (raising(StopRequestedError("I stop.")), "I stop."),
        (raising(StoreError("No store.")), "No store."),
    ],
)
def test_whatever_a_technique_raises_fails_its_refinement_alone(
    world: World, act: Callable[[], None], reason: str
) -> None:
    def unruly(job: Job, step: int) -> None:
        os.chdir("/")
        if job.seed == 0:
            act()

    here, callback = Path.cwd(), Started()
    end = world.refine(Trainer(between=unruly), callback, trials=(0,), seeds=2)
    assert end.error is None
    rows = end.summary["refinements"]
    assert (rows[0]["state"], rows[0]["reason"]) == ("failed", reason)
    assert rows[1]["state"] == "complete"
    assert Path.cwd() == here
    assert (
        callback.notes[0]
        == "trial 0, seed 0 changed the working directory for all: it was put back"
    )


def test_where_all_fail_the_command_fails(world: World) -> None:
    end = world.refine(
        Trainer(between=lambda job, step: failing(Job(0, 1, Path()), step)), trials=(0,)
    )
    assert isinstance(end.error, AutomlSRError)
    assert "out of memory" in str(end.error)


def test_a_value_that_is_no_number_is_a_failure(world: World) -> None:
    def run(*given: Any) -> Refined:
        return replace(Trainer()(*given), values={"score": float("nan")})

    [row] = world.refine(run, trials=(0,)).summary["refinements"]
    assert (row["state"], row["reason"]) == ("failed", "score was measured as nan.")


# ---- once, and only once ----


def test_what_is_done_is_not_done_again(world: World) -> None:
    first = world.refine(trials=(0,))
    trainer = Trainer()
    assert world.refine(trainer, trials=(0,)).summary == first.summary
    assert trainer.trained == []
    world.refine(trainer, trials=(0,), seeds=2)
    assert {seed for seed, _ in trainer.trained} == {1}


def ctrl_c_at(step: int) -> Callable[[Job, int], None]:
    def between(_: Job, now: int) -> None:
        if now == step:
            os.kill(os.getpid(), signal.SIGINT)

    return between


def test_ctrl_c_keeps_the_work_and_the_same_command_goes_on(world: World) -> None:
    trainer = Trainer(steps=5, between=ctrl_c_at(2))
    end = world.refine(trainer, trials=(0,), seeds=2)
    assert isinstance(end.error, StopRequestedError)
    assert [row["state"] for row in end.summary["refinements"]] == ["running", "waiting"]
    assert trainer.trained == [(0, 1), (0, 2)]
    again = Trainer(steps=5)
    end = world.refine(again, trials=(0,), seeds=2)
    assert end.error is None
    assert again.trained == [(0, 3), (0, 4), (0, 5), *[(1, step) for step in range(1, 6)]]
    assert [row["state"] for row in end.summary["refinements"]] == ["complete"] * 2
    assert not list(world.work.rglob("steps"))


def test_what_a_killed_process_left_is_taken_over(world: World) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    record = world.store.trial(world.study, 0)
    ids = stored.request(world.store, world.study, {record.id: 4000}, [0])
    dead = stored.claim(world.store, world.study, f"{node()}:{process.pid}:gone", ids)
    assert dead is not None
    kept = world.work / "4000-0" / "00000" / "attempt-1" / "trunk"
    kept.mkdir(parents=True)
    (kept / "steps").write_text("2")
    trainer, callback = Trainer(), Started()
    end = world.refine(trainer, callback, trials=(0,))
    assert end.error is None
    assert trainer.trained == [(0, 3)]
    assert [claim.taken_over for claim in callback.claims] == [True]
    [row] = world.rows()
    assert row.fence == 2
    assert Path(row.artifacts["onnx"].url).parent.name == "attempt-2", (
        "the dead owner's files are not overwritten"
    )


def test_one_that_killed_its_process_comes_after_the_others(world: World) -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    record = world.store.trial(world.study, 0)
    ids = stored.request(world.store, world.study, {record.id: 4000}, [0, 1, 2])
    assert stored.claim(world.store, world.study, f"{node()}:{process.pid}:gone", ids) is not None
    trainer = Trainer(steps=1)
    world.refine(trainer, trials=(0,), seeds=3)
    assert [seed for seed, _ in trainer.trained] == [1, 2, 0]


def test_files_may_lie_in_a_remote_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    place = f"memory://{tmp_path.name}"
    options = Options(store=f"sqlite:///{tmp_path}/store.db", artifacts=place)
    search(load(trials=1), registry(), options, run=run_with_checkpoint)
    end = refine("world", registry(), Options(store=options.store), Request(), run=Trainer())
    [row] = end.summary["refinements"]
    assert row["state"] == "complete", row["reason"]
    assert row["artifacts"]["onnx"].startswith(place)
    assert row["artifacts"]["onnx"].endswith("/00000/refined-4000-0/model.onnx")


class Started(RefineCallback):
    def __init__(self) -> None:
        self.claims: list[RefinementClaim] = []
        self.notes: list[str] = []

    def started(self, claim: RefinementClaim) -> None:
        self.claims.append(claim)

    def note(self, text: str) -> None:
        self.notes.append(text)


def test_who_has_lost_the_lease_writes_nothing(world: World) -> None:
    def stolen(job: Job, step: int) -> None:
        if step == 1:
            [row] = world.rows()
            other = Store.open(world.options.store)
            with other.writing() as session:
                session.execute(update(models.Refinement).values(lease_until=0.0, lease_uptime=0.0))
            thief = stored.claim(other, world.study, "elsewhere:1:thief", [row.id])
            assert thief is not None
            stored.finish(other, thief, RefinementResult("complete", {"score": 99.0}), 1.0)

    callback = Started()
    end = world.refine(Trainer(between=stolen), callback, trials=(0,))
    assert end.error is None
    assert end.summary["refinements"][0]["values"] == {"score": 99.0}
    assert any(
        "has taken the refinement of trial 0, seed 0 over" in text for text in callback.notes
    )


@pytest.mark.ci
def test_two_commands_at_once_share_the_work(store_url: str, tmp_path: Path) -> None:
    make(options_in(tmp_path, store_url), trials=3)
    world = World(tmp_path, store_url)
    both_work = threading.Barrier(2, timeout=60)

    def meet(job: Job, step: int) -> None:
        if step == 1 and job.seed < 2:
            both_work.wait()  # each has one of the first two, so neither did all of the work

    trainers = [Trainer(between=meet), Trainer(between=meet)]
    ends: list[RefineEnd] = []
    threads = [
        threading.Thread(
            target=lambda run=trainer: ends.append(world.refine(run, trials=(0,), seeds=5))
        )
        for trainer in trainers
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seeds = [seed for trainer in trainers for seed, step in trainer.trained if step == 1]
    assert sorted(seeds) == [0, 1, 2, 3, 4], "each was made once"
    assert [row["state"] for end in ends for row in end.summary["refinements"]] == ["complete"] * 10
    assert ends[0].summary == ends[1].summary, (
        "both wait for what the other makes, and show all of it"
    )


# ---- test sets ----


def test_a_task_that_has_no_images_has_no_test_sets_to_read() -> None:
    with pytest.raises(DataError, match="no test sets"):
        load().spec.task.load_test("Set5")


STUDY = """
name: real
task: {{kind: image-sr, scale: 2, train: {folder}/train, valid: {folder}/valid, test: [{folder}/test, Nowhere]}}
objectives: [psnr_y, params]
budget: {{trials: 1, steps: 60}}
search: {{sampler: random, scheduler: none, threads: 1}}
space:
  selection: {{random: {{keep: 0.5}}}}
  architecture: {{fsrcnn: {{d: 16, s: 8, m: 1}}}}
  recipe: {{batch: 8, patch: 16, precision: fp32}}
"""
LENGTH = 150


class CtrlCAt(RefineCallback):
    """Sends Ctrl-C at the first report at or after a step; 0 never does."""

    def __init__(self, step: int) -> None:
        self.step = step
        self.said: list[str] = []

    def note(self, text: str) -> None:
        self.said.append(text)

    def point(self, claim: RefinementClaim, point: Point) -> None:
        if self.step and point.step >= self.step:
            self.step = 0
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.timeout(300)
def test_a_real_refinement_is_better_tested_as_exported_and_the_same_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = parse_study(
        STUDY.format(folder=write_photographs(tmp_path)), "study.yaml", installed()
    )
    options = Options(
        store=f"sqlite:///{tmp_path}/store.db", artifacts=str(tmp_path / "artifacts"), device="cpu"
    )
    assert search(loaded, installed(), options).error is None

    trained_on: list[str] = []
    go_on = Run.go_on
    monkeypatch.setattr(
        Run,
        "go_on",
        lambda setup, base: (trained_on.append(setup.data.fingerprint), go_on(setup, base))[1],
    )

    def refined(seed_count: int, stop_at: int) -> RefineEnd:
        asked = Request(steps=LENGTH, seeds=seed_count)
        callback = CtrlCAt(stop_at)
        end = refine("real", installed(), options, asked, callback=callback)
        assert "warning: test set Nowhere will be left out" in callback.said[0], (
            "before the long training"
        )
        return end

    whole = refined(1, 0)
    assert whole.error is None
    assert trained_on == [loaded.spec.task.load(0).train.fingerprint], (
        "all samples, not the selected half"
    )
    reader = Reader.open(options.store)
    study = reader.study("real")
    [first] = stored.refinements(reader, study)
    [row] = whole.summary["refinements"]
    assert row["values"]["psnr_y"] > row["search_values"]["psnr_y"]
    assert row["values"]["params"] == row["search_values"]["params"]
    assert "Nowhere" in row["reason"]

    model = OnnxImageModel(Path(row["artifacts"]["onnx"]))
    measured = evaluate_pairs(model, loaded.spec.task.load_test(f"{tmp_path}/test"), 2)
    assert row["tests"] == {
        f"{tmp_path}/test": {name: measured[name] for name in ("psnr_y", "ssim_y", "psnr_rgb")}
    }

    forget(options, first)
    for stop_at in (LENGTH // 3, LENGTH - 5):  # on the trunk, and in the cool-down
        assert isinstance(refined(1, stop_at).error, StopRequestedError)
    again = refined(2, 0)
    assert again.error is None
    same, other = stored.refinements(reader, study)
    assert (same.values, same.tests) == (first.values, first.tests)
    assert {kind: file.sha256 for kind, file in same.artifacts.items()} == {
        kind: file.sha256 for kind, file in first.artifacts.items()
    }
    assert other.values["psnr_y"] != same.values["psnr_y"], "the other seed saw other batches"
    assert (
        hashlib.sha256(Path(same.artifacts["onnx"].url).read_bytes()).hexdigest()
        == same.artifacts["onnx"].sha256
    )
    assert Refinement.of(other, reader.trial(study, 0)).search_values == row["search_values"]

    monkeypatch.setattr(pace, "SECONDS", 0.1)
    timed = refine("real", installed(), options, Request(minutes=0.02))
    assert timed.error is None
    [short] = timed.summary["refinements"]
    # 1.2 seconds: a step takes more than 0.1 ms and less than 100 ms wherever this runs.
    assert 12 < short["steps"] < 12_000


def forget(options: Options, row: RefinementRecord) -> None:
    """Remove a refinement, as if it had never been made."""
    store = Store.open(options.store)
    with store.writing() as session:
        session.execute(delete(models.Refinement).where(models.Refinement.id == row.id))
    store.close()


# ---- what `gc` keeps ----


def clean(world: World) -> None:
    remove(world.store, find_leftovers(world.store, world.store.study("world"), METRICS))


def test_gc_keeps_the_files_of_refinements_also_of_trials_outside_the_front(world: World) -> None:
    outside = drop_from_front(world, sorted(world.front())[0])
    end = world.refine(trials=(outside,))
    clean(world)
    assert world.store.trial(world.study, outside).artifacts == {}
    assert Path(end.summary["refinements"][0]["artifacts"]["onnx"]).is_file()


def test_gc_keeps_what_a_stopped_refinement_needs_until_it_has_ended(world: World) -> None:
    outside = drop_from_front(world, sorted(world.front())[0])
    world.refine(Trainer(between=ctrl_c_at(2)), trials=(outside,))
    clean(world)
    trainer = Trainer()
    assert world.refine(trainer, trials=(outside,)).error is None
    assert trainer.trained == [(0, 3)]


def test_gc_removes_what_no_refinement_needs(world: World) -> None:
    world.refine(trials=(0,))
    [row] = world.rows()
    unnamed = world.models / row.folder / "attempt-7" / "model.onnx"
    left = world.work.parent / row.work / "attempt-7" / "steps"
    for path in (unnamed, left):
        path.parent.mkdir(parents=True)
        path.write_text("of an owner that lost its lease")
    clean(world)
    assert not unnamed.exists()
    assert not left.exists()


def drop_from_front(world: World, number: int) -> int:
    """Make a trial's value so bad that others dominate it."""
    with world.store.writing() as session:
        row = session.get(models.Trial, world.store.trial(world.study, number).id)
        assert row is not None
        row.values = {"score": -1.0, "params": 1e9}
    assert number not in world.front()
    return number
