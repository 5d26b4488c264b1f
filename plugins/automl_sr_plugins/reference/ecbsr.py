"""ECBSR: plain 3x3 convolutions, trained as edge-oriented blocks."""

from __future__ import annotations

from torch import Tensor, nn

from automl_sr_plugins.reference.checks import check_choice, check_image, check_positive
from automl_sr_plugins.reference.reparam import EdgeBlock
from automl_sr_plugins.reference.skips import Base, ShuffledOnto


class ECBSR(nn.Module):
    """m blocks of c channels between a first and a last one (Zhang, Zeng, Zhang, ACM MM 2021).

    Published with images in 0..255: with all biases 255 times as large it is the same net. The
    last layer starts at zero, which is ours.
    """

    def __init__(
        self, channels: int, scale: int, m: int, c: int, identity: bool, skip: Base
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = [EdgeBlock(channels, c), nn.PReLU(c)]
        for _ in range(m):
            layers += [EdgeBlock(c, c, identity=identity), nn.PReLU(c)]
        last = EdgeBlock(c, channels * scale * scale)
        last.start_at_zero()
        layers.append(last)
        self.backbone = nn.Sequential(*layers)
        self.tail = ShuffledOnto(channels, scale, skip)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        output: Tensor = self.tail(self.backbone(image), image)
        return output


def ecbsr(*, channels: int, scale: int, m: int, c: int, identity: bool, skip: Base) -> ECBSR:
    """Make an ECBSR-MmCc, in the form in which it is trained."""
    check_image("ecbsr", channels, scale)
    check_positive("ecbsr", m=m, c=c)
    check_choice("ecbsr", "skip", skip, ("nearest", "bicubic"))
    return ECBSR(channels, scale, m, c, identity, skip)
