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
    {
        torch.add,
        torch.sub,
        Tensor.add,
        Tensor.sub,
        Tensor.add_,
        Tensor.sub_,
        Tensor.__add__,
        Tensor.__radd__,
        Tensor.__iadd__,
        Tensor.__sub__,
        Tensor.__rsub__,
        Tensor.__isub__,
    }
)
SHUFFLES = frozenset(
    {
        torch.pixel_shuffle,
        functional.pixel_shuffle,
        torch.channel_shuffle,
    }
)


@dataclass(frozen=True)
class Layer:
    """A layer with weights that are learnt, as one forward pass calls it."""

    name: str
    """Of the module: `body.0.conv1`; where only its weight is used, of the module that owns it."""
    kind: Kind
    roles: frozenset[Role]
    """What it is to its neighbours.

    `first`: nothing that it reads has passed another layer; `last`: what it gives reaches the
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
    watched = _watched(model, task)
    if exported is None:
        return watched
    return located(watched, layer_tensors(exported))


def _watched(model: nn.Module, task: Task) -> list[Layer]:
    try:
        return _watch(copy.deepcopy(on_meta(model)), task.cost_example)
    except Exception:
        # Python that looks at values fails without them; it can be asked on the CPU if there are
        # some.
        if any(tensor.is_meta for tensor in model.parameters()):
            raise

    def example(net: nn.Module) -> Inputs:
        return task.examples(net)[0]

    return _watch(copy.deepcopy(model).to("cpu"), example)


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
        return Layer(
            name=self.name,
            kind=self.kind,
            roles=frozenset(self.roles),
            input_shape=self.input[1:],
            output_shape=self.output[1:],
            weight=self.weight,
            calls=self.calls,
        )


@dataclass(frozen=True)
class _Origin:
    """Where a tensor comes from: the layers that it has passed last, by their weights."""

    layers: frozenset[str] = frozenset()


class _Watch(TorchFunctionMode):
    """Follows tensors of one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.seen: dict[str, _Seen] = {}
        # By the memory that tensors lie in: views and in-place changes share it.
        self.origins: dict[int, _Origin] = {}
        self.alive: list[Tensor] = []  # no address is given out twice
        self.running: list[str] = []
        self.owners: dict[int, str] = {}
        for name, value in model.named_parameters():
            if value.dim() > 1:
                self.owners[id(value)] = name

    def begin(self, inputs: Iterable[Tensor]) -> None:
        for tensor in inputs:
            self._note(tensor, _Origin())

    def origin(self, value: Any) -> _Origin | None:
        """Return where a value comes from; nothing where it does not depend on the inputs."""
        passed: set[str] = set()
        depends = False
        for tensor in _tensors(value):
            known = self.origins.get(_place(tensor))
            if known is not None:
                depends = True
                passed |= known.layers
        if not depends:
            return None
        return _Origin(frozenset(passed))

    def follow(self, output: Any, origin: _Origin | None) -> None:
        if origin is not None:
            for tensor in _tensors(output):
                self._note(tensor, origin)

    def enter(
        self,
        name: str,
        kind: Kind,
        weight: str,
        read: Any,
    ) -> None:
        self.running.append(weight)
        if weight not in self.seen:
            self.seen[weight] = _Seen(name, kind, weight, _shape(read))
        seen = self.seen[weight]
        seen.calls += 1
        origin = self.origin(read)
        if origin is not None and not origin.layers:
            seen.roles.add("first")

    def leave(self, output: Any) -> None:
        weight = self.running.pop()
        seen = self.seen[weight]
        seen.output = seen.output or _shape(output)
        self.follow(output, _Origin(frozenset({weight})))

    def end(self, output: Any) -> list[Layer]:
        self._mark(self.origin(output), "last")
        return [seen.as_layer() for seen in self.seen.values()]

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        if self.running:
            return func(*args, **named)  # what happens inside a layer is the layer's
        weight = self._weight_of(func, args, named)
        if weight is not None:
            return self._call_by_weight(func, weight, args, named)

        # Looked at before the call, which may change its arguments in place.
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

    def _call_by_weight(
        self,
        func: Any,
        weight: str,
        args: tuple[Any, ...],
        named: Mapping[str, Any],
    ) -> Any:
        """Call a layer's function that is no module's own call: its weight alone is used."""
        owner, _, _ = weight.rpartition(".")
        read = args[:1] or named.get("input")
        self.enter(owner, FUNCTIONS[func], weight, read)
        output = func(*args, **named)
        self.leave(output)
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
        if len(terms) != 2:
            return
        first, second = terms
        if first.shape != second.shape:
            return  # a bias or a mean, not a branch

        origins = [self.origin(first), self.origin(second)]
        if not all(origins):
            return
        for origin in origins:
            self._mark(origin, "residual")

    def _mark(self, origin: _Origin | None, role: Role) -> None:
        if origin is None:
            return
        for weight in origin.layers:
            self.seen[weight].roles.add(role)

    def _note(self, tensor: Tensor, origin: _Origin) -> None:
        self.origins[_place(tensor)] = origin
        self.alive.append(tensor)


