"""A training run: model, optimizers, average, technique state and position.

A checkpoint holds all of them.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from automl_sr.errors import CheckpointError, NotFiniteError, PluginError
from automl_sr.plugin.blueprint import Blueprint, build
from automl_sr.plugin.weights import misfit
from automl_sr.training.checkpoint import Snapshot
from automl_sr.training.ema import Ema
from automl_sr.training.optimizers import Optimizers
from automl_sr.training.phases import Enter, ModelUpdate, Span, Timetable, Wrap
from automl_sr.training.precision import Precision, has_dilated_depthwise
from automl_sr.training.randomness import generator, seed_model_randomness
from automl_sr.training.step import LayerSwap, LossTerm, Output, TrainStep, swapped

if TYPE_CHECKING:
    from automl_sr.plugin.task import Batch, Samples, Task
    from automl_sr.plugin.technique import Technique
    from automl_sr.training.recipe import Recipe
    from automl_sr.training.score import Scorer
    from automl_sr.trial.context import Context

Named = Mapping[str, Tensor]


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
    architecture: Technique | None = None
    """Who is asked for the first weights, and for the form that ships.

    None where all weights are drawn, and the model ships as it is trained.
    """


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
    """The mutable state of one training run.

    Techniques see it in their enters, wraps, losses and updates.
    """

    def __init__(
        self,
        setup: Setup,
        blueprint: Blueprint,
        model: nn.Module,
    ) -> None:
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

        # The number format is the study's, resolved once: workers may have other processors.
        self.precision = Precision.of(
            setup.recipe.precision,
            setup.device,
            setup.context.precision,
        )
        self._dilated = False
        self.last_loss = torch.zeros(())

        # Nothing is trained before the first phase composes a step.
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
        """Begin with weights that are drawn from the run's seed, or that the architecture gives."""
        seed_model_randomness(setup.seed, "weights")
        model = build(blueprint, setup.context.registry)
        _give_first_weights(model, setup, blueprint)
        run = cls(setup, blueprint, model)
        run._enter(setup.timetable.spans[0])
        return run

    def advance(self) -> None:
        """Do one step; enter the next phase first where one begins."""
        # What ends is left before what begins is entered, and both before the rate is set: a reset
        # begins the warm-up anew.
        if self.span is not None and self.step >= self.span.stop:
            self.leave_phase()
            self._enter(self._span_at(self.step))

        self.optimizers.set_rates(self.rate())
        # By step, not once: what a step draws is the same after any interruption.
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
        # By way of a snapshot: a branch is what a resume would be, and shares nothing.
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
        """Draw the batch of this step from a named stream.

        The same step, stream and data give the same batch. `data` are other samples than those of
        the run: a part of them (`run.data.subset`), or all (`run.full_data`).
        """
        numbers = generator(self.seed, stream, self.step)
        samples = self.data
        if data is not None:
            samples = data

        batch = self.task.draw(
            samples,
            numbers,
            batch=self.recipe.batch,
            patch=self.recipe.patch,
        )
        inputs = batch.inputs
        if not self.recipe.channels_last or not isinstance(inputs, Tensor):
            return batch
        if inputs.dim() != 4:
            return batch  # torch knows the layout of images alone
        return replace(batch, inputs=inputs.contiguous(memory_format=torch.channels_last))

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
        """Return a random generator for a purpose.

        Add `run.step` to the purpose to have another one at every step.
        """
        return generator(self.seed, *what)

    def loss(
        self,
        batch: Batch,
        losses: Mapping[str, LossTerm] | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Run the model once and return the sum of the loss terms, and each term.

        The terms are those of the step where no others are given.
        """
        asked = self.train_step.losses
        if losses is not None:
            asked = losses

        terms = {}
        with self.precision.autocast(dilated=self._dilated):
            output = self.forward(batch)
            for name, term in asked.items():
                terms[name] = term(output, batch, self)
        total = torch.stack(list(terms.values())).sum()
        return total, terms

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
        """Step the named groups on a batch and return the loss terms.

        By default these are all automatic groups, and the losses are those of the step.
        """
        if groups is None:
            names = self.optimizers.automatic()
        else:
            names = list(groups)

        self.optimizers.zero()
        total, terms = self.loss(batch, losses)
        # Kept as a tensor: reading its value would make a GPU wait in every step.
        self.last_loss = total.detach()

        self.precision.backward(total)
        self.precision.unscale(self.optimizers.each(names))
        self._step(names, scaled=True)
        return terms

    def apply(self, gradients: Mapping[str, Tensor], groups: Sequence[str]) -> None:
        """Step the named groups by gradients of the technique's own, by parameter name.

        Second-order steps need this, for one. Raises PluginError for a name that is no trainable
        parameter.
        """
        self.optimizers.zero()
        self.optimizers.set_gradients(gradients)
        self._step(list(groups), scaled=False)

    def _step(self, names: Sequence[str], *, scaled: bool) -> None:
        """Clip and step inside the techniques' contexts.

        Gradients of a backward pass are `scaled`, where the number format asks for that.
        """
        with contextlib.ExitStack() as step_contexts:
            # Before clipping: gradients of weights that are held still must not count for the norm.
            for context in self.train_step.step_contexts:
                step_contexts.enter_context(context(self))

            if self.recipe.clip:
                clipped = self.optimizers.parameters(names)
                nn.utils.clip_grad_norm_(clipped, self.recipe.clip)

            optimizers = self.optimizers.each(names)
            if scaled:
                self.precision.step(optimizers)
                return
            for optimizer in optimizers:
                optimizer.step()

    def moments(self, parameter: str) -> dict[str, Tensor]:
        """Return what the optimizer knows of a parameter: `exp_avg` and `exp_avg_sq` of Adam.

        They are no copies: what is changed in them in a step context counts from the next step on.
        Empty before the parameter's first step.
        """
        return self.optimizers.moments(parameter)

    def copy_model(self) -> nn.Module:
        """Return a copy of the model as it is, without hooks, in evaluation mode."""
        # Built anew: a deep copy would keep the hooks, and append to the taps of this model.
        copy = self.context.model(self.blueprint)
        copy.load_state_dict(self.model.state_dict())
        return copy.eval()

    def as_shipped(self) -> ModelUpdate | None:
        """Return the model in the form in which its architecture ships it, with its weights now.

        It is for techniques that change weights that are to ship, such as pruning: blocks that are
        trained as several layers become the one that they ship as. An enter returns it, and those
        behind it see the other form. None: the model is trained as it ships.
        """
        trained = self._with_weights(self.model.state_dict(), self.context.scratch)
        shipped = self._shipped(trained)
        if shipped.blueprint == self.blueprint:
            return None
        # What is known of layers that stay is kept; the average is one of other weights.
        return ModelUpdate(model=shipped.module, blueprint=shipped.blueprint, ema="reset")

    def shipped_form(self) -> TrainedModel:
        """Return the model as its architecture ships it, with the weights that it would have now.

        These are the averaged ones, where there is an average. A phase that has to see what ships,
        such as one with rounded weights, goes on with its module and blueprint. It has no file yet.
        """
        return self._shipped(self.finish(self.context.scratch))

    def _shipped(self, trained: TrainedModel) -> TrainedModel:
        architecture = self.setup.architecture
        if architecture is None:
            return trained
        return architecture.compress(trained, self.context.for_technique(architecture))

    def keep_constant(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors that never change again, such as the initial weights.

        They are written to disk once, not with every checkpoint.
        """
        if name in self.constants:
            raise PluginError(f"The constant {name!r} is already kept.")
        kept = {}
        for key, value in tensors.items():
            kept[key] = value.detach().clone()
        self.constants[name] = kept

    def evaluation_state(self) -> dict[str, Tensor]:
        """Return the weights with which the model is evaluated and shipped.

        They are those of the moving average where there is one.
        """
        weights = {}
        for name, value in self.model.state_dict().items():
            weights[name] = value.detach()
        if self.ema is not None:
            weights.update(self.ema.values)

        change = self.train_step.eval_weights
        if change is not None:
            weights = change(self, weights)

        # Copied: training that goes on would change what was given away.
        copies: dict[str, Tensor] = {}
        for name, value in weights.items():
            copies[name] = value.clone()
        return copies

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

        def make() -> nn.Module:
            return build(self.blueprint, self.context.registry)

        return scorer.score(self.blueprint.digest(), self.evaluation_state(), make)

    def finish(self, folder: Path) -> TrainedModel:
        """Return the model with its evaluation weights, apart from this run."""
        trained = self._with_weights(self.evaluation_state(), folder)
        trained.module.eval()
        return trained

    def _with_weights(self, weights: Named, folder: Path) -> TrainedModel:
        """Return a new model of this run's blueprint."""
        module = build(self.blueprint, self.context.registry)
        module.load_state_dict(weights)
        return TrainedModel(
            module=module,
            blueprint=self.blueprint,
            task=self.task,
            data=self.data,
            state=dict(self.state),
            folder=folder,
        )

    def rate(self) -> float:
        """Return the factor on the recipe's learning rate at this step."""
        span = self._span_at(self.step)
        warmup = round(self.recipe.warmup * self.setup.timetable.steps)
        # Counted from the last reset, as moments that start from nothing need small steps.
        begun = self.step - self.warm_from + 1
        warmed = begun / max(1, warmup)
        factor = span.phase.lr * min(1.0, warmed)
        if span.phase.decay:
            passed = (self.step - span.start) / span.steps
            factor *= 1 - passed
        return factor

    def check_finite(self) -> None:
        """Raise NotFiniteError if the last loss was NaN or infinite."""
        value = float(self.last_loss)
        if math.isfinite(value):
            return

        phase = ""
        if self.span:
            phase = self.span.phase.name
        rate = self.recipe.lr * self.rate()
        raise NotFiniteError(
            f"The loss became {value} by step {self.step} ({phase}, rate {rate:.2g}).",
            "A smaller learning rate or fp32 may help.",
        )

    # ---- phases ----------------------------------------------------------------------------------

    def _span_at(self, step: int) -> Span:
        spans = self.spans
        for span in spans:
            if step < span.stop:
                return span
        return spans[-1]

    def _leave(self, span: Span) -> None:
        self._change(span.phase.on_leave, "leave", span)
        if span.phase.on_leave:
            self._wire()

    def _enter(self, span: Span) -> None:
        self.span = span
        self.phase_left = False
        self._change(span.phase.on_enter, "enter", span)
        # Again after all changes, and where there are none: the wraps of the phase are new.
        self._wire()

    def _change(
        self,
        actions: Iterable[Enter],
        what: str,
        span: Span,
    ) -> None:
        """Let techniques change the run in turn, each seeing what the former ones did."""
        for number, action in enumerate(actions):
            seed_model_randomness(self.seed, what, span.index, number)
            change = action(self)
            if change is None:
                continue
            self._take_model(change, span)

            resets = change.optimizer == "reset"
            if resets and what == "enter" and not span.phase.resets:
                raise PluginError(
                    f"Entering the phase {span.phase.name!r} resets the optimizer without"
                    " saying so.",
                    "Declare it as Phase(..., resets=True), so that no rung lies just after it.",
                )
            self._wire(
                keep_optimizer=not resets,
                keep_ema=change.ema == "keep",
            )

    def _take_model(self, change: ModelUpdate, span: Span) -> None:
        """Take over the model that a change gives, or build that of its blueprint."""
        if change.blueprint is None:
            if change.model is not None:
                raise PluginError(
                    f"Phase {span.phase.name!r}: a changed model needs its blueprint."
                )
            return

        if change.model is None:
            model = self._built_from(change.blueprint)
        else:
            model = change.model
        self.model = self._placed(model)
        self.blueprint = change.blueprint

        # A net that has grown may be too large for the study: better now than after training it.
        if self.context.fits is not None:
            self.context.fits(self.blueprint)

    def _built_from(self, blueprint: Blueprint) -> nn.Module:
        """Build the model of a blueprint with the present weights where name and shape agree."""
        model = build(blueprint, self.context.registry)
        present = self.model.state_dict()
        fitting = {}
        for key, fresh in model.state_dict().items():
            if key in present and present[key].shape == fresh.shape:
                fitting[key] = present[key]
        model.load_state_dict(fitting, strict=False)
        return model

    def _placed(self, model: nn.Module) -> nn.Module:
        placed = model.to(self.setup.device).train()
        if self.setup.recipe.channels_last:
            placed = placed.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return placed

    def _wire(self, *, keep_optimizer: bool = True, keep_ema: bool = True) -> None:
        """Compose the step anew; optimizer, average and auxiliary weights are carried over."""
        moments: dict[str, Tensor] = {}
        if keep_optimizer:
            moments = self.optimizers.state()
        else:
            self.warm_from = self.step

        former_aux = {}
        for name, module in self.train_step.aux.items():
            former_aux[name] = module.state_dict()
        self.train_step = self._compose()
        self._carry_aux(former_aux)

        auxiliary = self.train_step.aux.values()
        self._dilated = has_dilated_depthwise(self.model, *auxiliary)
        self.optimizers = Optimizers(self._trainable(), self.train_step.groups, self.recipe)
        self.optimizers.load_state(moments)
        self.ema = self._average(keep=keep_ema)
        self._tap()

    def _carry_aux(self, former: Mapping[str, Named]) -> None:
        """Give auxiliary modules the weights that they had, where names and shapes agree."""
        for name, module in self.train_step.aux.items():
            module.to(self.setup.device).train()
            weights = former.get(name, {})
            if _same_shapes(weights, module.state_dict()):
                module.load_state_dict(weights)

    def _average(self, *, keep: bool) -> Ema | None:
        """Make the moving average of the model, which goes on from the present one if asked to."""
        decay = self.recipe.ema
        if not decay or not self.train_step.ema:
            return None
        if self.ema is None or not keep:
            return Ema(self.model, decay)
        return Ema(
            self.model,
            decay,
            earlier=self.ema.values,
            steps=self.ema.steps,
        )

    def _compose(self) -> TrainStep:
        """Ask every technique for its part of the step, then the phase."""
        index = 0
        wraps: tuple[Wrap, ...] = ()
        if self.span is not None:
            index = self.span.index
            wraps = self.span.phase.wraps
        # Fresh auxiliary weights depend on the phase alone, so that a resume draws the same.
        seed_model_randomness(self.seed, "wrap", index)

        step = TrainStep({"task": _task_loss})
        for technique in self.setup.techniques:
            step = technique.wrap_step(step, self)
        for wrap in wraps:
            step = wrap(step, self)
        return step

    def _trainable(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by name; the prefix keeps auxiliary parameters apart."""
        named = {}
        for key, value in self.model.named_parameters():
            if value.requires_grad:
                named[key] = value
        for name, module in self.train_step.aux.items():
            for key, value in module.named_parameters():
                if value.requires_grad:
                    named[f"aux.{name}.{key}"] = value
        return named

    def _tap(self) -> None:
        """Have tapped outputs collected, and layers swapped, during the one forward pass."""
        for hook in self._hooks:
            hook.remove()
        modules = dict(self.model.named_modules())

        self._hooks = []
        for name in self.train_step.taps:
            if name not in modules:
                raise PluginError(
                    f"A technique taps the module {name!r}, which the model does not have."
                )
            hook = modules[name].register_forward_hook(self._collector(name))
            self._hooks.append(hook)

        self._swaps = []
        for name, swap in self.train_step.layers.items():
            if name not in modules:
                raise PluginError(f"A technique swaps the layer {name!r}, which is not there.")
            self._swaps.append((modules[name], swap))

        plain = not self._hooks and not self._swaps
        self._call = self.model
        if self.recipe.compile and plain:
            self._call = torch.compile(self.model)

    def _collector(self, name: str) -> Callable[[nn.Module, Any, Tensor], None]:
        def collect(
            _module: nn.Module,
            _inputs: Any,
            output: Tensor,
        ) -> None:
            if self._tapping:
                self._tapped.setdefault(name, []).append(output)

        return collect

    # ---- checkpoint ------------------------------------------------------------------------------

    def capture(self) -> Snapshot:
        """Copy everything that a resume needs.

        Raises NotFiniteError rather than keep a broken run.
        """
        self.check_finite()
        copies = {}
        for name, value in self._tensors().items():
            copies[name] = value.detach().clone()
        return Snapshot(copies, self._meta(), dict(self.constants))

    def _tensors(self) -> dict[str, Tensor]:
        """Return all tensors of the run by the name that they have in a checkpoint."""
        tensors = _under("model", self.model.state_dict())
        tensors |= _under("optimizer", self.optimizers.state())
        if self.ema is not None:
            tensors |= _under("average", self.ema.values)
        for name, module in self.train_step.aux.items():
            tensors |= _under(f"aux|{name}", module.state_dict())
        for key, value in self.state.items():
            if isinstance(value, Tensor):
                tensors[f"state|{key}"] = value
        return tensors

    def _meta(self) -> dict[str, Any]:
        """Return the run's position, and what it was set up with, as JSON."""
        plain = {}
        for key, value in self.state.items():
            if not isinstance(value, Tensor):
                plain[key] = value

        index = 0
        if self.span is not None:
            index = self.span.index
        average_steps = 0
        if self.ema is not None:
            average_steps = self.ema.steps
        return {
            "blueprint": self.blueprint.to_json(),
            "step": self.step,
            "span": index,
            "branch_step": self.branch_step,
            "phase_left": self.phase_left,
            "warm_from": self.warm_from,
            "average_steps": average_steps,
            "seed": self.seed,
            "timetable": self.setup.timetable.signature(),
            "precision": self.precision.state(),
            # Through JSON, so that a branch shares nothing with its trunk, and is what a resume
            # from disk would be.
            "state": json.loads(json.dumps(plain)),
            "data": self.data.fingerprint,
            "constants": sorted(self.constants),
        }

    @classmethod
    def restore(cls, setup: Setup, snapshot: Snapshot) -> Run:
        """Rebuild a run from a snapshot; no enter runs.

        Raises CheckpointError for one of another plan.
        """
        meta = snapshot.meta
        written = (meta["timetable"], meta["seed"], meta["data"])
        expected = (setup.timetable.signature(), setup.seed, setup.data.fingerprint)
        if written != expected:
            raise CheckpointError(
                "The checkpoint was written with another training plan or other data.",
                "Remove it to start this trial afresh.",
            )

        run = cls._rebuilt(setup, snapshot)
        run.step = meta["step"]
        run.branch_step = _branch_step(meta)
        run.phase_left = _phase_left(meta)
        run.precision = Precision.from_state(meta["precision"], setup.device)
        run._take_up(run._span_numbered(meta["span"]), snapshot)
        run.warm_from = meta["warm_from"]
        return run

    @classmethod
    def go_on(cls, setup: Setup, snapshot: Snapshot) -> Run:
        """Begin the setup's timetable with what the trunk of another run has learnt.

        `continued` makes such a timetable. No enter runs. Weights, average, optimizer moments and
        technique state are carried over; data, seed and steps may be others. Raises
        CheckpointError for a snapshot that is not a trunk's, or does not fit its own blueprint.
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
        run.state = dict(meta["state"])
        run.state.update(_on_device(_part(snapshot, "state"), setup.device))
        for name, tensors in snapshot.constants.items():
            run.constants[name] = _on_device(tensors, setup.device)
        return run

    def _span_numbered(self, index: int) -> Span:
        """Return a phase of the trunk, or of this run's tail: their numbers go on."""
        for span in self.setup.timetable.spans:
            if span.index == index:
                return span
        return next(span for span in self.spans if span.index == index)

    def _take_up(self, span: Span, snapshot: Snapshot) -> None:
        """Stand in a phase without entering it, with what a snapshot has learnt besides weights."""
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


def _give_first_weights(model: nn.Module, setup: Setup, blueprint: Blueprint) -> None:
    """Replace drawn weights by those that the architecture has. Raises PluginError for misfits."""
    architecture = setup.architecture
    if architecture is None:
        return
    context = setup.context.for_technique(architecture)
    given = architecture.first_weights(blueprint, context)
    if given is None:
        return

    wrong = misfit(model.state_dict(), given)
    wrong = replace(wrong, missing=())  # those stay as they were drawn
    if wrong:
        raise PluginError(
            f"The first weights of {architecture.name!r} do not fit its model ({wrong})."
        )
    model.load_state_dict(dict(given), strict=False)


def continued(
    setup: Setup,
    snapshot: Snapshot,
    steps: int,
) -> Setup:
    """Lay out so many more steps of the phase in which a snapshot was taken.

    Raises CheckpointError, PluginError.
    """
    index = snapshot.meta["span"]
    phases = snapshot.meta["timetable"]
    if index >= len(phases):
        raise CheckpointError("The checkpoint does not say in which phase it was written.")
    name = phases[index][0]
    timetable = setup.timetable.going_on(name, steps)
    return replace(setup, timetable=timetable)


def _under(prefix: str, tensors: Named) -> dict[str, Tensor]:
    """Put a prefix before the names of tensors; `_part` takes it away."""
    named = {}
    for name, value in tensors.items():
        named[f"{prefix}|{name}"] = value
    return named


def _on_device(tensors: Named, device: str) -> dict[str, Tensor]:
    moved = {}
    for name, value in tensors.items():
        moved[name] = value.to(device)
    return moved


def _same_shapes(left: Named, right: Named) -> bool:
    """Return whether two sets of tensors have the same names and shapes."""
    if left.keys() != right.keys():
        return False

    def same(name: str) -> bool:
        return left[name].shape == right[name].shape

    return all(same(name) for name in left)


def _part(snapshot: Snapshot, prefix: str) -> dict[str, Tensor]:
    """Return the tensors of a snapshot whose names begin with a prefix, without it."""
    start = f"{prefix}|"
    part: dict[str, Tensor] = {}
    for name, value in snapshot.tensors.items():
        if name.startswith(start):
            part[name.removeprefix(start)] = value
    return part


def _task_loss(
    output: Output,
    batch: Batch,
    run: Run,
) -> Tensor:
    return run.task.loss(output.prediction, batch, run.recipe.loss)


def _branch_step(meta: Mapping[str, Any]) -> int | None:
    """Return the step at which a checkpointed run left its trunk."""
    step: int | None
    if "branch_step" in meta:
        step = meta["branch_step"]
    else:
        step = meta["fork_step"]  # what version 0.1.0 called a branch
    return step


def _phase_left(meta: Mapping[str, Any]) -> bool:
    """Return whether a checkpointed run had left its phase."""
    left: bool
    if "phase_left" in meta:
        left = meta["phase_left"]
    else:
        left = meta["trunk_left"]  # version 0.1.0 knew it of the trunk's last phase alone
    return left
