"""A small world to search in: a task without images, a net that is never trained, and trials that
take no time.

Run as a program it is a search in a process of its own: `python search_world.py STORE ARTIFACTS
STUDY.yaml [--slow]`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import nn

from automl_sr.errors import StopRequestedError
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.metric import Metric
from automl_sr.plugin.registry import Registry, discover
from automl_sr.plugin.task import Task, TaskData
from automl_sr.plugin.technique import Float, Int, Slot, Technique
from automl_sr.search.engine import Options, SearchEnd, search
from automl_sr.search.workers.callbacks import SearchCallback
from automl_sr.study.spec import LoadedStudy, parse_study
from automl_sr.training.recipe import Recipe
from automl_sr.trial.types import Outcome, Point

STUDY = """
name: {name}
task: {{kind: fake}}
objectives: [{objectives}]
budget: {{trials: {trials}, steps: 1000}}
search: {{sampler: {sampler}, scheduler: {scheduler}, seed: {seed}}}
space:
  architecture: {{line: {{}}}}
  recipe: {{lr: [0.001, 0.1]}}
"""


def score(prediction: Any, truth: Any, scale: int) -> float:
    """Stand in for a quality metric; trials here make their values up."""
    return 0.0


class Samples:
    """Training samples without content."""

    fingerprint = "nothing"

    def __len__(self) -> int:
        return 0

    def subset(self, indices: Any) -> Samples:
        return self

    def to(self, device: Any) -> Samples:
        return self


class FakeTask(Task):
    """A task whose data is nothing."""

    kind: ClassVar[str] = "fake"
    metrics: ClassVar = (Metric("score", "maximize", "quality", score),)

    def load(self, seed: int, shared: Any = None) -> TaskData:
        return TaskData(Samples(), None, ("nothing was loaded",))

    def dims(self) -> dict[str, int]:
        return {}

    def cost_example(self, model: nn.Module) -> torch.Tensor:
        return torch.empty(1, 1, 8, 8, device="meta")

    def training_example(self, model: nn.Module, *, batch: int, patch: int) -> torch.Tensor:
        return torch.empty(batch, 1, patch, patch, device="meta")

    def reference(self, data: TaskData, metrics: Any) -> dict[str, float]:
        return {metric.name: 1.5 for metric in metrics}


class Line(Technique):
    """Convolutions in a line."""

    slot = Slot.ARCHITECTURE
    name = "line"
    baseline = True
    tasks = frozenset({"fake"})
    factories: ClassVar = {"line": "search_world:line"}
    width: Annotated[int, Int(1, 64), Field(ge=1, le=4096)] = 16
    gain: Annotated[float, Float(0.0, 1.0)] = 0.5

    def blueprint(self, task: Task, ctx: Any) -> Blueprint:
        return Blueprint("line", {"width": self.width})


def line(width: int) -> nn.Module:
    """Give 20 weights for each channel."""
    return nn.Sequential(nn.Conv2d(1, width, 3), nn.Conv2d(width, 1, 3, padding=1))


class _Plugin:
    __name__ = "world"

    @hookimpl
    def register_techniques(self) -> list[Any]:
        return [Line, Recipe]

    @hookimpl
    def register_tasks(self) -> list[Any]:
        return [FakeTask]


def registry() -> Registry:
    """Give what is installed in this world."""
    return discover(entry_points=(), plugins=[_Plugin()])


def study_text(
    name: str = "world",
    *,
    objectives: str = "score, params",
    trials: int = 6,
    sampler: str = "random",
    scheduler: str = "none",
    seed: int = 0,
    more: str = "",
) -> str:
    """Write a study file."""
    text = STUDY.format(
        name=name,
        objectives=objectives,
        trials=trials,
        sampler=sampler,
        scheduler=scheduler,
        seed=seed,
    )
    return text + more


def load(text: str | None = None, **fields: Any) -> LoadedStudy:
    """Read a study of this world."""
    return parse_study(study_text(**fields) if text is None else text, "study.yaml", registry())


def made_up(plan: Any) -> dict[str, float]:
    """Give the values that a plan would have: wide nets are good, and there is a best learning
    rate.
    """
    width, gain = plan.params["architecture.line.width"], plan.params["architecture.line.gain"]
    lr = plan.params["recipe.lr"]
    return {
        "score": 30 + width / 32 - 50 * (lr - 0.02) ** 2 - (gain - 0.3) ** 2,
        "params": 19.0 * width + 1,
    }


def run_fast(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    """Give made-up values at once, with one point and one file."""
    values = {name: value for name, value in made_up(plan).items() if name in setting.metrics}
    observer.stage("train")
    observer.point(Point(1, setting.steps, "train", 0.5, 1e-3, 100.0))
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "model.onnx"
    file.write_text(plan.fingerprint)
    return Outcome("complete", values, {"onnx": file}, {"train": 0.1})


@dataclass(frozen=True)
class Slowly:
    """A trial that counts steps in a file, a checkpoint after each, until something asks it to
    stop.

    `wait` is called between two steps: a process test blocks there, so that nothing depends on
    time.
    """

    steps: int
    wait: Callable[[int, int], None]

    def __call__(self, plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
        folder.mkdir(parents=True, exist_ok=True)
        counter = folder / "steps"
        done = int(counter.read_text()) if counter.exists() else 0
        observer.stage("train")
        for step in range(done + 1, self.steps + 1):
            self.wait(step, done)
            counter.write_text(str(step))
            observer.point(Point(step, self.steps, "train", 1 / step, 1e-3, 100.0))
            if observer.stop_requested():
                raise StopRequestedError(f"Stopped at step {step}.")
        outcome = run_fast(plan, setting, observer, folder)
        return Outcome(
            "complete", {**outcome.values}, outcome.artifacts, {"train": float(self.steps - done)}
        )


def find(loaded: LoadedStudy, folder: Path, run: Any = run_fast, **options: Any) -> SearchEnd:
    """Search in a folder of a test."""
    where = Options(
        store=f"sqlite:///{folder}/store.db", artifacts=str(folder / "artifacts"), **options
    )
    return search(loaded, registry(), where, run=run)


def _announce(step: int, done: int) -> None:
    """Tell the parent process about a step, and go on when it says so."""
    print(f"step {step} after {done}", flush=True)
    sys.stdin.readline()


class _Saying(SearchCallback):
    def note(self, text: str) -> None:
        print(text, flush=True)


def main(arguments: list[str] | None = None) -> int:
    """Search in a process of its own; each step of a trial waits for a line on standard input with
    `--slow`.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("artifacts")
    parser.add_argument("study", type=Path)
    parser.add_argument("--slow", type=int, default=0)
    asked = parser.parse_args(arguments)
    loaded = parse_study(asked.study.read_text(), str(asked.study), registry())
    run = Slowly(asked.slow, _announce) if asked.slow else run_fast
    options = Options(store=asked.store, artifacts=asked.artifacts)
    end = search(loaded, registry(), options, run=run, callback=_Saying())
    print(end.error or end.note or "done", flush=True)
    return end.error.exit_code if end.error else 0


if __name__ == "__main__":
    sys.modules["search_world"] = sys.modules["__main__"]
    raise SystemExit(main())
