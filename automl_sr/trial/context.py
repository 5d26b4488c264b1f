"""What a technique is given besides its own fields.

That is the task, seeds, helpers and results shared between trials.
"""

from __future__ import annotations

import itertools
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from automl_sr import __version__
from automl_sr.errors import PluginError, StopRequestedError, TrialError
from automl_sr.files import content_digest, load_tensors, save_tensors
from automl_sr.plugin.blueprint import build
from automl_sr.plugin.pretrained import weights_for
from automl_sr.plugin.registry import instantiate
from automl_sr.plugin.technique import Slot, Technique, files_of
from automl_sr.plugin.weights import read_weights
from automl_sr.training.checkpoint import Checkpoints
from automl_sr.training.loop import Observer, Silent, finish_branch, start_or_resume, train
from automl_sr.training.phases import Phase, Timetable
from automl_sr.training.precision import resolve
from automl_sr.training.randomness import derive, generator, seed_model_randomness, undisturbed
from automl_sr.training.recipe import Recipe
from automl_sr.training.run import Setup
from automl_sr.trial.cache import Cache, Make

if TYPE_CHECKING:
    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import Samples, Task
    from automl_sr.training.run import Run

ITERATE_SECONDS = 20.0
"""So often the state of an iteration is kept."""
_WORD = re.compile(r"[A-Za-z][\w .-]{0,30}")
"""A part of a key that says something; digests and settings are longer."""


class _OnlyStop:
    """Lets a helper model be stopped, but keeps its losses out of the trial's learning curve."""

    def __init__(self, observer: Observer) -> None:
        self.stop_requested = observer.stop_requested

    def progress(self, run: Run, images_per_second: float) -> None:
        """Ignore the progress."""

    def saved(self) -> None:
        """Ignore the checkpoint: it lies with the shared results."""


