"""The net behind the contracts' stand-in architecture."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ContractNet(nn.Module):
    """A head, one residual block and a pixel shuffle.

    They are added to the nearest-neighbour enlargement.
    """

    def __init__(
        self,
        channels: int,
        scale: int,
        width: int,
    ) -> None:
        super().__init__()
        self.scale = scale
        shuffled = channels * scale * scale
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, shuffled, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge [B, c, h, w]."""
        features = functional.relu(self.head(image))
        inner = functional.relu(self.conv1(features))
        features = features + self.conv2(inner)
        details = functional.pixel_shuffle(self.tail(features), self.scale)
        factor = float(self.scale)
        enlarged = functional.interpolate(image, scale_factor=factor, mode="nearest")
        return details + enlarged


def contract_net(
    *,
    channels: int,
    scale: int,
    width: int,
) -> ContractNet:
    """Make the net."""
    return ContractNet(channels, scale, width)
