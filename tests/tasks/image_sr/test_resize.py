"""The bicubic resize is MATLAB's, bit for bit: checked against published LR images and an
independent slow version.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from folders import shipped_sets
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray
from tiers import examples

from automl_sr.data import images
from automl_sr.errors import DataError
from automl_sr.tasks.image_sr.resize import (
    crop_to_multiple,
    downscale,
    imresize,
    imresize_float,
    upscale,
)

REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("name", ["Set5", "Set14"])
def test_published_lr_images_are_reproduced_without_one_differing_pixel(
    name: str, scale: int
) -> None:
    folder = shipped_sets() / name
    files = images.find_images(folder / "HR")
    assert len(files) == int(name[3:])
    for file in files:
        hr = crop_to_multiple(images.to_rgb8(images.read(file)), scale)
        lr = images.to_rgb8(images.read(folder / f"LRbicx{scale}" / f"{file.stem}x{scale}.png"))
        assert np.count_nonzero(downscale(hr, scale) != lr) == 0, file.name


@pytest.mark.parametrize("file", sorted(REFERENCE.glob("*_hr.png")), ids=lambda file: file.stem)
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_committed_reference_pairs_are_reproduced(file: Path, scale: int) -> None:
    hr = crop_to_multiple(images.read(file).pixels, scale)
    lr = images.read(file.with_name(file.name.replace("_hr", f"_x{scale}"))).pixels
    np.testing.assert_array_equal(downscale(hr, scale), lr)


def slow_imresize(image: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """MATLAB's documented algorithm, one output pixel at a time, with a rounding after each of the
    two passes.
    """

    def kernel(x: float) -> float:
        x = abs(x)
        if x <= 1:
            return 1.5 * x**3 - 2.5 * x**2 + 1
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2 if x <= 2 else 0.0

    def line(values: list[int], length: int) -> list[int]:
        scale = length / len(values)
        stretch = min(scale, 1.0)
        support = 4 / stretch
        out = []
        for place in range(1, length + 1):
            centre = place / scale + 0.5 * (1 - 1 / scale)
            left = math.floor(centre - support / 2)
            total, weight_sum = 0.0, 0.0
            for index in range(left, left + math.ceil(support) + 2):
                weight = stretch * kernel(stretch * (centre - index))
                mirrored = (index - 1) % (2 * len(values))
                value = (
                    values[mirrored]
                    if mirrored < len(values)
                    else values[2 * len(values) - 1 - mirrored]
                )
                total, weight_sum = total + weight * value, weight_sum + weight
            out.append(min(255, max(0, math.floor(total / weight_sum + 0.5 + 1e-9))))
        return out

    planes = []
    for channel in range(image.shape[2]):
        plane = image[:, :, channel].astype(int)
        rows = np.array([line(column.tolist(), height) for column in plane.T]).T
        planes.append([line(row.tolist(), width) for row in rows])
    return np.array(planes, dtype=np.uint8).transpose(1, 2, 0)


@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(1))),
    st.sampled_from([0.5, 1 / 3, 0.25, 1.0, 2.0, 3.0, 4.0]),
)
@examples(60)
def test_every_tiny_image_agrees_with_the_slow_version(
    image: NDArray[np.uint8], scale: float
) -> None:
    # the sides are multiples of the divisor, as in every LR image
    times = round(1 / scale) if scale < 1 else 1
    image = np.tile(image, (times, times, 1))
    height, width = round(image.shape[0] * scale), round(image.shape[1] * scale)
    np.testing.assert_array_equal(imresize(image, scale), slow_imresize(image, height, width))


small = arrays(
    np.uint8,
    array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12).map(lambda s: (*s[:2], 3)),
)
targets = st.tuples(st.integers(1, 30), st.integers(1, 30))


@given(st.integers(0, 255), st.integers(1, 20), st.integers(1, 20), targets)
def test_a_constant_image_stays_constant(
    value: int, height: int, width: int, target: tuple[int, int]
) -> None:
    out = imresize(np.full((height, width, 3), value, np.uint8), target)
    np.testing.assert_array_equal(out, np.full((*target, 3), value))


@given(small, st.sampled_from([2, 3, 4]), st.sampled_from([0, 1]))
def test_flipping_before_and_after_is_the_same(
    image: NDArray[np.uint8], scale: int, axis: int
) -> None:
    np.testing.assert_array_equal(
        upscale(np.flip(image, axis), scale), np.flip(upscale(image, scale), axis)
    )
    hr = np.tile(image, (scale, scale, 1))
    np.testing.assert_array_equal(
        downscale(np.flip(hr, axis), scale), np.flip(downscale(hr, scale), axis)
    )


@given(small, targets)
def test_channels_do_not_mix_and_grey_planes_work(
    image: NDArray[np.uint8], target: tuple[int, int]
) -> None:
    together = imresize(image, target)
    for channel in range(3):
        np.testing.assert_array_equal(
            imresize(image[:, :, channel], target), together[:, :, channel]
        )


@given(small)
def test_scale_one_changes_nothing(image: NDArray[np.uint8]) -> None:
    np.testing.assert_array_equal(imresize(image, 1.0), image)
    np.testing.assert_allclose(imresize_float(image.astype(float), 1.0), image)


@given(small, st.sampled_from([2, 3, 4]))
def test_the_float_version_is_linear_and_the_uint8_one_its_rounding_per_pass(
    image: NDArray[np.uint8], scale: int
) -> None:
    as_float = imresize_float(image.astype(float), float(scale))
    np.testing.assert_allclose(
        imresize_float(image * 2.0 + 1.0, float(scale)), as_float * 2 + 1, atol=1e-9
    )
    one_pass = imresize_float(image[:, :1].astype(float), (image.shape[0] * scale, 1))
    expected = np.floor(np.clip(one_pass, 0, 255) + 0.5 + 1e-9)
    np.testing.assert_array_equal(imresize(image[:, :1], (image.shape[0] * scale, 1)), expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 4))
def test_odd_sizes_are_cut_to_a_multiple_before_they_are_reduced(
    height: int, width: int, scale: int
) -> None:
    image = np.zeros((height, width, 3), np.uint8)
    if min(height, width) < scale:
        with pytest.raises(DataError, match=f"{width}x{height}"):
            crop_to_multiple(image, scale)
        return
    cut = crop_to_multiple(image, scale)
    assert cut.shape[0] % scale == cut.shape[1] % scale == 0
    assert 0 <= height - cut.shape[0] < scale
    assert 0 <= width - cut.shape[1] < scale
    assert downscale(cut, scale).shape == (height // scale, width // scale, 3)


def test_a_scale_factor_rounds_sizes_up_as_matlab_does() -> None:
    assert imresize(np.zeros((7, 9, 1), np.uint8), 0.5).shape == (4, 5, 1)
    assert imresize(np.zeros((9, 27, 1), np.uint8), 1 / 3).shape == (3, 9, 1)


def test_bad_requests_say_what_to_do() -> None:
    with pytest.raises(DataError, match="imresize_float"):
        imresize(np.zeros((4, 4, 3)), 0.5)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="crop_to_multiple"):
        downscale(np.zeros((5, 4, 3), np.uint8), 2)
    with pytest.raises(DataError, match="0x2"):
        imresize(np.zeros((4, 4, 3), np.uint8), (2, 0))
