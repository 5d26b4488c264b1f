"""What became of each layer of a model: bars for a terminal, a drawing for pages, and words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from automl_sr.presentation.axes import short
from automl_sr.presentation.markup import Markup, el
from automl_sr.presentation.numbers import number

Table = Mapping[str, Any]
"""What `automl_sr.evaluation.layer_table.layer_table` says of a model."""
MOST = 40
"""Layers that are shown one by one: the largest of a longer net, in their order."""
FLOAT_BITS = 32
NOTICED = 0.005
"""From this share of zeros on a layer counts as pruned: single weights are zero by chance."""
BAR = 24
"""Characters of the longest bar on a terminal."""
KEPT, ZERO, GONE = "█", "▒", "·"
WIDTH, ROW, LABEL, NOTE = 720, 22, 190, 240
"""Lengths of the drawing: its width, a row, and what stands before and behind the bars."""

LAYER_STYLE = """
.layers { max-width: 44rem; }
.layers svg { display: block; width: 100%; height: auto; }
.layers text { fill: currentColor; font: 12px system-ui, sans-serif; }
.layers .was { fill: currentColor; opacity: 0.12; }
.layers .zero { fill: #bc4c00; opacity: 0.45; }
.layers .kept { fill: #0969da; }
"""


@dataclass(frozen=True)
class Row:
    """A layer, or several small ones together."""

    name: str
    before: int
    after: int
    zeros: int
    weights: int
    bits: float | None

    @property
    def longest(self) -> int:
        """The parameters of the longer of its two bars."""
        return max(self.before, self.after)

    def words(self) -> str:
        """Return what became of it: `9,216 of 18,432, 50 % zero, 8 bits`."""
        parts = [number(self.after)]
        if self.after != self.before:
            parts = [f"{number(self.after)} of {number(self.before)}"]
        if self.weights and self.zeros / self.weights >= NOTICED:
            parts.append(f"{100 * self.zeros / self.weights:.0f} % zero")
        if self.bits is not None and self.after:
            parts.append(f"{self.bits:.3g} bits")
        return ", ".join(parts)


def layer_words(table: Table) -> str:
    """Return in one sentence what became of a model: what is gone, what is zero, how few bits."""
    rows = _every(table)
    other = table["other"]
    before = sum(row.before for row in rows) + other["parameters_before"]
    after = sum(row.after for row in rows) + other["parameters"]
    weights = sum(row.weights for row in rows)
    zeros = sum(row.zeros for row in rows)

    parts = [f"{number(after)} parameters in {len(rows)} layers"]
    if after != before:
        parts.append(f"{number(before)} before")
    if weights and zeros / weights >= NOTICED:
        parts.append(f"{100 * zeros / weights:.0f} % of the weights are zero")
    told = [row for row in rows if row.bits is not None and row.weights]
    if told:
        counted = sum(row.weights for row in told)
        mean = sum((row.bits or 0.0) * row.weights for row in told) / counted
        parts.append(f"{mean:.3g} bits a weight on average")
    return ", ".join(parts)


def is_compressed(table: Table) -> bool:
    """Return whether anything was pruned, or is stored in fewer bits than float has."""
    for row in _every(table):
        if row.before != row.after:
            return True
        if row.weights and row.zeros / row.weights >= NOTICED:
            return True
        if row.bits is not None and row.bits < FLOAT_BITS:
            return True
    return False


def layer_rows(table: Table) -> list[list[str]]:
    """Return a row for each layer: name, bar, words. The bar is as long as the layer was large."""
    rows = _shown(table)
    longest = max((row.longest for row in rows), default=0) or 1
    found = []
    for row in rows:
        found.append([row.name, _bar(row, longest), row.words()])
    return found


LEGEND = f"{KEPT} kept, {ZERO} zero, {GONE} gone"


def layer_drawing(table: Table) -> Markup:
    """Draw a bar for each layer: what it was, what is left of it, and how much of that is zero."""
    rows = _shown(table)
    longest = max((row.longest for row in rows), default=0) or 1
    room = WIDTH - LABEL - NOTE
    inside = _legend()
    for index, row in enumerate(rows, start=1):
        top = index * ROW
        was = room * row.before / longest
        left = room * row.after / longest
        zero = left * _zero_share(row)
        baseline = top + 15
        # The zeros at the end of what is left, where the eye compares them.
        begin = LABEL + left - zero
        inside += [
            el("text", _cut(row.name), x=LABEL - 8, y=baseline, text_anchor="end"),
            _rectangle(LABEL, top, was, "was"),
            _rectangle(LABEL, top, left - zero, "kept"),
            _rectangle(begin, top, zero, "zero"),
            el("text", _brief(row), x=WIDTH - NOTE + 8, y=baseline),
        ]
    drawing = el(
        "svg",
        inside,
        viewBox=f"0 0 {WIDTH} {ROW * (len(rows) + 1)}",
        role="img",
        aria_label=f"Layers: {layer_words(table)}",
    )
    return el("div", drawing, class_="layers")


def _legend() -> list[Markup]:
    """Say above the bars what their colours mean."""
    parts = []
    for place, (kind, name) in enumerate((("kept", "kept"), ("zero", "zero"), ("was", "gone"))):
        begin = LABEL + 80 * place
        parts.append(_rectangle(begin, 0, 12, kind))
        parts.append(el("text", name, x=begin + 18, y=15))
    return parts


def _rectangle(begin: float, top: int, width: float, kind: str) -> Markup:
    return el("rect", x=round(begin, 1), y=top + 5, width=round(width, 1), height=12, class_=kind)


def _every(table: Table) -> list[Row]:
    rows = []
    for item in table["layers"]:
        row = Row(
            name=item["name"],
            before=item["parameters_before"],
            after=item["parameters"],
            zeros=item["zeros"],
            weights=item["weights"],
            bits=item["bits"],
        )
        rows.append(row)
    return rows


def _shown(table: Table) -> list[Row]:
    """Return the rows that have room: the largest, and all others as one."""
    rows = _every(table)
    if len(rows) <= MOST:
        return rows
    largest = sorted(rows, key=lambda row: row.longest, reverse=True)[: MOST - 1]
    kept = [row for row in rows if row in largest][: MOST - 1]
    rest = [row for row in rows if row not in kept]
    return [*kept, _together(rest)]


def _together(rows: Sequence[Row]) -> Row:
    bits = {row.bits for row in rows}
    shared: float | None = None
    if len(bits) == 1:
        shared = bits.pop()
    return Row(
        name=f"{len(rows)} more",
        before=sum(row.before for row in rows),
        after=sum(row.after for row in rows),
        zeros=sum(row.zeros for row in rows),
        weights=sum(row.weights for row in rows),
        bits=shared,
    )


def _zero_share(row: Row) -> float:
    if not row.after:
        return 0.0
    return row.zeros / row.after


def _bar(row: Row, longest: int) -> str:
    # What is there shows, however small it is beside the largest layer.
    whole = max(1, round(BAR * row.longest / longest))
    left = 0
    if row.after:
        left = max(1, round(whole * row.after / row.longest))
    zero = round(left * _zero_share(row))
    return KEPT * (left - zero) + ZERO * zero + GONE * (whole - left)


def _brief(row: Row) -> str:
    """Return what stands behind a bar, in as few letters as there is room for."""
    parts = [short(row.after)]
    if row.after != row.before:
        parts = [f"{short(row.before)} → {short(row.after)}"]
    if row.weights and row.zeros / row.weights >= NOTICED:
        parts.append(f"{100 * row.zeros / row.weights:.0f} % zero")
    if row.bits is not None and row.after:
        parts.append(f"{row.bits:.3g} bits")
    return ", ".join(parts)


def _cut(name: str, most: int = 26) -> str:
    if len(name) <= most:
        return name
    # The end is what tells layers apart.
    return f"…{name[-most + 1 :]}"
