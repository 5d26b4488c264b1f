"""What a contract needs around a technique: photographs, task, net, trial.

All are as small as they can be while still real.
"""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from automl_sr.data.images import read, to_rgb8
from automl_sr.errors import DataError, StopRequestedError
from automl_sr.plugin.blueprint import Blueprint
from automl_sr.plugin.registry import Registry, Source, discover
from automl_sr.plugin.technique import Slot, Technique
from automl_sr.tasks.image_sr.pixel_store import PixelStore
from automl_sr.tasks.image_sr.resize import downscale
from automl_sr.tasks.image_sr.samples import SRSamples
from automl_sr.tasks.image_sr.task import ImageSR
from automl_sr.testing.observing import StopInEveryPhase, Trace, cost_of
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import Observer, Silent, finish_branch, start_or_resume, train
from automl_sr.training.phases import Phase, Timetable
from automl_sr.training.randomness import repeat_kernels
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Run, Setup, TrainedModel
from automl_sr.training.score import Scorer, asked, hold_out
from automl_sr.trial.cache import Cache
from automl_sr.trial.context import Context
from automl_sr.trial.ship import ship

if TYPE_CHECKING:
    from automl_sr.plugin.task import Samples, Task

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")
SIDE = 96
SEED = 5
DEVICE = os.environ.get("AUTOML_SR_TEST_DEVICE", "cpu")
"""Where contracts train: cpu or cuda."""


class TinyNet(Technique):
    """A residual net of a thousand parameters that stands in for an architecture.
    Made for these tests in 2026; it claims nothing.
    """

    slot = Slot.ARCHITECTURE
    name = "contract_net"
    factories: ClassVar = {"testing.contract_net": "automl_sr.testing.tiny_net:contract_net"}

    width: int = 8

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        """Describe the net."""
        fields = self.dump()
        fields.update(task.dims())
        return Blueprint("testing.contract_net", fields)


@functools.cache
def tiny_samples(scale: int = 2) -> SRSamples:
    """Return crops of photographs that scikit-image ships, 96 pixels wide, as training samples."""
    import skimage

    source = Path(skimage.__file__).parent / "data"
    large = []
    small = []
    for name in PHOTOGRAPHS:
        image = to_rgb8(read(source / name))
        top = (image.shape[0] - SIDE) // 2
        left = (image.shape[1] - SIDE) // 2
        crop = image[top : top + SIDE, left : left + SIDE]
        large.append(_tensor(crop))
        small.append(_tensor(downscale(crop, scale)))
    return SRSamples.whole(
        PixelStore.from_images(large),
        PixelStore.from_images(small),
        scale,
        PHOTOGRAPHS,
    )


def _tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """Copy an image [h, w, 3] as a store takes it: [3, h, w]."""
    return torch.from_numpy(image.copy()).permute(2, 0, 1)


def tiny_task(*, scale: Literal[2, 3, 4] = 2, color: Literal["y", "rgb"] = "y") -> ImageSR:
    """Return super-resolution; its images are those of `tiny_samples`, and no file is read."""
    return ImageSR(scale=scale, color=color, train=("photographs",), valid=("photographs",))


def tiny_recipe() -> Recipe:
    """Return a recipe with small batches, in float32 so that runs can be compared bit by bit."""
    return Recipe(batch=2, patch=12, precision="fp32", ema=0.9)


def contract_registry(
    techniques: Iterable[type[Technique]],
    plugins: Iterable[object] = (),
) -> Registry:
    """Return what is installed, and what is under test where it is not."""
    registry = discover()
    for plugin in plugins:
        if registry.manager.is_registered(plugin):
            continue
        name = getattr(plugin, "__name__", "contract")
        registry.add_plugin(plugin, Source(name, "contract"))

    under_test: list[type[Technique]] = [TinyNet, *techniques]
    for cls in under_test:
        known = registry.techniques[cls.slot].get(cls.name)
        if known is not cls and not cls.slot.single:
            registry.add_technique(cls, Source("contract", "contract"))
    return registry


