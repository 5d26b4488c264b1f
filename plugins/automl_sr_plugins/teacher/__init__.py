"""Teachers: nets that were trained before, whose images and inner maps a smaller net follows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from automl_sr.api import Choice, Edit, Fixed, Float, Int, Pick, Slot, Technique, When, hookimpl

if TYPE_CHECKING:
    from automl_sr.api import Blueprint, Context, Run, Task, TrainStep
    from automl_sr_plugins.teacher.lessons import Lesson
    from automl_sr_plugins.teacher.nets import Teacher

FAMILY = "automl_sr_plugins.teacher"
ON_GREY = "teacher.on_grey"
"""The edit that lets a net of colour images take luma."""

Form = Literal["affinity", "attention", "projection"]
Share = Annotated[
    float, Float(0.1, 1.0), Field(gt=0, le=1, description="of the teacher's image in the loss")
]
OwnShare = Annotated[
    float, Float(0.0, 0.9), Field(ge=0, le=1, description="of the teacher's image in the loss")
]
Fade = Annotated[
    bool, Field(description="the teacher's terms fall to zero over the cool-down of each rung")
]
Steps = Annotated[
    int,
    Fixed(),
    Field(ge=0, le=10_000_000, description="the teacher is trained for; 0: it is the file's"),
]
Net = Annotated[Technique | None, Pick(Slot.ARCHITECTURE)]
Color = Annotated[
    Literal["same", "rgb"],
    Fixed(),
    Field(description="what the teacher works on: what the student does, or RGB"),
]
Weight = Annotated[
    float,
    Float(0.003, 1.0, log=True),
    Field(gt=0, le=1000, description="of what the inner maps differ by"),
]
Layers = Annotated[int, Int(1, 3), Field(ge=1, le=8, description="maps that are compared")]
Depth = Annotated[
    float,
    Float(0.4, 1.0),
    Field(gt=0, le=1, description="where the last of them lies, as a share of the body"),
]
Warmup = Annotated[
    float,
    Float(0.0, 0.2),
    Field(ge=0, le=1, description="share of the steps in which `weight` rises from zero"),
]
Pool = Annotated[
    int,
    Choice(2, 4),
    When(form=["affinity"]),
    Field(ge=1, le=8, description="side of the squares that are averaged before"),
]


class _Taught(Technique):
    """A net that follows another one, which does not learn any more."""

    slot = Slot.TEACHER
    # A teacher is trained before the first step of a trial, and runs in each of its steps.
    asked_only = True
    edits: ClassVar = {ON_GREY: Edit(f"{FAMILY}.nets:on_grey")}

    def lesson(self) -> Lesson:
        """Return what is compared, and how much it weighs."""
        raise NotImplementedError

    def teacher(self, own: Technique) -> Teacher:
        """Return which net teaches; `own` is the architecture of the plan."""
        raise NotImplementedError

    def wrap_step(self, step: TrainStep, run: Run) -> TrainStep:
        """Add what the teacher says to the losses; a search over nets goes without it."""
        from automl_sr_plugins.teacher import lessons

        own = next(item for item in run.setup.techniques if item.slot is Slot.ARCHITECTURE)
        return lessons.taught(self.lesson(), self.teacher(own), step, run)


class _TaughtByAnother(_Taught):
    """A net that follows one of another architecture."""

    def companions(self, blueprint: Blueprint, task: Task, ctx: Context) -> list[Blueprint]:
        """List the teacher. Raises TrialError where there can be none."""
        from automl_sr_plugins.teacher import lessons

        # What another architecture teaches does not depend on that of the plan.
        teacher = self.teacher(self)
        teacher.check(task, ctx)
        found = teacher.blueprint(task, ctx)
        lessons.check(self.lesson(), [blueprint, found], task, ctx)
        return [found]


class Response(_TaughtByAnother):
    """Follow the images that a trained net makes, as well as the true ones.

    Hinton, Vinyals, Dean: Distilling the Knowledge in a Neural Network, arXiv 1503.02531, 2015,
    with images in the place of scores, as in He et al., FAKD, ICIP 2020.
    """

    name = "response"

    architecture: Net = None
    share: Share = 0.5
    fade: Fade = False
    steps: Steps = 2000
    color: Color = "same"

    def lesson(self) -> Lesson:
        """Compare images alone."""
        from automl_sr_plugins.teacher.lessons import Lesson

        return Lesson(self.share, self.fade)

    def teacher(self, own: Technique) -> Teacher:
        """Take the architecture that is named."""
        from automl_sr_plugins.teacher.nets import Teacher

        return Teacher.named(self.architecture, self.steps, self.color, self.name)


class Features(_TaughtByAnother):
    """Follow the inner maps of a trained net: how they relate, or the maps themselves.

    `affinity` is that of He et al., FAKD: Feature-Affinity Based Knowledge Distillation for
    Efficient Image Super-Resolution, ICIP 2020; `attention` that of Zagoruyko, Komodakis, Paying
    More Attention to Attention, ICLR 2017; `projection` that of Romero et al., FitNets, ICLR 2015,
    on maps of unit deviation, which is ours.
    """

    name = "features"

    architecture: Net = None
    form: Form = Field("affinity", description="what of the inner maps is compared")
    weight: Weight = 0.04
    layers: Layers = 3
    depth: Depth = 1.0
    pool: Pool = 4
    warmup: Warmup = 0.0
    share: OwnShare = 0.5
    fade: Fade = False
    steps: Steps = 2000
    color: Color = "same"

    def lesson(self) -> Lesson:
        """Compare images and inner maps."""
        from automl_sr_plugins.teacher.lessons import Lesson, Maps

        maps = Maps(self.form, self.weight, self.layers, self.depth, self.pool, self.warmup)
        return Lesson(self.share, self.fade, maps)

    def teacher(self, own: Technique) -> Teacher:
        """Take the architecture that is named."""
        from automl_sr_plugins.teacher.nets import Teacher

        return Teacher.named(self.architecture, self.steps, self.color, self.name)


WITH_MAPS = When(form=["affinity", "attention", "projection"])


class Self(_Taught):
    """Follow the same net as it is before anything is pruned, quantized or left out.

    Furlanello et al.: Born-Again Neural Networks, ICML 2018, for nets that are made smaller on the
    way, which is ours. The teacher is trained once for all plans with the same architecture.
    """

    name = "self"

    form: Literal["none", "affinity", "attention", "projection"] = Field(
        "none", description="what of the inner maps is compared besides the images"
    )
    weight: Annotated[Weight, WITH_MAPS] = 0.04
    layers: Annotated[Layers, WITH_MAPS] = 3
    depth: Annotated[Depth, WITH_MAPS] = 1.0
    pool: Pool = 4
    warmup: Annotated[Warmup, WITH_MAPS] = 0.0
    share: Share = 0.5
    fade: Fade = False
    steps: Steps = 2000

    def lesson(self) -> Lesson:
        """Compare images, and inner maps where a form is named."""
        from automl_sr_plugins.teacher.lessons import Lesson, Maps

        if self.form == "none":
            return Lesson(self.share, self.fade)
        maps = Maps(self.form, self.weight, self.layers, self.depth, self.pool, self.warmup)
        return Lesson(self.share, self.fade, maps)

    def teacher(self, own: Technique) -> Teacher:
        """Take the architecture of the plan, with the fields that it has there."""
        from automl_sr_plugins.teacher.nets import Teacher

        return Teacher(own, self.steps, "same")

    def companions(self, blueprint: Blueprint, task: Task, ctx: Context) -> list[Blueprint]:
        """List the net once more, at the largest that it can be."""
        return [blueprint]


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Return the teachers of this family."""
    return [Response, Features, Self]
