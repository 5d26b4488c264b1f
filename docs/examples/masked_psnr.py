"""A metric as a plugin: the quality of the part of an image that a mask beside it marks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from automl_sr.api import Metric, hookimpl


def psnr_masked(prediction: Any, truth: Any, scale: int, *, path: Path) -> float:
    """Return the PSNR in dB of two images uint8 [H, W, 3] where NAME-mask.png is white."""
    import numpy as np

    from automl_sr.api import psnr, read_image

    file = path.with_name(f"{path.stem}-mask.png")
    if not file.exists():
        return psnr(prediction, truth, scale)
    mask = read_image(file).pixels[: truth.shape[0], : truth.shape[1], 0] > 127
    return psnr(prediction[mask][None], truth[mask][None]) if mask.any() else float(np.inf)


PSNR_MASKED = Metric(
    "psnr_masked",
    "maximize",
    "quality",
    psnr_masked,
    unit="dB",
    needs=("path",),
    tasks=frozenset({"image-sr"}),
    help="PSNR where the mask beside an image is white, mean over images.",
)


@hookimpl
def register_metrics() -> list[Metric]:
    """Register the metric."""
    return [PSNR_MASKED]
