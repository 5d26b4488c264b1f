"""The layers of a model in the order in which they run, and the part that each of them plays.

One forward pass is watched, whatever the model's Python does: modules that are called twice, never,
or only by their weight are told apart by it. What lies between two layers (activations, sums,
shuffles) is followed from the torch functions that are called.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from automl_sr.compression.onnx_file import LayerTensors, layer_tensors, scope_of
from automl_sr.evaluation.cost import on_meta, recurrent_by_formula
from automl_sr.plugin.task import as_inputs

if TYPE_CHECKING:
    from automl_sr.plugin.task import Inputs, Task

Kind = Literal["convolution", "transposed", "linear", "recurrent"]
Role = Literal["first", "last", "shuffled", "residual"]

MODULES: dict[Kind, tuple[type[nn.Module], ...]] = {
    "convolution": (nn.Conv1d, nn.Conv2d, nn.Conv3d),
    "transposed": (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    "linear": (nn.Linear, nn.Bilinear),
    "recurrent": (nn.RNNBase,),
}
FUNCTIONS: dict[Any, Kind] = {
    torch.conv1d: "convolution",
    torch.conv2d: "convolution",
    torch.conv3d: "convolution",
    torch.conv_transpose1d: "transposed",
    torch.conv_transpose2d: "transposed",
    torch.conv_transpose3d: "transposed",
    functional.linear: "linear",
}
OPERATORS: dict[Kind, tuple[str, ...]] = {
    "convolution": ("Conv",),
    "transposed": ("ConvTranspose",),
    "linear": ("Gemm", "MatMul"),
    "recurrent": ("LSTM", "GRU", "RNN"),
}
SUMS = frozenset(
    {torch.add, torch.sub, Tensor.add, Tensor.sub, Tensor.add_, Tensor.sub_}
    | {Tensor.__add__, Tensor.__radd__, Tensor.__iadd__}
    | {Tensor.__sub__, Tensor.__rsub__, Tensor.__isub__}
)
SHUFFLES = frozenset({torch.pixel_shuffle, functional.pixel_shuffle, torch.channel_shuffle})


@dataclass(frozen=True)
class Layer:
    """A layer with weights that are learnt, as one forward pass calls it."""

    name: str
    """Of the module: `body.0.conv1`; where only its weight is used, of the module that owns it."""
    kind: Kind
    roles: frozenset[Role]
    """`first`: nothing that it reads has passed another layer; `last`: what it gives reaches the
    output through no other layer; `shuffled`: its channels become pixels; `residual`: its output is
    added to another map of the same size, as those of a residual block's branches are.
    """
    input_shape: tuple[int, ...]
    """Of its input for the task's cost example, without the batch: channels, height, width."""
    output_shape: tuple[int, ...]
    """Of what it gives then."""
    weight: str
    """Name of its weight among the model's parameters, and mostly in the exported file."""
    calls: int = 1
    """How often it is called in one forward pass."""
    stored: tuple[LayerTensors, ...] = ()
    """What its calls are in the exported file, if one was named."""


def layers(model: nn.Module, task: Task, exported: Path | str | None = None) -> list[Layer]:
    """Return the layers of a model in the order of its forward pass, in evaluation mode.

    Convolutions, transposed ones, linear and recurrent layers; one that is called twice is listed
    once, where it is called first, and one that is never called is not. Kernels that are not learnt
    (buffers) are no layers. `exported` is the model's ONNX file, in which its layers are then
    found. The model is left as it is: a copy runs on torch's meta device, or, where that is not
    enough for its Python, on the CPU.
    """
    try:
        found = _watch(copy.deepcopy(on_meta(model)), task.cost_example)
    except Exception:
        if any(tensor.is_meta for tensor in model.parameters()):
            raise
        found = _watch(copy.deepcopy(model).to("cpu"), lambda net: task.examples(net)[0])
    if exported is None:
        return found
    return _located(found, layer_tensors(exported))


