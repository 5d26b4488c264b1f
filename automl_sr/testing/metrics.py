"""What core expects of a metric."""

# ruff: noqa: S101 - tests assert, also those that are inherited
from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from automl_sr.plugin.metric import Metric
from automl_sr.plugin.technique import NAME

if TYPE_CHECKING:
    from automl_sr.evaluation.latency import Latency

Image = NDArray[np.uint8]


class MetricContract:
    """Inherit in a class whose name begins with `Test`, and set `metric`.

    It is a `Metric`, or several.
    """

    metric: ClassVar[Any] = None
    scale: ClassVar[int] = 2

    @classmethod
    def metrics(cls) -> list[Metric]:
        """Return the metrics under test."""
        if cls.metric is None:
            raise TypeError(
                f"{cls.__name__} inherits a contract: set `metric = YOUR_METRIC` in it."
            )
        if isinstance(cls.metric, list | tuple):
            return list(cls.metric)
        return [cls.metric]

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        """Run each test for every metric, or for those of one level."""
        for level in ("any", "quality", "blueprint", "artifact", "device"):
            fixture = f"{level}_metric"
            if fixture not in metafunc.fixturenames:
                continue
            cases = []
            for item in self.metrics():
                if level in ("any", item.level):
                    cases.append(pytest.param(item, id=item.name))
            metafunc.parametrize(fixture, cases)

    def test_its_declaration_is_valid(self, any_metric: Metric) -> None:
        """A name for study files, a direction, one sentence of help, and its function."""
        assert NAME.match(any_metric.name)
        assert any_metric.direction in ("maximize", "minimize")
        assert any_metric.help.endswith(".")
        assert callable(any_metric.function())

    def test_it_prefers_in_its_own_direction(self, any_metric: Metric) -> None:
        """`better` is strict and follows the direction."""
        larger = any_metric.direction == "maximize"
        assert any_metric.better(2.0, 1.0) == larger
        assert any_metric.better(1.0, 2.0) != larger
        assert not any_metric.better(1.0, 1.0)

    def sample_file(self, folder: Path) -> Path:
        """Write the sample's file, for metrics that need its path.

        Put beside it what they look for there.
        """
        from PIL import Image as Pillow

        path = folder / "photograph.png"
        Pillow.fromarray(photograph()).save(path)
        return path

    def test_a_perfect_prediction_is_best_and_more_noise_is_worse(
        self,
        quality_metric: Metric,
        tmp_path: Path,
    ) -> None:
        """Measured on a photograph with more and more noise; only perfection may be infinite."""
        path = self.sample_file(tmp_path)
        truth = photograph()
        values = []
        for level in (0, 2, 8, 32):
            prediction = noisy(truth, level)
            value = quality_metric.of_sample(
                prediction,
                truth,
                self.scale,
                path=path,
            )
            values.append(value)

        perfect, *others = values
        assert not math.isnan(perfect)
        for value in others:
            assert math.isfinite(value)
        for less, more in itertools.pairwise(values):
            assert quality_metric.better(less, more), values

    def test_it_counts_a_net_without_weights(self, blueprint_metric: Metric) -> None:
        """The gate measures on the meta device."""
        import torch

        from automl_sr.testing.tiny_net import contract_net

        count = blueprint_metric.function()
        values = []
        with torch.device("meta"):
            image = torch.empty(1, 1, 24, 32)
            for width in (4, 16):
                net = contract_net(channels=1, scale=2, width=width)
                values.append(float(count(net, [image])))
        small, large = values
        assert 0 <= small <= large < math.inf

    def test_it_measures_a_file(self, artifact_metric: Metric, tmp_path: Path) -> None:
        """The exported model is all it gets."""
        path = exported(tmp_path / "net.onnx")
        value = float(artifact_metric.function()(path))
        assert math.isfinite(value)

    def test_it_compares_times_with_those_of_the_reference(self, device_metric: Metric) -> None:
        """A slower model is never better."""
        reference = None
        if "reference_net" in device_metric.needs:
            reference = times_around(10.0)
        compare = device_metric.function()
        fast = float(compare(times_around(5.0), reference))
        slow = float(compare(times_around(20.0), reference))
        assert device_metric.better(fast, slow)


def times_around(median: float) -> Latency:
    """Return times with this median, in ms."""
    from automl_sr.evaluation.latency import Latency

    return Latency(median, 0.9 * median, 1.2 * median, 20)


def photograph() -> Image:
    """Return a crop of a photograph, uint8 [96, 96, 3]."""
    from automl_sr.testing.tiny import tiny_samples

    pixels = tiny_samples().hr.image(0)
    crop: Image = pixels.permute(1, 2, 0).numpy()
    return crop


def noisy(image: Image, level: float) -> Image:
    """Add Gaussian noise of this standard deviation."""
    generator = np.random.default_rng(0)
    # The same noise at every level, only stronger.
    noise = generator.normal(0, 1, image.shape) * level
    changed = image + np.rint(noise)
    levels = np.clip(changed, 0, 255)
    return levels.astype(np.uint8)


def exported(path: Path) -> Path:
    """Write a small net as ONNX."""
    import torch

    from automl_sr.compression.export import export_onnx
    from automl_sr.testing.tiny_net import contract_net

    net = contract_net(channels=1, scale=2, width=4)
    image = torch.rand(1, 1, 12, 16)
    sides = {2: "height", 3: "width"}
    made = export_onnx(net, path, [image], dynamic_axes={"input": sides})
    return made.path
