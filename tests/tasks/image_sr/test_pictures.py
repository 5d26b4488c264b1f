"""Pictures show the liveliest square of an image."""

from __future__ import annotations

import numpy as np

from automl_sr.tasks.image_sr.pictures import liveliest


def test_the_square_with_the_most_detail_is_found() -> None:
    image = np.full((96, 120, 3), 100, np.uint8)
    image[40:72, 64:96] = np.random.default_rng(0).integers(0, 256, (32, 32, 3))
    top, left, height, width = liveliest(image, 32, 2)
    assert (height, width) == (32, 32)
    assert abs(top - 40) <= 8
    assert abs(left - 64) <= 8
    assert top % 2 == left % 2 == 0


def test_a_small_image_is_shown_whole() -> None:
    assert liveliest(np.zeros((20, 30, 3), np.uint8), 64, 2) == (0, 0, 20, 30)