@dataclass(frozen=True)
class Context:
    """The surroundings of one technique in one trial.

    It is frozen, so that nothing can be smuggled through it.
    """

    registry: Registry
    task: Task
    seed: int
    """The trial's seed; results shared between trials must not depend on it."""
    device: str
    scratch: Path
    cache: Cache
    data_fingerprint: str = ""
    owner: Technique | None = None
    observer: Observer = field(default_factory=Silent)
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("automl_sr.trial"))
    precision: str = "auto"
    """The number format that a recipe's `auto` means in this study; auto: what suits the device."""
    fits: Callable[[Blueprint], None] | None = None
    """Asked whenever training has changed the model.

    Raises InfeasibleError where it can no longer keep to limits.
    """

    files: Mapping[str, str] = field(default_factory=dict)
    """The files of the plan: path to the sha256 of what was in it when the plan was made."""

    def for_technique(self, technique: Technique, data_fingerprint: str | None = None) -> Context:
        """Return the context as one technique sees it."""
        fingerprint = data_fingerprint or self.data_fingerprint
        return replace(self, owner=technique, data_fingerprint=fingerprint)

    def build(self, slot: Slot | str, name: str, **fields: Any) -> Technique:
        """Make a technique of another family by name.

        Raises PluginError where it is not installed.
        """
        return instantiate(self.registry, slot, {"technique": name, **fields})

    def generator(self, *what: Any) -> torch.Generator:
        """Return a random generator for a purpose of this trial."""
        return generator(self.seed, *what)

    def stop_if_asked(self) -> None:
        """Raise StopRequestedError where the trial is to stop.

        It is for loops that take long, inside `make` too.
        """
        if self.observer.stop_requested():
            raise StopRequestedError("Stopped; the work up to the last checkpoint is kept.")

    def file(self, path: str) -> Path:
        """Return where a file lies that a field of this technique names (`File`), to be read now.

        Raises PluginError for a path that no such field has, DataError where the file is not there,
        TrialError where something else is in it than when the trial was planned.
        """
        if self.owner is None or path not in files_of(self.owner).values():
            raise PluginError(
                f"No field of the technique names the file {path!r}.",
                "Declare one as `Annotated[str, File()]`, so that the file counts for the"
                " fingerprint.",
            )
        self._content(path)
        return Path(path)

    def weights(self, path: str, blueprint: Blueprint) -> dict[str, Tensor]:
        """Return the weights in a file that a field of this architecture names, for its model.

        Our own files say of which model they are, others are read by `read_checkpoint`. Raises
        TrialError, in one sentence, where the file is of another net, UseError where it is no
        checkpoint; otherwise as `file`.
        """
        if self.owner is None:
            raise PluginError(f"No technique asks for the weights in {path!r}.")
        found = read_weights(self.file(path))
        return weights_for(self.owner, found, blueprint, path, self)

    def _content(self, path: str) -> str:
        """Return the sha256 of a file, which has to be the one that was planned with."""
        found = content_digest(Path(path))
        if found != self.files.get(path, found):
            raise TrialError(
                f"The file {path} has changed since the trial was planned.",
                "Put the former one back; new trials take the one that is there.",
            )
        return found

    def cached(self, key: str, make: Callable[[], Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Return tensors that are computed once for all trials and workers.

        `key` holds the settings on which they depend; the task, the training data, the versions of
        the technique and its plugin, the content of its files, and the study's number format are
        added here, because a key written by hand forgets them. `make` must not depend on
        `ctx.seed`.
        """

        def made(_: Path) -> Mapping[str, Tensor]:
            return make()

        return self._shared(self._name(key), self._parts(key), made)

    def model(self, blueprint: Blueprint) -> nn.Module:
        """Build the model of a blueprint on the trial's device, with fresh weights and no hooks."""
        return build(blueprint, self.registry).to(self.device)

    def outline(self, blueprint: Blueprint) -> nn.Module:
        """Return the model of a blueprint without weights, on torch's meta device.

        It is enough for shapes, costs and `layers`, and takes no memory.
        """
        with torch.device("meta"):
            return build(blueprint, self.registry)

    def shared_generator(self, *what: Any) -> torch.Generator:
        """Return a random generator that is the same for all trials: for what they share."""
        return generator(0, "shared", *what)

    def fit(
        self,
        technique: Technique,
        data: Samples,
        *,
        steps: int,
        recipe: Recipe | None = None,
        key: str = "",
        phases: Sequence[Phase] = (),
    ) -> nn.Module:
        """Train a helper model (a scorer, a teacher) with the same loop.

        The result is shared like any cached one. Its weights depend on the architecture, the data,
        the steps, the recipe and `key`, not on the trial's seed. `phases` replace the one phase in
        which it is trained, and bring their own wraps: `key` has to say what they do.
        """
        recipe = recipe or Recipe(**self.task.fixes)
        blueprint = technique.blueprint(self.task, self.for_technique(technique))
        asked = list(phases) or [Phase(f"helper {technique.name}", 1.0)]
        timetable = Timetable.of(asked, steps, recipe.cooldown)

        parts = self._parts(f"fit/{key}")
        parts["data"] = data.fingerprint
        parts["model"] = self._identity(technique)
        parts["blueprint"] = blueprint.to_json()
        parts["steps"] = steps
        parts["recipe"] = recipe.dump()
        # Only where there are some: what was made before they existed is found again.
        read = self._contents(technique)
        if read:
            parts["files of the model"] = read
        if phases:
            parts["phases"] = timetable.signature()

        def make(folder: Path) -> Mapping[str, Tensor]:
            seed = derive(0, "fit", blueprint.digest(), data.fingerprint, steps, key)
            setup = Setup(
                context=replace(self, fits=None),  # limits are those of what ships
                task=self.task,
                data=data.to(self.device),
                recipe=recipe,
                techniques=(),
                timetable=timetable,
                seed=seed,
                device=self.device,
                architecture=technique,
            )
            return _trained(setup, blueprint, folder, _OnlyStop(self.observer))

        name = "/".join(["fit", technique.name, *_words(key)])
        weights = self._shared(name, parts, make)
        model = build(blueprint, self.registry)
        model.load_state_dict(weights)
        return model.to(self.device).eval().requires_grad_(False)

    def iterate(
        self,
        key: str,
        init: Callable[[], dict[str, Tensor]],
        step: Callable[[dict[str, Tensor], int], dict[str, Tensor]],
        n: int,
    ) -> dict[str, Tensor]:
        """Run n steps of an optimisation that is no training.

        It is resumed where it was killed, and shared at its end. `step(state, i)` gives the next
        state from the former one and the number of the step alone. Torch's generators are seeded
        before `init` and before each step, by the key: a net with random weights that a step makes
        is the same in all trials and after any interruption.
        """

        def make(folder: Path) -> Mapping[str, Tensor]:
            path = folder / "state.safetensors"
            start = 0
            if path.exists():
                state, start = self._iterated(path)
            else:
                seed_model_randomness(0, "iterate", key, "init")
                state = init()

            saved = time.monotonic()
            for i in range(start, n):
                seed_model_randomness(0, "iterate", key, i)
                state = step(state, i)
                stopping = self.observer.stop_requested()
                if stopping or time.monotonic() - saved >= ITERATE_SECONDS:
                    save_tensors(path, state, {"steps": i + 1})
                    saved = time.monotonic()
                if stopping:
                    raise StopRequestedError(
                        f"Stopped at iteration {i + 1} of {key!r}; the work up to here is kept."
                    )
            return state

        parts = self._parts(key)
        parts["iterations"] = n
        return self._shared(self._name(key), parts, make)

    def _iterated(self, path: Path) -> tuple[dict[str, Tensor], int]:
        """Read the state of an iteration, and how many steps it has done."""
        stored, header = load_tensors(path)
        state = {}
        for name, value in stored.items():
            state[name] = value.to(self.device)
        steps: int = header["steps"]
        return state, steps

    def _shared(self, name: str, parts: Mapping[str, Any], make: Make) -> dict[str, Tensor]:
        """Return a shared result, made where it is not there yet."""

        def made(folder: Path) -> Mapping[str, Tensor]:
            # Whether it was made or found must decide nothing that is drawn later.
            with undisturbed():
                return make(folder)

        return self.cache.get(name, parts, made, self.observer.stop_requested)

    def _parts(self, key: str) -> dict[str, Any]:
        """Return all that a shared result depends on, as JSON."""
        if self.owner is None:
            raise PluginError(
                f"{key!r} is shared by nobody.",
                "Ask `run.context.for_technique(self)` for the context.",
            )
        parts: dict[str, Any] = {
            "automl-sr": __version__,
            "key": key,
            "task": [self.task.kind, self.task.model_dump(mode="json")],
            "data": self.data_fingerprint,
            "technique": self._identity(self.owner),
            "precision": resolve("auto", self.device, self.precision),
        }
        read = self._contents(self.owner)
        if read:
            parts["files"] = read
        return parts

    def _contents(self, technique: Technique) -> dict[str, str]:
        """Return the sha256 of every file that a technique names, by field."""
        digests: dict[str, str] = {}
        for name, path in files_of(technique).items():
            digests[name] = self._content(path)
        return digests

    def _name(self, key: str) -> str:
        """Name a result as people read it: who made it, and the words with which its key begins."""
        words = _words(key)
        if self.owner is not None:
            words = [self.owner.slot.value, self.owner.name, *words]
        return "/".join(words)

    def _identity(self, technique: Technique) -> list[str]:
        """Name a technique with its version and that of its plugin."""
        # Another version gives other results.
        source = self.registry.source(type(technique))
        return [
            technique.slot,
            technique.name,
            technique.version,
            source.plugin,
            source.version,
        ]


def _trained(
    setup: Setup,
    blueprint: Blueprint,
    folder: Path,
    observer: Observer,
) -> dict[str, Tensor]:
    """Train a model, or go on training it, and return its weights."""
    checkpoints = Checkpoints(folder / "trunk")
    run = start_or_resume(setup, blueprint, checkpoints)
    train(run, setup.timetable.trunk_steps, observer, checkpoints)
    run.leave_phase()
    branch = finish_branch(run, observer, Checkpoints(folder / "branch"))
    return branch.evaluation_state()


def _words(key: str) -> list[str]:
    """Return the readable beginning of a key: `loss-scores` of `loss-scores/9f86d081...`."""
    return list(itertools.takewhile(_WORD.fullmatch, key.split("/")))
