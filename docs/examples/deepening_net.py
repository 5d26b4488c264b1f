"""Edits: a net that becomes deeper while it is trained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from automl_sr.api import Blueprint, Edit, Int, ModelUpdate, Phase, Slot, Technique, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import Context, Run, Task


class DeepeningNet(Technique):
    """Train a shallow net, add a block that changes nothing yet, and train on.

    T. Chen, I. Goodfellow, J. Shlens: Net2Net, ICLR 2016 (Net2DeeperNet).
    """

    slot = Slot.ARCHITECTURE
    name = "deepening_net"
    factories: ClassVar[dict[str, str]] = {"deepening.shallow": "example_nets:shallow"}
    edits: ClassVar[dict[str, Edit]] = {"deepening.add_block": Edit("example_nets:add_block")}

    width: Annotated[int, Int(8, 16, step=8), Field(ge=1, le=256, description="channels")] = 8
    blocks: Annotated[int, Int(2, 3), Field(ge=2, le=16, description="blocks at the end")] = 2

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        """Describe the net with which training begins."""
        return Blueprint("deepening.shallow", {"width": self.width, **task.dims()})

    def shipped(
        self, blueprint: Blueprint, task: Task, ctx: Context
    ) -> tuple[Blueprint, Blueprint]:
        """Return what it becomes in any case: a plan whose last net is too large is not trained at
        all.
        """
        while len(blueprint.edits) < self.blocks - 1:
            blueprint = self.deeper(blueprint)
        return blueprint, blueprint

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Cut the first phase in stages; only the last net is compared with those of other
        trials.
        """
        first = phases[0]
        stages = [
            replace(
                first,
                name=f"{first.name} {number} blocks",
                share=first.share / self.blocks,
                comparable=False,
            )
            for number in range(1, self.blocks)
        ]
        grown = [replace(stage, on_enter=()).entering(self.grow) for stage in stages[1:]]
        last = replace(first, share=first.share / self.blocks, on_enter=()).entering(self.grow)
        return [stages[0], *grown, last, *phases[1:]]

    def grow(self, run: Run) -> ModelUpdate:
        """Name the change: core builds the net, and copies all weights that it has already."""
        return ModelUpdate(blueprint=self.deeper(run.blueprint))

    def deeper(self, blueprint: Blueprint) -> Blueprint:
        """Append the change to the log from which the net is rebuilt."""
        return blueprint.edited("deepening.add_block", width=self.width)


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register the technique."""
    return [DeepeningNet]
