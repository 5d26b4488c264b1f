"""A training run: model, optimizers, average, technique state and position, all of which a
checkpoint holds.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from automl_sr.errors import CheckpointError, NotFiniteError, PluginError
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.training.checkpoint import Snapshot
from automl_sr.training.ema import Ema
from automl_sr.training.optimizers import Optimizers
from automl_sr.training.phases import Enter, Span, Timetable
from automl_sr.training.precision import Precision, has_dilated_depthwise
from automl_sr.training.randomness import generator, seed_model_randomness
from automl_sr.training.step import LayerSwap, LossTerm, Output, TrainStep, swapped

if TYPE_CHECKING:
    from automl_sr.plugin.task import Batch, Samples, Task
    from automl_sr.plugin.technique import Technique
    from automl_sr.training.recipe import Recipe
    from automl_sr.training.score import Scorer
    from automl_sr.trial.context import Context


@dataclass(frozen=True)
class Setup:
    """What a run is given and never changes."""

    context: Context
    task: Task
    data: Samples
    recipe: Recipe
    techniques: tuple[Technique, ...]
    timetable: Timetable
    seed: int
    device: str
    full_data: Samples | None = None
    """All training samples of the task; None where they are those that are trained on."""
    scorer: Scorer | None = None
    """What `run.score` measures with; None where no technique declares that it asks for scores."""


@dataclass(frozen=True)
class TrainedModel:
    """A trained model on its way out: compressed, exported, then evaluated."""

    module: nn.Module
    blueprint: Blueprint
    task: Task
    data: Samples
    state: Mapping[str, Any]
    folder: Path
    onnx: Path | None = None
    notes: tuple[str, ...] = field(default=())


class Run:
    """The mutable state of one training run; techniques see it in their enters, wraps, losses and
    updates.
    """

    def __init__(self, setup: Setup, blueprint: Blueprint, model: nn.Module) -> None:
        self.setup = setup
        self.context = setup.context
        self.task = setup.task
        self.data = setup.data
        self.recipe = setup.recipe
        self.seed = setup.seed
        self.blueprint = blueprint
        self.model = self._placed(model)
        self.state: dict[str, Any] = {}
        """Technique state: tensors or JSON, checkpointed with the run.

        Prefix keys with the technique's name.
        """
        self.constants: dict[str, dict[str, Tensor]] = {}
        self.step = 0
        self.span: Span | None = None
        self.branch_step: int | None = None
        self.phase_left = False
        """Whether the phase at hand has ended: a rung at its end is measured after it was left."""
        self.warm_from = 0
        self.precision = Precision.of(setup.recipe.precision, setup.device, setup.context.precision)
        self._dilated = False
        self.last_loss = torch.zeros(())
        self.train_step = TrainStep({})
        self.optimizers = Optimizers({}, {}, setup.recipe)
        self.ema: Ema | None = None
        self._tapped: dict[str, list[Tensor]] = {}
        self._tapping = False
        self._hooks: list[Any] = []
        self._swaps: list[tuple[nn.Module, LayerSwap]] = []
        self._call: Any = None

    # ---- life ------------------------------------------------------------------------------------

    @classmethod
    def start(cls, setup: Setup, blueprint: Blueprint) -> Run:
        """Begin with fresh weights, drawn from the run's seed."""
        seed_model_randomness(setup.seed, "weights")
        run = cls(setup, blueprint, build(blueprint, setup.context.registry))
        run._enter(setup.timetable.spans[0])
        return run

    def advance(self) -> None:
        """Do one step; enter the next phase first where one begins."""
        if self.span is not None and self.step >= self.span.stop:
            self.leave_phase()
            self._enter(self._span_at(self.step))
        self.optimizers.set_rates(self.rate())
        seed_model_randomness(self.seed, "step", self.step)
        self.train_step.update(self, self._next_batch())
        if self.ema is not None:
            self.ema.update()
        self.step += 1

    def leave_phase(self) -> None:
        """Let the phase at hand end; does nothing the second time."""
        if not self.phase_left and self.span is not None:
            self._leave(self.span)
            self.phase_left = True

    def branch(self) -> Run:
        """Copy the run; the copy goes on with the tail phases, and this one stays as it is."""
        copy = Run.restore(self.setup, self.capture())
        copy.branch_step = self.step
        if copy.spans:
            copy._enter(copy.spans[0])
        return copy

    def leave_tail(self) -> None:
        """Let the last tail phase end, where there is one."""
        if self.spans and self.span is not None:
            self._leave(self.span)

    @property
    def end(self) -> int:
        """The step at which this run (trunk or branch) ends."""
        if self.spans:
            return self.spans[-1].stop
        return self.step

    @property
    def spans(self) -> tuple[Span, ...]:
        """The phases of the trunk, or of the tail of a branch (none where there is no tail)."""
        table = self.setup.timetable
        if self.branch_step is None:
            return table.spans
        return table.tail_spans(self.branch_step)

    # ---- what techniques use ---------------------------------------------------------------------

    def batch(self, stream: str = "train", data: Samples | None = None) -> Batch:
        """Draw the batch of this step from a named stream; the same step, stream and data give the
        same batch.

        `data` are other samples than those of the run: a part of them (`run.data.subset`), or all
        (`run.full_data`).
        """
        numbers = generator(self.seed, stream, self.step)
        if data is None:
            samples = self.data
        else:
            samples = data
        batch = self.task.draw(samples, numbers, batch=self.recipe.batch, patch=self.recipe.patch)
        if (
            self.recipe.channels_last
            and isinstance(batch.inputs, Tensor)
            and batch.inputs.dim() == 4
        ):
            return replace(batch, inputs=batch.inputs.contiguous(memory_format=torch.channels_last))
        return batch

    @property
    def full_data(self) -> Samples:
        """All training samples of the task, without selection or distillation."""
        if self.setup.full_data is None:
            return self.setup.data
        return self.setup.full_data

    def _next_batch(self) -> Batch:
        source = self.train_step.batch
        if source is None:
            return self.batch()
        return source(self)

    def generator(self, *what: Any) -> torch.Generator:
        """Return a random generator for a purpose; add `run.step` to the purpose to have another
        one at every step.
        """
        return generator(self.seed, *what)

    def loss(
        self, batch: Batch, losses: Mapping[str, LossTerm] | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the model once and add up the loss terms, those of the step by default: the sum, and
        each term.
        """
        if losses is None:
            asked = self.train_step.losses
        else:
            asked = losses
        with self.precision.autocast(dilated=self._dilated):
            output = self.forward(batch)
            terms = {}
            for name, term in asked.items():
                terms[name] = term(output, batch, self)
        return torch.stack(list(terms.values())).sum(), terms

    def forward(self, batch: Batch) -> Output:
        """Run the model once; the prediction is float32.

        What is called outside of this is not tapped.
        """
        self._tapped = {}
        self._tapping = True
        try:
            with contextlib.ExitStack() as layers:
                for layer, swap in self._swaps:
                    layers.enter_context(swapped(layer, swap))
                prediction = self.task.forward(self._call, batch).float()
        finally:
            self._tapping = False
        return Output(prediction, self._tapped)

    def update(
        self,
        batch: Batch,
        groups: Sequence[str] | None = None,
        losses: Mapping[str, LossTerm] | None = None,
    ) -> dict[str, Tensor]:
        """Step the named groups (all automatic ones by default) on a batch, by the step's losses or
        by others.
        """
        if groups is None:
            names = self.optimizers.automatic()
        else:
            names = list(groups)
        self.optimizers.zero()
        total, terms = self.loss(batch, losses)
        self.last_loss = total.detach()
        self.precision.backward(total)
        self.precision.unscale(self.optimizers.each(names))
        self._step(names, scaled=True)
        return terms

    def apply(self, gradients: Mapping[str, Tensor], groups: Sequence[str]) -> None:
        """Step the named groups by gradients of the technique's own, by parameter name:
        second-order steps, for one.

        Raises PluginError for a name that is no trainable parameter.
        """
        self.optimizers.zero()
        self.optimizers.set_gradients(gradients)
        self._step(list(groups), scaled=False)

    def _step(self, names: Sequence[str], *, scaled: bool) -> None:
        """Clip and step inside the techniques' contexts: what they hold still must not count for
        the norm.

        Gradients of a backward pass are `scaled`, where the number format asks for that.
        """
        with contextlib.ExitStack() as step_contexts:
            for context in self.train_step.step_contexts:
                step_contexts.enter_context(context(self))
            if self.recipe.clip:
                nn.utils.clip_grad_norm_(self.optimizers.parameters(names), self.recipe.clip)
            optimizers = self.optimizers.each(names)
            if scaled:
                self.precision.step(optimizers)
            else:
                for optimizer in optimizers:
                    optimizer.step()

    def copy_model(self) -> nn.Module:
        """Return a copy of the model as it is, without the hooks that tap it, in evaluation
        mode.
        """
        copy = self.context.model(self.blueprint)
        copy.load_state_dict(self.model.state_dict())
        return copy.eval()

    def keep_constant(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors that never change again, such as the initial weights; they are written to
        disk once.
        """
        if name in self.constants:
            raise PluginError(f"The constant {name!r} is already kept.")
        self.constants[name] = {key: value.detach().clone() for key, value in tensors.items()}

    def evaluation_state(self) -> dict[str, Tensor]:
        """Return the weights with which the model is evaluated and shipped: the average where there
        is one.
        """
        weights = {}
        for name, value in self.model.state_dict().items():
            weights[name] = value.detach()
        if self.ema is not None:
            weights.update(self.ema.values)
        if self.train_step.eval_weights is not None:
            weights = self.train_step.eval_weights(self, weights)
        found: dict[str, Tensor] = {}
        for name, value in weights.items():
            found[name] = value.clone()
        return found

    def score(self) -> float:
        """Return the quality of the float model on samples held out for this; higher is better.

        It is the study's first quality objective, or else the task's first quality metric, negated
        where smaller is better, of the weights that would be evaluated now. The samples are of the
        training set, depend on the study's data and seed alone, and never give an objective. Raises
        PluginError where no technique of the plan declares `scores`, NotFiniteError where training
        has broken down.
        """
        scorer = self.setup.scorer
        if scorer is None:
            raise PluginError(
                "A technique asks for run.score(), and no samples are held out for it.",
                "Declare `scores: ClassVar[bool] = True` on the technique; helper models have"
                " none.",
            )
        self.check_finite()
        return scorer.score(
            self.blueprint.digest(),
            self.evaluation_state(),
            lambda: build(self.blueprint, self.context.registry),
        )

    def finish(self, folder: Path) -> TrainedModel:
        """Return the model with its evaluation weights, apart from this run."""
        module = build(self.blueprint, self.context.registry)
        module.load_state_dict(self.evaluation_state())
        return TrainedModel(
            module.eval(), self.blueprint, self.task, self.data, dict(self.state), folder
        )

    def rate(self) -> float:
        """Return the factor on the recipe's learning rate at this step."""
        span = self._span_at(self.step)
        warmup = round(self.recipe.warmup * self.setup.timetable.steps)
        factor = span.phase.lr * min(1.0, (self.step - self.warm_from + 1) / max(1, warmup))
        if span.phase.decay:
            factor *= 1 - (self.step - span.start) / span.steps
        return factor

    def check_finite(self) -> None:
        """Raise NotFiniteError if the last loss was NaN or infinite."""
        value = float(self.last_loss)
        if not math.isfinite(value):
            phase = ""
            if self.span:
                phase = self.span.phase.name
            raise NotFiniteError(
                f"The loss became {value} by step {self.step} ({phase}, rate"
                f" {self.recipe.lr * self.rate():.2g}).",
                "A smaller learning rate or fp32 may help.",
            )

    # ---- phases ----------------------------------------------------------------------------------

    def _span_at(self, step: int) -> Span:
        spans = self.spans
        return next((span for span in spans if step < span.stop), spans[-1])

    def _leave(self, span: Span) -> None:
        self._change(span.phase.on_leave, "leave", span)
        if span.phase.on_leave:
            self._wire()

    def _enter(self, span: Span) -> None:
        self.span, self.phase_left = span, False
        self._change(span.phase.on_enter, "enter", span)
        self._wire()

    def _change(self, actions: Iterable[Enter], what: str, span: Span) -> None:
        """Let techniques change the run, one after the other, each seeing what the former ones
        did.
        """
        for number, action in enumerate(actions):
            seed_model_randomness(self.seed, what, span.index, number)
            change = action(self)
            if change is None:
                continue
            if change.model is not None and change.blueprint is None:
                raise PluginError(
                    f"Phase {span.phase.name!r}: a changed model needs its blueprint."
                )
            if change.blueprint is not None:
                if change.model is None:
                    model = self._built_from(change.blueprint)
                else:
                    model = change.model
                self.model, self.blueprint = self._placed(model), change.blueprint
                if self.context.fits is not None:
                    self.context.fits(self.blueprint)
            if change.optimizer == "reset" and what == "enter" and not span.phase.resets:
                raise PluginError(
                    f"Entering the phase {span.phase.name!r} resets the optimizer without"
                    " saying so.",
                    "Declare it as Phase(..., resets=True), so that no rung lies just after it.",
                )
            self._wire(keep_optimizer=change.optimizer == "keep", keep_ema=change.ema == "keep")

    def _built_from(self, blueprint: Blueprint) -> nn.Module:
        """Build the model of a blueprint; tensors of the same name and shape as the present one's
        are copied.
        """
        model = build(blueprint, self.context.registry)
        present = self.model.state_dict()
        own = model.state_dict()
        fitting = {}
        for key in own:
            if key in present and present[key].shape == own[key].shape:
                fitting[key] = present[key]
        model.load_state_dict(fitting, strict=False)
        return model

    def _placed(self, model: nn.Module) -> nn.Module:
        placed = model.to(self.setup.device).train()
        if self.setup.recipe.channels_last:
            placed = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def _wire(self, *, keep_optimizer: bool = True, keep_ema: bool = True) -> None:
        """Compose the step of core's and the techniques' parts; optimizer, average and aux weights
        are carried over.
        """
        if keep_optimizer:
            moments = self.optimizers.state()
        else:
            moments = {}
        aux_before = {name: module.state_dict() for name, module in self.train_step.aux.items()}
        if not keep_optimizer:
            self.warm_from = self.step
        self.train_step = self._compose()
        for name, module in self.train_step.aux.items():
            module.to(self.setup.device).train()
            earlier = aux_before.get(name, {})
            own = module.state_dict()
            if earlier.keys() == own.keys() and all(
                earlier[key].shape == own[key].shape for key in own
            ):
                module.load_state_dict(earlier)
        self._dilated = has_dilated_depthwise(self.model, *self.train_step.aux.values())
        self.optimizers = Optimizers(self._trainable(), self.train_step.groups, self.recipe)
        self.optimizers.load_state(moments)
        if self.recipe.ema and self.train_step.ema:
            earlier_ema = None
            if keep_ema:
                earlier_ema = self.ema
            self.ema = Ema(
                self.model,
                self.recipe.ema,
                earlier=earlier_ema.values if earlier_ema else None,
                steps=earlier_ema.steps if earlier_ema else 0,
            )
        else:
            self.ema = None
        self._tap()

    def _compose(self) -> TrainStep:
        """Ask every technique, then the phase; random numbers for fresh auxiliary weights depend on
        the phase alone.
        """
        span = self.span
        seed_model_randomness(self.seed, "wrap", span.index if span else 0)
        step = TrainStep({"task": _task_loss})
        for technique in self.setup.techniques:
            step = technique.wrap_step(step, self)
        for wrap in span.phase.wraps if span else ():
            step = wrap(step, self)
        return step

    def _trainable(self) -> dict[str, nn.Parameter]:
        named = {
            name: value for name, value in self.model.named_parameters() if value.requires_grad
        }
        for name, module in self.train_step.aux.items():
            named.update(
                {
                    f"aux.{name}.{key}": value
                    for key, value in module.named_parameters()
                    if value.requires_grad
                }
            )
        return named

    def _tap(self) -> None:
        """Have tapped outputs collected, and layers swapped, during the one forward pass."""
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        modules = dict(self.model.named_modules())
        for name in self.train_step.taps:
            if name not in modules:
                raise PluginError(
                    f"A technique taps the module {name!r}, which the model does not have."
                )

            def collect(_module: nn.Module, _inputs: Any, output: Tensor, name: str = name) -> None:
                if self._tapping:
                    self._tapped.setdefault(name, []).append(output)

            self._hooks.append(modules[name].register_forward_hook(collect))
        self._swaps = []
        for name, swap in self.train_step.layers.items():
            if name not in modules:
                raise PluginError(f"A technique swaps the layer {name!r}, which is not there.")
            self._swaps.append((modules[name], swap))
        plain = not self._hooks and not self._swaps
        self._call = torch.compile(self.model) if self.recipe.compile and plain else self.model

    # ---- checkpoint ------------------------------------------------------------------------------

    def capture(self) -> Snapshot:
        """Copy everything that a resume needs.

        Raises NotFiniteError rather than keep a broken run.
        """
        self.check_finite()
        tensors = {f"model|{name}": value for name, value in self.model.state_dict().items()}
        tensors |= {f"optimizer|{name}": value for name, value in self.optimizers.state().items()}
        if self.ema is not None:
            tensors |= {f"average|{name}": value for name, value in self.ema.values.items()}
        for name, module in self.train_step.aux.items():
            tensors |= {f"aux|{name}|{key}": value for key, value in module.state_dict().items()}
        tensors |= {
            f"state|{key}": value for key, value in self.state.items() if isinstance(value, Tensor)
        }
        meta = {
            "blueprint": self.blueprint.to_json(),
            "step": self.step,
            "span": self.span.index if self.span else 0,
            "branch_step": self.branch_step,
            "phase_left": self.phase_left,
            "warm_from": self.warm_from,
            "average_steps": self.ema.steps if self.ema else 0,
            "seed": self.seed,
            "timetable": self.setup.timetable.signature(),
            "precision": self.precision.state(),
            # Through JSON, so that a branch shares nothing with its trunk, and is what a resume
            # from disk would be.
            "state": json.loads(
                json.dumps(
                    {
                        key: value
                        for key, value in self.state.items()
                        if not isinstance(value, Tensor)
                    }
                )
            ),
            "data": self.data.fingerprint,
            "constants": sorted(self.constants),
        }
        return Snapshot(
            {name: value.detach().clone() for name, value in tensors.items()},
            meta,
            dict(self.constants),
        )

    @classmethod
    def restore(cls, setup: Setup, snapshot: Snapshot) -> Run:
        """Rebuild a run from a snapshot; no enter runs.

        Raises CheckpointError for one of another plan.
        """
        meta = snapshot.meta
        expected = (setup.timetable.signature(), setup.seed, setup.data.fingerprint)
        if (meta["timetable"], meta["seed"], meta["data"]) != expected:
            raise CheckpointError(
                "The checkpoint was written with another training plan or other data.",
                "Remove it to start this trial afresh.",
            )
        run = cls._rebuilt(setup, snapshot)
        run.step, run.branch_step, run.phase_left = (
            meta["step"],
            _branch_step(meta),
            _phase_left(meta),
        )
        run.precision = Precision.from_state(meta["precision"], setup.device)
        spans = (*setup.timetable.spans, *run.spans)
        run._take_up(next(span for span in spans if span.index == meta["span"]), snapshot)
        run.warm_from = meta["warm_from"]
        return run

    @classmethod
    def go_on(cls, setup: Setup, snapshot: Snapshot) -> Run:
        """Begin the setup's timetable (see `continued`) with what the trunk of another run has
        learnt; no enter runs.

        Weights, average, optimizer moments and technique state are carried over; data, seed and
        steps may be others. Raises CheckpointError for a snapshot that is not a trunk's, or does
        not fit its own blueprint.
        """
        if _branch_step(snapshot.meta) is not None:
            raise CheckpointError("The checkpoint is of a branch, which has cooled down already.")
        try:
            run = cls._rebuilt(setup, snapshot)
        except RuntimeError as error:  # what torch says of weights of other names or shapes
            text = " ".join(str(error).split())
            raise CheckpointError(
                f"The checkpoint does not fit the model that it describes: {text}"
            ) from error
        if snapshot.meta["precision"]["kind"] == run.precision.kind:
            run.precision = Precision.from_state(snapshot.meta["precision"], setup.device)
        run._take_up(setup.timetable.spans[0], snapshot)
        return run

    @classmethod
    def _rebuilt(cls, setup: Setup, snapshot: Snapshot) -> Run:
        """Build the model of a snapshot, with its weights, technique state and constants."""
        meta = snapshot.meta
        blueprint = Blueprint.from_json(meta["blueprint"])
        run = cls(setup, blueprint, build(blueprint, setup.context.registry))
        run.model.load_state_dict(_part(snapshot, "model"))
        run.state = {**meta["state"], **_part(snapshot, "state")}
        run.state = {
            key: value.to(setup.device) if isinstance(value, Tensor) else value
            for key, value in run.state.items()
        }
        run.constants = {
            name: {key: value.to(setup.device) for key, value in tensors.items()}
            for name, tensors in snapshot.constants.items()
        }
        return run

    def _take_up(self, span: Span, snapshot: Snapshot) -> None:
        """Stand in a phase without entering it, with the moments, auxiliary weights and average of
        a snapshot.
        """
        self.span = span
        self._wire()
        self.optimizers.load_state(_part(snapshot, "optimizer"))
        for name, module in self.train_step.aux.items():
            module.load_state_dict(_part(snapshot, f"aux|{name}"))
        if self.ema is not None:
            self.ema = Ema(
                self.model,
                self.recipe.ema,
                earlier=_part(snapshot, "average"),
                steps=snapshot.meta["average_steps"],
            )


def continued(setup: Setup, snapshot: Snapshot, steps: int) -> Setup:
    """Lay out so many more steps of the phase in which a snapshot was taken.

    Raises CheckpointError, PluginError.
    """
    meta = snapshot.meta
    if meta["span"] >= len(meta["timetable"]):
        raise CheckpointError("The checkpoint does not say in which phase it was written.")
    name = meta["timetable"][meta["span"]][0]
    return replace(setup, timetable=setup.timetable.going_on(name, steps))


def _part(snapshot: Snapshot, prefix: str) -> dict[str, Tensor]:
    start = f"{prefix}|"
    found: dict[str, Tensor] = {}
    for name, value in snapshot.tensors.items():
        if name.startswith(start):
            found[name[len(start) :]] = value
    return found


def _task_loss(output: Output, batch: Batch, run: Run) -> Tensor:
    return run.task.loss(output.prediction, batch, run.recipe.loss)


def _branch_step(meta: Mapping[str, Any]) -> int | None:
    """Return the step at which a checkpointed run left its trunk; checkpoints of version 0.1.0 call
    it a fork.
    """
    step: int | None = meta["branch_step"] if "branch_step" in meta else meta["fork_step"]
    return step


def _phase_left(meta: Mapping[str, Any]) -> bool:
    """Return whether a checkpointed run had left its phase; version 0.1.0 knew it of the trunk's
    last one alone.
    """
    left: bool = meta["phase_left"] if "phase_left" in meta else meta["trunk_left"]
    return left
