"""The layers of a model in the order in which they run, and the part that each of them plays."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from automl_sr.evaluation.cost import on_meta
from automl_sr.plugin.task import as_inputs

if TYPE_CHECKING:
    from automl_sr.plugin.task import Task

Kind = Literal["convolution", "transposed", "linear", "recurrent"]
Role = Literal["first", "last", "shuffled", "residual"]
LAYERS = (_ConvNd, nn.Linear, nn.RNNBase)
SHUFFLES = (torch.ops.aten.pixel_shuffle.default, torch.ops.aten.channel_shuffle.default)
SUMS = (torch.ops.aten.add.Tensor, torch.ops.aten.add_.Tensor)


@dataclass(frozen=True)
class Layer:
    """A layer with weights, as one forward pass calls it."""

    name: str
    """Of the module: `body.0.conv1`."""
    kind: Kind
    roles: frozenset[Role]
    """`first`: nothing with weights lies before it; `last`: nothing behind it; `shuffled`: its channels become pixels;
    `residual`: its output is added to other maps. None of them: the body."""
    input_shape: tuple[int, ...]
    """Of its input for the task's cost example, without the batch: channels, height, width."""

    @property
    def weight(self) -> str:
        """Return the name of its weights in the exported file, as `layer_tensors` lists them."""
        return f"{self.name}.weight"


def layers(model: nn.Module, task: Task) -> list[Layer]:
    """Return the layers of a model that runs in evaluation mode, in the order of its forward pass.

    Convolutions, transposed ones, linear and recurrent layers; one that is called twice is listed once, where it is
    called first, and one that is never called is not. It runs on torch's meta device: no weights are read, and the
    model is left as it is.
    """
    net = _bare_copy(model)
    found = _Watched(net)
    inputs = as_inputs(task.cost_example(net))
    with torch.no_grad(), torch.device("meta"), found:
        output = net(*inputs)
    return found.layers(output)


def _bare_copy(model: nn.Module) -> nn.Module:
    """Return a copy on the meta device without hooks, which belong to a training run."""
    net = copy.deepcopy(on_meta(model)).eval()
    for module in net.modules():
        module._forward_hooks.clear()
        module._forward_pre_hooks.clear()
    return net


class _Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Follows maps from layer to layer: which layers' outputs a tensor is made of, with no other layer between."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._sources: dict[int, frozenset[str]] = {}
        self._kept: list[Tensor] = []  # keeps tensors alive, so that no id is given out twice
        self._modules: dict[str, nn.Module] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._roles: dict[str, set[Role]] = {}
        self._inside = False
        """Whether a layer runs: what a recurrent one adds up is no residual stream."""
        for name, module in net.named_modules():
            if isinstance(module, LAYERS):
                self._modules[name] = module
                module.register_forward_pre_hook(self._before(name))
                module.register_forward_hook(self._after(name))

    def layers(self, output: Any) -> list[Layer]:
        """Return what was called, once the net has given its output."""
        for name in self._of(output):
            self._roles[name].add("last")
        return [
            Layer(name, _kind(self._modules[name]), frozenset(self._roles[name]), shape)
            for name, shape in self._shapes.items()
        ]

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operation, and note of which layers its result is made."""
        result = operation(*args, **(kwargs or {}))
        if self._inside:
            return result
        sources = self._of((args, kwargs))
        if operation in SHUFFLES:
            self._play("shuffled", sources)
        if operation in SUMS and len(list(_tensors(args))) > 1:
            self._play("residual", sources)
        self._made(result, sources)
        return result

    def _before(self, name: str) -> Any:
        def note(module: nn.Module, inputs: Any) -> None:
            self._inside = True
            if name in self._shapes:
                return
            given = next(_tensors(inputs))
            self._shapes[name] = tuple(given.shape[1:])
            self._roles[name] = set() if self._of(inputs) else {"first"}

        return note

    def _after(self, name: str) -> Any:
        def note(module: nn.Module, inputs: Any, output: Any) -> None:
            self._inside = False
            self._made(output, frozenset({name}))

        return note

    def _of(self, values: Any) -> frozenset[str]:
        return frozenset().union(*(self._sources.get(id(item), ()) for item in _tensors(values)))

    def _made(self, values: Any, sources: frozenset[str]) -> None:
        for tensor in _tensors(values):
            self._sources[id(tensor)] = sources
            self._kept.append(tensor)

    def _play(self, role: Role, names: frozenset[str]) -> None:
        for name in names:
            self._roles[name].add(role)


def _tensors(values: Any) -> Iterator[Tensor]:
    return (item for item in tree_leaves(values) if isinstance(item, Tensor))


def _kind(module: nn.Module) -> Kind:
    if isinstance(module, nn.Linear):
        return "linear"
    if isinstance(module, nn.RNNBase):
        return "recurrent"
    return "transposed" if isinstance(module, _ConvTransposeNd) else "convolution"
