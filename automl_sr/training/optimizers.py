"""Optimizers whose state is kept by parameter name, so that it survives a change of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from automl_sr.errors import PluginError
from automl_sr.training.step import ParamGroup

if TYPE_CHECKING:
    from automl_sr.training.recipe import Recipe

MAIN = "main"


class Optimizers:
    """One optimizer for each group of parameters; what no group names belongs to the group
    `main`.
    """

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        groups: Mapping[str, ParamGroup],
        recipe: Recipe,
    ) -> None:
        taken = set()
        for group in groups.values():
            for name in group.parameters:
                taken.add(name)
        unknown = taken - set(parameters)
        if unknown:
            raise PluginError(
                f"A group names {sorted(unknown)[0]!r}, which is no trainable parameter of the"
                " model."
            )
        main = ParamGroup(
            tuple(name for name in parameters if name not in taken),
            recipe.lr,
            recipe.optimizer,
            (0.9, recipe.beta2),
            recipe.weight_decay,
        )
        self.groups = {
            name: group for name, group in {MAIN: main, **groups}.items() if group.parameters
        }
        self._parameters = dict(parameters)
        self._optimizers = {
            name: _make(group, [parameters[key] for key in group.parameters])
            for name, group in self.groups.items()
        }

    def automatic(self) -> list[str]:
        """Name the groups that the default update steps."""
        found: list[str] = []
        for name, group in self.groups.items():
            if group.automatic:
                found.append(name)
        return found

    def set_rates(self, factor: float) -> None:
        """Set every group's rate; those that are not scheduled keep their own."""
        for name, group in self.groups.items():
            for settings in self._optimizers[name].param_groups:
                settings["lr"] = group.lr * factor if group.scheduled else group.lr

    def zero(self) -> None:
        """Forget all gradients, also those of groups that are not stepped."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def set_gradients(self, gradients: Mapping[str, Tensor]) -> None:
        """Set gradients by parameter name.

        Raises PluginError for a name that is no trainable parameter.
        """
        for name, gradient in gradients.items():
            if name not in self._parameters:
                raise PluginError(
                    f"A gradient is given for {name!r}, which is no trainable parameter of the"
                    " model."
                )
            self._parameters[name].grad = gradient

    def parameters(self, groups: Iterable[str]) -> list[nn.Parameter]:
        """Return the parameters of these groups."""
        found: list[nn.Parameter] = []
        for name in groups:
            for key in self.groups[name].parameters:
                found.append(self._parameters[key])
        return found

    def each(self, groups: Iterable[str]) -> list[torch.optim.Optimizer]:
        """Return the optimizers of these groups."""
        found: list[torch.optim.Optimizer] = []
        for name in groups:
            found.append(self._optimizers[name])
        return found

    def state(self) -> dict[str, Tensor]:
        """Return all state as tensors named `group|parameter|key`."""
        found: dict[str, Tensor] = {}
        for name, group in self.groups.items():
            states = self._optimizers[name].state
            for key in group.parameters:
                for item, value in states.get(self._parameters[key], {}).items():
                    found[f"{name}|{key}|{item}"] = (
                        value if isinstance(value, Tensor) else torch.tensor(value)
                    )
        return found

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the state of parameters of the same name and shape; others start afresh."""
        by_parameter: dict[tuple[str, str], dict[str, Tensor]] = {}
        for full, value in tensors.items():
            group, key, item = full.split("|")
            by_parameter.setdefault((group, key), {})[item] = value
        for (group, key), items in by_parameter.items():
            parameter = self._parameters.get(key)
            if (
                group not in self.groups
                or key not in self.groups[group].parameters
                or parameter is None
            ):
                continue
            if all(value.dim() == 0 or value.shape == parameter.shape for value in items.values()):
                self._optimizers[group].state[parameter] = {
                    item: (
                        value.to(parameter.device, copy=True)
                        if value.dim() == 0
                        else like(parameter, value)
                    )
                    for item, value in items.items()
                }


def like(template: Tensor, value: Tensor) -> Tensor:
    """Copy a value into a new tensor with the template's device and memory format, which decides
    the bits of sums.
    """
    made = torch.empty_like(template, dtype=value.dtype, requires_grad=False)
    return made.copy_(value)


def _make(group: ParamGroup, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {"lr": group.lr, "weight_decay": group.weight_decay}
    if group.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **settings)
    kind = torch.optim.AdamW if group.optimizer == "adamw" else torch.optim.Adam
    return kind(parameters, betas=group.betas, fused=True, **settings)
