"""Auxiliary nets: trained with the model and kept in checkpoints, but no part of what ships."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from automl_sr.api import Float, Slot, Technique, hookimpl

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automl_sr.api import Batch, Output, Run, TrainStep


class DeepSupervision(Technique):
    """Ask a hidden layer for the image too, through a projection of its own.

    C.-Y. Lee et al.: Deeply-Supervised Nets, AISTATS 2015.
    """

    slot = Slot.TEACHER
    name = "deep_supervision"

    weight: Annotated[
        float, Float(0.05, 0.5), Field(gt=0, le=10, description="weight of the hidden layer's term")
    ] = 0.2

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Tap the layer in the one forward pass, and train the projection beside the model."""
        from torch import nn
        from torch.nn import functional

        name, layer = hidden_layer(run.model)
        projection = nn.Conv2d(layer.out_channels, run.task.dims()["channels"], 1)

        def hidden(output: Output, batch: Batch, run: Run) -> Tensor:
            # The last of its outputs, where a model runs the layer several times.
            image = projection(output.taps[name][-1]).float()
            enlarged = functional.interpolate(image, size=batch.target.shape[-2:], mode="bilinear")
            return self.weight * (enlarged - batch.target).abs().mean()

        return (
            step.tapping(name).with_aux("deep_supervision", projection).with_loss("hidden", hidden)
        )


def hidden_layer(model: nn.Module) -> tuple[str, nn.Conv2d]:
    """Return the convolution before the last one, with its name."""
    from torch import nn

    found = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, nn.Conv2d)]
    return found[max(0, len(found) - 2)]


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register the technique."""
    return [DeepSupervision]
