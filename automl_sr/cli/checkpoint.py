"""A checkpoint as `evaluate` and `compress` take it: its net is found, given the weights, and
exported.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.errors import UseError
from automl_sr.plugin.technique import Slot, first_error

if TYPE_CHECKING:
    from torch import Tensor, nn

    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.pretrained import Pretrained
    from automl_sr.plugin.registry import Registry
    from automl_sr.plugin.task import Task
    from automl_sr.plugin.technique import Technique
    from automl_sr.plugin.weights import StoredWeights
    from automl_sr.tasks.image_sr.task import ImageSR
    from automl_sr.trial.context import Context

SCALES = (2, 3, 4)
COLORS = ("rgb", "y")


@dataclass(frozen=True)
class Asked:
    """What a person says of a checkpoint: architecture, fields of it (`width=48`), scale."""

    architecture: str | None
    fields: tuple[str, ...] = ()
    scale: int | None = None


@dataclass(frozen=True)
class Exported:
    """The ONNX file of a checkpoint's net, and what the net is."""

    path: Path
    blueprint: Blueprint

    def about(self) -> dict[str, Any]:
        """Return what the net is, as JSON."""
        return {"factory": self.blueprint.factory, **self.blueprint.fields}


def export_checkpoint(path: Path, asked: Asked, registry: Registry, folder: Path) -> Exported:
    """Write the net of a checkpoint as an ONNX file into a folder, which is for this alone.

    Raises UseError where the file is no checkpoint, or of another net.
    """
    from automl_sr.trial.ship import export_module

    found = _found(path, asked, registry, folder)
    target = folder / "model.onnx"
    export_module(found.net.model(registry), found.net.blueprint, found.task, target)
    return Exported(target, found.net.blueprint)


def store_checkpoint(path: Path, asked: Asked, registry: Registry, folder: Path) -> None:
    """Write the net of a checkpoint into a folder as `export` writes that of a trial.

    What is trained in another form than it ships in (wide blocks) is there as it ships. Raises
    UseError where the file is no checkpoint, or of another net.
    """
    from automl_sr.files import save_tensors
    from automl_sr.trial.ship import export_module

    found = _found(path, asked, registry, folder)
    module, blueprint = found.shipped(registry, folder)
    metadata = export_module(module, blueprint, found.task, folder / "model.onnx")
    save_tensors(folder / "model.safetensors", module.state_dict(), metadata)


@dataclass(frozen=True)
class _Found:
    """The net of a checkpoint, the task that it serves, and the architecture that read it."""

    net: Pretrained
    task: Task
    technique: Technique | None = None

    def shipped(self, registry: Registry, folder: Path) -> tuple[nn.Module, Blueprint]:
        """Return the net in the form in which its architecture ships it."""
        from automl_sr.plugin.task import NoSamples
        from automl_sr.training.run import TrainedModel

        module = self.net.model(registry)
        if self.technique is None:
            return module, self.net.blueprint
        finished = TrainedModel(
            module=module,
            blueprint=self.net.blueprint,
            task=self.task,
            data=NoSamples(),
            state={},
            folder=folder,
        )
        context = _context(self.task, registry, folder).for_technique(self.technique)
        made = self.technique.compress(finished, context)
        return made.module, made.blueprint


def _found(path: Path, asked: Asked, registry: Registry, folder: Path) -> _Found:
    from automl_sr.plugin.weights import read_weights

    stored = read_weights(path)
    blueprint = stored.blueprint
    if blueprint is None:
        return Search(path, stored.tensors, asked.scale, registry, folder).found(asked)
    net = _own(path, blueprint, stored.tensors, asked, registry)
    return _Found(net, _task_of(stored, registry))


def _context(task: Task, registry: Registry, folder: Path) -> Context:
    """Return the surroundings of an architecture that is asked for its net alone."""
    from automl_sr.trial.cache import Cache
    from automl_sr.trial.context import Context

    return Context(registry, task, 0, "cpu", folder, Cache(folder / "cache"))


# ---- files that automl-sr wrote ------------------------------------------------------------------


def _own(
    path: Path,
    blueprint: Blueprint,
    tensors: Mapping[str, Tensor],
    asked: Asked,
    registry: Registry,
) -> Pretrained:
    """Take a file for what it says of itself.

    Raises UseError where the person says something else, or the file holds something else.
    """
    from automl_sr.plugin.pretrained import Pretrained

    if asked.fields:
        raise UseError(f"{path} says itself which fields its net has.", "Leave --set out.")
    if asked.architecture is not None:
        cls = registry.technique(Slot.ARCHITECTURE, asked.architecture)
        if blueprint.factory not in cls.factories:
            raise UseError(
                f"{path} says that its net is a {blueprint.factory}, not a {asked.architecture!r}.",
                "Leave --architecture out.",
            )
    net = Pretrained(blueprint, tensors)
    wrong = net.misfit(registry)
    if wrong:
        raise UseError(f"{path} does not hold the net that it says ({wrong}).", "Write it again.")
    return net


