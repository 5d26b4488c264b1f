"""What an upscaling net costs, as papers quote it: multiply-adds for an output of 1280x720."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

from automl_sr.evaluation.cost import forward_flops, on_meta

OUTPUT_720P = (720, 1280)


def macs_at_output(
    module: nn.Module,
    scale: int,
    channels: int,
    output: tuple[int, int] = OUTPUT_720P,
    **forward: Any,
) -> int:
    """Count multiply-adds of an upscaling net for an output of (height, width) pixels.

    Where the output is no multiple of the scale (1280 at x3) the count of the next larger input is
    scaled back.
    """
    height, width = (math.ceil(side / scale) for side in output)
    example = torch.empty(1, channels, height, width, device="meta")
    flops = forward_flops(on_meta(module), [example], **forward)
    macs = flops // 2  # a multiplication and an addition
    wanted = output[0] * output[1]
    counted = height * width * scale * scale
    return round(macs * wanted / counted)
