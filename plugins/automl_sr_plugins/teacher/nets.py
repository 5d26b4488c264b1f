"""Which net teaches, and how it comes to its weights: trained once for all trials, or from a file.

A net of colour images teaches one of luma through an edit of its blueprint, so that whoever builds
or measures it gives it luma.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, cast

import torch
from torch import Tensor, nn

from automl_sr.api import Recipe, Technique, TrialError

if TYPE_CHECKING:
    from automl_sr.api import Blueprint, Context, Run, Samples, SRSamples, Task

ON_GREY = "teacher.on_grey"
# BT.601: the weights of red, green and blue in luma, which lies in 16..235 of 255.
RED, GREEN, BLUE = 65.481 / 219, 128.553 / 219, 24.966 / 219
OFFSET, RANGE = 16 / 255, 219 / 255


class OnGrey(nn.Module):
    """A net of colour images [B, 3, h, w], for luma [B, 1, h, w].

    It is given the grey image that has this luma, on three channels; of what it makes of it, the
    luma is taken.
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        weights = torch.tensor([RED, GREEN, BLUE]).reshape(1, 3, 1, 1)
        self.register_buffer("weights", weights, persistent=False)

    def forward(self, luma: Tensor) -> Tensor:
        """Enlarge luma."""
        grey = (luma - OFFSET) / RANGE
        color = self.net(grey.expand(-1, 3, -1, -1))
        # Not in the number format of the net: luma of eight bits would be lost in it.
        weights = self.get_buffer("weights")
        mixed: Tensor = (color.float() * weights).sum(dim=1, keepdim=True)
        return mixed * RANGE + OFFSET


def on_grey(net: nn.Module) -> nn.Module:
    """Let a net of colour images take luma."""
    return OnGrey(net)


def _recipe(data: Samples, task: Task) -> Recipe:
    """Return the default recipe, with patches that fit into the largest image."""
    usual = Recipe(**task.fixes)
    windows = cast("SRSamples", data).windows
    room = int(windows[:, 3:].amin(dim=1).max())
    if room >= usual.patch:
        return usual
    return Recipe(**{**task.fixes, "patch": room})


@dataclass(frozen=True)
class Teacher:
    """A net that teaches: its architecture, and for how many steps it is trained.

    Without any its weights are those of the file that the architecture names.
    """

    architecture: Technique
    steps: int
    color: Literal["same", "rgb"]

    @classmethod
    def named(
        cls,
        architecture: Technique | None,
        steps: int,
        color: Literal["same", "rgb"],
        who: str,
    ) -> Teacher:
        """Return the teacher of a field. Raises TrialError where it names no architecture."""
        if architecture is None:
            raise TrialError(
                f"The teacher {who!r} has no net: its field 'architecture' is empty.",
                "Name one, as in `architecture: {edsr: {width: 32}}`; `self` needs none.",
            )
        return cls(architecture, steps, color)

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        """Describe the net as the student's task sees it."""
        there = self._context(task, ctx)
        net = self.architecture.blueprint(there.task, there)
        if there.task is task:
            return net
        return net.edited(ON_GREY)

    def check(self, task: Task, ctx: Context) -> None:
        """Raise TrialError where there can be no such teacher, before anything is trained."""
        if self.steps == 0:
            self._file_weights(task, ctx)
            return
        if type(self.architecture).phases is not Technique.phases:
            raise TrialError(
                f"{self.architecture.name!r} is trained in phases of its own, which a teacher does"
                " not have.",
                "Name another architecture, or a checkpoint of it with `steps: 0`.",
            )

    def net(self, run: Run) -> nn.Module:
        """Return the net with its weights, which never change: on the run's device, in its layout.

        It is trained on all training images, whatever a plan selects of them, and by the default
        recipe, so that all plans learn from the same one.
        """
        task = run.task
        self.check(task, run.context)
        there = self._context(task, run.context)
        if self.steps == 0:
            net = there.model(self.architecture.blueprint(there.task, there))
            self._fill(net, self._file_weights(task, run.context))
        else:
            data = run.full_data
            recipe = _recipe(data, task)
            net = there.fit(self.architecture, data, steps=self.steps, recipe=recipe, key="teacher")

        if there.task is not task:
            net = on_grey(net).to(run.setup.device)
        if run.recipe.channels_last:
            net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        return net.eval().requires_grad_(False)

    def _fill(self, net: nn.Module, given: Mapping[str, Tensor]) -> None:
        missing = sorted(net.state_dict().keys() - given.keys())
        if missing:
            raise TrialError(
                f"The file of the teacher {self.architecture.name!r} leaves {missing[0]!r} as it"
                " was drawn.",
                "Give the teacher steps, in which it learns the rest.",
            )
        net.load_state_dict(dict(given))

    def _context(self, task: Task, ctx: Context) -> Context:
        """Return the surroundings of the teacher's architecture, with the task that it is for."""
        # The architecture's own, not ours: one that is trained serves all techniques of the family.
        there = replace(ctx.for_technique(self.architecture), task=task)
        if self.color == "same" or task.dims()["channels"] == 3:
            return there
        return replace(there, task=task.model_copy(update={"color": "rgb"}))

    def _file_weights(self, task: Task, ctx: Context) -> dict[str, Tensor]:
        """Return all weights of the net from its file. Raises TrialError in words."""
        name = self.architecture.name
        there = self._context(task, ctx)
        blueprint = self.architecture.blueprint(there.task, there)
        try:
            given = self.architecture.first_weights(blueprint, there)
        except TrialError as error:
            hint = error.hint
            if there.task.dims()["channels"] == 1:
                hint = f"{hint} A net of colour images teaches luma with `color: rgb`.".strip()
            raise TrialError(f"The teacher: {error.message}", hint) from error
        if given is None:
            raise TrialError(
                f"A teacher with `steps: 0` is trained already, and {name!r} names no file.",
                f"Write `architecture: {{{name}: {{weights: FILE}}}}`, or give it steps.",
            )
        return dict(given)
