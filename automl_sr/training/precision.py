"""Mixed precision: which number format the forward pass uses, and the loss scale that fp16
needs.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

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

    def autocast(self, *, dilated: bool = False) -> contextlib.AbstractContextManager[Any]:
        """Surround a forward pass; `dilated` where there is what `has_dilated_depthwise` looks
        for.
        """
        if self.kind == "fp32":
            return contextlib.nullcontext()
        cast = torch.autocast(self.device_type, FORMATS[self.kind], cache_enabled=True)
        if dilated and self.device_type == "cpu":
            return _with_right_gradients(cast)
        return cast

    def backward(self, loss: Tensor) -> None:
        """Compute gradients, scaled where fp16 needs it."""
        self._scaler.scale(loss).backward()  # type: ignore[no-untyped-call]

    def unscale(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Bring gradients back to their true size, so that they can be clipped."""
        if self._scaler.is_enabled():
            for optimizer in optimizers:
                self._scaler.unscale_(optimizer)

    def step(self, optimizers: Sequence[torch.optim.Optimizer]) -> None:
        """Step the optimizers; with fp16 a step with infinite gradients is left out and the scale
        falls.
        """
        for optimizer in optimizers:
            self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, Any]:
        """Return what a resume needs, as JSON."""
        return {"kind": self.kind, "scaler": self._scaler.state_dict()}

    @classmethod
    def from_state(cls, state: dict[str, Any], device: str) -> Precision:
        """Go on in the format in which the run began, whatever `auto` would mean here."""
        made = cls(state["kind"], device)
        if made._scaler.is_enabled():
            made._scaler.load_state_dict(state["scaler"])
        return made


def has_dilated_depthwise(*modules: nn.Module) -> bool:
    """Return whether there is a convolution among the layers whose gradients need care on CPUs.

    The care costs some microseconds for each call of torch, so that other nets go without.
    """
    layers = (layer for module in modules for layer in module.modules())
    convolutions = (layer for layer in layers if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d))
    return any(layer.groups > 1 and max(layer.dilation) > 1 for layer in convolutions)


GROUPS_AND_DILATION: Mapping[Callable[..., Any], tuple[int, int]] = {
    torch.conv2d: (6, 5),
    torch.conv_transpose2d: (6, 7),
}
"""Where the convolutions of images take their groups and their dilation, as positional
arguments.
"""


@contextlib.contextmanager
def _with_right_gradients(cast: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    with cast, _DilatedInFloat():
        yield


class _DilatedInFloat(TorchFunctionMode):
    """Keeps dilated depthwise convolutions in float32 inside of autocast.

    On CPUs torch 2.13 computes wrong weight gradients for them in bf16 with channels_last: off by
    their own size, infinite, or others at each call. It is done where the function is called, so
    that it holds for subclasses of the layers too, such as those of a supernet.
    """

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function, with tensors in float32 and without autocast where it is such a
        convolution.
        """
        given = kwargs or {}
        positions = GROUPS_AND_DILATION.get(func)
        if positions is None or not _is_dilated_depthwise(args, given, *positions):
            return func(*args, **given)
        with torch.autocast("cpu", enabled=False):
            return func(
                *map(_as_float, args), **{name: _as_float(value) for name, value in given.items()}
            )


def _is_dilated_depthwise(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], groups_at: int, dilation_at: int
) -> bool:
    if len(args) > groups_at:
        groups = args[groups_at]
    else:
        groups = kwargs.get("groups", 1)
    if groups == 1:
        return False
    if len(args) > dilation_at:
        dilation = args[dilation_at]
    else:
        dilation = kwargs.get("dilation", 1)
    if isinstance(dilation, int):
        steps = (dilation,)
    else:
        steps = tuple(dilation)
    if len(args) > 1:
        weight = args[1]
    else:
        weight = kwargs["weight"]
    return max(steps) > 1 and tuple(weight.shape[:2]) == (groups, 1)


def _as_float(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float()
    return value


def resolve(kind: str, device: str, auto: str = "auto") -> str:
    """Say which format a kind means: `auto` that of the study, or else the device's own."""
    if kind == "auto":
        meant = auto
    else:
        meant = kind
    if meant == "auto":
        return own_format(device)
    return meant


def own_format(device: str) -> str:
    """Name the format that suits a device: bf16, on older CUDA devices fp16, else fp32."""
    if is_native("bf16", device):
        return "bf16"
    if _on_cuda(device):
        return "fp16"
    return "fp32"


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
