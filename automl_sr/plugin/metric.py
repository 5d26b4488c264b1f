"""What a study can optimise or constrain.

Here are the description of a metric, and those metrics that need no knowledge of a task.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from automl_sr.errors import PluginError
from automl_sr.plugin.blueprint import load

Direction = Literal["maximize", "minimize"]
Level = Literal["blueprint", "quality", "artifact", "device", "trial"]
NEEDS: dict[Level, tuple[str, ...]] = {"quality": ("path",), "device": ("reference_net",)}
"""What metrics of a level can need."""


@dataclass(frozen=True)
class Metric:
    """One number per model, how to obtain it and which way is better.

    The level says when the number is known and what `measure` (a function, or `module:function`) is
    called with:

    - `blueprint`, before training: `measure(module_on_meta, example_inputs) -> float`
    - `quality`, from outputs on the validation set: `measure(prediction, truth, scale) -> float`
      for one image, with prediction and truth uint8 [H, W, 3]; a set's value is the mean over its
      images. With `color="y"` the prediction of a model that works on luma is its own Y instead,
      uint8 [H, W, 1].
    - `artifact`, from the exported file: `measure(path) -> float`
    - `device`, from timing the exported file: `measure(own, reference) -> float` with the times of
      the model, and those of the reference net, timed in turns, where the metric needs it (None
      otherwise).
    - `trial`, from the trained model and what it took: `measure(trained, seconds) -> float` with
      the `TrainedModel` as it was compressed, and the trial's seconds by stage.

    What is said of prediction and truth above is super-resolution's: another task says what its
    metrics are called with. `needs` names what a metric needs besides: `path`, of a quality metric,
    is the file of the sample, handed over by name, so that what lies beside an image can be read;
    `reference_net`, of a device metric, is the task's.
    """

    name: str
    direction: Direction
    level: Level
    measure: str | Callable[..., float]
    unit: str = ""
    log: bool = False
    color: Literal["rgb", "y"] = "rgb"
    help: str = ""
    needs: tuple[str, ...] = ()
    tasks: frozenset[str] = frozenset({"*"})
    """The tasks that a quality metric of a plugin fits; those in `Task.metrics` are that task's
    anyway.
    """

    @property
    def known_before_training(self) -> bool:
        """Whether the gate can reject a plan by this metric before anything is trained."""
        return self.level == "blueprint"

    def function(self) -> Callable[..., Any]:
        """Import the measure."""
        # Only when it is called: listing metrics needs neither numpy nor torch.
        return load(self.measure)

    @property
    def sign(self) -> int:
        """Return what makes smaller values the better ones.

        It is -1 where the metric is maximised, else 1.
        """
        if self.direction == "maximize":
            return -1
        return 1

    def loss(self, value: float) -> float:
        """Return the value, with its sign changed so that smaller is better."""
        return self.sign * value

    def best(self, values: Iterable[float]) -> float:
        """Return the best of some values. Raises ValueError where there are none."""
        return min(values, key=self.loss)

    def worst(self, values: Iterable[float]) -> float:
        """Return the worst of some values. Raises ValueError where there are none."""
        return max(values, key=self.loss)

    def of_sample(self, *values: Any, **known: Any) -> float:
        """Return the value for one sample.

        Of what is `known` of the sample, the metric gets by name what it needs. Raises PluginError
        where the task does not know that.
        """
        given: dict[str, Any] = {}
        for name in self.needs:
            given[name] = known.get(name)
            if given[name] is None:
                raise PluginError(
                    f"The metric {self.name!r} needs the {name} of a sample, which is not known"
                    " here."
                )
        measure = self.function()
        return float(measure(*values, **given))

    def better(self, a: float, b: float) -> bool:
        """Whether value `a` is strictly better than value `b`."""
        if self.direction == "maximize":
            return a > b
        return a < b


BUILTIN_METRICS: tuple[Metric, ...] = (
    Metric(
        "params",
        "minimize",
        "blueprint",
        "automl_sr.evaluation.cost:params",
        log=True,
        help="Number of parameters of the model.",
    ),
    Metric(
        "macs",
        "minimize",
        "blueprint",
        "automl_sr.evaluation.cost:macs",
        log=True,
        help="Multiply-adds for the example input (for image-sr: the input of a 1280x720 output).",
    ),
    Metric(
        "size_bytes",
        "minimize",
        "artifact",
        "automl_sr.evaluation.cost:size_bytes",
        unit="B",
        log=True,
        help="Size of the exported ONNX file.",
    ),
    Metric(
        "latency_ms",
        "minimize",
        "device",
        "automl_sr.evaluation.latency:latency_ms",
        unit="ms",
        log=True,
        help="Median time of one forward pass of the exported model on the study's device.",
    ),
    Metric(
        "latency_ratio",
        "minimize",
        "device",
        "automl_sr.evaluation.latency:latency_ratio",
        log=True,
        needs=("reference_net",),
        help=(
            "latency_ms divided by that of a fixed reference net timed in turns with it: robust on"
            " a noisy machine."
        ),
    ),
    Metric(
        "params_nonzero",
        "minimize",
        "trial",
        "automl_sr.evaluation.trained:params_nonzero",
        log=True,
        help="Number of parameters of the trained model that are not zero.",
    ),
    Metric(
        "train_seconds",
        "minimize",
        "trial",
        "automl_sr.evaluation.trained:train_seconds",
        unit="s",
        log=True,
        help="Seconds of choosing data and training, over all attempts; not reproducible.",
    ),
    Metric(
        "data_bytes",
        "minimize",
        "trial",
        "automl_sr.evaluation.trained:data_bytes",
        unit="B",
        log=True,
        help="Bytes of the samples that the model was trained on.",
    ),
)
