"""Two prunings in one trial: first whole filters, then single weights of what is left."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from automl_sr.api import Phase, Pick, Slot, Technique, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import Blueprint, Context, Run, Task, TrainedModel, TrainStep

SINGLE_WEIGHTS = frozenset({"sparse_weights"})
Bounds = tuple[dict[str, float], dict[str, float]]


class Both(Technique):
    """Cut a net to fewer filters, then prune single weights of the smaller one.

    S. Han, H. Mao, W. J. Dally: Deep Compression, ICLR 2016, for compressions that follow each
    other. What the first does to the training comes first: the second one divides, or goes on with,
    its last phase.
    """

    slot = Slot.PRUNING
    name = "both"
    asked_only: ClassVar[bool] = True
    provides: ClassVar[frozenset[str]] = SINGLE_WEIGHTS
    scores: ClassVar[bool] = True

    first: Annotated[Technique | None, Pick(Slot.PRUNING, lacks=SINGLE_WEIGHTS)] = None
    then: Annotated[Technique | None, Pick(Slot.PRUNING, provides=SINGLE_WEIGHTS)] = None

    def parts(self) -> list[Technique]:
        """Return the two techniques in the order in which they work."""
        named = (self.first, self.then)
        return [technique for technique in named if technique is not None]

    def refuses(self, blueprint: Blueprint, task: Task, ctx: Context) -> str | None:
        """Let each say it of the net that the one before it leaves."""
        if len(self.parts()) < 2:
            return "needs two prunings: name one as `first` and one as `then`"
        for technique in self.parts():
            own = ctx.for_technique(technique)
            reason = technique.refuses(blueprint, task, own)
            if reason is not None:
                return f"cannot go on: {technique.name} {reason}"
            blueprint, _ = technique.shipped(blueprint, task, own)
        return None

    def predict(self, cost: Mapping[str, float], task: Task) -> Bounds:
        """Bound the cost after both."""
        lower, upper = dict(cost), dict(cost)
        for technique in self.parts():
            lower, _ = technique.predict(lower, task)
            _, upper = technique.predict(upper, task)
        return lower, upper

    def shipped(
        self, blueprint: Blueprint, task: Task, ctx: Context
    ) -> tuple[Blueprint, Blueprint]:
        """Bound what becomes of the net in both."""
        smallest, largest = blueprint, blueprint
        for technique in self.parts():
            own = ctx.for_technique(technique)
            smallest, _ = technique.shipped(smallest, task, own)
            _, largest = technique.shipped(largest, task, own)
        return smallest, largest

    def companions(self, blueprint: Blueprint, task: Task, ctx: Context) -> list[Blueprint]:
        """List what lies in memory beside the model in either."""
        found: list[Blueprint] = []
        for technique in self.parts():
            found += technique.companions(blueprint, task, ctx.for_technique(technique))
        return found

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Add the phases of the first, and then those of the second."""
        for technique in self.parts():
            phases = technique.phases(phases, ctx.for_technique(technique))
        return phases

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Change the step by both, the second one innermost."""
        for technique in self.parts():
            step = technique.wrap_step(step, run)
        return step

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Compress by both."""
        for technique in self.parts():
            finished = technique.compress(finished, ctx.for_technique(technique))
        return finished

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Change the exported file by both."""
        for technique in self.parts():
            finished = technique.export(finished, ctx.for_technique(technique))
        return finished

    def evaluate(
        self, values: dict[str, float], finished: TrainedModel, ctx: Context
    ) -> dict[str, float]:
        """Add the values of both."""
        for technique in self.parts():
            values = technique.evaluate(values, finished, ctx.for_technique(technique))
        return values


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the one technique of this family."""
    return [Both]
