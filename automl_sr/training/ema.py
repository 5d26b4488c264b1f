"""The moving average of a model's weights, with which it is evaluated and shipped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from automl_sr.training.optimizers import like


class Ema:
    """An exponential moving average that follows quickly at first: decay = min(decay, (1 + n) / (10
    + n)).
    """

    def __init__(
        self,
        model: nn.Module,
        decay: float,
        *,
        earlier: Mapping[str, Tensor] | None = None,
        steps: int = 0,
    ) -> None:
        self.decay = decay
        self.steps = steps
        self._live = floating_state(model)
        earlier = earlier or {}
        self.values = {
            name: like(
                value,
                earlier[name] if name in earlier and earlier[name].shape == value.shape else value,
            )
            for name, value in self._live.items()
        }

    def update(self) -> None:
        """Move towards the weights as they are now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        torch._foreach_lerp_(list(self.values.values()), list(self._live.values()), 1 - decay)


def floating_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's own floating-point tensors by name, detached but not copied."""
    found: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            found[name] = value
    return found
