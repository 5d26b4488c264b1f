"""What a trial is given and what comes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import Task, TaskData


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
    cache: Path | None
    """Folder of results shared between trials and workers.

    None lets every trial make all of them in its own folder.
    """
    threads: int | None = None
    first_rung: int | None = None
    """No rung lies before this step; None leaves that to the timetable."""
    precision: str = "auto"
    """The number format that a recipe's `auto` means in this study; auto: what suits the device."""
    fits: Callable[[Blueprint], None] | None = None
    """Asked whenever training has changed a model.

    Raises InfeasibleError where it can no longer keep to limits.
    """


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


@dataclass(frozen=True)
class Outcome:
    """What came of a trial: values by metric, files by kind, seconds by stage."""

    state: Literal["complete", "pruned"]
    values: dict[str, float]
    artifacts: dict[str, Path]
    seconds: dict[str, float]
    notes: tuple[str, ...] = ()
    shared: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Results that trials share, by name.

    Each is {"seconds": what making it took, "reused": whether another trial did}; `waited` is there
    where the trial waited for another worker to make it: so much less was saved.
    """
