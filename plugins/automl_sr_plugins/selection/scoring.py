"""Scores of training samples, in batches: what a small net gets wrong, or how textured a sample
is.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from automl_sr.api import Recipe
from automl_sr_plugins.selection.texture import descriptors, luma, sobel_score

if TYPE_CHECKING:
    from automl_sr.api import Context, Samples, SRSamples

    Score = Callable[[Tensor, Tensor], Tensor]

SCORER_PATCH = 24
"""Side of the scorer's training patches, low-resolution px; smaller where the samples are."""
PIXELS = 65_536
"""High-resolution pixels that are scored at once, without influence on the scores: more do not fit
into the caches.
"""


def sub_images(data: Samples, ctx: Context, size: int, step: int) -> SRSamples:
    """Cut training images to windows of `size` low-resolution pixels every `step`; smaller ones
    stay whole.
    """
    scale = ctx.task.dims()["scale"]
    cut: SRSamples = cast("SRSamples", data).sub_images(size * scale, step * scale)
    return cut


def loss_scores(data: SRSamples, ctx: Context, steps: int) -> Tensor:
    """Return every sample's mean squared error (float64 [N], values in 0..1) under a small SRCNN
    trained on all.

    The scorer and the scores are computed once for all trials and workers.
    """
    channels = ctx.task.dims()["channels"]

    room = int(data.windows[:, 3:].amin(dim=1).max())
    recipe = Recipe(loss="mse", patch=max(8, min(SCORER_PATCH, room)))
    srcnn = ctx.build("architecture", "srcnn")
    settings = json.dumps([srcnn.version, srcnn.dump(), recipe.dump(), steps], sort_keys=True)

    def make() -> dict[str, Tensor]:
        scorer = ctx.fit(srcnn, data, steps=steps, recipe=recipe, key="selection")
        return {"scores": errors_of(scorer, data, channels, ctx.device, ctx.stop_if_asked)}

    return ctx.cached(f"loss-scores/{data.fingerprint}/{settings}", make)["scores"]


def errors_of(
    scorer: nn.Module,
    data: SRSamples,
    channels: int,
    device: str,
    between: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return the mean squared error of every sample under a net, float64 [N]."""

    def score(lr: Tensor, hr: Tensor) -> Tensor:
        wanted = as_input(hr, channels).double()
        output: Tensor = scorer(as_input(lr, channels))
        return (output.double() - wanted).square().mean(dim=(1, 2, 3))

    return in_batches(score, data, device, between)


def texture_features(data: SRSamples, ctx: Context) -> tuple[Tensor, Tensor]:
    """Return every sample's Sobel score [N] and descriptor [N, 13]; computed once for all trials
    and workers.
    """

    def score(_lr: Tensor, hr: Tensor) -> Tensor:
        gray = luma(hr)
        return torch.cat([sobel_score(gray)[:, None], descriptors(gray)], dim=1).double()

    def make() -> dict[str, Tensor]:
        return {"features": in_batches(score, data, ctx.device, ctx.stop_if_asked)}

    features = ctx.cached(f"texture/{data.fingerprint}", make)["features"]
    return features[:, 0], features[:, 1:]


def in_batches(
    score: Score, data: SRSamples, device: str, between: Callable[[], None] = lambda: None
) -> Tensor:
    """Apply `score(lr, hr)` to all samples, uint8 [B, 3, h, w] and [B, 3, H, W], and put the
    results in their order.

    `between` is called between two batches, and may raise to stop.
    """
    places: list[Tensor] = []
    found: list[Tensor] = []
    with torch.no_grad():
        for indices, lr, hr in data.crops():
            at_once = max(1, PIXELS // (hr.shape[2] * hr.shape[3]))
            for start in range(0, len(indices), at_once):
                between()
                part = slice(start, start + at_once)
                found.append(score(lr[part].to(device), hr[part].to(device)).cpu())
            places.append(indices)
    order = torch.cat(places)
    values = torch.cat(found)
    return torch.empty_like(values).index_copy_(0, order, values)


def as_input(images: Tensor, channels: int) -> Tensor:
    """Return uint8 RGB [B, 3, H, W] as a net sees it: float [B, c, H, W] in 0..1, luma for one
    channel.
    """
    if channels == 1:
        return luma(images)[:, None]
    return images.float() / 255


def sources_of(data: SRSamples) -> NDArray[np.int64]:
    """Return the number of the image that every sample was cut from."""
    return data.windows[:, 0].cpu().numpy()


def kept(data: SRSamples, indices: NDArray[Any]) -> SRSamples:
    """Keep these samples, at least one of them, in their original order."""
    if len(indices):
        chosen = np.sort(indices)
    else:
        chosen = np.zeros(1, dtype=np.int64)
    return data.subset(torch.from_numpy(chosen))