def _watch(net: nn.Module, example: Callable[[nn.Module], Inputs]) -> list[Layer]:
    """Run a copy of a model and watch it."""
    net.eval()
    # Hooks belong to a training run: the copy has them too, and they would write into it.
    for part in net.modules():
        part._forward_hooks.clear()
        part._forward_pre_hooks.clear()
    inputs = as_inputs(example(net))
    watch = _Watch(net)

    device = torch.device("cpu")
    for tensor in net.parameters():
        device = tensor.device
        break
    shapes: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if device.type == "meta":
        # Recurrent layers would be unrolled there, step by step.
        shapes = recurrent_by_formula(net, [])

    with torch.no_grad(), device, _hooks(net, watch), shapes, watch:
        watch.begin(inputs)
        output = net(*inputs)
    return watch.end(output)


@contextlib.contextmanager
def _hooks(model: nn.Module, watch: _Watch) -> Iterator[None]:
    """Tell the watch of every call of a module, and take the hooks off again."""
    names = {id(part): name for name, part in model.named_modules()}

    def before(part: nn.Module, args: Any, named: Any) -> None:
        kind = _kind(part)
        if kind is None:
            return
        name = names[id(part)]
        weight = _first_matrix(part)
        if name:
            weight = f"{name}.{weight}"
        watch.enter(name, kind, weight, (args, named))

    def after(
        part: nn.Module,
        args: Any,
        named: Any,
        output: Any,
    ) -> None:
        if _kind(part) is not None:
            watch.leave(output)
            return
        if not watch.running and watch.origin(output) is None:
            # It left torch on the way (for NumPy, for instance): what it gives comes from what it
            # read.
            watch.follow(output, watch.origin((args, named)))

    handles: list[Any] = []
    for part in model.modules():
        if isinstance(part, torch.jit.ScriptModule):
            continue  # TorchScript takes no hooks, and what it computes cannot be followed
        handles.append(part.register_forward_pre_hook(before, with_kwargs=True))
        handles.append(part.register_forward_hook(after, with_kwargs=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _first_matrix(part: nn.Module) -> str:
    """Return the name of a module's weight: recurrent layers have several, numbered."""
    for key, value in part.named_parameters():
        if value.dim() > 1:
            return key
    return "weight"


def _kind(part: nn.Module) -> Kind | None:
    for kind, types in MODULES.items():
        if isinstance(part, types):
            return kind
    return None


def _is_in_place(func: Any) -> bool:
    name = getattr(func, "__name__", "")
    if name.endswith("__"):  # of operators only those such as `__iadd__`
        return bool(name.startswith("__i"))
    return bool(name.endswith("_"))


def _place(tensor: Tensor) -> int:
    return int(tensor.untyped_storage()._cdata)


def _tensors(value: Any) -> list[Tensor]:
    """Return all tensors in an argument or an output, however they are nested."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        value = tuple(value.values())
    tensors: list[Tensor] = []
    if isinstance(value, tuple | list):
        for item in value:
            tensors.extend(_tensors(item))
    return tensors


def _shape(value: Any) -> tuple[int, ...]:
    """Return the shape of the first tensor in an argument or an output."""
    for tensor in _tensors(value):
        return tuple(tensor.shape)
    return ()


def located(found: list[Layer], nodes: list[LayerTensors]) -> list[Layer]:
    """Find the calls of layers among the nodes of a file, by name, then by weight, then by order.

    Exporters rename weights that they transpose or fuse, and one of them names nodes after nothing.
    """
    owners = _owners(found, nodes)
    placed = []
    for layer in found:
        own = []
        for node in nodes:
            if owners.get(node.node) == layer.weight:
                own.append(node)
        placed.append(replace(layer, stored=tuple(own)))

    for kind, operators in OPERATORS.items():
        missing = []
        for place, layer in enumerate(placed):
            if layer.kind == kind and not layer.stored:
                missing.append(place)
        left = []
        for node in nodes:
            if node.operator in operators and node.node not in owners:
                left.append(node)
        # By order only where nothing is left over: else all after a gap would be wrong.
        if len(missing) != len(left):
            continue
        for place, node in zip(missing, left, strict=True):
            placed[place] = replace(placed[place], stored=(node,))
    return placed


def _owners(found: list[Layer], nodes: list[LayerTensors]) -> dict[str, str]:
    """Return the weight of the layer that each node belongs to, as far as names tell."""
    by_weight = {layer.weight: layer.weight for layer in found}
    names = [layer.name for layer in found]
    by_name = {}
    for layer in found:
        if names.count(layer.name) == 1:
            by_name[layer.name] = layer.weight

    owners = {}
    for node in nodes:
        # Two modules with one weight are told apart by their names.
        owner = by_name.get(scope_of(node.node)) or by_weight.get(node.weight)
        if owner is not None:
            owners[node.node] = owner
    return owners
