"""RDN: dense blocks with a skip each, whose outputs are fused, and a long skip."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from automl_sr_plugins.reference.checks import check_choice, check_image, check_positive
from automl_sr_plugins.reference.initialization import small_normal
from automl_sr_plugins.reference.nets import Residual, Skip, full_tail


class RDN(Residual):
    """Residual dense blocks (Zhang et al., CVPR 2018)."""

    def __init__(
        self,
        channels: int,
        scale: int,
        blocks: int,
        layers: int,
        growth: int,
        width: int,
        skip: Skip,
    ) -> None:
        super().__init__(channels, scale, skip)
        self.sfe1 = _conv(channels, width)
        self.sfe2 = _conv(width, width)
        self.rdbs = nn.ModuleList(DenseBlock(width, layers, growth) for _ in range(blocks))
        self.gff = nn.Sequential(nn.Conv2d(blocks * width, width, 1), _conv(width, width))
        self.upscale = nn.Sequential(*full_tail(width, growth, scale))
        self.output = _conv(growth, channels)
        if skip == "bicubic":
            small_normal(self.output, 0.0)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        shallow = self.sfe1(image)
        features = self.sfe2(shallow)

        outputs = []
        for block in self.rdbs:
            features = block(features)
            outputs.append(features)

        deep = self.gff(torch.cat(outputs, dim=1)) + shallow
        return self.added_to_skip(self.output(self.upscale(deep)), image)


class DenseBlock(nn.Module):
    """Convolutions that each read all that came before, fused by a 1x1 convolution, and a skip."""

    def __init__(self, width: int, layers: int, growth: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            _conv(width + place * growth, growth) for place in range(layers)
        )
        self.lff = nn.Conv2d(width + layers * growth, width, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Refine features."""
        dense = features
        for layer in self.layers:
            dense = torch.cat([dense, functional.relu(layer(dense))], dim=1)
        output: Tensor = self.lff(dense)
        return output + features


def _conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def rdn(
    *, channels: int, scale: int, blocks: int, layers: int, growth: int, width: int, skip: Skip
) -> RDN:
    """Make an RDN; the paper calls blocks, layers, growth and width D, C, G and G0."""
    check_image("rdn", channels, scale)
    check_positive("rdn", blocks=blocks, layers=layers, growth=growth, width=width)
    check_choice("rdn", "skip", skip, ("bicubic", "none"))
    return RDN(channels, scale, blocks, layers, growth, width, skip)
