"""The moving average of a model's weights, with which it is evaluated and shipped."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from automl_sr.training.optimizers import like


class Ema:
    """An exponential moving average that follows quickly at first.

    After n steps its decay is min(decay, (1 + n) / (10 + n)).
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
        known = earlier or {}
        self.values: dict[str, Tensor] = {}
        for name, value in self._live.items():
            source = value
            if name in known and known[name].shape == value.shape:
                source = known[name]
            self.values[name] = like(value, source)

    def update(self) -> None:
        """Move towards the weights as they are now."""
        self.steps += 1
        decay = min(self.decay, (1 + self.steps) / (10 + self.steps))
        averages = list(self.values.values())
        weights = list(self._live.values())
        # One call for all tensors: nets have many small ones.
        torch._foreach_lerp_(averages, weights, 1 - decay)


def floating_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's own floating-point tensors by name, detached but not copied."""
    # Integers, such as the count of batches that a BatchNorm has seen, have no average.
    state: dict[str, Tensor] = {}
    for name, value in model.state_dict().items():
        if value.is_floating_point():
            state[name] = value
    return state
