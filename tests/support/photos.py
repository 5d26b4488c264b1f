"""Real photographs for tests: those that scikit-image ships, cut small."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage import data

from automl_sr.tasks.image_sr.resize import crop_to_multiple, downscale
from automl_sr.tasks.image_sr.samples import Pair


def photo(name: str = "astronaut", height: int = 96, width: int = 120) -> NDArray[np.uint8]:
    """The middle of a colour photograph, uint8 [height, width, 3]."""
    image = getattr(data, name)()
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def photo_pairs(
    scale: int, names: tuple[str, ...] = ("astronaut", "chelsea", "coffee")
) -> list[Pair]:
    """LR and HR images of photographs."""
    whole = [(name, crop_to_multiple(photo(name), scale)) for name in names]
    return [Pair(name, downscale(hr, scale), hr) for name, hr in whole]
