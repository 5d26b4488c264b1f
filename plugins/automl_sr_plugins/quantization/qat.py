"""What an int8 file will round, rounded in training: weights, maps between layers, and skips.

Which tensors a file rounds is read off the file that the model would be now. Their ranges begin
with those of calibration, are learnt from there, and are handed to the quantizer at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from automl_sr.api import OnnxModel, TrialError, activation_ranges, export_model, layers
from automl_sr_plugins.quantization.int8 import KeepFloat, Skips, float_layers
from automl_sr_plugins.quantization.rounding import LEVELS, RoundedMap

if TYPE_CHECKING:
    from automl_sr.api import Context, Layer, TrainedModel, TrainStep

NAME = "int8_qat"
LARGEST_WEIGHT: Mapping[int, int] = {7: 64, 8: 127}
"""Weights are whole multiples of their largest value by this, as ONNX Runtime takes them."""
SUMS = frozenset(
    {
        torch.add,
        Tensor.add,
        Tensor.add_,
        Tensor.__add__,
        Tensor.__radd__,
        Tensor.__iadd__,
    }
)
Layers = nn.Conv2d | nn.ConvTranspose2d | nn.Linear


@dataclass(frozen=True)
class RoundedTensor:
    """A tensor of the file that is rounded to eight bits, and its range before it is learnt."""

    name: str
    low: float
    high: float
    learnt: bool
    """Not that of the model's input, whose values are known."""


@dataclass(frozen=True)
class Call:
    """One call of a layer: the numbers of the tensors that are rounded before and after it."""

    reads: int | None
    gives: int | None
    bias_apart: bool
    """Whether the bias is added in float to what the integer layer gives."""


