"""Which channels of a net can be removed, and from which tensors each of them has to go.

The net runs once, on the meta device. Every tensor on the way carries the number of each of its
channels; what joins two tensors channel by channel (a sum, a weight that is used twice) makes two
numbers one. Whatever is not known to treat channels one by one keeps those that it sees, so that a
net is cut less, never wrongly.

The idea is that of Fang et al., DepGraph: Towards Any Structural Pruning, CVPR 2023. Here it goes
by tensors and function calls and not by modules: shared weights, functional calls and a
PixelShuffle, whose convolution is cut in blocks, then need no rule of their own.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from automl_sr.api import as_inputs

if TYPE_CHECKING:
    from automl_sr.api import Task


class Role(enum.Enum):
    """What a slice of a tensor is to a channel."""

    FILTER = "filter"
    """It computes the channel: the weights of one output channel of a layer."""
    BIAS = "bias"
    """It is added to the channel."""
    PASSING = "passing"
    """It works on the channel by itself: a slope, a scale, a depthwise kernel."""
    READER = "reader"
    """It reads the channel: the weights of one input channel of a layer."""


@dataclass(frozen=True)
class Place:
    """A dimension of one of the net's parameters along which channels lie."""

    tensor: str
    dim: int
    role: Role


@dataclass(frozen=True)
class Group:
    """Channels of one kind: each can be removed by itself, from all of the places at once."""

    places: tuple[Place, ...]
    rows: tuple[tuple[tuple[int, ...], ...], ...]
    """For each channel and each place the indices that it takes there: one, or a block of r * r in
    front of a PixelShuffle.
    """

    @property
    def count(self) -> int:
        """The number of channels."""
        return len(self.rows)

    @property
    def name(self) -> str:
        """The first weight that computes them, in the order of the forward pass."""
        return self.filters[0].tensor

    @property
    def filters(self) -> list[Place]:
        """Where the channels are computed; more than one where outputs are added to each other."""
        return self.having(Role.FILTER)

    def having(self, *roles: Role) -> list[Place]:
        """Return the places of these roles."""
        return [place for place in self.places if place.role in roles]

    def indices(self, place: Place, channel: int) -> list[int]:
        """Return what a channel takes at a place."""
        number = self.places.index(place)
        return list(self.rows[channel][number])

    def table(self, place: Place) -> Tensor:
        """Return the indices of all channels at a place [channels, indices of each]."""
        number = self.places.index(place)
        return torch.tensor([row[number] for row in self.rows])


def groups_of(net: nn.Module, task: Task) -> list[Group]:
    """Return the groups of channels of a net on the meta device, in the order of its layers."""
    net.eval()
    inputs = as_inputs(task.cost_example(net))
    trace = _Trace(net)
    with torch.no_grad(), torch.device("meta"), trace:
        output = net(*inputs)
    trace.keep_output(output)
    return trace.groups()


class Call(NamedTuple):
    """A call of a layer's function."""

    kind: str
    """`convolution`, `transposed` or `linear`."""
    read: Tensor
    weight: Tensor
    bias: Tensor | None
    groups: int


CONVOLUTIONS = ("conv1d", "conv2d", "conv3d")
TRANSPOSED = ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d")
POSITIONS: Mapping[str, tuple[str, ...]] = {
    "convolution": ("input", "weight", "bias", "stride", "padding", "dilation", "groups"),
    "transposed": (
        "input",
        "weight",
        "bias",
        "stride",
        "padding",
        "output_padding",
        "groups",
        "dilation",
    ),
    "linear": ("input", "weight", "bias"),
}
KEEPING = frozenset(
    {
        "abs",
        "adaptive_avg_pool2d",
        "adaptive_max_pool2d",
        "amax",
        "avg_pool2d",
        "clamp",
        "clone",
        "contiguous",
        "detach",
        "dropout",
        "elu",
        "float",
        "gelu",
        "hardsigmoid",
        "hardswish",
        "hardtanh",
        "interpolate",
        "leaky_relu",
        "max_pool2d",
        "mean",
        "mish",
        "neg",
        "pad",
        "pow",
        "relu",
        "relu6",
        "sigmoid",
        "silu",
        "softplus",
        "sqrt",
        "square",
        "std",
        "sum",
        "tanh",
        "to",
        "type",
        "var",
    }
)
"""Functions that change each channel by itself, or, where the size stays, do as if."""
SUMS = frozenset({"add", "radd", "iadd", "sub", "rsub", "isub"})
PRODUCTS = frozenset({"mul", "rmul", "imul", "multiply", "div", "truediv", "itruediv"})