def _task_of(stored: StoredWeights, registry: Registry) -> Task:
    """Return the task that a file names. Raises UseError where the file does not tell enough."""
    from automl_sr.tasks.image_sr.task import ImageSR

    told = {name: str(value) for name, value in stored.header.items()}
    if told.get("task", ImageSR.kind) != ImageSR.kind:
        return registry.task(told["task"]).of_file(told)
    try:
        return _image_task(int(told["scale"]), told["color"])
    except (ValueError, KeyError) as error:
        raise UseError(
            "The checkpoint does not say at which scale and on which colour it works.",
            "Write it again.",
        ) from error


def _image_task(scale: int, color: str) -> ImageSR:
    """Return super-resolution without images: nothing of it is read here."""
    from automl_sr.tasks.image_sr.task import ImageSR

    return ImageSR.model_validate({"scale": scale, "color": color, "train": "none"})


# ---- files of others -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Search:
    """Looks for the net in a file that does not say what it is: on RGB, or else on luma."""

    path: Path
    tensors: Mapping[str, Tensor]
    scale: int | None
    registry: Registry
    folder: Path

    def found(self, asked: Asked) -> _Found:
        """Return the net, with the task that it serves. Raises UseError where it does not fit."""
        if asked.architecture is None:
            raise UseError(
                f"{self.path} does not say which net it holds.",
                "Name its architecture with --architecture; `automl-sr plugins` lists them.",
            )
        technique = self._technique(asked.architecture, asked.fields)
        scale = self.scale or SCALES[0]
        for color in COLORS:
            net, task = self._seen(technique, scale, color)
            if net is not None and not net.misfit(self.registry):
                self._check_fields(technique, net, asked.fields)
                return _Found(net, task, self._with_fields(technique, task))
        raise UseError(
            f"{self.path} does not hold a {technique.name!r} for x{scale}"
            f" ({self._why_not(technique, scale)}).",
            self._what_else(technique, scale),
        )

    def _with_fields(self, technique: Technique, task: Task) -> Technique | None:
        """Return the architecture with the fields that the file tells."""
        read = technique.read_checkpoint(self.tensors, task)
        if read is None:
            return None
        net, _ = read
        return net

    def _technique(self, name: str, settings: tuple[str, ...]) -> Technique:
        from pydantic import ValidationError

        from automl_sr.tasks.image_sr.task import ImageSR

        cls = self.registry.technique(Slot.ARCHITECTURE, name)
        if ImageSR.kind not in cls.tasks:
            raise UseError(f"{name!r} enlarges no images.", "Name another architecture.")
        fields = dict(_field(text) for text in settings)
        try:
            return cls(**fields)
        except ValidationError as error:
            raise UseError(
                f"{name!r} cannot be made so: {first_error(error)}.",
                f"Its fields: {', '.join(cls.model_fields)}.",
            ) from error

    def _check_fields(
        self, technique: Technique, net: Pretrained, settings: tuple[str, ...]
    ) -> None:
        """Raise UseError where the file tells a field otherwise than the command line."""
        for name, _ in map(_field, settings):
            wanted = technique.dump()[name]
            found = net.blueprint.fields.get(name, wanted)
            if found != wanted:
                raise UseError(
                    f"The net in {self.path} has {name}={found}, not {wanted}.",
                    f"Leave --set {name} out.",
                )

    def _seen(self, technique: Technique, scale: int, color: str) -> tuple[Pretrained | None, Task]:
        """Return what an architecture sees in the tensors, and for which task it was asked."""
        from automl_sr.plugin.pretrained import identified

        context = self._context(scale, color)
        return identified(technique, self.tensors, context), context.task

    def _context(self, scale: int, color: str) -> Context:
        return _context(_image_task(scale, color), self.registry, self.folder)

    def _fits(self, technique: Technique, scale: int) -> bool:
        nets = [self._seen(technique, scale, color)[0] for color in COLORS]
        return any(net is not None and not net.misfit(self.registry) for net in nets)

    def _why_not(self, technique: Technique, scale: int) -> str:
        """Say which tensors do not fit, on the colour where the fewest do not."""
        from automl_sr.plugin.pretrained import Pretrained

        reasons = []
        for color in COLORS:
            net, task = self._seen(technique, scale, color)
            if net is None:
                context = self._context(scale, color).for_technique(technique)
                net = Pretrained(technique.blueprint(task, context), self.tensors)
            reasons.append(net.misfit(self.registry))
        return str(min(reasons, key=len))

    def _what_else(self, technique: Technique, scale: int) -> str:
        """Say at which scale, or as which architecture, the tensors fit."""
        scales = [other for other in SCALES if other != scale and self._fits(technique, other)]
        if scales:
            return f"It fits with --scale {scales[0]}."
        from automl_sr.tasks.image_sr.task import ImageSR

        for name, cls in self.registry.techniques[Slot.ARCHITECTURE].items():
            if name != technique.name and ImageSR.kind in cls.tasks and self._fits(cls(), scale):
                return f"It fits with --architecture {name}."
        return "Set the fields of the net with --set, or name another architecture."


def _field(text: str) -> tuple[str, Any]:
    """Split `width=48`; values are JSON where they can be, else words."""
    name, sign, value = text.partition("=")
    if not sign or not name:
        raise UseError(f"--set {text} names no field with a value.", "Write --set width=48.")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
