"""Where things stand: one column for the main path, branches and skips beside it.

Parts stand in rows, below all that they read. The path with the most layers is the main column.
What is left is taken apart into branches: each runs to the right of what stands in the rows from
that of its source to that of its target, so that no line crosses a box.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from automl_sr.presentation.drawing.parts import ENTRY, SHARED, Part
from automl_sr.presentation.drawing.words import lines

EXIT = -3
CHARACTER = 7.4
"""Generous width of a character of 12 px; bold ones are wider, capitals and digits are not rare."""
WIDE = 13.0
"""Of letters that are as wide as they are high, as Chinese ones are."""
LINE = 16.0
PAD = 12.0
GAP = 26.0
"""Between rows."""
STEP = 8.0
"""Between two lines in the room between two rows."""
LANE = 18.0
"""Between a branch and what stands left of it."""
HEAD = 26.0
"""Room at the top of a frame for its label."""
RADIUS = 11.0
"""Of a circle."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Shape:
    """A part at its place: `x` and `y` of its upper left corner."""

    part: Part
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Wire:
    """A line through points; an arc is one that leaves its column."""

    points: tuple[Point, ...]
    arc: bool = False
    head: bool = True


@dataclass
class Sheet:
    """A drawing, or the inside of a frame; `middle` is where its main column runs."""

    width: float = 0.0
    height: float = 0.0
    middle: float = 0.0
    shapes: list[Shape] = field(default_factory=list)
    wires: list[Wire] = field(default_factory=list)
    dots: list[Point] = field(default_factory=list)


def text_width(text: str) -> float:
    """Return a width that a line of 12 px certainly does not exceed."""
    return sum(CHARACTER if ord(letter) < 0x1100 else WIDE for letter in text)


def arranged(parts: Sequence[Part]) -> Sheet:
    """Place parts and the lines between them."""
    return _Arrangement(list(parts)).sheet()


def _framed(frame: Part) -> Sheet:
    """Place what is inside of a frame, with room for its label."""
    inner = list(frame.inside)
    read = {source for part in inner for source in part.inputs}
    outer = [Part(ENTRY, "point", "")]
    if SHARED in read:
        outer.append(Part(SHARED, "pill", "read by every block"))
    leaving = Part(EXIT, "point", "", tuple(sorted(frame.exits)))
    sheet = _Arrangement([*outer, *inner, leaving]).sheet()
    left = max(sheet.middle, text_width(lines(frame)[0]) + 14) + PAD
    right = max(sheet.width - sheet.middle, text_width(lines(frame)[1]) + 14) + PAD
    moved = _moved(sheet, left - sheet.middle, HEAD)
    entering = Wire(((left, 0.0), (left, HEAD)), head=False)
    wires = [entering, *moved.wires]
    return Sheet(left + right, sheet.height + HEAD, left, moved.shapes, wires, moved.dots)


def _moved(sheet: Sheet, x: float, y: float) -> Sheet:
    shapes = [
        Shape(shape.part, shape.x + x, shape.y + y, shape.width, shape.height)
        for shape in sheet.shapes
    ]
    wires = [
        Wire(tuple((left + x, top + y) for left, top in wire.points), wire.arc, wire.head)
        for wire in sheet.wires
    ]
    dots = [(left + x, top + y) for left, top in sheet.dots]
    return Sheet(sheet.width, sheet.height, sheet.middle, shapes, wires, dots)


@dataclass(frozen=True)
class _Size:
    width: float
    height: float
    middle: float


@dataclass
class _Branch:
    """Parts one below the other, between what the first one reads and what reads the last one."""

    nodes: list[int]
    source: int | None = None
    target: int | None = None
    begin: int = 0
    """The row of its source: from below that its lane is taken."""
    end: int = 0
    x: float = 0.0
    """Where it runs."""


