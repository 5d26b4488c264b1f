"""PSNR and SSIM are those of the literature: published bicubic rows, and an independent
implementation of SSIM.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from folders import shipped_sets
from hypothesis import given
from hypothesis import strategies as st
from photos import photo
from skimage.metrics import structural_similarity
from tiers import examples

from automl_sr.data import images
from automl_sr.data.catalog import ImageSet
from automl_sr.errors import DataError
from automl_sr.tasks.image_sr.image_model import evaluate_pairs
from automl_sr.tasks.image_sr.quality import psnr, psnr_rgb, psnr_y, rgb_to_y, ssim, ssim_y
from automl_sr.tasks.image_sr.resize import crop_to_multiple, imresize_float
from automl_sr.tasks.image_sr.samples import load_pairs

PUBLISHED_SET5 = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}
FROM_STORED_LR = {
    ("Set5", 2): 33.67,
    ("Set5", 3): 30.40,
    ("Set5", 4): 28.43,
    ("Set14", 2): 30.33,
    ("Set14", 3): 27.63,
    ("Set14", 4): 26.09,
}


def noisy(image: np.ndarray, sigma: float, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def published_recipe(scale: int) -> tuple[float, float]:
    values = []
    for file in images.find_images(shipped_sets() / "Set5" / "HR"):
        truth = np.rint(rgb_to_y(crop_to_multiple(images.to_rgb8(images.read(file)), scale)))
        height, width = truth.shape
        small = imresize_float(truth / 255, (height // scale, width // scale))
        large = np.rint(np.clip(imresize_float(small, (height, width)), 0, 1) * 255)
        values.append((psnr(large, truth, scale), ssim(large, truth, scale)))
    mean_psnr, mean_ssim = np.mean(values, axis=0)
    return mean_psnr, mean_ssim


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_published_bicubic_row_of_set5_is_reproduced(scale: int) -> None:
    assert published_recipe(scale) == (
        pytest.approx(PUBLISHED_SET5[scale][0], abs=0.005),
        pytest.approx(PUBLISHED_SET5[scale][1], abs=0.0002),
    )


@pytest.mark.parametrize(("name", "scale"), FROM_STORED_LR)
def test_bicubic_from_stored_lr_images(name: str, scale: int) -> None:
    stored = ImageSet.from_folder(shipped_sets() / name)
    assert len(stored.lr[scale]) == len(stored.hr)
    pairs = load_pairs(stored, scale)
    values = evaluate_pairs("bicubic", pairs, scale)
    assert values["psnr_y"] == pytest.approx(FROM_STORED_LR[name, scale], abs=0.006)
    if (name, scale) == ("Set5", 2):
        assert values["ssim_y"] == pytest.approx(0.930, abs=0.0005)


def test_luma_of_white_black_and_primaries_is_matlabs() -> None:
    colours = np.array(
        [[[255, 255, 255], [0, 0, 0], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], dtype=np.uint8
    )
    assert rgb_to_y(colours)[0] == pytest.approx([235, 16, 81.481, 144.553, 40.966])


def test_luma_is_not_rounded() -> None:
    luma = rgb_to_y(photo())
    assert np.any(luma != np.rint(luma))


def test_one_level_off_everywhere_is_48_db() -> None:
    image = np.full((20, 30, 3), 100, dtype=np.uint8)
    assert psnr_rgb(image, image + 1, 2) == pytest.approx(20 * math.log10(255))


def test_equal_images_have_infinite_psnr_and_ssim_1() -> None:
    image = photo()
    assert psnr_y(image, image, 2) == math.inf
    assert ssim_y(image, image, 2) == pytest.approx(1)


def test_errors_in_the_border_do_not_count() -> None:
    image = photo()
    spoilt = image.copy()
    spoilt[:3], spoilt[-3:], spoilt[:, :3], spoilt[:, -3:] = 0, 0, 0, 0
    assert psnr_rgb(spoilt, image, 3) == math.inf
    assert psnr_rgb(spoilt, image, 2) < 60


def test_luma_of_a_model_is_compared_as_it_is() -> None:
    image = photo()
    luma = np.rint(rgb_to_y(image)).astype(np.uint8)
    assert (
        psnr_y(luma, image, 2)
        == psnr_y(luma[:, :, None], image, 2)
        == psnr(luma, rgb_to_y(image), 2)
    )
    assert 50 < psnr_y(luma, image, 2) < 70


@given(
    height=st.integers(11, 40),
    width=st.integers(11, 40),
    sigma=st.floats(1, 60),
    seed=st.integers(0, 1000),
    scale=st.integers(0, 4),
)
@examples(40)
def test_ssim_is_that_of_scikit_image(
    height: int, width: int, sigma: float, seed: int, scale: int
) -> None:
    image = photo("chelsea", height + 2 * scale, width + 2 * scale)
    other = noisy(image, sigma, seed)
    inside = slice(scale, -scale if scale else None)
    a, b = (rgb_to_y(part)[inside, inside] for part in (image, other))
    wanted = structural_similarity(
        a,
        b,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
        win_size=11,
    )
    assert ssim_y(image, other, scale) == pytest.approx(wanted, abs=1e-9)


@given(low=st.floats(1, 20), more=st.floats(1.5, 4))
@examples(20)
def test_more_noise_is_worse(low: float, more: float) -> None:
    image = photo()
    little, much = noisy(image, low), noisy(image, low * more)
    assert psnr_y(little, image, 2) > psnr_y(much, image, 2)
    assert ssim_y(little, image, 2) > ssim_y(much, image, 2)


@pytest.mark.parametrize("measure", [psnr_y, psnr_rgb, ssim_y])
def test_images_of_different_size_are_refused(measure) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(DataError, match="differ in shape"):
        measure(photo(), photo(height=90), 2)


def test_images_too_small_to_compare_are_refused() -> None:
    image = photo(height=20, width=14)
    with pytest.raises(DataError, match="at least 11x11"):
        ssim_y(image, image, 2)
    with pytest.raises(DataError, match="Nothing is left"):
        psnr_y(image, image, 7)
    with pytest.raises(DataError, match=r"\[H, W, 3\]"):
        psnr_rgb(image[:, :, 0], image[:, :, 0], 2)