@dataclass(frozen=True)
class Rounding:
    """All that is rounded in training, as JSON holds it too."""

    tensors: tuple[RoundedTensor, ...]
    calls: Mapping[str, tuple[Call, ...]]
    """By the name of the layer's module, in the order of the forward pass."""

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON from which `from_json` makes the same."""
        tensors = [asdict(tensor) for tensor in self.tensors]
        calls = {}
        for name, own in self.calls.items():
            calls[name] = [asdict(call) for call in own]
        return {"tensors": tensors, "calls": calls}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Rounding:
        """Read what `to_json` wrote."""
        tensors = [RoundedTensor(**entry) for entry in data["tensors"]]
        calls: dict[str, tuple[Call, ...]] = {}
        for name, own in data["calls"].items():
            calls[name] = tuple(Call(**entry) for entry in own)
        return cls(tuple(tensors), calls)


def rounding_of(
    finished: TrainedModel,
    ctx: Context,
    keep_float: KeepFloat,
    samples: int,
) -> Rounding:
    """Find out what the int8 file of a model will round, and in which ranges.

    It is exported for that. Raises TrialError where no layer would be rounded.
    """
    source = ctx.scratch / f"{NAME}.onnx"
    finished = export_model(finished, source)
    crops = ctx.task.calibration(finished.data, OnnxModel(source), samples, ctx.seed)
    ranges = activation_ranges(source, crops)
    known = ctx.task.interface().ranges
    kept = frozenset(float_layers(finished, keep_float))

    numbers: dict[str, int] = {}
    tensors: list[RoundedTensor] = []

    def number(name: str) -> int | None:
        if name not in ranges:
            return None  # what ONNX Runtime fuses away, such as a constant factor behind a layer
        if name not in numbers:
            numbers[name] = len(tensors)
            low, high = known.get(name, ranges[name])
            tensors.append(RoundedTensor(name, low, high, learnt=name not in known))
        return numbers[name]

    integer: list[Layer] = []
    given: set[str] = set()
    for layer in layers(finished.module, ctx.task, source):
        if _is_integer(layer, finished.module, kept):
            integer.append(layer)
            given.update(node.output for node in layer.stored)

    calls: dict[str, tuple[Call, ...]] = {}
    for layer in integer:
        own = []
        for node in layer.stored:
            reads = None
            if node.input not in given:  # else the layer before has rounded it
                reads = number(node.input)
            bias_apart = layer.kind == "linear" and node.operator == "MatMul"
            own.append(Call(reads, number(node.output), bias_apart))
        calls[layer.name] = tuple(own)
    if not calls:
        raise TrialError(
            f"No layer would be rounded in training (keep_float={keep_float}).",
            "Let fewer layers stay in float, or choose `none` for the slot quantization.",
        )
    return Rounding(tuple(tensors), calls)


def _is_integer(layer: Layer, net: nn.Module, kept: frozenset[str]) -> bool:
    """Return whether a layer is a module that the file will hold as an integer layer."""
    module = net.get_submodule(layer.name)
    if not isinstance(module, Layers) or len(layer.stored) != layer.calls:
        return False
    # ONNX Runtime has no integer form of grouped transposed convolutions.
    if isinstance(module, nn.ConvTranspose2d) and module.groups > 1:
        return False
    return all(node.node not in kept for node in layer.stored)


class Ranges(nn.Module):
    """Scales and zero points of all tensors that are rounded, as they are learnt.

    What is learnt is relative to the first range, so that one learning rate suits all: the
    logarithm of the growth of the scale, and the shift of the zero point in whole ranges.
    """

    first_scale: Tensor
    first_zero: Tensor
    learnt: Tensor

    def __init__(self, tensors: Sequence[RoundedTensor]) -> None:
        super().__init__()
        scales = []
        zeros = []
        learnt = []
        for tensor in tensors:
            scale, zero = _affine(tensor.low, tensor.high)
            scales.append(scale)
            zeros.append(zero)
            learnt.append(float(tensor.learnt))
        # They follow from the run's state, and are in no checkpoint.
        self.register_buffer("first_scale", torch.tensor(scales), persistent=False)
        self.register_buffer("first_zero", torch.tensor(zeros), persistent=False)
        self.register_buffer("learnt", torch.tensor(learnt), persistent=False)
        self.growth = nn.Parameter(torch.zeros(len(tensors)))
        self.shift = nn.Parameter(torch.zeros(len(tensors)))

    def now(self) -> tuple[Tensor, Tensor]:
        """Return scales and zero points [tensors]; the latter are between whole numbers."""
        scale = self.first_scale * torch.exp(self.growth * self.learnt)
        zero = self.first_zero + LEVELS * self.shift * self.learnt
        return scale, zero

    @torch.no_grad()
    def by_name(self, tensors: Sequence[RoundedTensor]) -> dict[str, list[float]]:
        """Return the lowest and highest value of each learnt tensor."""
        scales, zeros = self.now()
        found: dict[str, list[float]] = {}
        for tensor, scale, zero in zip(tensors, scales.tolist(), zeros.tolist(), strict=True):
            if not tensor.learnt:
                continue
            whole = _whole(zero)
            found[tensor.name] = [-whole * scale, (LEVELS - whole) * scale]
        return found


def _whole(zero: float) -> int:
    """Return the zero point as a number of eight bits."""
    return min(max(round(zero), 0), LEVELS)


def _affine(low: float, high: float) -> tuple[float, float]:
    """Return scale and zero point of a range, which is made to hold zero."""
    low = min(low, 0.0)
    high = max(high, 0.0)
    if high == low:
        return 1.0, 0.0  # a map of zeros
    scale = (high - low) / LEVELS
    return scale, float(round(-low / scale))


@dataclass
class _Pass:
    """What one forward pass has to remember."""

    scales: Sequence[Tensor]
    zeros: Sequence[Tensor]
    steps: Sequence[float]
    """The numbers in the scales."""
    offsets: Sequence[int]
    """The zero points as the file has them: whole, and among the numbers of eight bits."""
    reading: _ReadsRounded
    weights: dict[str, Tensor] = field(default_factory=dict)
    calls: dict[str, int] = field(default_factory=dict)


class Simulation:
    """Computes a model in training as its int8 file will."""

    def __init__(
        self,
        rounding: Rounding,
        ranges: Ranges,
        *,
        weight_bits: Literal[7, 8],
        skips: Skips,
    ) -> None:
        self.rounding = rounding
        self.ranges = ranges
        self.largest = LARGEST_WEIGHT[weight_bits]
        self.skips = skips
        self._pass: _Pass | None = None

    def installed(self, step: TrainStep) -> TrainStep:
        """Put the roundings into the step, and their ranges among what is trained."""
        step = step.with_aux(NAME, self.ranges).with_layer("", self.whole)
        for name in self.rounding.calls:
            step = step.with_layer(name, self.swap_of(name))
        return step

    def whole(self, model: nn.Module, *inputs: Tensor) -> Tensor:
        """Run the model once."""
        scales, zeros = self.ranges.now()
        reading = _ReadsRounded(self.skips, (*model.parameters(), *model.buffers()))
        self._pass = _Pass(
            torch.split(scales, 1),
            torch.split(zeros, 1),
            scales.tolist(),
            [_whole(zero) for zero in zeros.tolist()],
            reading,
        )
        try:
            with reading:
                output: Tensor = model.forward(*inputs)
            self._check(self._pass.calls)
        finally:
            self._pass = None
        return output

    def swap_of(self, name: str) -> Callable[..., Tensor]:
        """Return what is called in the place of a layer."""
        calls = self.rounding.calls[name]

        def swap(layer: Layers, inputs: Tensor) -> Tensor:
            current = self._pass
            if current is None:
                raise TrialError(f"The layer {name!r} was called outside of its model.")
            place = current.calls.get(name, 0)
            current.calls[name] = place + 1
            with current.reading.paused():
                # One call more than the file has is told of at the end of the pass.
                return self._call(current, name, layer, inputs, calls[place % len(calls)])

        return swap

    def _call(
        self,
        current: _Pass,
        name: str,
        layer: Layers,
        inputs: Tensor,
        call: Call,
    ) -> Tensor:
        read = current.reading.rounded(inputs)
        if read is None:
            read = inputs
            if call.reads is not None:
                read = _rounded(current, inputs, call.reads)
                current.reading.remember(inputs, read)

        weight = current.weights.get(name)
        if weight is None:
            weight = _rounded_weight(layer, self.largest)
            current.weights[name] = weight
        bias = layer.bias
        if call.bias_apart:
            bias = None
        output = _computed(layer, read, weight, bias)
        if call.gives is not None:
            output = _rounded(current, output, call.gives)
        if call.bias_apart and layer.bias is not None:
            output = output + layer.bias
        return output

    def _check(self, seen: Mapping[str, int]) -> None:
        """Raise TrialError where the model calls its layers in another way than its file."""
        for name, calls in self.rounding.calls.items():
            if seen.get(name, 0) != len(calls):
                raise TrialError(
                    f"The layer {name!r} is called {seen.get(name, 0)} times in training and"
                    f" {len(calls)} times in the exported file: it cannot be rounded in training.",
                    "Choose `int8_ptq` for this architecture.",
                )


def _rounded(current: _Pass, value: Tensor, number: int) -> Tensor:
    """Round a map as the file does; gradients pass inside of the range."""
    # Normalised as in LSQ (Esser et al., ICLR 2020), so that sums over large maps do not clip the
    # gradients of all other parameters.
    factor = 1 / math.sqrt(max(1, value.numel()) * LEVELS)
    rounded: Tensor = RoundedMap.apply(  # type: ignore[no-untyped-call]
        value,
        current.scales[number],
        current.zeros[number],
        current.steps[number],
        current.offsets[number],
        factor,
    )
    return rounded


def _rounded_weight(layer: Layers, largest: int) -> Tensor:
    """Round a weight with one scale for each output channel; gradients pass."""
    axis = 0
    if isinstance(layer, nn.ConvTranspose2d):
        axis = 1
    weight = layer.weight
    others = [place for place in range(weight.dim()) if place != axis]
    scale = weight.detach().abs().amax(others) / largest
    scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    zero = torch.zeros_like(scale, dtype=torch.int32)
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, axis, -largest, largest)


def _computed(layer: Layers, inputs: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Return what a layer gives with another weight and bias."""
    if isinstance(layer, nn.Linear):
        return functional.linear(inputs, weight, bias)
    if isinstance(layer, nn.Conv2d):
        output: Tensor = layer._conv_forward(inputs, weight, bias)  # pads as the layer does
        return output
    return functional.conv_transpose2d(
        inputs,
        weight,
        bias,
        layer.stride,
        layer.padding,  # type: ignore[arg-type]  # a word only in other convolutions
        layer.output_padding,
        layer.groups,
        layer.dilation,
    )


