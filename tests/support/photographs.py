"""Photographs that scikit-image ships, as the folders of a study that trains for real."""

from __future__ import annotations

from pathlib import Path

import skimage.data
from PIL import Image

PARTS = (("train", "chelsea"), ("train", "coffee"), ("valid", "astronaut"), ("test", "rocket"))


def write_photographs(folder: Path) -> Path:
    """Write crops of 96 pixels into `train`, `valid` and `test` of a folder, and give the
    folder.
    """
    for part, name in PARTS:
        (folder / part).mkdir(parents=True, exist_ok=True)
        Image.fromarray(getattr(skimage.data, name)()[100:196, 100:196]).save(
            folder / part / f"{name}.png"
        )
    return folder
