"""Tasks with one fault each, for tests of the contract: run with pytest, all but the sound one
fail.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from noise_removal import NoiseRemoval, Photographs

from automl_sr.testing import TaskContract
from automl_sr.testing.tiny import TinyNet


class Sound(TaskContract):
    architecture = TinyNet()
    test_set = "photos-valid"


class TestSoundTask(Sound):
    task = NoiseRemoval(noise=40.0)


class Unseeded(NoiseRemoval):
    """Draw from the generators of the process."""

    def draw(self, train, generator, *, batch, patch):
        drawn = super().draw(train, generator, batch=batch, patch=patch)
        return replace(drawn, inputs=drawn.inputs + 0.01 * torch.randn(drawn.inputs.shape))


class TestUnseeded(Sound):
    task = Unseeded()


class OneSize(NoiseRemoval):
    """Give examples of one size, on which a fixed shape would not show."""

    def examples(self, model):
        return super().examples(model)[:1] * 2


class TestOneSize(Sound):
    task = OneSize()


class Silent(NoiseRemoval):
    """Keep from readers of the file what the noise was."""

    def metadata(self):
        return {}


class TestSilent(Sound):
    task = Silent(noise=40.0)


class Changing(NoiseRemoval):
    """Read other data each time."""

    def load(self, seed, shared=None):
        found = super().load(seed)
        return replace(found, train=Photographs(torch.randint_like(found.train.clean, 256)))


class TestChanging(Sound):
    task = Changing()


class Greedy(NoiseRemoval):
    """Measure metrics that nobody has asked for, and not those that were."""

    def measure_quality(self, runner, data, metrics):
        return {"sharpness": 1.0}


class TestGreedy(Sound):
    task = Greedy()
