"""Mixed precision: the number format of the forward pass, and the loss scale that fp16 needs."""

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
    def of(
        cls,
        kind: str,
        device: str,
        auto: str = "auto",
    ) -> Precision:
        """Take a recipe's format; `auto` is what `auto` means in its study, or the device's own."""
        return cls(resolve(kind, device, auto), device)

    def autocast(self, *, dilated: bool = False) -> contextlib.AbstractContextManager[Any]:
        """Surround a forward pass.

        `dilated` says whether there is what `has_dilated_depthwise` looks for.
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
        """Step the optimizers.

        With fp16 a step with infinite gradients is left out, and the scale falls.
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
    for module in modules:
        for layer in module.modules():
            if not isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                continue
            if layer.groups > 1 and max(layer.dilation) > 1:
                return True
    return False


GROUPS_AND_DILATION: Mapping[Callable[..., Any], tuple[int, int]] = {
    torch.conv2d: (6, 5),
    torch.conv_transpose2d: (6, 7),
}
"""The positions at which the convolutions of images take their groups and their dilation."""


@contextlib.contextmanager
def _with_right_gradients(cast: contextlib.AbstractContextManager[Any]) -> Iterator[None]:
    with cast, _DilatedInFloat():
        yield


class _DilatedInFloat(TorchFunctionMode):
    """Keeps dilated depthwise convolutions in float32 inside of autocast."""

    # On CPUs torch 2.13 computes wrong weight gradients for them in bf16 with channels_last: off by
    # their own size, infinite, or others at each call. Caught where the function is called, this
    # holds for subclasses of the layers too, such as those of a supernet.

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call the function; such a convolution in float32 and without autocast."""
        named = kwargs or {}
        positions = GROUPS_AND_DILATION.get(func)
        if positions is None or not _is_dilated_depthwise(args, named, *positions):
            return func(*args, **named)

        floats = [_as_float(value) for value in args]
        named_floats = {}
        for name, value in named.items():
            named_floats[name] = _as_float(value)
        with torch.autocast("cpu", enabled=False):
            return func(*floats, **named_floats)


def _is_dilated_depthwise(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    groups_at: int,
    dilation_at: int,
) -> bool:
    groups = _argument(args, kwargs, groups_at, "groups")
    if groups in (None, 1):
        return False

    dilation = _argument(args, kwargs, dilation_at, "dilation")
    if dilation is None:
        return False
    if isinstance(dilation, int):
        widest = dilation
    else:
        widest = max(dilation)

    weight = _argument(args, kwargs, 1, "weight")
    return widest > 1 and tuple(weight.shape[:2]) == (groups, 1)


def _argument(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    position: int,
    name: str,
) -> Any:
    """Return an argument of a call, given by position or by name; None where it is not given."""
    if len(args) > position:
        return args[position]
    return kwargs.get(name)


def _as_float(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.float()
    return value


def resolve(
    kind: str,
    device: str,
    auto: str = "auto",
) -> str:
    """Say which format a kind means: `auto` that of the study, or else the device's own."""
    if kind != "auto":
        return kind
    if auto != "auto":
        return auto
    return own_format(device)


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
        # Otherwise torch says yes for devices that only emulate bf16.
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
