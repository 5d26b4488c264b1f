"""What a net adds its output to: the enlarged image, in one of two ways."""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from automl_sr_plugins.reference.bicubic import BicubicUpsample

Base = Literal["nearest", "bicubic"]


class ShuffledOnto(nn.Module):
    """Shuffle maps [B, c s s, h, w] to pixels [B, c, s h, s w], and add the enlarged image to them.

    "nearest" adds each pixel to the s s maps of its channel before the shuffle, as SESR and ECBSR
    do.
    """

    def __init__(self, channels: int, scale: int, base: Base) -> None:
        super().__init__()
        self.copies = scale * scale
        self.bicubic: BicubicUpsample | None = None
        if base == "bicubic":
            self.bicubic = BicubicUpsample(channels, scale)
        self.shuffle = nn.PixelShuffle(scale)

    def forward(self, maps: Tensor, image: Tensor) -> Tensor:
        """Enlarge a batch."""
        if self.bicubic is not None:
            added: Tensor = self.bicubic(image) + self.shuffle(maps)
            return added

        # One channel is added to all maps as it is; what repeats it would be one more operation.
        if image.shape[1] > 1:
            image = image.repeat_interleave(self.copies, dim=1)
        output: Tensor = self.shuffle(maps + image)
        return output
