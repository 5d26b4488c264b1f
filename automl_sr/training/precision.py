"""Mixed precision: which number format the forward pass uses, and the loss scale that fp16 needs."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

FORMATS = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """The number format of one run. Weights, optimizer state and losses are always float32."""

    def __init__(self, kind: str, device: str) -> None:
        self.kind = kind
        self.device_type = torch.device(device).type
        self._scaler = torch.amp.GradScaler(self.device_type, enabled=kind == "fp16")

    @classmethod
    def of(cls, kind: str, device: str) -> Precision:
        """Resolve `auto`: bf16 where the device computes in it, fp16 on older CUDA devices, else fp32."""
        return cls(resolve(kind, device), device)

    def autocast(self) -> contextlib.AbstractContextManager[Any]:
        """Surround a forward pass."""
        if self.kind == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device_type, FORMATS[self.kind], cache_enabled=True)

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, scaled where fp16 needs it."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Bring gradients back to their true size, so that they can be clipped."""
        if self._scaler.is_enabled():
            for optimizer in optimizers:
                self._scaler.unscale_(optimizer)

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Step the optimizers; with fp16 a step with infinite gradients is left out and the scale falls."""
        for optimizer in optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """Give what a resume needs, as JSON."""
        return {"kind": self.kind, "scaler": self._scaler.state_dict()}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: str) -> Precision:
        """Go on in the format in which the run began, whatever `auto` would mean here."""
        made = cls(state["kind"], device)
        if made._scaler.is_enabled():
            made._scaler.load_state_dict(state["scaler"])
        return made


def resolve(kind: str, device: str) -> str:
    """Say which format `auto` means on a device; other kinds mean themselves."""
    if kind != "auto":
        return kind
    if torch.device(device).type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    # Without these instructions bf16 convolutions are emulated and slower than fp32.
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"
