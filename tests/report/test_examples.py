"""Pictures of a report lose nothing, and models are chosen from end to end of the front."""

from __future__ import annotations

import base64
import io
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from PIL import Image

from automl_sr.presentation.gallery import data_uri
from automl_sr.report.examples import spread


def test_pictures_lose_nothing() -> None:
    image = np.random.default_rng(1).integers(0, 256, (16, 20, 3)).astype(np.uint8)
    kind, _, content = data_uri(image).partition(";base64,")
    assert kind.startswith("data:image/")
    read = Image.open(io.BytesIO(base64.b64decode(content))).convert("RGB")
    assert (np.asarray(read) == image).all()


@pytest.mark.parametrize(
    ("count", "most", "chosen"),
    [(2, 3, [0, 1]), (3, 3, [0, 1, 2]), (9, 3, [0, 4, 8]), (7, 4, [0, 2, 4, 6])],
)
def test_members_are_chosen_from_end_to_end(count: int, most: int, chosen: list[int]) -> None:
    front = cast("Any", [SimpleNamespace(number=number) for number in range(count)])
    assert [trial.number for trial in spread(front, most)] == chosen
