"""Numbers of fewer bits in the shipped model: weights that are packed, and int8 throughout."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from automl_sr.api import (
    Choice,
    Each,
    Fixed,
    Float,
    Int,
    Later,
    ModelUpdate,
    Phase,
    Slot,
    Technique,
    When,
    hookimpl,
)

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.api import Context, Run, Task, TrainedModel, TrainStep
    from automl_sr_plugins.quantization.packed import Bits

Costs = dict[str, float]

LEAST_SIZE, MOST_SIZE, MOST_EXTRA = 0.2, 1.5, 65_536
"""Bounds on the int8 file: a quarter of the weights at best; scales and extra nodes make files of
small nets grow.
"""
LEAST_TIME, MOST_TIME = 0.1, 4.0
LEAST_PACKED = 1 / 32
"""Of weights that are nearly all zero a file holds one bit each."""
PACKED_NAME = 64
"""Bytes with which a file says that its weights are packed."""

MOST_PARTS = 16
KeepFloat = Literal["none", "last", "first_last"]
ENDS: Mapping[str, frozenset[str]] = {
    "none": frozenset(),
    "last": frozenset({"last"}),
    "first_last": frozenset({"first", "last"}),
}
"""The roles of layers that stay in float."""

ROUNDING = "int8_qat.rounding"
"""Under which key of the run's state lies what is rounded in training."""
LEARNT = "int8_qat.learnt"
"""Under which key of the state lie the ranges that were learnt."""

EndBits = Annotated[int, Int(4, 8), Field(ge=2, le=16)]
Parts = Annotated[
    int,
    Int(1, 3),
    Field(ge=1, le=MOST_PARTS, description="parts of the body with bits of their own"),
]
BodyBits = Annotated[
    tuple[Annotated[int, Field(ge=2, le=16)], ...],
    Each(Int(2, 8), count="body_parts", max=MOST_PARTS),
    Field(description="bits of a weight in each part of the body, in order"),
]


class _Packed(Technique):
    """Weights that ship packed in the file; the net is run in float."""

    slot = Slot.QUANTIZATION

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Replace the exported file by one that holds the rounded weights packed."""
        from automl_sr_plugins.quantization.packed import packed

        return packed(finished)

    def predict(self, cost: Mapping[str, float], task: Task) -> tuple[Costs, Costs]:
        """Bound the size; weights may be rounded to zero, and all else stays as it is."""
        lower, upper = dict(cost), dict(cost)
        if "size_bytes" in cost:
            lower["size_bytes"] = self.least_size() * cost["size_bytes"]
            upper["size_bytes"] = cost["size_bytes"] + PACKED_NAME
        if "params_nonzero" in cost:
            lower["params_nonzero"] = 0.0
        return lower, upper

    def least_size(self) -> float:
        """Return the share of the float file that is left at best."""
        return LEAST_PACKED


class FixedPoint(_Packed):
    """Round weights to fixed point: m bits before the binary point and n behind it.

    Kivanc et al., 2024, equation 7: Q(x) = round(x 2^n) 2^-n. The paper has one n, which
    `point=set` is; by default the point lies where the largest weight of the output channel needs
    it, and the length of the word is what is chosen.
    """

    name = "fixed_point"

    point: Literal["channel", "tensor", "set"] = Field(
        "channel", description="for what the binary point is chosen; set: for all at once"
    )
    fraction_bits: Annotated[
        int,
        Int(4, 12),
        When(point=["set"]),
        Field(ge=0, le=15, description="bits behind the point, for all weights"),
    ] = 8
    first_bits: Annotated[
        EndBits,
        When(point=["channel", "tensor"]),
        Field(description="bits of a weight in the first layer"),
    ] = 8
    body_parts: Annotated[Parts, When(point=["channel", "tensor"])] = 1
    body_bits: Annotated[BodyBits, When(point=["channel", "tensor"])] = (4,)
    last_bits: Annotated[
        EndBits,
        When(point=["channel", "tensor"]),
        Field(description="bits of a weight in the last layer"),
    ] = 8

    @model_validator(mode="after")
    def _one_number_for_each_part(self) -> Self:
        _check_parts(self.body_parts, self.body_bits)
        return self

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Round the weights of all layers."""
        from automl_sr_plugins.quantization.grids import Grid, binary_point, set_point
        from automl_sr_plugins.quantization.packed import on_grids

        def grid_of(weight: Tensor, bits: int, axis: int) -> Grid:
            if self.point == "set":
                return set_point(weight, self.fraction_bits)
            return binary_point(weight, bits, self.point, axis)

        bits = _bits(self.first_bits, self.body_bits, self.last_bits)
        return on_grids(finished, ctx, bits, grid_of)


