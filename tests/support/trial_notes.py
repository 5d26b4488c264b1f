"""An observer of trials that remembers, and trials on the digits."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import toy_techniques as toys

from automl_sr.plugin.registry import Registry, Source, discover
from automl_sr.plugin.technique import Technique
from automl_sr.space.plan import TrialPlan
from automl_sr.training.recipe import Recipe
from automl_sr.trial.types import DeviceSpec, Point, Setting


class Notes:
    """A observer that remembers, and asks to stop after some number of steps."""

    def __init__(self, stop_after: int = -1, keep: bool = True) -> None:
        self.stages: list[str] = []
        self.points: list[Point] = []
        self.rungs: list[tuple[int, int, dict[str, float]]] = []
        self.left = stop_after
        self.keep = keep

    def stage(self, name: str) -> None:
        self.stages.append(name)

    def point(self, point: Point) -> None:
        self.points.append(point)

    def stop_requested(self) -> bool:
        self.left -= 1
        return self.left == 0

    def saved(self) -> None:
        pass

    def rung(
        self, index: int, step: int, values: Mapping[str, float], artifacts: Mapping[str, Path]
    ) -> bool:
        assert all(path.exists() for path in artifacts.values())
        self.rungs.append((index, step, dict(values)))
        return self.keep


def digits(
    tmp_path: Path, techniques: list[Technique], steps: int = 400, rungs: int = 1
) -> tuple[TrialPlan, Setting]:
    registry = discover(entry_points=[])
    registry.add_task(toys.DigitsTask)
    for cls in toys.ALL:
        registry.add_technique(cls, Source("toys", "toys", "1"))
    task = toys.DigitsTask()
    plan = TrialPlan.of(
        {item.slot: item for item in [*techniques, Recipe(batch=32, patch=8, lr=3e-3)]}, {}
    )
    return plan, setting(
        registry, task, tmp_path, ("accuracy", "params", "size_bytes"), steps, rungs
    )


def setting(
    registry: Registry, task: object, folder: Path, metrics: tuple[str, ...], steps: int, rungs: int
) -> Setting:
    return Setting(
        registry=registry,
        task=task,
        data=task.load(0),
        metrics=metrics,
        objectives=metrics[:1],
        steps=steps,
        rungs=rungs,
        reduction=3,
        seed=3,
        train_device="cpu",
        device=DeviceSpec(input=(40, 60)),
        cache=folder / "cache",
        threads=1,
        precision="fp32",  # on every processor
    )