class _Arrangement:
    """Places the parts of one level."""

    def __init__(self, parts: list[Part]) -> None:
        self.parts = {part.id: part for part in parts}
        self.order = [part.id for part in parts]
        self.inner: dict[int, Sheet] = {}
        self.sizes = {part.id: self._size(part) for part in parts}
        self.edges = [(source, part.id) for part in parts for source in part.inputs]
        self.rows = self._ranked()
        self.main = self._heaviest(set(self.order), self.edges)
        self.branches = self._taken_apart()
        self.branch_of = {number: item for item in self.branches for number in item.nodes}

    def _size(self, part: Part) -> _Size:
        if part.look == "point":
            return _Size(0.0, 0.0, 0.0)
        if part.look == "circle":
            return _Size(2 * RADIUS, 2 * RADIUS, RADIUS)
        if part.look == "frame":
            sheet = _framed(part)
            self.inner[part.id] = sheet
            return _Size(sheet.width, sheet.height, sheet.middle)
        written = lines(part)
        width = max(text_width(line) for line in written) + 2 * PAD
        height = LINE * len(written) + 8.0
        if part.look == "box":
            height += 6.0
        return _Size(width, height, width / 2)

    # Rows and branches.

    def _ranked(self) -> dict[int, int]:
        rows: dict[int, int] = {}
        for number in self.order:
            above = [rows[source] for source in self.parts[number].inputs]
            rows[number] = max(above, default=-1) + 1
        return rows

    def _heaviest(self, nodes: set[int], edges: Iterable[tuple[int, int]]) -> list[int]:
        """Return the path through these nodes that has the most layers."""
        before: dict[int, list[int]] = {}
        for source, target in edges:
            if source in nodes and target in nodes:
                before.setdefault(target, []).append(source)
        best: dict[int, tuple[float, int | None]] = {}
        for number in self.order:
            if number not in nodes:
                continue
            above = before.get(number, [])
            heaviest = max(above, key=lambda source: best[source][0], default=None)
            weight = _weight(self.parts[number])
            if heaviest is not None:
                weight += best[heaviest][0]
            best[number] = (weight, heaviest)
        path = []
        step: int | None = max(best, key=lambda number: best[number][0])
        while step is not None:
            path.append(step)
            step = best[step][1]
        return path[::-1]

    def _taken_apart(self) -> list[_Branch]:
        """Make branches of all that is not on the main path."""
        straight = set(itertools.pairwise(self.main))
        left = set(self.order) - set(self.main)
        found = []
        used = set(straight)
        while left:
            nodes = self._heaviest(left, self.edges)
            left -= set(nodes)
            used |= set(itertools.pairwise(nodes))
            branch = _Branch(nodes)
            into = [edge for edge in self.edges if edge[1] == nodes[0] and edge not in used]
            if into:
                nearest = max(into, key=lambda edge: self.rows[edge[0]])
                branch.source = nearest[0]
                used.add(nearest)
            out = [edge for edge in self.edges if edge[0] == nodes[-1] and edge not in used]
            if out:
                nearest = min(out, key=lambda edge: self.rows[edge[1]])
                branch.target = nearest[1]
                used.add(nearest)
            found.append(branch)
        for source_id, target_id in self.edges:
            if (source_id, target_id) not in used:
                found.append(_Branch([], source_id, target_id))
        for branch in found:
            branch.begin, branch.end = self._span(branch)
        return found

    def _span(self, branch: _Branch) -> tuple[int, int]:
        if branch.source is not None:
            begin = self.rows[branch.source]
        else:
            begin = self.rows[branch.nodes[0]] - 1
        if branch.target is not None:
            return begin, self.rows[branch.target]
        return begin, self.rows[branch.nodes[-1]] + 1

    # Places.

    def sheet(self) -> Sheet:
        self._even_out(self.main)
        for branch in self.branches:
            self._even_out(branch.nodes)
        self.middle = max(self.sizes[number].middle for number in self.main)
        width = self._set_branches()
        self.levels = self._gap_levels()
        self.tops, self.heights, height = self._row_places()
        sheet = Sheet(width, height, self.middle)
        for number in self.order:
            self._place(number, sheet)
        for source, target in itertools.pairwise(self.main):
            sheet.wires.append(self._straight(source, target))
        for branch in self.branches:
            self._connect(branch, sheet)
        return sheet

    def _even_out(self, column: Sequence[int]) -> None:
        """Make the boxes of a column equally wide."""
        boxes = [number for number in column if self.parts[number].look == "box"]
        widest = max((self.sizes[number].width for number in boxes), default=0.0)
        for number in boxes:
            self.sizes[number] = _Size(widest, self.sizes[number].height, widest / 2)

    def _set_branches(self) -> float:
        """Set each branch beside what stands in its rows already, the short ones first.

        Returns the width of all.
        """
        edges = [self.middle] * (max(self.rows.values()) + 2)
        for number in self.main:
            size, row = self.sizes[number], self.rows[number]
            edges[row] = self.middle + size.width - size.middle
        self.branches.sort(key=lambda item: (item.end - item.begin, bool(item.nodes), item.begin))
        for branch in self.branches:
            rows = range(branch.begin + 1, branch.end + 1)
            sizes = [self.sizes[number] for number in branch.nodes]
            left = max((size.middle for size in sizes), default=0.0)
            right = max((size.width - size.middle for size in sizes), default=0.0)
            branch.x = max(edges[row] for row in rows) + LANE + left
            for row in rows:
                edges[row] = branch.x + right
        lines_alone = [branch.x + 6.0 for branch in self.branches if not branch.nodes]
        return max([*edges, *lines_alone])

    def _gap_levels(self) -> dict[int, dict[int, int]]:
        """Number, for each row, those parts from which a line leaves sideways below it."""
        levels: dict[int, dict[int, int]] = {}
        for branch in self.branches:
            if branch.source is not None:
                row = levels.setdefault(self.rows[branch.source], {})
                row.setdefault(branch.source, len(row))
        return levels

    def _row_places(self) -> tuple[list[float], list[float], float]:
        count = max(self.rows.values()) + 1
        heights = [0.0] * count
        for number, row in self.rows.items():
            heights[row] = max(heights[row], self.sizes[number].height)
        tops = []
        top = 0.0
        for row in range(count):
            tops.append(top)
            more = max(0, len(self.levels.get(row, {})) - 1)
            top += heights[row] + GAP + STEP * more
        return tops, heights, tops[-1] + heights[-1]

    def _x(self, number: int) -> float:
        if number in self.branch_of:
            return self.branch_of[number].x
        return self.middle

    def _middle(self, number: int) -> float:
        row = self.rows[number]
        return self.tops[row] + self.heights[row] / 2

    def _top(self, number: int) -> float:
        return self._middle(number) - self.sizes[number].height / 2

    def _bottom(self, number: int) -> float:
        return self._middle(number) + self.sizes[number].height / 2

    def _place(self, number: int, sheet: Sheet) -> None:
        part, size = self.parts[number], self.sizes[number]
        x, y = self._x(number) - size.middle, self._top(number)
        if part.look != "point":
            sheet.shapes.append(Shape(part, x, y, size.width, size.height))
        if number in self.inner:
            moved = _moved(self.inner[number], x, y)
            sheet.shapes += moved.shapes
            sheet.wires += moved.wires
            sheet.dots += moved.dots

    def _straight(self, source: int, target: int) -> Wire:
        x = self._x(source)
        start = self._bottom(source)
        if self.parts[source].look == "point":
            start = self.tops[self.rows[source]]
        points = ((x, start), (x, self._top(target)))
        return Wire(points, head=self._has_head(target))

    def _has_head(self, target: int) -> bool:
        """Whether a line ends at a part: into a frame it goes on."""
        return self.parts[target].look not in ("point", "frame")

    def _connect(self, branch: _Branch, sheet: Sheet) -> None:
        """Draw the lines of a branch: out of its source, between its parts, into its target."""
        x = branch.x
        points: list[Point] = []
        if branch.source is not None:
            points = self._way_out(branch.source, x, sheet)
        for number in branch.nodes:
            if points:
                points.append((x, self._top(number)))
                head = self._has_head(number)
                sheet.wires.append(Wire(tuple(points), arc=len(points) > 2, head=head))
            points = [(x, self._bottom(number))]
        if branch.target is not None:
            points += self._way_in(branch.target, x)
            head = self.parts[branch.target].look != "point"
            sheet.wires.append(Wire(tuple(points), arc=True, head=head))

    def _way_out(self, source: int, x: float, sheet: Sheet) -> list[Point]:
        start = self._x(source)
        row = self.rows[source]
        below = self.tops[row] + self.heights[row] + 9.0 + STEP * self.levels[row][source]
        if self._goes_on(source):
            sheet.dots.append((start, below))
            return [(start, below), (x, below)]
        return [(start, self._bottom(source)), (start, below), (x, below)]

    def _goes_on(self, source: int) -> bool:
        """Whether a straight line leaves a part as well."""
        if source in self.main and source != self.main[-1]:
            return True
        return any(source in branch.nodes for branch in self.branches)

    def _way_in(self, target: int, x: float) -> list[Point]:
        size, place, y = self.sizes[target], self._x(target), self._middle(target)
        if self.parts[target].look == "frame":
            y = self._top(target) + HEAD / 2
        if self._is_free(target, place, x, y):
            side = place - size.middle
            if x > place:
                side += size.width
            return [(x, y), (side, y)]
        above = self._top(target)
        row_top = self.tops[self.rows[target]]
        aside = place + min(16.0, size.width / 4)
        return [(x, row_top - 7.0), (aside, row_top - 7.0), (aside, above + self._curve(target))]

    def _curve(self, target: int) -> float:
        """How far below a circle's top its edge lies, aside from its middle."""
        if self.parts[target].look == "circle":
            return 1.7
        return 0.0

    def _is_free(self, target: int, place: float, x: float, y: float) -> bool:
        low, high = min(place, x), max(place, x)
        for number, row in self.rows.items():
            if number == target or row != self.rows[target]:
                continue
            if low < self._x(number) < high and self._top(number) <= y <= self._bottom(number):
                return False
        return True


def _weight(part: Part) -> float:
    """Say how much a part makes a path the main one."""
    if part.kind == "fixed":
        return 1.0
    if part.look == "frame":
        return 20.0 + 10.0 * part.layers
    if part.look == "box":
        return 10.0 + part.layers
    if part.look in ("port", "point"):
        return 3.0
    return 0.5
