"""Phases with state: pruning in rounds, each of which begins again with the first weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from automl_sr.api import Float, Int, ModelUpdate, Phase, Slot, Technique, hookimpl

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.api import Context, Run, TrainStep

FIRST = "rewound.first"
MASK = "rewound.mask."


class RewoundRounds(Technique):
    """Prune in rounds, and begin each round with the first weights that are left.

    J. Frankle, M. Carbin: The Lottery Ticket Hypothesis, ICLR 2019.
    """

    slot = Slot.PRUNING
    name = "rewound_rounds"
    provides: ClassVar[frozenset[str]] = frozenset({"sparse_weights"})

    rounds: Annotated[int, Int(2, 4), Field(ge=2, le=20, description="times that it trains")] = 3
    rate: Annotated[
        float, Float(0.1, 0.5), Field(gt=0, lt=1, description="share pruned after each")
    ] = 0.3

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Train the last phase of the trunk in rounds, with a rung at the end of each."""
        last = next(phase for phase in reversed(phases) if not phase.tail)
        one = replace(last, share=last.share / self.rounds, rung=True)
        rounds = [one.entering(self.begin)]
        for number in range(1, self.rounds):
            again = replace(one, name=f"{last.name} round {number}", on_enter=(), resets=True)
            rounds.append(again.entering(self.prune_and_rewind))
        at = phases.index(last)
        return [*phases[:at], *rounds, *phases[at + 1 :]]

    def begin(self, run: Run) -> None:
        """Keep the first weights, written once, and masks, which every checkpoint holds."""
        import torch

        weights = dict(run.model.named_parameters())
        run.keep_constant(FIRST, weights)
        for name, weight in weights.items():
            if weight.dim() > 1:
                run.state[f"{MASK}{name}"] = torch.ones_like(weight)

    def prune_and_rewind(self, run: Run) -> ModelUpdate:
        """Drop the smallest of the weights that are left, and rewind the others."""
        import torch

        masks = masks_of(run)
        with torch.no_grad():
            for name, weight in run.model.named_parameters():
                first = run.constants[FIRST][name]
                if name not in masks:
                    weight.copy_(first)
                    continue
                left = weight[masks[name] > 0].abs()
                least = left.kthvalue(max(1, round(self.rate * len(left)))).values
                mask = masks[name] * (weight.abs() > least)
                weight.copy_(first * mask)
                run.state[f"{MASK}{name}"] = mask
        return ModelUpdate(optimizer="reset", ema="reset")

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Hold what is pruned at zero; masks come from the run's state, so that a resumed run has
        them too.
        """
        return step.with_step_context(self.holding) if masks_of(run) else step

    @contextmanager
    def holding(self, run: Run) -> Iterator[None]:
        """Take pruned weights out of the gradient's norm before the optimizer steps, and back to
        zero after it.
        """
        import torch

        weights, masks = dict(run.model.named_parameters()), masks_of(run)
        for name, mask in masks.items():
            gradient = weights[name].grad
            if gradient is not None:
                gradient.mul_(mask)
        yield
        with torch.no_grad():
            for name, mask in masks.items():
                weights[name].mul_(mask)


def masks_of(run: Run) -> dict[str, Tensor]:
    """Return the masks that the run remembers, by the name of the weight."""
    return {
        key.removeprefix(MASK): value for key, value in run.state.items() if key.startswith(MASK)
    }


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register the technique."""
    return [RewoundRounds]