@dataclass(frozen=True)
class TinyTrial:
    """One trial without search and store.

    It does what `run_trial` does, in steps that a contract can look at.
    """

    registry: Registry
    task: Task
    data: Samples
    techniques: tuple[Technique, ...]
    steps: int
    folder: Path
    recipe: Recipe
    device: str = DEVICE
    precision: str = "fp32"
    """What `auto` means, for helper models too.

    A contract holds on every processor, bit by bit only in float32.
    """
    watching: Observer = field(default_factory=Silent)
    """Who may interrupt what techniques compute besides training."""

    def __post_init__(self) -> None:
        """Put the samples where batches are made, as a search does."""
        object.__setattr__(self, "data", self.data.to(self.device))

    @property
    def architecture(self) -> Technique:
        """The technique that gives the model."""
        return next(item for item in self.techniques if item.slot is Slot.ARCHITECTURE)

    def context(self, technique: Technique, fingerprint: str = "") -> Context:
        """Return the context of one technique."""
        scratch = self.folder / "scratch"
        scratch.mkdir(parents=True, exist_ok=True)
        return Context(
            registry=self.registry,
            task=self.task,
            seed=SEED,
            device=self.device,
            scratch=scratch,
            cache=Cache(self.folder / "cache"),
            data_fingerprint=fingerprint or self.data.fingerprint,
            owner=technique,
            observer=self.watching,
            precision=self.precision,
        )

    def samples(self) -> Any:
        """Select and distil the training samples."""
        samples: Any = self.full_data()
        for technique in self.techniques:
            context = self.context(technique, samples.fingerprint)
            samples = technique.select_data(samples, context)
        return samples

    def full_data(self) -> Samples:
        """Return all that may be trained on: what is held out for scores is not."""
        if not asked(self.techniques):
            return self.data
        samples, _ = hold_out(self.data, SEED)
        return samples

    def as_studies_train(self) -> TinyTrial:
        """Return the trial with the default recipe.

        That is the number format of the processor, channels last, and patches where they fit.
        """
        # Kernels differ with the size of patches: they are as large as in studies wherever the
        # samples are.
        recipe = Recipe(batch=self.recipe.batch)
        trial = replace(self, precision="auto")
        try:
            self.task.check_training(trial.samples(), patch=recipe.patch)
        except DataError:
            recipe = recipe.model_copy(update={"patch": self.recipe.patch})
        return replace(trial, recipe=recipe)

    def timetable(self) -> Timetable:
        """Lay out the phases that the techniques ask for."""
        phases = [Phase("train", 1.0)]
        for technique in self.techniques:
            phases = technique.phases(phases, self.context(technique))
        return Timetable.of(phases, self.steps, self.recipe.cooldown)

    def setup(self) -> Setup:
        """Return what a run needs."""
        repeat_kernels(self.device)
        samples = self.samples()
        return Setup(
            context=self.context(self.architecture, samples.fingerprint),
            task=self.task,
            data=samples,
            recipe=self.recipe,
            techniques=self.techniques,
            timetable=self.timetable(),
            seed=SEED,
            device=self.device,
            full_data=self.full_data(),
            scorer=self._scorer(),
            architecture=self.architecture,
        )

    def _scorer(self) -> Scorer | None:
        """Hold samples out as a trial does, where a technique asks for scores."""
        if not asked(self.techniques):
            return None
        _, held = hold_out(self.data, SEED)
        return Scorer.of(self.task, self.task.metrics[0], held, self.device)

    def _blueprint(self) -> Blueprint:
        architecture = self.architecture
        return architecture.blueprint(self.task, self.context(architecture))

    def train(self, observer: Observer | None = None) -> Run:
        """Train trunk and tail, or go on from the checkpoints in the folder.

        Returns the branch at its end.
        """
        setup = self.setup()
        watching = observer or Silent()
        checkpoints = Checkpoints(self.folder / "trunk")
        trunk = start_or_resume(setup, self._blueprint(), checkpoints)
        train(trunk, setup.timetable.trunk_steps, watching, checkpoints)
        trunk.leave_phase()
        return finish_branch(trunk, watching, Checkpoints(self.folder / "branch"))

    def train_interrupted(self) -> Run:
        """Train like `train`, stopped two steps into every phase.

        Each time it goes on from the checkpoint.
        """
        observer = StopInEveryPhase(self.timetable())
        for _ in range(len(observer.stops) + 1):
            with contextlib.suppress(StopRequestedError):
                return self.train(observer)
        raise AssertionError("The run did not come to its end.")

    def walk(self, trace: Trace) -> Run:
        """Train trunk and tail step by step without a checkpoint, and take note of what happens."""
        setup = self.setup()
        run = Run.start(setup, self._blueprint())
        while run.step < setup.timetable.trunk_steps:
            run.advance()
            trace.look(run)
        run.leave_phase()

        branch = run.branch()
        while branch.step < branch.end:
            branch.advance()
            trace.look(branch)
        branch.leave_tail()
        trace.end(branch)
        return branch

    def shipped(self, run: Run) -> TrainedModel:
        """Compress and export the model of a run as core does.

        Core checks the float file against the model.
        """
        return ship(run.finish(self.folder), self.techniques, self.context(self.architecture))

    def shippable(self) -> tuple[Blueprint, Blueprint]:
        """Return the smallest and the largest model that can ship, as the gate asks for them."""
        smallest = largest = self._blueprint()
        for technique in self.techniques:
            context = self.context(technique)
            smallest, _ = technique.shipped(smallest, self.task, context)
            _, largest = technique.shipped(largest, self.task, context)
        return smallest, largest

    def untrained_cost(self, blueprint: Blueprint) -> dict[str, float]:
        """Return what a model of this blueprint costs, exported with the weights it begins with."""
        untrained = TrainedModel(
            module=self.context(self.architecture).model(blueprint).cpu().eval(),
            blueprint=blueprint,
            task=self.task,
            data=self.data,
            state={},
            folder=self.folder / "untrained",
        )
        return cost_of(ship(untrained, (), self.context(self.architecture)))


def in_pipeline_order(techniques: Iterable[Technique]) -> tuple[Technique, ...]:
    """Order techniques by slot."""
    order = list(Slot)
    return tuple(sorted(techniques, key=lambda item: order.index(item.slot)))
