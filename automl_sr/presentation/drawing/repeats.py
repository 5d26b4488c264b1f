"""Blocks that repeat are drawn once, and nets with too many parts by their modules."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from automl_sr.presentation.drawing.parts import (
    ENTRY,
    SHARED,
    Part,
    all_parts,
    common_name,
    weights_of,
)
from automl_sr.presentation.drawing.words import layers_words

MOST_BOXES = 40
FEWEST_ALONE = 3
"""Two layers that are alike are drawn as two: from three on one stands for all."""


def simplified(parts: Sequence[Part], most: int = MOST_BOXES) -> list[Part]:
    """Fold what repeats; where more than `most` parts are left, fold what differs in widths alone,
    then whole modules.
    """
    found = _folded(list(parts), exact=True)
    if size(found) > most:
        found = _folded(found, exact=False)
    deepest = max((len(_path(part)) for part in found), default=0)
    for depth in range(deepest, 0, -1):
        if size(found) <= most:
            break
        found = _folded(_by_module(found, depth), exact=True)
    if size(found) > most:
        found = _with_small_frames(found, most)
    if size(found) > most:
        found = _in_chunks(found, most)
    return found


def size(parts: Sequence[Part]) -> int:
    """Count what is drawn, with what is inside of frames."""
    return sum(1 for _ in all_parts(parts))


@dataclass(frozen=True)
class _Run:
    """Blocks that are alike: `count` of `period` parts each, from `start` on."""

    start: int
    period: int
    count: int
    entries: int
    """How many outputs of a block the next one reads."""


def _folded(parts: list[Part], *, exact: bool) -> list[Part]:
    """Fold runs of blocks, the shortest blocks first, until there is none."""
    while True:
        runs = _find(parts, exact=exact)
        if not runs:
            return parts
        for run in reversed(runs):
            parts = _fold(parts, run)


def _find(parts: Sequence[Part], *, exact: bool) -> list[_Run]:
    """Return all runs of the shortest blocks that repeat: if one of several were folded at once,
    the longer blocks around them would no longer be alike.
    """
    numbers: dict[Hashable, int] = {}
    labels = [numbers.setdefault(_label(part, exact=exact), len(numbers)) for part in parts]
    places = {part.id: place for place, part in enumerate(parts)}
    row = np.array(labels)
    for period in range(1, len(parts) // 2 + 1):
        same = row[:-period] == row[period:]
        least = FEWEST_ALONE if period == 1 else 2
        runs: list[_Run] = []
        for begin, end in _stretches(same):
            if end - begin < period * (least - 1):
                continue
            if runs and begin < runs[-1].start + period * runs[-1].count:
                continue
            tried = [
                _run(parts, places, start, period, end + period)
                for start in range(begin, min(begin + 2 * period, end))
            ]
            good = [run for run in tried if run is not None and run.count >= least]
            if good:
                runs.append(min(good, key=lambda run: (run.entries, -run.count, run.start)))
        if runs:
            return runs
    return []


def _stretches(same: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Return the stretches that are true, as (begin, end)."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], same, [False]]).astype(np.int8)))
    return [(int(begin), int(end)) for begin, end in edges.reshape(-1, 2)]


def _label(part: Part, *, exact: bool) -> Hashable:
    """Return what is alike in parts that may be drawn as one."""
    if part.look == "port":
        return ("port", part.id)
    title = "" if part.kind == "group" else part.title
    widths = (part.ins, part.outs, part.parameters) if exact else ()
    kind = (part.look, part.kind, title, part.suffixes, part.details, part.stored, part.layers)
    return (*kind, part.count, widths, _inner_label(part, exact=exact))


def _inner_label(part: Part, *, exact: bool) -> Hashable:
    places = {inner.id: place for place, inner in enumerate(part.inside)}
    rows = []
    for inner in part.inside:
        wires = tuple(places.get(source, source) for source in inner.inputs)
        rows.append((_label(inner, exact=exact), wires))
    return tuple(rows)


def _run(
    parts: Sequence[Part], places: dict[int, int], start: int, period: int, end: int
) -> _Run | None:
    """Follow blocks from `start` on for as long as they are wired alike."""
    wires = [_wires(parts, places, start, period, 1)]
    first = _entries(_wires(parts, places, start, period, 0), wires[0])
    if start + 2 * period > end or first is None:
        return None
    count = 2
    while start + (count + 1) * period <= end:
        if _wires(parts, places, start, period, count) != wires[0]:
            break
        count += 1
    return _Run(start, period, count, first)


Wire = tuple[str, int]


def _wires(
    parts: Sequence[Part], places: dict[int, int], start: int, period: int, block: int
) -> list[list[Wire]]:
    """Say for each part of a block what it reads: of the block itself, the one before, or others'.

    A block that is not there has no wires.
    """
    begin = start + block * period
    found = []
    for part in parts[begin : begin + period]:
        row: list[Wire] = []
        for source in part.inputs:
            place = places[source]
            if place >= begin:
                row.append(("own", place - begin))
            elif block > 0 and place >= begin - period:
                row.append(("previous", place - begin + period))
            else:
                row.append(("other", source))
        found.append(row)
    return found


def _entries(first: list[list[Wire]], second: list[list[Wire]]) -> int | None:
    """Count what the second block reads of the first, if the first reads one thing instead of each.

    Nothing where the two differ otherwise.
    """
    instead: dict[int, int] = {}
    for own, after in zip(first, second, strict=False):
        if len(own) != len(after):
            return None
        for wire, later in zip(own, after, strict=True):
            if later[0] != "previous":
                if wire != later:
                    return None
            elif wire[0] != "other" or instead.setdefault(later[1], wire[1]) != wire[1]:
                return None
    return len(instead)


def _fold(parts: Sequence[Part], run: _Run) -> list[Part]:
    """Put one part, or a frame, in the place of a run's blocks."""
    end = run.start + run.period * run.count
    members = parts[run.start : end]
    blocks = [members[place : place + run.period] for place in range(0, len(members), run.period)]
    first = {part.id for part in blocks[0]}
    places = {part.id: place for place, part in enumerate(parts)}
    # The second block tells what comes from the one before, and what all of them read.
    wires = _wires(parts, places, run.start, run.period, 1)
    number = max(part.id for part in all_parts(parts)) + 1
    inside = []
    for row, column in zip(wires, zip(*blocks, strict=True), strict=True):
        inputs = []
        for kind, source in row:
            if kind == "own":
                inputs.append(blocks[0][source].id)
            elif kind == "previous":
                inputs.append(ENTRY)
            else:
                inputs.append(SHARED)
        inside.append(replace(_merged(column), inputs=tuple(dict.fromkeys(inputs))))
    outside = [source for part in blocks[0] for source in part.inputs if source not in first]
    owners = {part.id: place // run.period for place, part in enumerate(members)}
    twins = {part.id: blocks[0][place % run.period].id for place, part in enumerate(members)}
    read = {source for part in parts[end:] for source in part.inputs if source in owners}
    read |= {
        source
        for block, after in itertools.pairwise(blocks)
        for part in after
        for source in part.inputs
        if source in {item.id for item in block}
    }
    exits = frozenset(twins[source] for source in read) or frozenset({blocks[0][-1].id})
    weights = weights_of(members)
    shared = len(weights) > 0 and weights == weights_of(blocks[0])
    frame = Part(
        number,
        "frame",
        "",
        tuple(dict.fromkeys(outside)),
        kind="group",
        outs=inside[-1].outs,
        details=("shared weights",) if shared else (),
        weights=weights,
        name=common_name([part.name for part in members]),
        layers=sum(part.layers for part in members),
        count=run.count,
        inside=tuple(inside),
        exits=exits,
    )
    rest = [_reading(part, owners, number) for part in parts[end:]]
    return [*parts[: run.start], frame, *rest]


def _reading(part: Part, owners: dict[int, int], frame: int) -> Part:
    """Let a part read a frame in the place of what is inside of it."""
    blocks = {owners[source] for source in part.inputs if source in owners}
    if not blocks:
        return part
    inputs = [frame if source in owners else source for source in part.inputs]
    gathers = (*part.gathers, frame) if len(blocks) > 1 else part.gathers
    return replace(part, inputs=tuple(dict.fromkeys(inputs)), gathers=gathers)


def _merged(parts: Sequence[Part]) -> Part:
    """Draw parts that are alike as the first of them, with the widths of all."""
    first = parts[0]
    inside = [_merged(column) for column in zip(*(part.inside for part in parts), strict=True)]
    name = first.name
    title = first.title
    if len({part.name for part in parts}) > 1:
        name = _starred([part.name for part in parts])
    if first.kind == "group" and first.look == "box":
        title = name or title
    return replace(
        first,
        title=title,
        ins=_all(parts, lambda part: part.ins),
        outs=_all(parts, lambda part: part.outs),
        others=_all(parts, lambda part: part.sizes),
        name=name,
        inside=tuple(inside),
    )


def _all(parts: Sequence[Part], of: Callable[[Part], tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(sorted({width for part in parts for width in of(part)}))


def _starred(names: Sequence[str]) -> str:
    """Write names as one, with a star where they differ: `body.*.conv1`."""
    paths = [name.split(".") for name in names]
    if len({len(path) for path in paths}) > 1:
        return common_name(names)
    steps = []
    for column in zip(*paths, strict=True):
        alike = len(set(column)) == 1
        steps.append(column[0] if alike else "*")
    return ".".join(steps)


def _path(part: Part) -> list[str]:
    return part.name.split(".") if part.name else []


def _by_module(parts: Sequence[Part], depth: int) -> list[Part]:
    """Draw what belongs to one module at this depth, and runs at once, as one box."""

    def owner(part: Part) -> tuple[str, ...]:
        path = _path(part)
        alone = part.look == "port" or len(path) < depth
        return (str(part.id),) if alone else ("in", *path[:depth])

    groups = [list(group) for _, group in itertools.groupby(parts, key=owner)]
    return _boxed(parts, groups, lambda group: ".".join(_path(group[0])[:depth]))


def _in_chunks(parts: Sequence[Part], most: int) -> list[Part]:
    """Draw what no names tell apart as boxes of so many parts each."""
    inputs = [part for part in parts if part.look == "port" and not part.inputs]
    outputs = [part for part in parts if part.look == "port" and part.inputs]
    inner = [part for part in parts if part.look != "port"]
    room = max(1, most - len(inputs) - len(outputs))
    step = -(-len(inner) // room)
    groups = [inner[place : place + step] for place in range(0, len(inner), step)]
    singles = [[part] for part in inputs], [[part] for part in outputs]
    ordered = [*singles[0], *groups, *singles[1]]
    flat = [part for group in ordered for part in group]
    made = _boxed(flat, ordered, lambda group: common_name([part.name for part in group]))
    return [_closed(part) for part in made]


def _closed(part: Part) -> Part:
    """Draw a frame as a box."""
    if part.look != "frame":
        return part
    return _box(part, [part], part.name)


def _with_small_frames(parts: Sequence[Part], most: int) -> list[Part]:
    """Close the frames with the most inside until the rest has room."""
    found = list(parts)
    while size(found) > most:
        frames = [part for part in found if part.inside]
        if not frames:
            break
        largest = max(frames, key=lambda part: size(part.inside))
        found = [_closed(part) if part is largest else part for part in found]
    return found


def _boxed(
    parts: Sequence[Part],
    groups: Sequence[Sequence[Part]],
    name_of: Callable[[Sequence[Part]], str],
) -> list[Part]:
    """Put a box in the place of each group of several parts."""
    owners: dict[int, int] = {}
    found: list[Part] = []
    for group in groups:
        if len(group) == 1:
            found.append(group[0])
            continue
        box = _box(group[0], group, name_of(group))
        owners |= {part.id: box.id for part in group}
        found.append(box)
    made = []
    for part in found:
        inputs = [owners.get(source, source) for source in part.inputs]
        kept = tuple(dict.fromkeys(source for source in inputs if source != part.id))
        made.append(replace(part, inputs=kept, gathers=()))
    return made


def _box(first: Part, group: Sequence[Part], name: str) -> Part:
    layers = sum(part.layers for part in group)
    inner = {part.id for part in group}
    outside = [source for part in group for source in part.inputs if source not in inner]
    details = [layers_words(layers)] if layers else []
    if len(group) == 1 and first.count > 1:
        details.insert(0, f"{first.count:,} blocks")
    stored = {part.stored for part in all_parts(group)} - {""}
    return Part(
        first.id,
        "box",
        name or f"{sum(1 for _ in all_parts(group)):,} operations",
        tuple(dict.fromkeys(outside)),
        kind="group",
        details=tuple(details),
        ins=(),
        outs=group[-1].outs,
        weights=weights_of(group),
        stored=", ".join(sorted(stored)),
        name=name,
        layers=layers,
    )
