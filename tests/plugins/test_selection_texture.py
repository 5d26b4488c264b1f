"""Texture scores and clusters of patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from automl_sr_plugins.selection.texture import (
    clusters_of,
    descriptors,
    gradients,
    luma,
    sobel_score,
)


def test_gradients_are_those_of_the_3x3_sobel_filter_with_replicated_edges():
    gray = np.random.default_rng(0).random((12, 9))
    x, y = gradients(torch.tensor(gray, dtype=torch.float32)[None])
    np.testing.assert_allclose(x[0], ndimage.sobel(gray, axis=1, mode="nearest"), atol=1e-5)
    np.testing.assert_allclose(y[0], ndimage.sobel(gray, axis=0, mode="nearest"), atol=1e-5)


def test_a_constant_patch_scores_nothing_and_noise_most():
    flat = torch.full((1, 16, 16), 0.4)
    ramp = torch.linspace(0, 1, 16).expand(1, 16, 16)
    noise = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    scores = sobel_score(torch.cat([flat, ramp, noise]))
    assert scores[0] == pytest.approx(0, abs=1e-6)
    assert scores[0] < scores[1] < scores[2]


def test_luma_runs_from_16_to_235():
    black, white = (
        torch.zeros(1, 3, 1, 1, dtype=torch.uint8),
        torch.full((1, 3, 1, 1), 255, dtype=torch.uint8),
    )
    assert float(luma(black)) * 255 == pytest.approx(16, abs=1e-3)
    assert float(luma(white)) * 255 == pytest.approx(235, abs=1e-3)


def stripes(angle: float) -> torch.Tensor:
    rows, columns = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    return (torch.sin(columns * np.cos(angle) + rows * np.sin(angle)) + 1) / 2


def test_descriptors_do_not_depend_on_the_batch_and_are_finite_for_flat_patches():
    patches = torch.stack([stripes(0.0), stripes(1.0), torch.full((32, 32), 0.5)])
    together = descriptors(patches)
    assert together.shape == (3, 13)
    assert torch.isfinite(together).all()
    alone = torch.cat([descriptors(patch[None]) for patch in patches])
    torch.testing.assert_close(together, alone, atol=1e-6, rtol=1e-6)


def test_patches_with_one_direction_form_one_cluster():
    generator = torch.Generator().manual_seed(0)
    angles = [0.1] * 6 + [0.9] * 6
    patches = torch.stack([stripes(angle) for angle in angles]) + 0.02 * torch.rand(
        12, 32, 32, generator=generator
    )
    found = clusters_of(descriptors(patches).numpy(), 2)
    assert len(set(found[:6])) == len(set(found[6:])) == 1
    assert found[0] != found[-1]
    assert (clusters_of(descriptors(patches).numpy(), 2) == found).all()


def test_there_are_never_more_clusters_than_different_patches():
    assert set(clusters_of(np.zeros((5, 3)), 4)) == {0}
