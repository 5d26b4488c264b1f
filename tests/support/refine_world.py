"""A searched study whose front is refined by a trainer that notes what it was asked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from search_world import load, registry, run_fast

from automl_sr.errors import StopRequestedError
from automl_sr.search.engine import Options, search
from automl_sr.search.refine.choice import Request
from automl_sr.search.refine.refiner import RefineEnd, refine
from automl_sr.search.refine.run import Job, Refined
from automl_sr.search.results import front_of
from automl_sr.store import refinements as stored
from automl_sr.store.records import TrialRecord
from automl_sr.store.refinements import RefinementRecord
from automl_sr.store.repository import Store
from automl_sr.trial.types import Outcome, Point


class Trainer:
    """Stands in for training: counts steps in a file, and makes values up; `between` is called
    after each step.
    """

    def __init__(
        self, steps: int = 3, between: Callable[[Job, int], None] = lambda job, step: None
    ) -> None:
        self.steps = steps
        self.between = between
        self.trained: list[tuple[int, int]] = []
        """Seed and step, in the order in which they were trained."""

    def __call__(self, plan: Any, setting: Any, job: Job, observer: Any, folder: Path) -> Refined:
        assert (
            job.base / "step-000000900.safetensors"
        ).read_text() == f"step-000000900.safetensors of {plan.fingerprint}"
        assert (job.base / "constant-start.safetensors").is_file()
        counter = folder / "trunk" / "steps"
        counter.parent.mkdir(parents=True, exist_ok=True)
        observer.stage("train")
        done = int(counter.read_text()) if counter.exists() else 0
        for step in range(done + 1, self.steps + 1):
            self.trained.append((job.seed, step))
            counter.write_text(str(step))
            observer.point(Point(step, job.steps, "train", 1 / step, 1e-3, 100.0))
            self.between(job, step)
            if observer.stop_requested():
                raise StopRequestedError(f"Stopped at step {step}.")
        file = folder / "rung-0" / "model.onnx"
        file.parent.mkdir()
        file.write_text(f"{plan.fingerprint}, {job.steps} more steps, seed {job.seed}")
        values = {
            "score": 40.0 + job.seed,
            "params": 19.0 * plan.params["architecture.line.width"] + 1,
        }
        return Refined(
            values,
            {"Set5": {"score": 30.0 + job.seed}},
            {"onnx": file},
            ("test set Set14: not there",),
        )


def options_in(folder: Path, url: str | None = None) -> Options:
    return Options(store=url or f"sqlite:///{folder}/store.db", artifacts=str(folder / "artifacts"))


def make(options: Options, trials: int = 6) -> None:
    """Search what is to be refined."""
    search(load(trials=trials), registry(), options, run=run_with_checkpoint)


class World:
    """A study that was searched, to be refined in."""

    def __init__(self, folder: Path, url: str | None = None) -> None:
        self.options = options_in(folder, url)
        self.store = Store.open(self.options.store)
        self.study = self.store.study("world")
        self.work = folder / "artifacts" / "work" / self.study.folder / "refined"
        self.models = folder / "artifacts" / self.study.folder

    def refine(
        self, run: Any = None, callback: Any = None, pace: float = 10.0, **asked: Any
    ) -> RefineEnd:
        options = Options(store=self.options.store)
        return refine(
            "world",
            registry(),
            options,
            Request(**asked),
            run=run or Trainer(),
            measure_pace=lambda *_: pace,
            callback=callback,
        )

    def trials(self) -> list[TrialRecord]:
        return self.store.trials(self.study)

    def front(self) -> list[int]:
        return [trial.number for trial in front_of(self.study, self.trials(), METRICS)]

    def rows(self) -> list[RefinementRecord]:
        return stored.refinements(self.store, self.study)

    def with_checkpoint(self) -> list[int]:
        return [trial.number for trial in self.trials() if "checkpoint" in trial.artifacts]


METRICS = registry().metrics


def run_with_checkpoint(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    """Leave a model, a checkpoint and a constant; fail where the net would be narrow."""
    if plan.params["architecture.line.width"] < 15:
        raise ValueError("too narrow")
    outcome = run_fast(plan, setting, observer, folder)
    files = {
        "checkpoint": "step-000000900.safetensors",
        "checkpoint-constant-start": "constant-start.safetensors",
    }
    for name in files.values():
        (folder / name).write_text(f"{name} of {plan.fingerprint}")
    return replace(
        outcome,
        artifacts={**outcome.artifacts, **{kind: folder / name for kind, name in files.items()}},
    )
