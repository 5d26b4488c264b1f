"""One training step: losses, tapped layers, auxiliary modules, parameter groups, the update."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from automl_sr.errors import PluginError

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automl_sr.plugin.task import Batch
    from automl_sr.training.run import Run

LossTerm = Callable[["Output", "Batch", "Run"], "Tensor"]
Update = Callable[["Run", "Batch"], dict[str, "Tensor"]]
StepContext = Callable[["Run"], AbstractContextManager[None]]
LayerSwap = Callable[..., "Tensor"]
"""What is called in a layer's place: with the layer itself, then with its inputs."""
BatchSource = Callable[["Run"], "Batch"]
EvalWeights = Callable[["Run", dict[str, "Tensor"]], dict[str, "Tensor"]]


@dataclass(frozen=True)
class Output:
    """What the one forward pass gave.

    `taps` holds for each tapped module the list of its outputs: a layer may be called repeatedly.
    """

    prediction: Tensor
    taps: Mapping[str, list[Tensor]]


@dataclass(frozen=True)
class ParamGroup:
    """Parameters of the model, by name, that have an optimizer of their own.

    Architecture weights are some. A group that is not `automatic` is left alone by the default
    update: the technique that owns it calls `run.update(batch, groups=[name])`.
    """

    parameters: tuple[str, ...]
    lr: float
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    betas: tuple[float, float] = (0.9, 0.999)
    weight_decay: float = 0.0
    automatic: bool = True
    scheduled: bool = True
    """Whether the rate follows the recipe's warm-up and decay."""


def default_update(run: Run, batch: Batch) -> dict[str, Tensor]:
    """Do one forward pass, one backward pass, and step all automatic groups."""
    return run.update(batch)


@dataclass(frozen=True)
class TrainStep:
    """What a step consists of; techniques return changed copies.

    `update` may be replaced by a function that calls the former one: later slots wrap outermost.
    `step_contexts` are context managers around the optimizers' step, innermost, for updates that
    keep weights where they are. The moving average comes after all of this. `eval_weights` changes
    the weights (by name) with which the model is evaluated and shipped.
    """

    losses: Mapping[str, LossTerm]
    update: Update = default_update
    taps: tuple[str, ...] = ()
    aux: Mapping[str, nn.Module] = field(default_factory=dict)
    groups: Mapping[str, ParamGroup] = field(default_factory=dict)
    step_contexts: tuple[StepContext, ...] = ()
    eval_weights: EvalWeights | None = None
    batch: BatchSource | None = None
    """Where the batch of a step comes from, in the place of `run.batch()`."""
    ema: bool = True
    """Whether the model's moving average is kept, where the recipe asks for one.

    A search on a supernet has none.
    """

    layers: Mapping[str, LayerSwap] = field(default_factory=dict)
    """By module name, what is called in the layer's place in training: fake quantization, for one.

    It gets the layer and its inputs; `layer.forward(...)` is what the layer does by itself. What it
    learns belongs into `aux`. Parameters, checkpoints, scores, rungs and what ships are without it.
    """

    def with_loss(self, name: str, term: LossTerm) -> TrainStep:
        """Add or replace a loss term; the loss is the sum of all terms."""
        losses = dict(self.losses)
        losses[name] = term
        return replace(self, losses=losses)

    def without_loss(self, name: str) -> TrainStep:
        """Take a loss term away."""
        losses = dict(self.losses)
        losses.pop(name, None)
        return replace(self, losses=losses)

    def tapping(self, *modules: str) -> TrainStep:
        """Ask for the outputs of these modules of the model."""
        taps = list(self.taps)
        for name in modules:
            if name not in self.taps:
                taps.append(name)
        return replace(self, taps=tuple(taps))

    def with_aux(self, name: str, module: nn.Module) -> TrainStep:
        """Add a module that is trained and checkpointed but not exported."""
        aux = dict(self.aux)
        aux[name] = module
        return replace(self, aux=aux)

    def with_layer(self, name: str, swap: LayerSwap) -> TrainStep:
        """Call something else in the place of a layer while the model is trained; see `layers`.

        Raises PluginError where another technique has done so: the first would silently do nothing.
        """
        if name in self.layers:
            raise PluginError(f"Two techniques want to swap the layer {name!r}.")
        layers = dict(self.layers)
        layers[name] = swap
        return replace(self, layers=layers)

    def with_group(self, name: str, group: ParamGroup) -> TrainStep:
        """Train some parameters with an optimizer of their own."""
        groups = dict(self.groups)
        groups[name] = group
        return replace(self, groups=groups)

    def with_step_context(self, gate: StepContext) -> TrainStep:
        """Surround the optimizers' step, inside the gates of earlier slots."""
        return replace(self, step_contexts=(*self.step_contexts, gate))


@contextmanager
def swapped(layer: nn.Module, swap: LayerSwap) -> Iterator[None]:
    """Let a layer call something else for a while."""

    def call(*inputs: Any, **named: Any) -> Tensor:
        del layer.forward  # for as long as this call takes, the layer is itself again
        try:
            return swap(layer, *inputs, **named)
        finally:
            layer.forward = call

    # On the instance, below its hooks: what is tapped is what other layers see.
    layer.forward = call
    try:
        yield
    finally:
        del layer.forward
