"""How a study and its trials went on: the front's volume over trials and over time, and learning
curves.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automl_sr.search.front import Box, dominates, hypervolume
from automl_sr.search.results import FINISHED, feasible
from automl_sr.store.records import COUNTED

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.records import PointRecord, StudyRecord, TrialRecord

CORNER = 1.1
"""The reference point lies a tenth of the range behind the worst: else the ends of a front would
count for nothing.
"""
MOST_OBJECTIVES = 4
"""With more, the exact volume takes too long."""
MOST_POINTS = 150
"""Points of a learning curve that are kept: more cannot be seen."""


def history(
    study: StudyRecord, trials: Sequence[TrialRecord], objectives: Sequence[Metric]
) -> dict[str, Any]:
    """Follow the best value of one objective, or the hypervolume of several, from trial to
    trial.
    """
    ended = sorted(
        (trial for trial in trials if trial.state in COUNTED and trial.finished is not None),
        key=lambda trial: (trial.finished or 0.0, trial.number),
    )
    fit = [trial for trial in ended if _counts(study, trial)]
    if not fit:
        kept = " that keeps to the constraints" * bool(study.spec["constraints"])
        return {"reason": f"No trial has left a model{kept}."}
    if len(objectives) == 1:
        measure: Any = _Best(objectives[0])
        about: dict[str, Any] = {"kind": "best", "metric": objectives[0].name}
    elif len(objectives) <= MOST_OBJECTIVES:
        values = [trial.values for trial in fit]
        ranges = {}
        for metric in objectives:
            ranges[metric] = [row[metric.name] for row in values]
        moving = tuple(metric for metric, row in ranges.items() if max(row) > min(row))
        box = Box(
            moving,
            ideal={m.name: m.best(ranges[m]) for m in moving},
            reference={m.name: m.worst(ranges[m]) for m in moving},
        )
        measure = _Volume(box)
        about = {
            "kind": "hypervolume",
            "metric": None,
            "ideal": dict(box.ideal),
            "worst": dict(box.reference),
        }
    else:
        return {"reason": f"The hypervolume of {len(objectives)} objectives is not computed."}
    points = []
    counting = {trial.number for trial in fit}
    for count, (trial, seconds) in enumerate(
        zip(ended, working_seconds(ended), strict=True), start=1
    ):
        if trial.number in counting:
            measure.add(trial)
        points.append(
            {
                "count": count,
                "number": trial.number,
                "seconds": round(seconds, 3),
                "value": measure.value,
            }
        )
    return {**about, "points": points}


def working_seconds(ended: Sequence[TrialRecord]) -> list[float]:
    """Return for each trial the time until its end in which any trial was running: pauses of the
    study do not count.
    """
    found = []
    total, covered = 0.0, -np.inf
    spans = sorted((_begin(trial), trial.finished or 0.0) for trial in ended)
    starts, ends, before = [], [], []
    for start, end in spans:  # merged into stretches without a pause, with what lies before each
        if start > covered:
            starts.append(start)
            before.append(total)
            ends.append(end)
        total += max(0.0, end - max(start, covered))
        covered = max(covered, end)
        ends[-1] = covered
    for trial in ended:
        stretch = int(np.searchsorted(starts, trial.finished or 0.0, side="right")) - 1
        found.append(before[stretch] + min(trial.finished or 0.0, ends[stretch]) - starts[stretch])
    return found


def learning_curve(points: Sequence[PointRecord], batch: int | None) -> list[dict[str, Any]]:
    """Return the curve that led to the last model, with the seconds of training alone, pauses and
    branches aside.

    What a branch learnt before the trunk went on is left out: a later phase counts from where the
    one before it ended.
    """
    phases: dict[str, list[PointRecord]] = {}
    for point in points:
        phases.setdefault(point.phase, []).append(point)
    kept: list[PointRecord] = []
    for members in phases.values():
        end = 0
        if kept:
            end = kept[-1].step
        kept += sorted(
            (point for point in members if point.step > end), key=lambda point: point.step
        )
    seconds: float | None = 0.0
    step = 0
    curve = []
    for point in kept:
        known = seconds is not None and batch and point.images_per_second
        seconds = seconds + (point.step - step) * batch / point.images_per_second if known else None  # type: ignore[operator]
        step = point.step
        curve.append({"step": step, "seconds": seconds, "phase": point.phase, "loss": point.loss})
    every = -(-len(curve) // MOST_POINTS) or 1
    return [
        point for index, point in enumerate(curve) if index % every == 0 or index == len(curve) - 1
    ]


class _Best:
    """The best value so far."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric
        self.value: float | None = None

    def add(self, trial: TrialRecord) -> None:
        value = trial.values[self._metric.name]
        if self.value is None or self._metric.better(value, self.value):
            self.value = value


class _Volume:
    """The share of the box between the best and the worst values that the front so far
    dominates.
    """

    def __init__(self, box: Box) -> None:
        self._box = box
        self._front = np.empty((0, len(box.metrics)))
        self.value: float | None = None

    def add(self, trial: TrialRecord) -> None:
        if not self._box.metrics:  # all trials are alike
            self.value = 1.0
            return
        points = np.concatenate([self._front, self._box.scaled([trial.values])])
        self._front = points[~dominates(points).any(axis=0)]
        corner = np.full(points.shape[1], CORNER)
        self.value = hypervolume(self._front, corner) / CORNER ** points.shape[1]


def _counts(study: StudyRecord, trial: TrialRecord) -> bool:
    measured = all(name in trial.values for name in study.objectives)
    return trial.state in FINISHED and measured and feasible(study, trial.values)


def _begin(trial: TrialRecord) -> float:
    """Say when a trial would have begun had it never been interrupted."""
    return (trial.finished or 0.0) - trial.seconds
