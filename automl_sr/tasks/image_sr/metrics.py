"""The quality metrics of super-resolution, by name; they are computed in `quality`."""

from __future__ import annotations

from automl_sr.plugin.metric import Metric

IMAGE_METRICS: tuple[Metric, ...] = (
    Metric(
        "psnr_y",
        "maximize",
        "quality",
        "automl_sr.tasks.image_sr.quality:psnr_y",
        unit="dB",
        color="y",
        help=(
            "Peak signal-to-noise ratio on luma (BT.601), borders of one scale cut, mean over"
            " images."
        ),
    ),
    Metric(
        "ssim_y",
        "maximize",
        "quality",
        "automl_sr.tasks.image_sr.quality:ssim_y",
        color="y",
        help="Structural similarity on luma: 11x11 Gaussian window, sigma 1.5, mean over images.",
    ),
    Metric(
        "psnr_rgb",
        "maximize",
        "quality",
        "automl_sr.tasks.image_sr.quality:psnr_rgb",
        unit="dB",
        help=(
            "Peak signal-to-noise ratio over the three colour channels, borders of one scale cut,"
            " mean over images."
        ),
    ),
)
