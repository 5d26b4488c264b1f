"""Early stopping: at each rung of training, who goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from automl_sr.search.front import as_losses, place
from automl_sr.store.records import RungVerdict

if TYPE_CHECKING:
    from automl_sr.plugin.metric import Metric
    from automl_sr.study.spec import StudySpec

Row = Mapping[str, float]

NO_NUMBER = "an objective is no finite number"
MEDIAN_STARTUP = 3
"""So many trials have to reach a rung before the median there means anything."""


class Scheduler(Protocol):
    """Decides at a rung whether a trial goes on."""

    def decide(self, rung_index: int, values: Row, rows: Sequence[Row]) -> RungVerdict:
        """Judge a trial's values against those of all other trials that reached this rung before
        it.
        """


class NoScheduler:
    """Every trial is trained to its end."""

    def decide(self, rung_index: int, values: Row, rows: Sequence[Row]) -> RungVerdict:
        """Promote it."""
        return RungVerdict(True, "every trial is promoted")


class ParetoASHA:
    """Asynchronous successive halving, stopping form, for one or more objectives.

    A trial goes on if its place among all trials of the rung, by non-dominated fronts and inside a
    front by an epsilon-net, is in the best 1/reduction; of equal trials, the worst place counts.
    The first at a rung always goes on, and so does the best in the first objective.

    Sources: L. Li et al., "A System for Massively Parallel Hyperparameter Tuning", MLSys 2020; R.
    Schmucker et al., "Multi-objective Asynchronous Successive Halving", arXiv:2106.12639, 2021.
    """

    def __init__(self, objectives: Sequence[Metric], reduction: int) -> None:
        self.objectives = tuple(objectives)
        self.reduction = reduction

    def decide(self, rung_index: int, values: Row, rows: Sequence[Row]) -> RungVerdict:
        """Rank the trial together with the others."""
        # The trial at hand is the last row.
        points = as_losses([*rows, values], self.objectives, logarithmic=True)
        numbers = np.isfinite(points)
        if not numbers[-1].all():
            return RungVerdict(False, NO_NUMBER)
        points = points[numbers.all(axis=1)]
        count = len(points)
        if count == 1:
            return RungVerdict(True, "the first trial at this rung")

        # Objectives that do not change in training, such as the number of parameters, would
        # otherwise keep the smallest models alive.
        first = points[:, 0]
        if first[-1] <= first.min():
            name = self.objectives[0].name
            return RungVerdict(True, f"the best of {count} in {name}")

        own = place(points, count - 1)
        promoted = max(1, count // self.reduction)
        rule = "the best one is promoted"
        if promoted != 1:
            rule = f"the best {promoted} are promoted"
        go_on = own <= promoted
        return RungVerdict(go_on, f"place {own} of {count}; {rule}")


class MedianStopping:
    """Stop a trial that is worse than the median of the trials before it at this rung; for a single
    objective.
    """

    def __init__(self, objective: Metric) -> None:
        self.objective = objective

    def decide(self, rung_index: int, values: Row, rows: Sequence[Row]) -> RungVerdict:
        """Compare with the median."""
        [own] = self._losses([values])
        if not np.isfinite(own):
            return RungVerdict(False, NO_NUMBER)
        others = self._losses(rows)
        others = others[np.isfinite(others)]
        if len(others) < MEDIAN_STARTUP:
            return RungVerdict(True, f"fewer than {MEDIAN_STARTUP} trials were at this rung before")

        middle = float(np.median(others))
        # A loss is the measured value again once its sign has changed back.
        measured = self.objective.loss(own)
        usual = self.objective.loss(middle)
        words = (
            f"{self.objective.name} is {measured:.6g}, the median of {len(others)} trials"
            f" {usual:.6g}"
        )
        go_on = bool(own <= middle)
        return RungVerdict(go_on, words)

    def _losses(self, rows: Sequence[Row]) -> NDArray[np.float64]:
        losses = as_losses(rows, [self.objective])
        return losses[:, 0]


def make_scheduler(spec: StudySpec, objectives: Sequence[Metric]) -> Scheduler:
    """Return the scheduler that a study asks for."""
    asked = spec.search.scheduler
    return scheduler_of(asked.kind, asked.reduction, objectives)


def scheduler_of(kind: str, reduction: int, objectives: Sequence[Metric]) -> Scheduler:
    """Return a scheduler by name; the median looks at the first objective alone."""
    # `record` notes rungs, for `replay`, whose trials all go on to their end.
    if kind in ("none", "record"):
        return NoScheduler()
    if kind == "median":
        return MedianStopping(objectives[0])
    return ParetoASHA(objectives, reduction)
