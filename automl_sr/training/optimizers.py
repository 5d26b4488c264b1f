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

State = Mapping[str, Tensor]
"""What an optimizer knows of one parameter, by name."""

MAIN = "main"


class Optimizers:
    """One optimizer for each group of parameters; the rest belongs to the group `main`."""

    def __init__(
        self,
        parameters: Mapping[str, nn.Parameter],
        groups: Mapping[str, ParamGroup],
        recipe: Recipe,
    ) -> None:
        taken: set[str] = set()
        for group in groups.values():
            taken.update(group.parameters)
        unknown = sorted(taken - set(parameters))
        if unknown:
            raise PluginError(
                f"A group names {unknown[0]!r}, which is no trainable parameter of the model."
            )

        rest = []
        for name in parameters:
            if name not in taken:
                rest.append(name)
        main = ParamGroup(
            parameters=tuple(rest),
            lr=recipe.lr,
            optimizer=recipe.optimizer,
            betas=(0.9, recipe.beta2),
            weight_decay=recipe.weight_decay,
        )

        self._parameters = dict(parameters)
        self.groups: dict[str, ParamGroup] = {}
        self._optimizers: dict[str, torch.optim.Optimizer] = {}
        for name, group in {MAIN: main, **groups}.items():
            if not group.parameters:
                continue  # torch refuses an optimizer of nothing
            self.groups[name] = group
            members = self.parameters([name])
            self._optimizers[name] = _make(group, members)

    def automatic(self) -> list[str]:
        """Name the groups that the default update steps."""
        names: list[str] = []
        for name, group in self.groups.items():
            if group.automatic:
                names.append(name)
        return names

    def set_rates(self, factor: float) -> None:
        """Set every group's rate; those that are not scheduled keep their own."""
        for name, group in self.groups.items():
            rate = group.lr
            if group.scheduled:
                rate = group.lr * factor
            for settings in self._optimizers[name].param_groups:
                settings["lr"] = rate

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
        members: list[nn.Parameter] = []
        for name in groups:
            for key in self.groups[name].parameters:
                members.append(self._parameters[key])
        return members

    def each(self, groups: Iterable[str]) -> list[torch.optim.Optimizer]:
        """Return the optimizers of these groups."""
        return [self._optimizers[name] for name in groups]

    def state(self) -> dict[str, Tensor]:
        """Return all state as tensors named `group|parameter|key`."""
        tensors: dict[str, Tensor] = {}
        for name, group in self.groups.items():
            states = self._optimizers[name].state
            for key in group.parameters:
                items = states.get(self._parameters[key], {})
                for item, value in items.items():
                    # A checkpoint holds tensors alone.
                    full = f"{name}|{key}|{item}"
                    tensors[full] = torch.as_tensor(value)
        return tensors

    def moments(self, parameter: str) -> dict[str, Tensor]:
        """Return what an optimizer knows of a parameter, by name.

        They are no copies, so that changes count. Empty before the parameter's first step.
        """
        for name, group in self.groups.items():
            if parameter in group.parameters:
                states = self._optimizers[name].state
                return dict(states.get(self._parameters[parameter], {}))
        return {}

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Take over the state of parameters of the same name and shape; others start afresh."""
        by_parameter: dict[tuple[str, str], dict[str, Tensor]] = {}
        for full, value in tensors.items():
            group, key, item = full.split("|")
            items = by_parameter.setdefault((group, key), {})
            items[item] = value

        for (group, key), items in by_parameter.items():
            parameter = self._parameters.get(key)
            if group not in self.groups or parameter is None:
                continue
            members = self.groups[group].parameters
            if key not in members or not _fits(items, parameter):
                continue
            states = self._optimizers[group].state
            states[parameter] = _moved(items, parameter)


def like(template: Tensor, value: Tensor) -> Tensor:
    """Copy a value into a new tensor with the template's device and memory format."""
    # The memory format decides the order of sums, and so their last bits.
    made = torch.empty_like(
        template,
        dtype=value.dtype,
        requires_grad=False,
    )
    return made.copy_(value)


def _fits(items: State, parameter: nn.Parameter) -> bool:
    """Return whether state is that of a parameter of this shape."""
    for value in items.values():
        if value.dim() == 0:
            continue  # the count of steps, which fits every shape
        if value.shape != parameter.shape:
            return False
    return True


def _moved(items: State, parameter: nn.Parameter) -> dict[str, Tensor]:
    """Copy state to where a parameter lies."""
    state = {}
    for item, value in items.items():
        if value.dim() == 0:  # the count of steps
            state[item] = value.to(parameter.device, copy=True)
        else:
            state[item] = like(parameter, value)
    return state


def _make(group: ParamGroup, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    settings: dict[str, Any] = {
        "lr": group.lr,
        "weight_decay": group.weight_decay,
    }
    if group.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=0.9, **settings)

    settings |= {"betas": group.betas, "fused": True}
    if group.optimizer == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    return torch.optim.Adam(parameters, **settings)
