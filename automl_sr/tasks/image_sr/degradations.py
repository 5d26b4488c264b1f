"""How a low-resolution image is made from a high-resolution one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from automl_sr.tasks.image_sr.resize import downscale


class Degradation(Protocol):
    """Makes the LR image of a whole HR image.

    This is the place for blur, noise and compression of blind super-resolution.
    hr uint8 [sH, sW, 3], sides multiples of `scale` -> lr uint8 [H, W, 3]. The same input gives the
    same output: an LR image is made once and shared by all trials, so one that uses random numbers
    draws them from the pixels it is given.
    """

    @property
    def name(self) -> str:
        """A stable word for it, such as `bicubic`."""

    def __call__(
        self,
        hr: NDArray[np.uint8],
        scale: int,
    ) -> NDArray[np.uint8]:
        """Return the LR image of one whole HR image."""


class Bicubic:
    """MATLAB's bicubic, the degradation of every standard benchmark.

    Sets may ship it as `LRbicx2`.
    """

    name = "bicubic"

    def __call__(
        self,
        hr: NDArray[np.uint8],
        scale: int,
    ) -> NDArray[np.uint8]:
        """Return the LR image [H, W, 3] of hr [sH, sW, 3]."""
        return downscale(hr, scale)


bicubic = Bicubic()
