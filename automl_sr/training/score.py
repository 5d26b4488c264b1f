"""Scoring a model while it trains, on training samples that are held out for that."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch

from automl_sr.errors import DataError
from automl_sr.plugin.task import Port, TaskData
from automl_sr.training.randomness import generator, seed_model_randomness, undisturbed

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from automl_sr.plugin.metric import Metric
    from automl_sr.plugin.task import Interface, Samples, Task
    from automl_sr.plugin.technique import Technique

SHARE = 0.05
"""So much of the training samples is held out."""
MOST = 64
"""No more samples are held out than these: a score must not hold up the training."""


def asked(techniques: Iterable[Technique]) -> bool:
    """Say whether a technique of a plan declares that it asks for scores."""
    return any(technique.scores for technique in techniques)


def hold_out(samples: Samples, seed: int) -> tuple[Samples, Samples]:
    """Return what is left to train on, and what is held out, as the study's seed draws it.

    Raises DataError where nothing would be left.
    """
    count = len(samples)
    if count < 2:
        raise DataError(
            "A technique of this plan scores the model on training samples that are held out: "
            f"of {count} none is left to train on.",
            "Train on more images.",
        )
    numbers = generator(seed, "held out")
    order = torch.randperm(count, generator=numbers)
    share = max(1, round(SHARE * count))
    held = min(MOST, share)
    # Sorted, so that both parts keep the order of the images.
    kept_places = order[held:].sort().values
    held_places = order[:held].sort().values
    return samples.subset(kept_places), samples.subset(held_places)


@dataclass(frozen=True)
class Scorer:
    """Measures one quality metric on held-out samples, each state of a model once."""

    task: Task
    metric: Metric
    data: TaskData
    device: str
    _known: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(
        cls,
        task: Task,
        metric: Metric,
        held: Samples,
        device: str,
    ) -> Scorer:
        """Prepare the held-out samples as those of the validation set are."""
        data = TaskData(held, task.as_validation(held))
        return cls(task, metric, data, device)

    def score(
        self,
        model: str,
        weights: Mapping[str, Tensor],
        make: Callable[[], nn.Module],
    ) -> float:
        """Return the metric, negated where smaller is better; `model` is the blueprint's digest.

        Default generators are left as they were.
        """
        digest = _digest(model, weights)
        if digest not in self._known:
            # What is known already draws no numbers, and the training that follows has to be the
            # same in either case.
            with undisturbed():
                self._known[digest] = self._measured(weights, make)
        return self._known[digest]

    def _measured(
        self,
        weights: Mapping[str, Tensor],
        make: Callable[[], nn.Module],
    ) -> float:
        place = torch.device(self.device)
        # Asked for inside a loss, a score would be computed in the number format of training.
        plain = torch.autocast(place.type, enabled=False)
        with torch.no_grad(), plain:
            seed_model_randomness(0, "score")
            module = make()
            module.load_state_dict(weights)
            shipped = module.to(place).eval()
            runner = _ModuleRunner(shipped, place, self.task.interface())
            values = self.task.measure_quality(runner, self.data, [self.metric])
        value = float(values[self.metric.name])
        return -self.metric.loss(value)


class _ModuleRunner:
    """Lets a module take and give arrays, as a shipped file does."""

    metadata: ClassVar[Mapping[str, str]] = {}

    def __init__(
        self,
        module: nn.Module,
        place: torch.device,
        interface: Interface,
    ) -> None:
        self._module = module
        self._place = place
        self.inputs = _ports(interface.inputs)
        self.outputs = _ports(interface.outputs)

    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        """Return the first output for the one input."""
        taken = self.inputs[0].name
        given = self.outputs[0].name
        outputs = self.run({taken: batch})
        return outputs[given]

    def run(self, feed: Mapping[str, NDArray[Any]], /) -> dict[str, NDArray[Any]]:
        """Return all outputs by name for all inputs by name."""
        tensors = []
        for port in self.inputs:
            # torch takes no arrays with negative strides, such as those of mirrored images.
            array = np.ascontiguousarray(feed[port.name])
            tensor = torch.from_numpy(array)
            tensors.append(tensor.to(self._place))

        outputs = self._module(*tensors)
        if not isinstance(outputs, tuple | list):
            outputs = (outputs,)
        arrays: dict[str, NDArray[Any]] = {}
        for port, output in zip(self.outputs, outputs, strict=True):
            values = output.float().cpu()
            arrays[port.name] = values.numpy()
        return arrays


def _ports(names: Iterable[str]) -> tuple[Port, ...]:
    return tuple(Port(name, "tensor", ()) for name in names)


def _digest(model: str, weights: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(model.encode())
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        # With type and shape: equal bytes are not yet equal tensors.
        shape = tuple(value.shape)
        head = f"{name};{value.dtype};{shape};"
        total.update(head.encode())
        # As bytes, because NumPy knows no bfloat16.
        content = value.reshape(-1).view(torch.uint8)
        total.update(content.numpy().tobytes())
    return total.hexdigest()
