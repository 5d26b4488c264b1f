"""A search phase: kernels are chosen on a supernet, then the net that they make is trained from the
beginning.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from automl_sr.api import Blueprint, Int, ModelUpdate, ParamGroup, Phase, Slot, Technique, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.api import Batch, Context, Run, Task, TrainStep

SMALLEST, LARGEST = 1, 5
"""Sides of kernels, px."""


class KernelSearch(Technique):
    """Choose the kernel of each layer by gradients on a supernet.

    H. Liu, K. Simonyan, Y. Yang: DARTS: Differentiable Architecture Search, ICLR 2019 (first
    order).
    """

    slot = Slot.ARCHITECTURE
    name = "kernel_search"
    factories: ClassVar[dict[str, str]] = {
        "kernel_search.supernet": "example_nets:supernet",
        "kernel_search.chain": "example_nets:chain",
    }

    width: Annotated[int, Int(8, 16, step=8), Field(ge=1, le=256, description="channels")] = 8
    layers: Annotated[
        int, Int(1, 3), Field(ge=1, le=32, description="layers whose kernels are chosen")
    ] = 2

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        """Describe the supernet, with which training begins."""
        return Blueprint(
            "kernel_search.supernet", {"width": self.width, "layers": self.layers, **task.dims()}
        )

    def shipped(
        self, blueprint: Blueprint, task: Task, ctx: Context
    ) -> tuple[Blueprint, Blueprint]:
        """Bound the net that is found; once it is, it stays as it is."""
        if blueprint.factory == "kernel_search.chain":
            return blueprint, blueprint
        return self.chain(task, [SMALLEST] * self.layers), self.chain(task, [LARGEST] * self.layers)

    def chain(self, task: Task, sides: list[int]) -> Blueprint:
        """Describe a net with these kernels."""
        return Blueprint(
            "kernel_search.chain", {"width": self.width, "sides": sides, **task.dims()}
        )

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Search first: its steps are no training of what ships, and no rung lies in it."""
        search = Phase("search", 0.5, comparable=False, counts=False).wrapping(self.search_step)
        return [search, replace(phases[0], resets=True).entering(self.derive), *phases[1:]]

    def search_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Step the choice on one half of the samples and the weights on the other, in turns."""
        first, second = (run.data.subset(list(range(half, len(run.data), 2))) for half in (0, 1))
        names = tuple(name for name, _ in run.model.named_parameters() if name.endswith(".alpha"))
        inner = step.update

        def in_turns(run: Run, batch: Batch) -> dict[str, Tensor]:
            run.update(run.batch("choice", data=second), groups=["choice"])
            return inner(run, batch)

        # Not automatic: the weights' own update leaves the group alone.
        choice = ParamGroup(names, lr=3e-3, betas=(0.5, 0.999), automatic=False, scheduled=False)
        return replace(
            step.with_group("choice", choice),
            update=in_turns,
            batch=lambda run: run.batch(data=first),
            ema=False,
        )

    def derive(self, run: Run) -> ModelUpdate:
        """Take the kernel with the largest weight in each layer, and begin with fresh weights."""
        from example_nets import KERNELS, Mixed

        sides = [
            KERNELS[int(layer.alpha.argmax())]
            for layer in run.model.modules()
            if isinstance(layer, Mixed)
        ]
        blueprint = self.chain(run.task, sides)
        return ModelUpdate(run.context.model(blueprint), blueprint, optimizer="reset", ema="reset")


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register the technique."""
    return [KernelSearch]
