"""First weights of the reference nets, as their public implementations draw them."""

from __future__ import annotations

import math
from typing import TypeVar

from torch import nn

Conv = TypeVar("Conv", nn.Conv2d, nn.ConvTranspose2d)


def fan_out_normal(conv: nn.Conv2d) -> nn.Conv2d:
    """Draw from N(0, 2 / (outputs * kernel area)), biases 0 (SRCNN, FSRCNN and ESPCN ports)."""
    area = conv.kernel_size[0] * conv.kernel_size[1]
    nn.init.normal_(conv.weight, std=math.sqrt(2 / (conv.out_channels * area)))
    return _zero_bias(conv)


def small_normal(conv: Conv, std: float = 1e-3) -> Conv:
    """Draw from N(0, std^2), biases 0 (last layer of SRCNN, FSRCNN and ESPCN)."""
    nn.init.normal_(conv.weight, std=std)
    return _zero_bias(conv)


def kaiming_tenth(conv: nn.Conv2d) -> nn.Conv2d:
    """Draw Kaiming normal weights times 0.1, biases 0 (MSRResNet; Wang et al., ESRGAN, ECCVW
    2018).
    """
    nn.init.kaiming_normal_(conv.weight)
    conv.weight.data *= 0.1
    return _zero_bias(conv)


def kaiming(conv: nn.Conv2d, slope: float) -> nn.Conv2d:
    """Draw Kaiming normal weights for a leaky ReLU of this slope, biases 0 (He et al., ICCV
    2015).
    """
    nn.init.kaiming_normal_(conv.weight, a=slope)
    return _zero_bias(conv)


def last_layer(conv: Conv, skip: str, std: float = 1e-3) -> Conv:
    """Start the last layer at zero where the net adds to bicubic, so that step 0 is bicubic; else
    as the papers do.

    The zero start is our own choice: the papers that use these nets have no bicubic skip.
    """
    return small_normal(conv, 0.0 if skip == "bicubic" else std)


def _zero_bias(conv: Conv) -> Conv:
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    return conv
