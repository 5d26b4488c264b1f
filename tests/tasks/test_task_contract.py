"""The contract of tasks, on super-resolution and on a task whose nets are recurrent."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sequence_denoising as toys
from PIL import Image
from skimage import data

from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.testing import TaskContract, TechniqueContract
from automl_sr.testing.tiny import TinyNet


@pytest.fixture(scope="module", autouse=True)
def small_sets(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Crops of photographs as sets: whole ones would take a while to enlarge."""
    folder = tmp_path_factory.mktemp("sets")
    for name, image in {"a": data.astronaut(), "b": data.chelsea(), "c": data.coffee()}.items():
        for place, top in {"small-train": 0, "small-valid": 130}.items():
            (folder / place).mkdir(exist_ok=True)
            Image.fromarray(np.ascontiguousarray(image[top : top + 80, 60:140])).save(
                folder / place / f"{name}.png"
            )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOML_SR_DATA", str(folder))
        yield


class TestImageSR(TaskContract):
    task = ImageSR(scale=2, color="y", train=("small-train",), valid=("small-valid",))
    architecture = TinyNet()


class TestImageSROnColours(TaskContract):
    task = ImageSR(scale=3, color="rgb", train=("small-train",), valid=("small-valid",))
    architecture = TinyNet()


class TestSequenceDenoising(TaskContract):
    task = toys.SequenceDenoising(train="small-train", valid="small-valid")
    architecture = toys.RememberingNet()
    test_set = "small-valid"


class TestRememberingNet(TechniqueContract):
    technique = toys.RememberingNet

    def make_task(self) -> Any:
        return TestSequenceDenoising.task

    def make_samples(self) -> Any:
        return self.make_task().load(0).train


# It stands in a file of tests, which may import torch.
TestRememberingNet.test_declaring_it_imports_nothing_heavy = None