class _ReadsRounded(TorchFunctionMode):
    """Lets all that reads a map after an integer layer has read it see it rounded, as in the file.

    With skips in float, sums of two maps see it as it was.
    """

    def __init__(self, skips: Skips, constants: Iterable[Tensor]) -> None:
        super().__init__()
        self.skips = skips
        self._constants = {id(constant) for constant in constants}
        # With the map itself, so that its number is given to no other one.
        self._known: dict[int, tuple[Tensor, Tensor]] = {}
        self._paused = False

    def remember(self, value: Tensor, rounded: Tensor) -> None:
        """Take note of what a map is rounded to."""
        self._known[id(value)] = (value, rounded)

    def rounded(self, value: Tensor) -> Tensor | None:
        """Return what a map was rounded to, if it was."""
        entry = self._known.get(id(value))
        if entry is None:
            return None
        return entry[1]

    def paused(self) -> _Paused:
        """Leave alone what happens inside of a layer."""
        return _Paused(self)

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if self._paused or not self._known:
            return func(*args, **named)
        if _is_in_place(func):
            self._known.pop(id(args[0]), None)  # it has another value from now on
        if func in SUMS and self.skips == "float" and self._adds_maps(args):
            return func(*args, **named)
        return func(*self._read(args), **named)

    def _adds_maps(self, args: Sequence[Any]) -> bool:
        """Return whether two maps are added, and no number, bias or mean."""
        if len(args) < 2:
            return False
        for term in args[:2]:
            if not isinstance(term, Tensor) or id(term) in self._constants:
                return False
        return True

    def _read(self, values: Sequence[Any]) -> list[Any]:
        read: list[Any] = []
        for value in values:
            if isinstance(value, Tensor):
                _, rounded = self._known.get(id(value), (value, value))
                read.append(rounded)
            elif isinstance(value, list | tuple) and value and isinstance(value[0], Tensor):
                read.append(self._read(value))
            else:
                read.append(value)
        return read


class _Paused:
    """Pauses the replacing of maps; made once for each call of a layer, so that it is cheap."""

    def __init__(self, mode: _ReadsRounded) -> None:
        self.mode = mode

    def __enter__(self) -> None:
        self.mode._paused = True

    def __exit__(self, *_: object) -> None:
        self.mode._paused = False


def _is_in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    if name.endswith("__"):
        return bool(name.startswith("__i")) and name != "__invert__"
    return bool(name.endswith("_"))
