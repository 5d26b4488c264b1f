"""The net behind the contracts' stand-in architecture."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class ContractNet(nn.Module):
    """A head, one residual block and a pixel shuffle, added to the nearest-neighbour
    enlargement.
    """

    def __init__(self, channels: int, scale: int, width: int) -> None:
        super().__init__()
        self.scale = scale
        self.head = nn.Conv2d(channels, width, 3, padding=1)
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        self.tail = nn.Conv2d(width, channels * scale * scale, 3, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Enlarge [B, c, h, w]."""
        features = functional.relu(self.head(image))
        features = features + self.conv2(functional.relu(self.conv1(features)))
        enlarged = functional.interpolate(image, scale_factor=float(self.scale), mode="nearest")
        return functional.pixel_shuffle(self.tail(features), self.scale) + enlarged


def contract_net(*, channels: int, scale: int, width: int) -> ContractNet:
    """Make the net."""
    return ContractNet(channels, scale, width)