def layer_call(name: str, args: Sequence[Any], named: Mapping[str, Any]) -> Call | None:
    """Return the call of a layer, if a function of this name is one."""
    if name in CONVOLUTIONS:
        kind = "convolution"
    elif name in TRANSPOSED:
        kind = "transposed"
    elif name == "linear":
        kind = "linear"
    else:
        return None
    given = dict(zip(POSITIONS[kind], args, strict=False))
    given.update(named)
    groups = int(given.get("groups", 1))
    return Call(kind, given["input"], given["weight"], given.get("bias"), groups)


def plain_name(function: Any) -> str:
    """Return what a function is called, operators and in-place forms under the same name."""
    return str(getattr(function, "__name__", "")).strip("_")


def tensors_in(value: Any) -> list[Tensor]:
    """Return all tensors in an argument or an output, however they are nested."""
    if isinstance(value, Tensor):
        return [value]
    found: list[Tensor] = []
    if isinstance(value, Mapping):
        value = tuple(value.values())
    if isinstance(value, tuple | list):
        for item in value:
            found.extend(tensors_in(item))
    return found


class _Tag(NamedTuple):
    """The channels of a tensor."""

    axis: int
    """Where they lie, counted from the last dimension: -3 in [B, C, H, W]."""
    nodes: tuple[int, ...]


@dataclass
class _Dimension:
    """A dimension of a parameter, with the number of each of its channels."""

    role: Role
    nodes: tuple[int, ...]


