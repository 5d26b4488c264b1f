"""DRRN: one residual unit, applied again and again to the bicubic enlargement."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.bicubic import BicubicUpsample
from automl_sr_plugins.reference.checks import check_image, check_positive
from automl_sr_plugins.reference.initialization import fan_out_normal, small_normal


class DRRN(nn.Module):
    """A recursive block whose units share their two convolutions (Tai et al., CVPR 2017).

    As the widely used port has it: one block, no batch normalisation, no biases.
    """

    def __init__(self, channels: int, scale: int, width: int, units: int) -> None:
        super().__init__()
        self.units = units
        self.upsample = BicubicUpsample(channels, scale)
        self.input = fan_out_normal(_conv(channels, width))
        self.conv1 = fan_out_normal(_conv(width, width))
        self.conv2 = fan_out_normal(_conv(width, width))
        self.output = small_normal(_conv(width, channels), 0.0)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        enlarged = self.upsample(image)
        start = self.input(enlarged)

        features = start
        for _ in range(self.units):
            inner = self.conv1(functional.relu(features))
            features = start + self.conv2(functional.relu(inner))

        output: Tensor = self.output(functional.relu(features)) + enlarged
        return output


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)


def drrn(*, channels: int, scale: int, width: int, units: int) -> DRRN:
    """Make a DRRN with one recursive block of `units` residual units."""
    check_image("drrn", channels, scale)
    check_positive("drrn", width=width, units=units)
    return DRRN(channels, scale, width, units)
