"""Toy techniques in combinations, trained for a few steps and stopped on the way."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import replace
from pathlib import Path

import pytest
import toy_techniques as toys
import training_toys as more

from automl_sr.plugin.registry import Registry, Source, discover
from automl_sr.plugin.technique import Technique
from automl_sr.testing.tiny import DEVICE
from automl_sr.training.phases import Phase, Timetable
from automl_sr.training.randomness import repeat_kernels
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run, Setup
from automl_sr.training.score import Scorer, asked, hold_out
from automl_sr.trial.cache import Cache
from automl_sr.trial.context import Context

STEPS = 60
COMBINATIONS: dict[str, list[Technique]] = {
    "plain": [toys.Mlp()],
    "pruning rounds with rewinding": [toys.Mlp(), toys.RewindPruning()],
    "a larger model between phases": [toys.Growth(), toys.Mlp()],
    "a teacher's loss": [toys.Mlp(), toys.TeacherLoss()],
    "a genotype searched on a supernet": [toys.Genotype()],
    "learnt parameters that are not exported": [toys.Mlp(), toys.Projection()],
    "a tail phase on the branch": [toys.FineTail(), toys.Mlp()],
    "growth, teacher, pruning and projection": [
        toys.Growth(),
        toys.Mlp(),
        toys.TeacherLoss(),
        toys.RewindPruning(),
        toys.Projection(),
    ],
    "layers swapped for rounded ones": [toys.Mlp(), more.FakeQuant()],
    "the best round by its score": [toys.Mlp(), more.KeepBest()],
    "a set distilled with random nets": [more.Matching(), toys.Mlp()],
    "second-order steps": [toys.Mlp(), more.SecondOrder()],
    "a search on disjoint halves": [more.HalvedGenotype()],
    "gradients that are held back": [toys.Mlp(), more.SparseGradients()],
    "distilled, taught, kept, rounded and held back": [
        more.Matching(),
        toys.Mlp(),
        toys.TeacherLoss(),
        more.KeepBest(rounds=2),
        more.FakeQuant(),
        more.SparseGradients(),
    ],
    "genotype, teacher and pruning": [
        toys.Genotype(),
        toys.TeacherLoss(),
        toys.RewindPruning(rounds=2),
    ],
}

EVERYDAY = ("distilled, taught, kept, rounded and held back", "genotype, teacher and pruning")
MOSTLY_IN_CI = [
    pytest.param(name, marks=[] if name in EVERYDAY else pytest.mark.ci) for name in COMBINATIONS
]
"""Every day two that do nearly everything, the others in CI."""


class Stop:
    """Asks the run to stop at one step, as Ctrl-C would."""

    def __init__(self, after: int) -> None:
        self.left = after
        self.losses: list[float] = []

    def progress(self, run: Run, images_per_second: float) -> None:
        self.losses.append(float(run.last_loss))

    def saved(self) -> None:
        pass

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left == 0


@functools.cache
def registry() -> Registry:
    found = discover(entry_points=[])
    found.add_task(toys.DigitsTask)
    for cls in (*toys.ALL, *more.ALL):
        found.add_technique(cls, Source("toys", "toys", "1"))
    return found


def setup_of(
    techniques: list[Technique], folder: Path, recipe: Recipe | None = None, precision: str = "fp32"
) -> tuple[Setup, object]:
    recipe = recipe or Recipe(batch=8, patch=8, ema=0.9)
    task = toys.DigitsTask()
    full = task.load(0).train.to(DEVICE)
    scorer = None
    if asked(techniques):
        full, held = hold_out(full, 0)
        scorer = Scorer.of(task, task.metrics[0], held, DEVICE)
    repeat_kernels(DEVICE)
    cache = Cache(folder / "cache")
    context = Context(
        registry(), task, 7, DEVICE, folder, cache, full.fingerprint, precision=precision
    )
    data = full
    for technique in techniques:
        data = technique.select_data(data, context.for_technique(technique, data.fingerprint))
    context = replace(context, data_fingerprint=data.fingerprint)
    phases = [Phase("train", 1.0)]
    for technique in techniques:
        phases = technique.phases(phases, context)
    table = Timetable.of(phases, STEPS, recipe.cooldown)
    architecture = next(item for item in techniques if item.slot == "architecture")
    setup = Setup(
        context, task, data, recipe, tuple(techniques), table, 7, DEVICE, full, scorer=scorer
    )
    return setup, architecture.blueprint(task, context)


def fingerprint(run: Run) -> str:
    snapshot = run.capture()
    digest = hashlib.sha256()
    for name in sorted(snapshot.tensors):
        digest.update(name.encode() + snapshot.tensors[name].cpu().contiguous().numpy().tobytes())
    for name, value in sorted(run.evaluation_state().items()):
        digest.update(name.encode() + value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()
