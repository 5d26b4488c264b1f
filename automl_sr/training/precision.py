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
    def of(cls, kind: str, device: str, auto: str = "auto") -> Precision:
        """Take a recipe's format; `auto` is what `auto` means in its study, or the device's own."""
        return cls(resolve(kind, device, auto), device)

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


def resolve(kind: str, device: str, auto: str = "auto") -> str:
    """Say which format a kind means: `auto` that of the study, or else the device's own."""
    meant = auto if kind == "auto" else kind
    return own_format(device) if meant == "auto" else meant


def own_format(device: str) -> str:
    """Name the format that suits a device: bf16, on older CUDA devices fp16, else fp32."""
    if is_native("bf16", device):
        return "bf16"
    return "fp16" if _on_cuda(device) else "fp32"


def is_native(kind: str, device: str) -> bool:
    """Whether a device has instructions for a format; emulated, it is slower than fp32."""
    if kind == "fp32":
        return True
    if _on_cuda(device):
        return kind == "fp16" or torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "fp16":
        built = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        return bool(built and torch.ops.mkldnn._is_mkldnn_fp16_supported())
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def can_train(kind: str, device: str) -> bool:
    """Whether a device computes in a format, be it emulated: it tries a tiny convolution."""
    if kind == "fp32":
        return True
    # Ones instead of random numbers: a run that is seeded notices nothing.
    weight = torch.ones(1, 1, 3, 3, device=device, requires_grad=True)
    image = torch.ones(1, 1, 8, 8, device=device)
    try:
        with torch.autocast(torch.device(device).type, FORMATS[kind]):
            result = torch.nn.functional.conv2d(image, weight)
        torch.autograd.grad(result.float().sum(), weight)
    except RuntimeError:
        return False
    return result.dtype == FORMATS[kind]


def _on_cuda(device: str) -> bool:
    return torch.device(device).type == "cuda"