class _Trace(TorchFunctionMode):
    """Follows the channels of all tensors through one forward pass."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.names = {id(value): name for name, value in net.named_parameters()}
        self.shapes = {name: value.shape for name, value in net.named_parameters()}
        self.owners = _owners(net)
        self.tags: dict[int, _Tag] = {}
        self.alive: list[Any] = []  # so that no id is given out twice
        self.parents: list[int] = []
        self.kept: set[int] = set()
        self.used_otherwise: set[str] = set()
        self.dimensions: dict[tuple[str, int], _Dimension] = {}

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        named = dict(kwargs or {})
        name = plain_name(func)
        output = func(*args, **named)
        if not tensors_in(output) and name != "setitem":
            return output  # a size, a type
        self.alive.append(output)
        if not self._follow(name, args, named, output):
            self._keep_all((args, named))
        return output

    def keep_output(self, output: Any) -> None:
        """Keep the channels of what the net gives."""
        self._keep_all(output)

    def groups(self) -> list[Group]:
        """Return the groups of channels that nothing keeps."""
        taken: dict[int, dict[tuple[str, int], list[int]]] = {}
        for key, dimension in self.dimensions.items():
            if key[0] in self.used_otherwise:
                self._keep(dimension.nodes)
            for index, node in enumerate(dimension.nodes):
                places = taken.setdefault(self._root(node), {})
                places.setdefault(key, []).append(index)

        kept = {self._root(node) for node in self.kept}
        alike: dict[tuple[Any, ...], list[dict[tuple[str, int], list[int]]]] = {}
        for root, places in taken.items():
            if root in kept or not self._is_whole(places):
                continue
            signature = tuple((key, len(indices)) for key, indices in places.items())
            alike.setdefault(signature, []).append(places)
        return [self._group(channels) for channels in alike.values()]

    def _is_whole(self, places: Mapping[tuple[str, int], Any]) -> bool:
        """Say whether a channel is computed and read by layers that are known."""
        roles = {self.dimensions[key].role for key in places}
        return {Role.FILTER, Role.READER} <= roles

    def _group(self, channels: list[dict[tuple[str, int], list[int]]]) -> Group:
        keys = list(channels[0])
        places = []
        for tensor, dim in keys:
            places.append(Place(tensor, dim, self.dimensions[tensor, dim].role))
        rows = []
        for taken in channels:
            rows.append(tuple(tuple(taken[key]) for key in keys))
        return Group(tuple(places), tuple(rows))

    # ---- what functions do -----------------------------------------------------------------------

    def _follow(
        self, name: str, args: Sequence[Any], named: Mapping[str, Any], output: Any
    ) -> bool:
        """Give a function's output its channels; return whether the function is known."""
        call = layer_call(name, args, named)
        if call is not None:
            return self._follow_layer(call, output)
        handler = self._handler(name)
        return handler is not None and handler(args, named, output)

    def _handler(self, name: str) -> Callable[..., bool] | None:
        if name in KEEPING:
            return self._follow_unary
        if name in SUMS:
            return self._follow_sum
        if name in PRODUCTS:
            return self._follow_product
        if name in ("cat", "concat", "concatenate"):
            return self._follow_cat
        if name == "pixel_shuffle":
            return self._follow_shuffle
        if name == "prelu":
            return self._follow_prelu
        return None

    def _follow_layer(self, call: Call, output: Tensor) -> bool:
        name = self.names.get(id(call.weight))
        if name is None:
            return False  # a fixed kernel, or one that is worked out from others
        if call.groups > 1:
            return self._follow_depthwise(name, call, output)

        reads, writes, axis = 1, 0, -1
        if call.kind != "linear":
            axis = 1 - call.weight.dim()
        if call.kind == "transposed":
            reads, writes = 0, 1
        read = self._dimension(name, reads, Role.READER)
        tag = self.tags.get(id(call.read))
        if tag is None or tag.axis != axis:
            self._keep(read)
            self._keep_all(call.read)
        else:
            self._join(tag.nodes, read)

        written = self._dimension(name, writes, Role.FILTER)
        self._join_parameter(call.bias, written, Role.BIAS)
        self.tags[id(output)] = _Tag(axis, written)
        return True

    def _follow_depthwise(self, name: str, call: Call, output: Tensor) -> bool:
        """Take a convolution that works on each channel by itself; others with groups are not."""
        tag = self.tags.get(id(call.read))
        own = call.kind == "convolution" and call.groups == call.weight.shape[0]
        # The number of groups is cut with the channels: only a module's own can be.
        if tag is None or not own or not isinstance(self.owners.get(name), nn.Conv2d):
            return False
        if tag.axis != -3 or len(tag.nodes) != call.groups:
            return False
        self._join(tag.nodes, self._dimension(name, 0, Role.PASSING))
        self._join_parameter(call.bias, tag.nodes, Role.BIAS)
        self.tags[id(output)] = tag
        return True

    def _follow_unary(self, args: Sequence[Any], named: Mapping[str, Any], output: Any) -> bool:
        known = self._tags_in((args, named))
        if len(known) != 1 or not isinstance(output, Tensor):
            return False
        [tag] = known
        if output.dim() < -tag.axis or output.shape[tag.axis] != len(tag.nodes):
            return False
        read = tensors_in((args, named))[0]
        if output.dim() != read.dim():
            return False
        self.tags[id(output)] = tag
        return True

    def _follow_sum(self, args: Sequence[Any], named: Mapping[str, Any], output: Any) -> bool:
        return self._follow_pair(args, output, Role.BIAS)

    def _follow_product(self, args: Sequence[Any], named: Mapping[str, Any], output: Any) -> bool:
        return self._follow_pair(args, output, Role.PASSING)

    def _follow_pair(self, args: Sequence[Any], output: Tensor, role: Role) -> bool:
        """Take two factors or two terms, of which one may be a number or a parameter."""
        pair = tensors_in(args)
        if len(pair) == 1:
            tag = self.tags.get(id(pair[0]))
            return self._passes(tag, output)
        if len(pair) != 2:
            return False
        one, other = pair
        if id(one) not in self.tags:
            one, other = other, one
        tag = self.tags.get(id(one))
        if tag is None:
            return False

        second = self.tags.get(id(other))
        if second is not None:
            return self._follow_alike(tag, second, output)
        if _size_at(other, tag.axis) == 1:
            # All channels are multiplied by the same; a sum would make zeros of a channel others.
            self._keep_parameter(other)
            return role is Role.PASSING and self._passes(tag, output)
        return self._follow_vector(tag, other, role) and self._passes(tag, output)

    def _follow_alike(self, one: _Tag, other: _Tag, output: Tensor) -> bool:
        """Make the channels of two tensors one, each with the one at its place."""
        if other.axis != one.axis or len(other.nodes) != len(one.nodes):
            return False
        self._join(one.nodes, other.nodes)
        return self._passes(one, output)

    def _follow_vector(self, tag: _Tag, value: Tensor, role: Role) -> bool:
        """Let a parameter of one number a channel go with the channels."""
        dim = value.dim() + tag.axis
        if id(value) not in self.names or value.shape[dim] != len(tag.nodes):
            return False
        self._join(tag.nodes, self._dimension(self.names[id(value)], dim, role))
        return True

    def _passes(self, tag: _Tag | None, output: Tensor) -> bool:
        if tag is None or _size_at(output, tag.axis) != len(tag.nodes):
            return False
        self.tags[id(output)] = tag
        return True

    def _follow_cat(self, args: Sequence[Any], named: Mapping[str, Any], output: Tensor) -> bool:
        pieces = tensors_in(args) or tensors_in(named)
        known = self._tags_in(pieces)
        if not known:
            return False
        dim = named.get("dim", 0)
        if len(args) > 1:
            dim = args[1]
        axis = dim
        if dim >= 0:
            axis = dim - output.dim()
        if any(tag.axis != axis for tag in known):
            return False

        nodes: list[int] = []
        for piece in pieces:
            tag = self.tags.get(id(piece))
            if tag is None:
                fresh = self._new_nodes(piece.shape[axis])
                self._keep(fresh)
                nodes.extend(fresh)
            else:
                nodes.extend(tag.nodes)
        self.tags[id(output)] = _Tag(axis, tuple(nodes))
        return True

    def _follow_shuffle(
        self, args: Sequence[Any], named: Mapping[str, Any], output: Tensor
    ) -> bool:
        """Let a channel of the enlarged map stand for the r * r maps of which it is made."""
        [read] = tensors_in((args, named))
        tag = self.tags.get(id(read))
        if tag is None or tag.axis != -3:
            return False
        block = len(tag.nodes) // output.shape[-3]
        firsts = tag.nodes[::block]
        for number, first in enumerate(firsts):
            whole = tag.nodes[number * block : (number + 1) * block]
            self._join((first,) * block, whole)
        self.tags[id(output)] = _Tag(-3, firsts)
        return True

    def _follow_prelu(self, args: Sequence[Any], named: Mapping[str, Any], output: Tensor) -> bool:
        read, slopes = tensors_in((args, named))
        tag = self.tags.get(id(read))
        if tag is None:
            return False
        if slopes.numel() == 1:
            return self._passes(tag, output)
        if read.dim() + tag.axis != 1 or id(slopes) not in self.names:
            return False
        self._join_parameter(slopes, tag.nodes, Role.PASSING)
        return self._passes(tag, output)

    # ---- channels that are one -------------------------------------------------------------------

    def _new_nodes(self, count: int) -> tuple[int, ...]:
        first = len(self.parents)
        nodes = tuple(range(first, first + count))
        self.parents.extend(nodes)
        return nodes

    def _dimension(self, name: str, dim: int, role: Role) -> tuple[int, ...]:
        """Return the channels along a dimension; the second use of a weight finds the first's."""
        key = (name, dim)
        if key not in self.dimensions:
            self.dimensions[key] = _Dimension(role, self._new_nodes(self.shapes[name][dim]))
        found = self.dimensions[key]
        if found.role is not role:
            self._keep(found.nodes)
        return found.nodes

    def _join_parameter(self, value: Tensor | None, nodes: Sequence[int], role: Role) -> None:
        """Let a vector of one number a channel go with the channels."""
        if value is None:
            return
        name = self.names.get(id(value))
        if name is None:
            self._keep(nodes)
            return
        self._join(nodes, self._dimension(name, 0, role))

    def _join(self, left: Sequence[int], right: Sequence[int]) -> None:
        for one, other in zip(left, right, strict=True):
            first, second = self._root(one), self._root(other)
            self.parents[max(first, second)] = min(first, second)

    def _root(self, node: int) -> int:
        while self.parents[node] != node:
            self.parents[node] = self.parents[self.parents[node]]
            node = self.parents[node]
        return node

    def _keep(self, nodes: Sequence[int]) -> None:
        self.kept.update(nodes)

    def _keep_all(self, value: Any) -> None:
        """Keep the channels of all tensors in a value, and the parameters among them whole."""
        for tensor in tensors_in(value):
            tag = self.tags.get(id(tensor))
            if tag is not None:
                self._keep(tag.nodes)
            self._keep_parameter(tensor)

    def _keep_parameter(self, tensor: Tensor) -> None:
        name = self.names.get(id(tensor))
        if name is not None:
            self.used_otherwise.add(name)

    def _tags_in(self, value: Any) -> list[_Tag]:
        found = []
        for tensor in tensors_in(value):
            if id(tensor) in self.tags:
                found.append(self.tags[id(tensor)])
        return found


def _size_at(tensor: Tensor, axis: int) -> int:
    """Return a tensor's size at a dimension counted from the last; 1 where it has none there."""
    if tensor.dim() < -axis:
        return 1
    return int(tensor.shape[axis])


def _owners(net: nn.Module) -> dict[str, nn.Module]:
    """Return the module of each parameter by the parameter's name."""
    owners = {}
    for name, _ in net.named_parameters():
        path, _, _ = name.rpartition(".")
        owners[name] = net.get_submodule(path)
    return owners
