"""One trial, from plan to measured artefact, in the order in which it happens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from automl_sr.plugins import Registry
    from automl_sr.space import TrialPlan
    from automl_sr.task import Task, TaskData


@dataclass(frozen=True)
class DeviceSpec:
    """Where shipped models are measured: provider, threads and input size (height, width)."""

    provider: str = "cpu"
    threads: int = 1
    input: tuple[int, int] = (360, 640)


@dataclass(frozen=True)
class Setting:
    """What all trials of a study share; made once per worker."""

    registry: Registry
    task: Task
    data: TaskData
    metrics: tuple[str, ...]
    """Objectives and constrained metrics: what is measured on every exported model."""
    objectives: tuple[str, ...]
    steps: int
    rungs: int
    reduction: int
    seed: int
    train_device: str
    device: DeviceSpec
    cache: Path
    """Folder of results shared between trials and workers."""
    threads: int | None = None


@dataclass(frozen=True)
class Point:
    """One point of a learning curve."""

    step: int
    steps: int
    phase: str
    loss: float
    rate: float
    images_per_second: float
    values: Mapping[str, float] = field(default_factory=dict)


class Journal(Protocol):
    """Where a trial reports; the store's implementation is the only one that search uses."""

    def stage(self, name: str) -> None:
        """A stage begins: select, train, fork, compress, export, evaluate."""

    def point(self, point: Point) -> None:
        """Add a point to the learning curve. May raise Interrupted, between two steps, after a checkpoint is asked for."""

    def stop_requested(self) -> bool:
        """Say whether the trial should checkpoint and raise Interrupted as soon as possible."""

    def rung(self, index: int, step: int, values: Mapping[str, float], artifacts: Mapping[str, Path]) -> bool:
        """Record the values of a finished fork; True if the trial may go on."""


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: values by metric, files by kind, seconds by stage."""

    state: Literal["complete", "pruned"]
    values: dict[str, float]
    artifacts: dict[str, Path]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()


def run_trial(plan: TrialPlan, setting: Setting, journal: Journal, folder: Path) -> Outcome:
    """Train, compress, export and measure one plan; everything that a resume needs is kept in `folder`."""
    raise NotImplementedError(Any)
