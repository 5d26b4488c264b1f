"""Nodes in words: what is written for an activation, a scale, a shuffle."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import onnx

from automl_sr.presentation.drawing.operators import ACTIVATIONS, MODES, SIGNS
from automl_sr.presentation.drawing.parts import Kind
from automl_sr.presentation.drawing.tensors import Constant, float_of, integer_of, text_of

Words = tuple[str, int | None, Fraction | None]
"""What is written, the channels that are given, and by how much a map becomes larger."""


def activation_words(node: onnx.NodeProto, given: Sequence[Constant]) -> str:
    """Name an activation or a norm, with its setting."""
    words = ACTIVATIONS[node.op_type]
    if node.op_type == "LeakyRelu":
        return f"{words} {float_of(node, 'alpha', 0.01):.3g}"
    if node.op_type == "Clip":
        limits = [item.values()[:1] for item in given]
        flat = [limit[0] for limit in limits if limit]
        if len(flat) == 2:
            words = f"clip {flat[0]:.3g} to {flat[1]:.3g}"
        if flat == [0.0, 6.0]:
            words = "ReLU6"
    return words


def scale_words(operator: str, given: Sequence[Constant]) -> str:
    """Say by what a map is multiplied, or what is added to it."""
    if not given:
        return ""
    values = given[0].values()
    if given[0].numbers == 0 and not values:
        return ""  # worked out from sizes, as the scale of attention is
    if operator == "Mul" and values == [1.0]:
        return ""
    if len(values) == 1:
        return f"{SIGNS[operator]} {values[0]:.3g}"
    return f"{SIGNS[operator]} constant"


def convolution_words(kind: Kind, *, depthwise: bool) -> str:
    """Name a convolution, without its kernel."""
    if kind == "fixed":
        return "Fixed filter"
    if kind == "transposed":
        return "Transposed conv"
    return "Depthwise conv" if depthwise else "Conv"


def block_words(node: onnx.NodeProto, outs: int | None) -> Words:
    """Describe a shuffle between channels and pixels."""
    side = max(1, integer_of(node, "blocksize", 1))
    if node.op_type == "DepthToSpace":
        words, factor = f"pixel shuffle ×{side}", Fraction(side)
    else:
        words, factor = f"pixel unshuffle ÷{side}", Fraction(1, side)
    if outs is None:
        return words, None, factor
    return words, int(outs / factor**2), factor


def resize_words(node: onnx.NodeProto, given: Sequence[Constant], outs: int | None) -> Words:
    """Describe an enlargement, or a reduction."""
    mode = text_of(node, "mode") or "nearest"
    words = MODES.get(mode, mode)
    scales = [item.values() for item in given if len(item.values()) >= 3]
    if not scales or not math.isfinite(scales[0][-1]) or scales[0][-1] <= 0:
        return f"resize, {words}", outs, None
    factor = Fraction(scales[0][-1]).limit_denominator(100)
    return f"{words} {_factor_words(factor)}", outs, factor


def _factor_words(factor: Fraction) -> str:
    if factor < 1 and factor.numerator == 1:
        return f"÷{factor.denominator}"
    return f"×{float(factor):.3g}"


def scaled(scale: Fraction | None, factor: Fraction | None) -> Fraction | None:
    """Return the scale of a map, if both are known."""
    if scale is None or factor is None:
        return None
    return scale * factor


def size_words(scale: Fraction | None) -> list[str]:
    """Say how large a map is beside the net's input, where that is known and not the same."""
    if scale is None or scale in (0, 1):
        return []
    return [f"{_factor_words(scale)} size"]


def channel_words(count: int) -> str:
    """Write a number of channels."""
    return "1 channel" if count == 1 else f"{count:,} channels"


def end_words(value: float) -> str:
    """Write where a slice ends."""
    return "the last" if abs(value) > 2**30 else f"{value:.0f}"
