"""Training samples of made-up pictures."""

from __future__ import annotations

import numpy as np
import torch

from automl_sr.tasks.image_sr.pixel_store import PixelStore
from automl_sr.tasks.image_sr.samples import SRSamples


def picture(height: int, width: int, seed: int = 0, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), dtype=np.uint8)


def made(sizes: list[tuple[int, int]], scale: int = 2) -> SRSamples:
    """Samples with LR images of `sizes`, each LR pixel repeated scale x scale times in HR."""
    lr = [torch.from_numpy(picture(h, w, i)).permute(2, 0, 1) for i, (h, w) in enumerate(sizes)]
    hr = [image.repeat_interleave(scale, 1).repeat_interleave(scale, 2) for image in lr]
    names = [f"image{i}" for i in range(len(sizes))]
    return SRSamples.whole(PixelStore.from_images(hr), PixelStore.from_images(lr), scale, names)