class Integer(_Packed):
    """Round weights to integers of few bits, times a scale.

    Kivanc et al., 2024, equation 8: Q(x) = round(x), which zeroes a net whose weights lie below a
    half: `scale=one` is that, for comparison. By default the largest weight of an output channel
    becomes the largest integer: Krishnamoorthi, Quantizing deep convolutional networks for
    efficient inference, arXiv 1806.08342, 2018.
    """

    name = "integer"

    scale: Annotated[
        Literal["max", "one"],
        Fixed(),
        Field(description="max: the largest weight decides; one: as the paper writes it"),
    ] = "max"
    per: Annotated[
        Literal["channel", "tensor"],
        When(scale=["max"]),
        Field(description="for what there is a scale"),
    ] = "channel"
    first_bits: Annotated[EndBits, Field(description="bits of a weight in the first layer")] = 8
    body_parts: Parts = 1
    body_bits: BodyBits = (4,)
    last_bits: Annotated[EndBits, Field(description="bits of a weight in the last layer")] = 8

    @model_validator(mode="after")
    def _one_number_for_each_part(self) -> Self:
        _check_parts(self.body_parts, self.body_bits)
        return self

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Round the weights of all layers."""
        from automl_sr_plugins.quantization.grids import Grid, plain_integers, scaled_integers
        from automl_sr_plugins.quantization.packed import on_grids

        def grid_of(weight: Tensor, bits: int, axis: int) -> Grid:
            if self.scale == "one":
                return plain_integers(bits)
            return scaled_integers(weight, bits, self.per, axis)

        bits = _bits(self.first_bits, self.body_bits, self.last_bits)
        return on_grids(finished, ctx, bits, grid_of)


class Vector(_Packed):
    """Take the weights of a layer, in blocks, from a codebook that k-means finds.

    Kivanc et al., 2024, equation 9. Blocks of one weight are weight sharing: Han, Mao, Dally, Deep
    Compression, ICLR 2016.
    """

    name = "vector"

    entries: Annotated[
        int, Choice(16, 64, 256), Field(ge=2, le=4096, description="blocks in a codebook")
    ] = 64
    block: Annotated[
        int, Choice(1, 2, 4, 8, 9), Field(ge=1, le=64, description="weights in a block")
    ] = 1
    keep_float: KeepFloat = Field("first_last", description="layers that stay in float")

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Replace each block by the nearest entry of its layer's codebook."""
        from automl_sr_plugins.quantization.packed import from_codebooks

        return from_codebooks(
            finished,
            ctx,
            entries=self.entries,
            block=self.block,
            keep_float=ENDS[self.keep_float],
        )

    def least_size(self) -> float:
        """Return the share that is left where codebooks weigh nothing."""
        bits = math.log2(self.entries) / self.block
        return min(LEAST_PACKED, bits / 32)


