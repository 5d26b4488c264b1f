"""Studies to report on: made up in no time, with everything that a study can hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from search_world import find, load, registry, run_fast

from automl_sr.report.collect import collect
from automl_sr.store.reading import Reader
from automl_sr.trial.types import Outcome, Point

SCRIPT = "<script>alert('x')</script>"
STEPS = 1000


def run(plan: Any, setting: Any, observer: Any, folder: Path) -> Outcome:
    """Fail where the learning rate is high, else be judged at two rungs, with a point of the curve
    before each.
    """
    if plan.params["recipe.lr"] > 0.08:
        raise ValueError(f"{SCRIPT} | diverged at step {round(1e4 * plan.params['recipe.lr'])}")
    end = run_fast(plan, setting, observer, folder)
    for index, step in enumerate((100, 300)):
        observer.point(Point(step, STEPS, "train", 1 / step, 1e-3, 50.0))
        early = {**end.values, "score": end.values["score"] - 1 / (index + 1)}
        if not observer.rung(index, step, early, end.artifacts):
            return Outcome("pruned", early, end.artifacts, {"train": 0.2, "branch": 0.1})
    return Outcome("complete", end.values, end.artifacts, {"train": 1.0, "branch": 0.1})


def made(folder: Path, *, trials: int = 40, **fields: Any) -> Path:
    """Make a study `world` in the folder: stopped, failed, infeasible and complete trials, and
    markup in its texts.
    """
    fields = {"scheduler": "{kind: pareto-asha, rungs: 3, reduction: 2}", "more": "", **fields}
    more = (
        f"constraints: {{params: {{max: 1100}}}}\n# {SCRIPT} `code` |"
        f" </title>\n{fields.pop('more')}"
    )
    find(load(trials=trials, more=more, **fields), folder, run)
    return folder


def collected(folder: Path, name: str = "world", **options: Any) -> dict[str, Any]:
    """Collect what the store in a folder knows."""
    opened = Reader.open(f"sqlite:///{folder}/store.db")
    try:
        return collect(opened, name, registry(), **options)
    finally:
        opened.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the study `world`: 40 trials, of which some were stopped, failed or were
    rejected.
    """
    return made(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="session")
def report(folder: Path) -> dict[str, Any]:
    """What is collected of it."""
    return collected(folder)
