"""The recipe: how any model of a study is trained.

It is a technique, so that its fields are searched too.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.technique import Choice, Fixed, Float, Slot, Technique


class Recipe(Technique):
    """Adam with warm-up, a constant rate, cool-downs at rungs, clipping and a moving average.

    Source: A. Haegele et al., "Scaling Laws and Compute-Optimal Training Beyond Fixed Training
    Durations", NeurIPS 2024 (constant rate with cool-down); EMA and L1 as in B. Lim et al., EDSR,
    CVPRW 2017 and BasicSR.
    """

    slot = Slot.RECIPE
    name = "recipe"
    baseline = True
    tasks: ClassVar[frozenset[str]] = frozenset({"*"})

    lr: Annotated[
        float,
        Float(2e-4, 4e-3, log=True),
        Field(gt=0, le=1, description="Learning rate of the trunk"),
    ] = 1e-3
    batch: Annotated[
        int,
        Choice(8, 16, 32),
        Field(ge=1, le=1024, description="Samples in a batch"),
    ] = 16
    patch: Annotated[
        int,
        Choice(24, 32, 48),
        Field(ge=8, le=512, description="Side of a patch, low-resolution px"),
    ] = 32
    loss: Literal["l1", "charbonnier", "mse"] = "l1"
    ema: Annotated[
        float,
        Choice(0.0, 0.99, 0.999),
        Field(ge=0, lt=1, description="Decay of the moving average; 0: off"),
    ] = 0.99
    optimizer: Annotated[Literal["adam", "adamw"], Fixed()] = "adam"
    beta2: Annotated[float, Fixed(), Field(gt=0, lt=1)] = 0.99
    weight_decay: Annotated[float, Fixed(), Field(ge=0, le=1)] = 0.0
    warmup: Annotated[
        float,
        Fixed(),
        Field(ge=0, le=0.5, description="Share of all steps"),
    ] = 0.03
    cooldown: Annotated[
        float,
        Fixed(),
        Field(ge=0, le=0.9, description="Share of all steps"),
    ] = 0.1
    clip: Annotated[
        float,
        Fixed(),
        Field(ge=0, description="Largest norm of the gradient; 0: off"),
    ] = 1.0
    precision: Annotated[Literal["auto", "fp32", "bf16", "fp16"], Fixed()] = "auto"
    channels_last: Annotated[bool, Fixed()] = True
    compile: Annotated[bool, Fixed()] = False


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register the one recipe."""
    return [Recipe]