class HalfPrecision(_Packed):
    """Store weights in half precision, with 16 bits.

    IEEE 754, Standard for Floating-Point Arithmetic, 2008: binary16. The net is run in float32.
    """

    name = "float16"

    def compress(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Round the weights of all layers."""
        from automl_sr_plugins.quantization.packed import in_half_precision

        return in_half_precision(finished, ctx)


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
    keep_float: KeepFloat = Field("first_last", description="layers that stay in float")
    weight_bits: Annotated[
        Literal[7, 8],
        Fixed(),
        Field(description="7 is right on every processor, 8 needs VNNI or its like"),
    ] = 7
    samples: Annotated[
        int, Fixed(), Field(ge=1, le=1024, description="training crops to calibrate on")
    ] = 32
    skips: Annotated[
        Literal["int8", "float"],
        Later(),
        Field(description="what sums of maps read: rounded maps, or those before rounding"),
    ] = "int8"

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
            skips=self.skips,
        )

    def predict(self, cost: Mapping[str, float], task: Task) -> tuple[Costs, Costs]:
        """Bound size and latency; parameters and multiply-adds stay as they are."""
        return _int8_bounds(cost)


class Int8QAT(Technique):
    """Train the end of the training with the roundings of the int8 file, then ship that file.

    Jacob et al.: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
    Inference, CVPR 2018. Ranges of activations are learnt as in PAMS (Li et al., ECCV 2020), with
    the gradients and the normalisation of LSQ (Esser et al., ICLR 2020), each with a zero point.
    """

    slot = Slot.QUANTIZATION
    name = "int8_qat"
    provides: ClassVar[frozenset[str]] = frozenset({"int8"})
    export_tolerance: ClassVar[float] = 0.25  # as that of int8_ptq

    share: Annotated[
        float,
        Float(0.05, 0.2),
        Field(gt=0, le=1, description="length of the phase, relative to the training before it"),
    ] = 0.1
    lr: Annotated[
        float,
        Float(0.03, 1.0, log=True),
        Field(gt=0, le=10, description="factor on the learning rate, which then falls to zero"),
    ] = 0.1
    keep_float: KeepFloat = Field("first_last", description="layers that stay in float")
    skips: Literal["int8", "float"] = Field(
        "int8", description="what sums of maps read: rounded maps, or those before rounding"
    )
    weight_bits: Annotated[
        Literal[7, 8],
        Fixed(),
        Field(description="7 is right on every processor, 8 needs VNNI or its like"),
    ] = 7
    samples: Annotated[
        int, Fixed(), Field(ge=1, le=1024, description="training crops on which ranges begin")
    ] = 64

    def phases(self, phases: list[Phase], ctx: Context) -> list[Phase]:
        """Append a phase on the branch of every rung, behind the cool-down."""
        rounded = Phase("int8_qat", self.share, lr=self.lr, decay=True, tail=True, resets=True)
        rounded = rounded.entering(self.begin).wrapping(self.simulate).leaving(self.keep)
        return [*phases, rounded]

    def begin(self, run: Run) -> ModelUpdate:
        """Go on with the net that ships, and find out what its int8 file will round."""
        from automl_sr_plugins.quantization.qat import rounding_of

        ctx = run.context.for_technique(self)
        shipped = run.shipped_form()
        rounding = rounding_of(shipped, ctx, self.keep_float, self.samples)
        run.state[ROUNDING] = rounding.to_json()
        return ModelUpdate(
            model=shipped.module,
            blueprint=shipped.blueprint,
            optimizer="reset",
            ema="reset",
        )

    def simulate(self, step: TrainStep, run: Run) -> TrainStep:
        """Round in the forward pass what the file will round."""
        from automl_sr_plugins.quantization.qat import Ranges, Rounding, Simulation

        rounding = Rounding.from_json(run.state[ROUNDING])
        simulation = Simulation(
            rounding,
            Ranges(rounding.tensors),
            weight_bits=self.weight_bits,
            skips=self.skips,
        )
        return simulation.installed(step)

    def keep(self, run: Run) -> None:
        """Keep the ranges that were learnt, for the export."""
        from automl_sr_plugins.quantization.qat import Ranges, Rounding

        rounding = Rounding.from_json(run.state[ROUNDING])
        ranges = run.train_step.aux[self.name]
        if isinstance(ranges, Ranges):
            run.state[LEARNT] = ranges.by_name(rounding.tensors)

    def export(self, finished: TrainedModel, ctx: Context) -> TrainedModel:
        """Replace the exported file by its int8 form, with the ranges that were learnt."""
        from automl_sr_plugins.quantization.int8 import quantized

        # A model that is measured before its first step has learnt none.
        learnt = finished.state.get(LEARNT, {})
        return quantized(
            finished,
            ctx,
            method="minmax",
            percentile=100.0,
            keep_float=self.keep_float,
            weight_bits=self.weight_bits,
            samples=self.samples,
            skips=self.skips,
            learnt=learnt,
        )

    def predict(self, cost: Mapping[str, float], task: Task) -> tuple[Costs, Costs]:
        """Bound size and latency; parameters and multiply-adds stay as they are."""
        return _int8_bounds(cost)


def _int8_bounds(cost: Mapping[str, float]) -> tuple[Costs, Costs]:
    lower, upper = dict(cost), dict(cost)
    if "size_bytes" in cost:
        lower["size_bytes"] = LEAST_SIZE * cost["size_bytes"]
        upper["size_bytes"] = MOST_SIZE * cost["size_bytes"] + MOST_EXTRA
    for name in ("latency_ms", "latency_ratio"):
        if name in cost:
            lower[name], upper[name] = LEAST_TIME * cost[name], MOST_TIME * cost[name]
    return lower, upper


def _check_parts(parts: int, bits: tuple[int, ...]) -> None:
    if len(bits) != parts:
        raise ValueError(f"body_bits has {len(bits)} numbers, and body_parts is {parts}")


def _bits(first: int, body: tuple[int, ...], last: int) -> Bits:
    from automl_sr_plugins.quantization.packed import Bits

    return Bits(first, body, last)


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the quantizations of this family."""
    return [Int8PTQ, Int8QAT, FixedPoint, Integer, Vector, HalfPrecision]
