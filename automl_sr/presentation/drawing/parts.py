"""What a drawing of a net consists of: layers, the operations between them, and repeated blocks."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Look = Literal["box", "pill", "circle", "port", "frame", "point"]
Kind = Literal[
    "convolution", "transposed", "linear", "recurrent", "fixed", "plain", "attention", "group"
]

ENTRY = -1
"""The id that stands, inside of a frame, for what the block reads from the one before it."""
SHARED = -2
"""The id that stands, inside of a frame, for what every one of its blocks reads."""


@dataclass(frozen=True)
class Part:
    """One thing that is drawn; `inputs` are the ids of the parts that it reads."""

    id: int
    look: Look
    title: str
    """What it does, in a word or two: `Conv 3×3`. Of a circle its sign."""
    inputs: tuple[int, ...] = ()
    kind: Kind = "plain"
    suffixes: tuple[str, ...] = ()
    """What is done to its output at once: an activation, a scale."""
    details: tuple[str, ...] = ()
    ins: tuple[int, ...] = ()
    """Channels that it reads: one number, or those of all blocks that are drawn as one."""
    outs: tuple[int, ...] = ()
    weights: Mapping[str, int] = field(default_factory=dict)
    """Numbers that are learnt, by tensor."""
    others: tuple[int, ...] = ()
    """How many those are of other blocks that are drawn as this one."""
    stored: str = ""
    """How its weights are stored, where they are not float: `int8`, `4 bit`."""
    name: str = ""
    """The module, as its Python names it."""
    layers: int = 0
    count: int = 1
    """How often it is there, one after the other."""
    inside: tuple[Part, ...] = ()
    exits: frozenset[int] = frozenset()
    """Of a frame: the parts inside whose outputs are read outside."""
    gathers: tuple[int, ...] = ()
    """The frames of which it reads the output of every block, not that of the last alone."""

    @property
    def parameters(self) -> int:
        """Learnt numbers, those of shared tensors counted once."""
        return sum(self.weights.values())

    @property
    def sizes(self) -> tuple[int, ...]:
        """Parameters of each of the blocks that are drawn as this one, from few to many."""
        return tuple(sorted({self.parameters, *self.others}))


def all_parts(parts: Sequence[Part]) -> Iterator[Part]:
    """Yield parts with those inside of frames."""
    for part in parts:
        yield part
        yield from all_parts(part.inside)


def weights_of(parts: Sequence[Part]) -> dict[str, int]:
    """Join the weights of parts."""
    found: dict[str, int] = {}
    for part in parts:
        found.update(part.weights)
    return found


def common_name(names: Sequence[str]) -> str:
    """Return the module that holds all of these: `body` of `body.0` and `body.3.conv`."""
    known = [name.split(".") for name in names if name]
    shared = []
    for steps in zip(*known, strict=False):
        if len(set(steps)) > 1:
            break
        shared.append(steps[0])
    return ".".join(shared)
