"""What a student learns from a teacher in each step, and how much that counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from automl_sr.api import TrialError
from automl_sr_plugins.teacher import inner
from automl_sr_plugins.teacher.inner import Part

if TYPE_CHECKING:
    from automl_sr.api import Batch, Blueprint, Context, Output, Run, Task, TrainStep
    from automl_sr_plugins.teacher.nets import Teacher

AUX = "teacher"
"""The name of the projections, and of the loss."""


@dataclass(frozen=True)
class Maps:
    """What of the inner maps is compared, and where."""

    form: str
    weight: float
    layers: int
    depth: float
    pool: int
    warmup: float


@dataclass(frozen=True)
class Lesson:
    """What is compared with the teacher: images, with a share of the loss, and inner maps."""

    share: float
    fade: bool
    maps: Maps | None = None


def check(lesson: Lesson, nets: list[Blueprint], task: Task, ctx: Context) -> None:
    """Raise TrialError where a net has no inner maps that could be compared."""
    if lesson.maps is None:
        return
    for blueprint in nets:
        if not inner.parts_of(ctx.model(blueprint).eval(), task):
            raise _no_maps(blueprint.factory)


def taught(lesson: Lesson, teacher: Teacher, step: TrainStep, run: Run) -> TrainStep:
    """Add a lesson to a training step."""
    if run.span is not None and not run.span.phase.counts:
        # Which net a search finds should depend on the data, and a supernet has maps of all nets.
        return step
    if lesson.fade and run.recipe.cooldown == 0:
        raise TrialError(
            "The teacher is to fade over the cool-down, and there is none.",
            "Write `fade: false`, or a recipe with `cooldown` above 0.",
        )
    if lesson.fade and _is_behind_cooldown(run):
        return step

    net = teacher.net(run)
    pairs: list[Pair] = []
    projections = nn.ModuleList()
    if lesson.maps is not None:
        pairs = _pairs(lesson.maps, net, run)
        step = step.tapping(*(pair.student.name for pair in pairs))
        if lesson.maps.form == "projection":
            for pair in pairs:
                projections.append(inner.projection_of(pair.student, pair.teacher))
            step = step.with_aux(AUX, projections)

    step = _with_less_of_data(lesson, step)
    lecture = _Lecture(lesson, Watched(net, pairs), tuple(pairs), projections)
    return step.with_loss(AUX, lecture.loss)


def _with_less_of_data(lesson: Lesson, step: TrainStep) -> TrainStep:
    """Take the teacher's share off what the data say."""
    task_loss = step.losses.get("task")
    if task_loss is None:
        return step

    def of_data(output: Output, batch: Batch, run: Run) -> Tensor:
        share = lesson.share * fading(lesson, run)
        return (1 - share) * task_loss(output, batch, run)

    return step.with_loss("task", of_data)


# ---- how much it counts --------------------------------------------------------------------------


def fading(lesson: Lesson, run: Run) -> float:
    """Return the factor on all that the teacher says: 1, and falling to 0 over the cool-down."""
    span = run.span
    if not lesson.fade or span is None or run.branch_step is None:
        return 1.0
    return 1 - (run.step - span.start) / span.steps


def warming(of: Maps, run: Run) -> float:
    """Return the factor on inner maps, which rises from 0 to 1 in the first steps."""
    table = run.setup.timetable
    # Training that goes on has warmed up before.
    if of.warmup == 0 or table.spans[0].phase.continued:
        return 1.0
    return min(1.0, run.step / (of.warmup * table.steps))


def _is_behind_cooldown(run: Run) -> bool:
    if run.branch_step is None or run.span is None:
        return False
    return not run.span.phase.decay


# ---- what is compared ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """A part of the student, and that of the teacher which it follows."""

    student: Part
    teacher: Part


def _pairs(of: Maps, net: nn.Module, run: Run) -> list[Pair]:
    """Return which parts are compared, each pair once."""
    # A copy: the model itself has the hooks of its run.
    own = inner.parts_of(run.copy_model(), run.task)
    theirs = inner.parts_of(net, run.task)
    if not own or not theirs:
        raise _no_maps(run.blueprint.factory)
    students = inner.spread(own, of.layers, of.depth)
    teachers = inner.spread(theirs, of.layers, of.depth)
    pairs = [Pair(*both) for both in zip(students, teachers, strict=True)]
    return list(dict.fromkeys(pairs))


def _no_maps(net: str) -> TrialError:
    return TrialError(
        f"{net!r}, or its teacher, has no inner maps of one size that could be compared.",
        "Take the teacher `response`, which compares images alone.",
    )


class Watched:
    """A net that is called with a batch, and gives its image and its inner maps."""

    def __init__(self, net: nn.Module, pairs: list[Pair]) -> None:
        self.net = net
        self._maps: dict[str, Any] = {}
        modules = dict(net.named_modules())
        for name in {pair.teacher.name for pair in pairs}:
            modules[name].register_forward_hook(self._keeping(name))

    def look(self, batch: Batch, run: Run) -> tuple[Tensor, Mapping[str, Any]]:
        """Run the net without gradients, in the number format of the run."""
        with torch.no_grad():
            image: Tensor = run.task.forward(self.net, batch)
        return image.float(), self._maps

    def _keeping(self, name: str) -> Any:
        def keep(_module: nn.Module, _inputs: Any, output: Any) -> None:
            # The last, where a part runs several times.
            self._maps[name] = output

        return keep


@dataclass(frozen=True)
class _Lecture:
    """A lesson with those who take part in it."""

    lesson: Lesson
    watched: Watched
    pairs: tuple[Pair, ...]
    projections: nn.ModuleList

    def loss(self, output: Output, batch: Batch, run: Run) -> Tensor:
        """Return what the student differs by from the teacher, weighed as it counts now."""
        image, seen = self.watched.look(batch, run)
        wanted = replace(batch, target=image)
        # By the distance of the recipe, as from the true image.
        distance = run.task.loss(output.prediction, wanted, run.recipe.loss)
        loss = self.lesson.share * distance
        of = self.lesson.maps
        if of is not None:
            loss = loss + of.weight * warming(of, run) * self._difference(of, output, seen, batch)
        return fading(self.lesson, run) * loss

    def _difference(
        self,
        of: Maps,
        output: Output,
        seen: Mapping[str, Any],
        batch: Batch,
    ) -> Tensor:
        """Add up what the inner maps differ by."""
        if not isinstance(batch.inputs, Tensor):
            raise TypeError("Inner maps are compared of nets that take one image.")
        size = batch.inputs.shape[-2:]
        terms = []
        # Cosines and deviations of half precision would differ by its rounding alone.
        with torch.autocast(batch.inputs.device.type, enabled=False):
            for number, pair in enumerate(self.pairs):
                student = inner.of_size(output.taps[pair.student.name][-1], size)
                teacher = inner.of_size(seen[pair.teacher.name], size)
                terms.append(self._term(of, number, student, teacher))
        return torch.stack(terms).sum()

    def _term(self, of: Maps, number: int, student: Tensor, teacher: Tensor) -> Tensor:
        if of.form == "affinity":
            return inner.affinity(student, teacher, of.pool)
        if of.form == "attention":
            return inner.attention(student, teacher)
        return inner.projected(self.projections[number], student, teacher)
