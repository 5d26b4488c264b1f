"""What core expects of a metric."""

# ruff: noqa: S101 - tests assert, also those that are inherited
from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from numpy.typing import NDArray

from automl_sr.plugin.metric import Metric
from automl_sr.plugin.technique import NAME

Image = NDArray[np.uint8]


class MetricContract:
    """Inherit in a class whose name begins with `Test`, and set `metric` to a `Metric` or to
    several.
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
            if f"{level}_metric" in metafunc.fixturenames:
                chosen = []
                for item in self.metrics():
                    if level in ("any", item.level):
                        chosen.append(item)
                metafunc.parametrize(
                    f"{level}_metric", [pytest.param(item, id=item.name) for item in chosen]
                )

    def test_its_declaration_is_valid(self, any_metric: Metric) -> None:
        """A name for study files, a direction, one sentence of help, and a function that can be
        imported.
        """
        assert NAME.match(any_metric.name)
        assert any_metric.direction in ("maximize", "minimize")
        assert any_metric.help.endswith(".")
        assert callable(any_metric.function())

    def test_it_prefers_in_its_own_direction(self, any_metric: Metric) -> None:
        """`better` is strict and follows the direction."""
        assert any_metric.better(2.0, 1.0) == (any_metric.direction == "maximize")
        assert any_metric.better(1.0, 2.0) == (any_metric.direction == "minimize")
        assert not any_metric.better(1.0, 1.0)

    def sample_file(self, folder: Path) -> Path:
        """Write the sample's file, for metrics that need its path; put beside it what they look for
        there.
        """
        from PIL import Image as Pillow

        path = folder / "photograph.png"
        Pillow.fromarray(photograph()).save(path)
        return path

    def test_a_perfect_prediction_is_best_and_more_noise_is_worse(
        self, quality_metric: Metric, tmp_path: Path
    ) -> None:
        """Measured on a photograph with more and more noise; only perfection may be infinite."""
        path, truth = self.sample_file(tmp_path), photograph()
        measure = functools.partial(quality_metric.of_sample, path=path)
        values = []
        for level in (0, 2, 8, 32):
            values.append(measure(noisy(truth, level), truth, self.scale))
        assert not math.isnan(values[0])
        assert all(math.isfinite(value) for value in values[1:])
        assert all(quality_metric.better(a, b) for a, b in itertools.pairwise(values)), values

    def test_it_counts_a_net_without_weights(self, blueprint_metric: Metric) -> None:
        """The gate measures on the meta device."""
        import torch

        from automl_sr.testing.tiny_net import contract_net

        with torch.device("meta"):
            nets = []
            for width in (4, 16):
                nets.append(contract_net(channels=1, scale=2, width=width))
            small, large = (
                float(blueprint_metric.function()(net, [torch.empty(1, 1, 24, 32)])) for net in nets
            )
        assert 0 <= small <= large < math.inf

    def test_it_measures_a_file(self, artifact_metric: Metric, tmp_path: Path) -> None:
        """The exported model is all it gets."""
        value = float(artifact_metric.function()(exported(tmp_path / "net.onnx")))
        assert math.isfinite(value)

    def test_it_compares_times_with_those_of_the_reference(self, device_metric: Metric) -> None:
        """A slower model is never better."""
        from automl_sr.evaluation.latency import Latency

        reference = Latency(10.0, 9.0, 12.0, 20)
        given = None
        if "reference_net" in device_metric.needs:
            given = reference
        fast, slow = (
            float(device_metric.function()(Latency(t, 0.9 * t, 1.2 * t, 20), given))
            for t in (5.0, 20.0)
        )
        assert device_metric.better(fast, slow)


def photograph() -> Image:
    """Return a crop of a photograph, uint8 [96, 96, 3]."""
    from automl_sr.testing.tiny import tiny_samples

    crop: Image = tiny_samples().hr.image(0).permute(1, 2, 0).numpy()
    return crop


def noisy(image: Image, level: float) -> Image:
    """Add Gaussian noise of this standard deviation."""
    noise = np.random.default_rng(0).normal(0, 1, image.shape) * level
    return np.clip(image + np.rint(noise), 0, 255).astype(np.uint8)


def exported(path: Path) -> Path:
    """Write a small net as ONNX."""
    import torch

    from automl_sr.compression.export import export_onnx
    from automl_sr.testing.tiny_net import contract_net

    axes: dict[str, dict[int, str]] = {"input": {2: "height", 3: "width"}}
    examples: Sequence[torch.Tensor] = (torch.rand(1, 1, 12, 16),)
    return export_onnx(
        contract_net(channels=1, scale=2, width=4), path, examples, dynamic_axes=axes
    ).path
