"""Numbers of eight bits in the exported model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from automl_sr.api import Fixed, Float, Slot, Technique, When, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import Context, Task, TrainedModel

LEAST_SIZE, MOST_SIZE, MOST_EXTRA = 0.2, 1.5, 65_536
"""Bounds on the int8 file: a quarter of the weights at best; scales and extra nodes make files of
small nets grow.
"""
LEAST_TIME, MOST_TIME = 0.1, 4.0


class Int8PTQ(Technique):
    """Ship int8 weights per output channel and 8-bit activations, calibrated on training crops.

    Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, CVPR 2018; static QDQ form of ONNX Runtime. Fixed kernels, such as that of a bicubic
    skip, stay in float.
    """

    slot = Slot.QUANTIZATION
    name = "int8_ptq"
    provides: ClassVar[frozenset[str]] = frozenset({"int8"})
    export_tolerance: ClassVar[float] = 0.25  # one pixel in a smooth picture; means are far smaller

    method: Literal["minmax", "percentile", "entropy"] = Field(
        "minmax", description="how activation ranges are found"
    )
    percentile: Annotated[
        float,
        Float(99.0, 99.99),
        When(method=["percentile"]),
        Field(gt=50, le=100, description="values inside a range"),
    ] = 99.9
    keep_float: Literal["none", "last", "first_last"] = Field(
        "first_last", description="layers that stay in float"
    )
    weight_bits: Annotated[
        Literal[7, 8],
        Fixed(),
        Field(description="7 is right on every processor, 8 needs VNNI or its like"),
    ] = 7
    samples: Annotated[
        int, Fixed(), Field(ge=1, le=1024, description="training crops to calibrate on")
    ] = 32

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Replace the exported file by its int8 form."""
        from automl_sr_plugins.quantization.int8 import quantized

        return quantized(
            finished,
            ctx,
            method=self.method,
            percentile=self.percentile,
            keep_float=self.keep_float,
            weight_bits=self.weight_bits,
            samples=self.samples,
        )

    def predict(
        self, cost: Mapping[str, float], task: Task
    ) -> tuple[dict[str, float], dict[str, float]]:
        """Bound size and latency; parameters and multiply-adds stay as they are."""
        lower, upper = dict(cost), dict(cost)
        if "size_bytes" in cost:
            lower["size_bytes"] = LEAST_SIZE * cost["size_bytes"]
            upper["size_bytes"] = MOST_SIZE * cost["size_bytes"] + MOST_EXTRA
        for name in ("latency_ms", "latency_ratio"):
            if name in cost:
                lower[name], upper[name] = LEAST_TIME * cost[name], MOST_TIME * cost[name]
        return lower, upper


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the quantizations of this family."""
    return [Int8PTQ]
