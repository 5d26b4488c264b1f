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
    order = torch.randperm(count, generator=generator(seed, "held out"))
    held = min(MOST, max(1, round(SHARE * count)))
    return samples.subset(order[held:].sort().values), samples.subset(order[:held].sort().values)


@dataclass(frozen=True)
class Scorer:
    """Measures one quality metric on held-out samples, each state of a model once."""

    task: Task
    metric: Metric
    data: TaskData
    device: str
    _known: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, task: Task, metric: Metric, held: Samples, device: str) -> Scorer:
        """Prepare the held-out samples as those of the validation set are."""
        return cls(task, metric, TaskData(held, task.as_validation(held)), device)

    def score(
        self,
        model: str,
        weights: Mapping[str, Tensor],
        make: Callable[[], nn.Module],
    ) -> float:
        """Return the metric, negated where smaller is better; `model` is the blueprint's digest.

        Default generators are left as they were: what is known already draws no numbers, and the
        training that follows has to be the same.
        """
        digest = _digest(model, weights)
        if digest not in self._known:
            place = torch.device(self.device)
            plain = torch.autocast(place.type, enabled=False)
            with undisturbed(), torch.no_grad(), plain:
                seed_model_randomness(0, "score")
                module = make()
                module.load_state_dict(weights)
                runner = _ModuleRunner(module.to(place).eval(), place, self.task.interface())
                values = self.task.measure_quality(runner, self.data, [self.metric])
            self._known[digest] = -self.metric.loss(float(values[self.metric.name]))
        return self._known[digest]


class _ModuleRunner:
    """Lets a module take and give arrays, as a shipped file does."""

    metadata: ClassVar[Mapping[str, str]] = {}

    def __init__(self, module: nn.Module, place: torch.device, interface: Interface) -> None:
        self._module = module
        self._place = place
        self.inputs = tuple(Port(name, "tensor", ()) for name in interface.inputs)
        self.outputs = tuple(Port(name, "tensor", ()) for name in interface.outputs)

    def __call__(self, batch: NDArray[Any], /) -> NDArray[Any]:
        """Return the first output for the one input."""
        return self.run({self.inputs[0].name: batch})[self.outputs[0].name]

    def run(self, feed: Mapping[str, NDArray[Any]], /) -> dict[str, NDArray[Any]]:
        """Return all outputs by name for all inputs by name."""
        given = [feed[port.name] for port in self.inputs]
        tensors = []
        for array in given:
            tensors.append(torch.from_numpy(np.ascontiguousarray(array)).to(self._place))
        made = self._module(*tensors)
        if isinstance(made, tuple | list):
            outputs = made
        else:
            outputs = (made,)
        named = zip(self.outputs, outputs, strict=True)
        found: dict[str, NDArray[Any]] = {}
        for port, output in named:
            found[port.name] = output.float().cpu().numpy()
        return found


def _digest(model: str, weights: Mapping[str, Tensor]) -> str:
    total = hashlib.sha256(model.encode())
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        total.update(f"{name};{value.dtype};{tuple(value.shape)};".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()
