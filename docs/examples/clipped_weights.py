"""Step contexts: weights that are kept in a range by every step of the optimizer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from automl_sr.api import Float, Slot, Technique, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import Run, TrainStep


class ClippedWeights(Technique):
    """Clip weights after each step, so that few bits are enough for them.

    M. Courbariaux, Y. Bengio, J.-P. David: BinaryConnect, NeurIPS 2015.
    """

    slot = Slot.QUANTIZATION
    name = "clipped_weights"

    bound: Annotated[
        float, Float(0.1, 1.0, log=True), Field(gt=0, description="largest weight")
    ] = 0.3

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Surround the optimizer's step, and clip before the first one too."""
        self.clip(run)
        return step.with_step_context(self.clipping)

    @contextmanager
    def clipping(self, run: Run) -> Iterator[None]:
        """Let the optimizer step, then clip; the moving average comes after both."""
        yield
        self.clip(run)

    def clip(self, run: Run) -> None:
        """Clip what has more than one dimension: biases may be anything."""
        import torch

        with torch.no_grad():
            for weight in run.model.parameters():
                if weight.dim() > 1:
                    weight.clamp_(-self.bound, self.bound)


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register the technique."""
    return [ClippedWeights]
