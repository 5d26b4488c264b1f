"""Inner maps of two nets: where they are taken, and by how much they differ.

Maps are [B, C, h, w]. All differences are means over a batch, in float32, and 0 for equal maps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

if TYPE_CHECKING:
    from automl_sr.api import Task

LISTS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
TINY = 1e-8
LEAST = 0.1
"""The smallest deviation by which a channel is divided, relative to that of all channels."""
SIDE = 32
"""Of the image on which a net is watched: windows of attention fill it, so that none is padded."""


@dataclass(frozen=True)
class Part:
    """A part of a net by its name, and the channels of the map that it gives."""

    name: str
    channels: int


def parts_of(net: nn.Module, task: Task) -> list[Part]:
    """Return the parts of a net's body in the order in which they end.

    They are its layers and blocks whose maps have the size of the input; in nets that work on the
    enlarged image alone, the size of the output. The last one, from which the image is made, is
    none. `net` is run once on a small image and must have no hooks of a training run.
    """
    example = task.training_example(net, batch=1, patch=SIDE)
    if not isinstance(example, Tensor):
        return []
    device = next(net.parameters()).device
    # Of one shade: only the sizes of what comes of it count.
    image = torch.full(example.shape, 0.5, device=device)
    ended, output = _watched(net, image)
    for size in (image.shape[-2:], output.shape[-2:]):
        names = list(_opened(net, "", ended, size))
        names.sort(key=lambda name: ended[name].place)
        if len(names) > 1:
            return [Part(name, ended[name].shape[1]) for name in names[:-1]]
    return []


def spread(parts: list[Part], layers: int, depth: float) -> list[Part]:
    """Choose parts at equal distances, the last of them at `depth` of the body.

    Three of depth 1 are those after a third, two thirds and all of it.
    """
    chosen = []
    for number in range(1, layers + 1):
        share = depth * number / layers
        place = max(1, round(share * len(parts)))
        chosen.append(parts[place - 1])
    return chosen


def map_in(output: Any) -> Tensor | None:
    """Return the map among what a module gives: the first of several outputs, as blocks have."""
    first = output
    if isinstance(output, tuple | list) and output:
        first = output[0]
    if isinstance(first, Tensor) and first.dim() == 4:
        return first
    return None


@dataclass(frozen=True)
class _Ended:
    """When a module was last done, and the shape of what it gave."""

    place: int
    shape: tuple[int, ...]


def _watched(net: nn.Module, image: Tensor) -> tuple[dict[str, _Ended], Tensor]:
    """Run a net, and note every module that gives one map."""
    ended: dict[str, _Ended] = {}

    def noting(name: str) -> Any:
        def note(_module: nn.Module, _inputs: Any, output: Any) -> None:
            found = map_in(output)
            if found is not None:
                place = len(order)
                order.append(name)
                ended[name] = _Ended(place, tuple(found.shape))

        return note

    order: list[str] = []
    handles = []
    for name, module in net.named_modules():
        handles.append(module.register_forward_hook(noting(name)))
    try:
        with torch.no_grad():
            output: Tensor = net(image)
    finally:
        for handle in handles:
            handle.remove()
    return ended, output


def _opened(
    module: nn.Module,
    prefix: str,
    ended: dict[str, _Ended],
    size: torch.Size,
) -> list[str]:
    """Name the outermost layers and blocks that give maps of a size; lists of them are opened."""
    names: list[str] = []
    for child_name, child in module.named_children():
        name = f"{prefix}{child_name}"
        is_map = name in ended and ended[name].shape[-2:] == size
        if isinstance(child, LISTS) or not is_map:
            names += _opened(child, f"{name}.", ended, size)
        elif _has_layer(child):
            names.append(name)
    return names


def _has_layer(module: nn.Module) -> bool:
    """Return whether a module is more than an activation."""
    return any(parameter.dim() > 1 for parameter in module.parameters())


# ---- differences ---------------------------------------------------------------------------------


def of_size(output: Any, size: torch.Size) -> Tensor:
    """Average the maps that a part gave to a size, in float32; those of that size stay."""
    maps = map_in(output)
    if maps is None:
        raise TypeError(f"A part gave {type(output).__name__} where it had given a map before.")
    floats = maps.float()
    if floats.shape[-2:] == size:
        return floats
    return functional.adaptive_avg_pool2d(floats, (size[0], size[1]))


def affinities(maps: Tensor, pool: int = 1) -> Tensor:
    """Return the cosines between all pairs of positions, [B, n, n], of maps averaged in squares.

    Positions at the edge that fill no square are left out.
    """
    pooled = functional.avg_pool2d(maps, pool)
    positions = pooled.flatten(2)
    lengths = torch.linalg.vector_norm(positions, dim=1, keepdim=True)
    unit: Tensor = positions / (lengths + TINY)
    return unit.transpose(1, 2) @ unit


def affinity(student: Tensor, teacher: Tensor, pool: int) -> Tensor:
    """Return the mean absolute difference of the affinities."""
    return functional.l1_loss(affinities(student, pool), affinities(teacher, pool))


def attentions(maps: Tensor) -> Tensor:
    """Return where a net looks, [B, n]: the energy of each position, of length 1 in each image."""
    energies = maps.square().sum(dim=1).flatten(1)
    lengths = torch.linalg.vector_norm(energies, dim=1, keepdim=True)
    unit: Tensor = energies / (lengths + TINY)
    return unit


def attention(student: Tensor, teacher: Tensor) -> Tensor:
    """Return the squared distance of the attentions, from 0 to 2, as a mean over the images."""
    difference = attentions(student) - attentions(teacher)
    return difference.square().sum(dim=1).mean()


def projected(projection: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    """Return the mean absolute difference of maps of unit deviation, the student's projected."""
    found: Tensor = projection(_of_unit_deviation(student))
    return functional.l1_loss(found, _of_unit_deviation(teacher))


def projection_of(student: Part, teacher: Part) -> nn.Conv2d:
    """Return a convolution from the student's channels to the teacher's.

    It begins as the identity, on as many channels as both have.
    """
    made = nn.Conv2d(student.channels, teacher.channels, 1)
    nn.init.dirac_(made.weight)
    if made.bias is not None:
        nn.init.zeros_(made.bias)
    return made


def _of_unit_deviation(maps: Tensor) -> Tensor:
    """Divide each channel by its deviation in the batch, which counts as a constant."""
    # Its gradient is not a number where a channel is constant.
    constant = maps.detach()
    # By their moments: torch's own deviation takes five times as long.
    mean = constant.mean(dim=(0, 2, 3), keepdim=True)
    square = constant.square().mean(dim=(0, 2, 3), keepdim=True)
    variance = (square - mean.square()).clamp(min=0)
    # A channel that hardly varies would count for more than all others.
    least = LEAST * variance.mean().sqrt()
    deviation = torch.maximum(variance.sqrt(), least)
    return maps / (deviation + TINY)