@dataclass
class _Seen:
    """What is known of a layer while the model runs."""

    name: str
    kind: Kind
    weight: str
    input: tuple[int, ...]
    output: tuple[int, ...] = ()
    calls: int = 0
    roles: set[Role] = field(default_factory=set)

    def as_layer(self) -> Layer:
        roles = frozenset(self.roles)
        shapes = (self.input[1:], self.output[1:])
        return Layer(self.name, self.kind, roles, *shapes, self.weight, self.calls)


@dataclass(frozen=True)
class _Origin:
    """Where a tensor comes from: the layers that it has passed last, by their weights."""

    layers: frozenset[str] = frozenset()


class _Watch(TorchFunctionMode):
    """Follows tensors of one forward pass, by the memory that they lie in: views and in-place
    changes share it.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.seen: dict[str, _Seen] = {}
        self.origins: dict[int, _Origin] = {}
        self.alive: list[Tensor] = []  # no address is given out twice
        self.running: list[str] = []
        weights = []
        for name, value in model.named_parameters():
            if value.dim() > 1:
                weights.append((name, value))
        self.owners = {id(value): name for name, value in weights}

    def begin(self, inputs: Iterable[Tensor]) -> None:
        for tensor in inputs:
            self._note(tensor, _Origin())

    def origin(self, value: Any) -> _Origin | None:
        """Return where a value comes from; nothing where it does not depend on the inputs."""
        found = []
        for tensor in _tensors(value):
            if known := self.origins.get(_place(tensor)):
                found.append(known)
        if not found:
            return None
        return _Origin(frozenset().union(*(known.layers for known in found)))

    def follow(self, output: Any, origin: _Origin | None) -> None:
        if origin is not None:
            for tensor in _tensors(output):
                self._note(tensor, origin)

    def enter(self, name: str, kind: Kind, weight: str, read: Any) -> None:
        self.running.append(weight)
        origin = self.origin(read)
        shape = next((tuple(tensor.shape) for tensor in _tensors(read)), ())
        seen = self.seen.setdefault(weight, _Seen(name, kind, weight, shape))
        seen.calls += 1
        if origin is not None and not origin.layers:
            seen.roles.add("first")

    def leave(self, output: Any) -> None:
        weight = self.running.pop()
        seen = self.seen[weight]
        seen.output = seen.output or next((tuple(tensor.shape) for tensor in _tensors(output)), ())
        self.follow(output, _Origin(frozenset({weight})))

    def end(self, output: Any) -> list[Layer]:
        self._mark(self.origin(output), "last")
        found: list[Layer] = []
        for seen in self.seen.values():
            found.append(seen.as_layer())
        return found

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if self.running:
            return func(*args, **named)
        weight = self._weight_of(func, args, named)
        if weight is not None:
            # Not a module's own call: its weight alone is used.
            read = args[:1] or named.get("input")
            self.enter(weight.rpartition(".")[0], FUNCTIONS[func], weight, read)
            output = func(*args, **named)
            self.leave(output)
            return output
        if func in SUMS:
            self._look_at_sum(args, named)
        origin = self.origin((args, named))
        if func in SHUFFLES:
            self._mark(origin, "shuffled")
        output = func(*args, **named)
        self.follow(output, origin)
        if func is Tensor.__setitem__ or _is_in_place(func):
            self.follow(args[:1], origin)
        return output

    def _weight_of(self, func: Any, args: tuple[Any, ...], named: Mapping[str, Any]) -> str | None:
        if func not in FUNCTIONS:
            return None
        if len(args) > 1:
            weight = args[1]
        else:
            weight = named.get("weight")
        return self.owners.get(id(weight))

    def _look_at_sum(self, args: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        terms = []
        for term in (*args, named.get("other")):
            if isinstance(term, Tensor):
                terms.append(term)
        origins = [self.origin(term) for term in terms]
        if len(terms) == 2 and all(origins) and terms[0].shape == terms[1].shape:
            for origin in origins:
                self._mark(origin, "residual")

    def _mark(self, origin: _Origin | None, role: Role) -> None:
        for weight in origin.layers if origin else ():
            self.seen[weight].roles.add(role)

    def _note(self, tensor: Tensor, origin: _Origin) -> None:
        self.origins[_place(tensor)] = origin
        self.alive.append(tensor)


def _watch(net: nn.Module, example: Callable[[nn.Module], Inputs]) -> list[Layer]:
    """Run a copy of a model, without the hooks that belong to a training run, and watch it."""
    net.eval()
    for part in net.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    inputs = as_inputs(example(net))
    watch = _Watch(net)
    device = next((tensor.device for tensor in net.parameters()), torch.device("cpu"))
    # Recurrent layers would be unrolled on the meta device, step by step.
    shapes = recurrent_by_formula(net, []) if device.type == "meta" else contextlib.nullcontext()
    with torch.no_grad(), device, _hooks(net, watch), shapes, watch:
        watch.begin(inputs)
        output = net(*inputs)
    return watch.end(output)


@contextlib.contextmanager
def _hooks(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Tell the watch of every call of a module, and take the hooks off again."""
    handles: list[Any] = []
    names = {id(part): name for name, part in model.named_modules()}

    def before(part: nn.Module, args: Any, named: Any) -> None:
        kind = _kind(part)
        if kind is not None:
            name = names[id(part)]
            matrices = []
            for key, value in part.named_parameters():
                if value.dim() > 1:
                    matrices.append(key)
            weight = "weight"
            if matrices:
                weight = matrices[0]
            watch.enter(name, kind, f"{name}.{weight}" if name else weight, (args, named))

    def after(part: nn.Module, args: Any, named: Any, output: Any) -> None:
        if _kind(part) is not None:
            watch.leave(output)
        elif not watch.running and watch.origin(output) is None:
            # It left torch on the way (for NumPy, for instance): what it gives comes from what it
            # read.
            watch.follow(output, watch.origin((args, named)))

    # TorchScript takes no hooks, and what it computes cannot be followed.
    for part in [part for part in model.modules() if not isinstance(part, torch.jit.ScriptModule)]:
        handles.append(part.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(part.register_forward_hook(after, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _kind(part: nn.Module) -> Kind | None:
    return next((kind for kind, types in MODULES.items() if isinstance(part, types)), None)


def _is_in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    if name.endswith("__"):
        return bool(name.startswith("__i"))
    return bool(name.endswith("_"))


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        found: list[Tensor] = []
        for item in value:
            found.extend(_tensors(item))
        return found
    return []


def _located(found: list[Layer], nodes: list[LayerTensors]) -> list[Layer]:
    """Find the calls of layers among the nodes of a file: by the module's name in the node's, by
    the weight, by order.

    Exporters rename weights that they transpose or fuse, and one of them names nodes after nothing.
    """
    by_weight = {layer.weight: layer.weight for layer in found}
    names = [layer.name for layer in found]
    by_name = {layer.name: layer.weight for layer in found if names.count(layer.name) == 1}
    owners = {}
    for node in nodes:
        # Two modules with one weight are told apart by their names.
        owner = by_name.get(scope_of(node.node)) or by_weight.get(node.weight)
        if owner is not None:
            owners[node.node] = owner
    placed = []
    for layer in found:
        own = tuple(node for node in nodes if owners.get(node.node) == layer.weight)
        placed.append(replace(layer, stored=own))
    for kind, operators in OPERATORS.items():
        alike = [place for place, layer in enumerate(placed) if layer.kind == kind]
        missing = [place for place in alike if not placed[place].stored]
        left = [node for node in nodes if node.node not in owners and node.operator in operators]
        if len(missing) == len(left):
            for place, node in zip(missing, left, strict=True):
                placed[place] = replace(placed[place], stored=(node,))
    return placed
