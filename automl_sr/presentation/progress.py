"""How a study and its trials went on: the front's volume over trials and time, and curves."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from automl_sr.search.front import Box, dominates, hypervolume
from automl_sr.search.results import FINISHED, feasible
from automl_sr.store.records import COUNTED

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.store.records import PointRecord, StudyRecord, TrialRecord

Curve = list[dict[str, Any]]
CORNER = 1.1
"""The reference point lies a tenth of the range behind the worst: else the ends of a front would
count for nothing.
"""
MOST_OBJECTIVES = 4
"""With more, the exact volume takes too long."""
MOST_POINTS = 150
"""Points of a learning curve that are kept: more cannot be seen."""


def history(
    study: StudyRecord,
    trials: Sequence[TrialRecord],
    objectives: Sequence[Metric],
) -> dict[str, Any]:
    """Return how the best value, or the hypervolume of several, went on from trial to trial."""
    ended = []
    for trial in trials:
        if trial.state in COUNTED and trial.finished is not None:
            ended.append(trial)
    ended.sort(key=lambda trial: (trial.finished or 0.0, trial.number))

    fit = [trial for trial in ended if _counts(study, trial)]
    if not fit:
        kept = ""
        if study.spec["constraints"]:
            kept = " that keeps to the constraints"
        return {"reason": f"No trial has left a model{kept}."}
    if len(objectives) > MOST_OBJECTIVES:
        return {"reason": f"The hypervolume of {len(objectives)} objectives is not computed."}

    measure: _Best | _Volume
    about: dict[str, Any]
    if len(objectives) == 1:
        measure = _Best(objectives[0])
        about = {"kind": "best", "metric": objectives[0].name}
    else:
        box = _box(fit, objectives)
        measure = _Volume(box)
        about = {
            "kind": "hypervolume",
            "metric": None,
            "ideal": dict(box.ideal),
            "worst": dict(box.reference),
        }
    return {**about, "points": _points(ended, fit, measure)}


def _box(fit: Sequence[TrialRecord], objectives: Sequence[Metric]) -> Box:
    """Return the box between the best and the worst values that were measured."""
    moving = []
    ideal = {}
    reference = {}
    for metric in objectives:
        values = [trial.values[metric.name] for trial in fit]
        # An objective in which all are alike has no range to scale by.
        if max(values) > min(values):
            moving.append(metric)
            ideal[metric.name] = metric.best(values)
            reference[metric.name] = metric.worst(values)
    return Box(tuple(moving), ideal=ideal, reference=reference)


def _points(
    ended: Sequence[TrialRecord],
    fit: Sequence[TrialRecord],
    measure: _Best | _Volume,
) -> Curve:
    """Return a point for each trial that ended, also for those that add nothing."""
    counting = {trial.number for trial in fit}
    seconds = working_seconds(ended)
    points = []
    for index, trial in enumerate(ended):
        if trial.number in counting:
            measure.add(trial)
        point = {
            "count": index + 1,
            "number": trial.number,
            "seconds": round(seconds[index], 3),
            "value": measure.value,
        }
        points.append(point)
    return points


def working_seconds(ended: Sequence[TrialRecord]) -> list[float]:
    """Return for each trial the time until its end in which any trial was running.

    Pauses of the study do not count.
    """
    spans = []
    for trial in ended:
        spans.append((_begin(trial), trial.finished or 0.0))
    spans.sort()

    # Merged into stretches without a pause, with the working time that lies before each: so each
    # trial is looked up by bisection, where going through all spans for each would be quadratic.
    starts: list[float] = []
    ends: list[float] = []
    before: list[float] = []
    total = 0.0
    covered = -np.inf
    for start, end in spans:
        if start > covered:
            starts.append(start)
            before.append(total)
            ends.append(end)
        # Workers overlap: what is covered already does not count again.
        total += max(0.0, end - max(start, covered))
        covered = max(covered, end)
        ends[-1] = covered

    found = []
    for trial in ended:
        moment = trial.finished or 0.0
        stretch = int(np.searchsorted(starts, moment, side="right")) - 1
        inside = min(moment, ends[stretch]) - starts[stretch]
        found.append(before[stretch] + inside)
    return found


def learning_curve(points: Sequence[PointRecord], batch: int | None) -> Curve:
    """Return the curve that led to the last model.

    Its seconds are those of training alone, pauses and branches aside; None where the speed or the
    batch is unknown.
    """
    seconds: float | None = 0.0
    step = 0
    curve = []
    for point in _trunk(points):
        if seconds is not None and batch and point.images_per_second:
            images = (point.step - step) * batch
            seconds += images / point.images_per_second
        else:
            seconds = None  # and so it stays: a time with a gap in it would be too short
        step = point.step
        row = {
            "step": step,
            "seconds": seconds,
            "phase": point.phase,
            "loss": point.loss,
        }
        curve.append(row)
    return _thinned(curve)


def _trunk(points: Sequence[PointRecord]) -> list[PointRecord]:
    """Return the points of the trunk, and of the last branch."""
    phases: dict[str, list[PointRecord]] = {}
    for point in points:
        phases.setdefault(point.phase, []).append(point)
    kept: list[PointRecord] = []
    for members in phases.values():
        # What a branch learnt before the trunk went on is left out: a later phase counts from where
        # the one before it ended.
        end = 0
        if kept:
            end = kept[-1].step
        later = [point for point in members if point.step > end]
        later.sort(key=lambda point: point.step)
        kept += later
    return kept


def _thinned(curve: Curve) -> Curve:
    """Return about as many points of a curve as can be seen; the last one always."""
    every = math.ceil(len(curve) / MOST_POINTS)
    if every < 2:
        return curve
    kept = curve[::every]
    if kept[-1] is not curve[-1]:
        kept.append(curve[-1])
    return kept


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
        # The front alone is carried on: dominated points add no volume, and would be sorted again
        # with each trial.
        added = self._box.scaled([trial.values])
        points = np.concatenate([self._front, added])
        dominated = dominates(points).any(axis=0)
        self._front = points[~dominated]
        dimensions = points.shape[1]
        corner = np.full(dimensions, CORNER)
        self.value = hypervolume(self._front, corner) / CORNER**dimensions


def _counts(study: StudyRecord, trial: TrialRecord) -> bool:
    if trial.state not in FINISHED:
        return False
    if not trial.values.keys() >= set(study.objectives):
        return False
    return feasible(study, trial.values)


def _begin(trial: TrialRecord) -> float:
    """Return when a trial would have begun had it never been interrupted."""
    return (trial.finished or 0.0) - trial.seconds
