"""`from_file`: a model that was finished before, as the architecture of a plan.

Core brings it, since it is of no family: the file says which net it holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import Field

from automl_sr.errors import TrialError
from automl_sr.plugin.hookspecs import hookimpl
from automl_sr.plugin.technique import File, Slot, Technique

if TYPE_CHECKING:
    from torch import Tensor

    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.plugin.task import Task
    from automl_sr.plugin.weights import StoredWeights
    from automl_sr.trial.context import Context


class FromFile(Technique):
    """Begin with a finished model: its net as it shipped, and its weights.

    Source: fine-tuning from given weights; J. Yosinski et al., How transferable are features in
    deep neural networks?, NeurIPS 2014. The net has the fields and the structural changes that the
    file tells. What its architecture does in training (wide blocks, a search) is over.
    """

    slot = Slot.ARCHITECTURE
    name = "from_file"
    asked_only = True
    tasks: ClassVar[frozenset[str]] = frozenset({"*"})

    weights: Annotated[
        str, File(), Field(description="model.safetensors that export, or compress, has written")
    ] = ""

    def blueprint(self, task: Task, ctx: Context) -> Blueprint:
        """Return the model that the file tells of. Raises TrialError for one of another task."""
        from automl_sr.plugin.weights import read_weights

        if not self.weights:
            raise TrialError(
                "architecture.from_file names no file.",
                "Write `from_file: {weights: my-model/model.safetensors}`.",
            )
        found = read_weights(ctx.file(self.weights))
        blueprint = found.blueprint
        if blueprint is None:
            raise TrialError(
                f"{self.weights} does not say which net it holds.",
                "Name its architecture instead, with the file as its `weights`; or make a folder"
                " of it with `automl-sr compress --architecture`.",
            )
        self._check_dims(found, task)
        return blueprint

    def first_weights(self, blueprint: Blueprint, ctx: Context) -> Mapping[str, Tensor] | None:
        """Return the weights in the file."""
        return ctx.weights(self.weights, blueprint)

    def read_checkpoint(
        self, tensors: Mapping[str, Tensor], task: Task
    ) -> tuple[Technique, dict[str, Tensor]] | None:
        """Recognise nothing: a foreign file does not say which net it holds."""
        return None

    def _check_dims(self, found: StoredWeights, task: Task) -> None:
        """Raise TrialError where the model is one for other inputs or outputs."""
        for name, wanted in task.dims().items():
            there = found.header.get(name, wanted)
            if str(there) != str(wanted):
                raise TrialError(
                    f"{self.weights} holds a model with {name}={there}, and the task has"
                    f" {name}={wanted}.",
                    "Name a model of this task, or change the task.",
                )


@hookimpl
def register_techniques() -> list[type[Technique]]:
    """Register the architecture that is a file."""
    return [FromFile]
