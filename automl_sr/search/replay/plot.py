"""The comparison as a picture: hypervolume and mean rank over simulated time."""

from __future__ import annotations

import io
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from automl_sr.files import write_atomically

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

# Okabe and Ito's colours, which people tell apart whatever colours they see; then dashes tell lines
# apart.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DASHES = (None, (9, 6), (3, 4))
SCALE = 2
"""Drawn so many times as large, then made smaller: smooth lines."""
WIDTH, HEIGHT = 1280, 600
TOP, BOTTOM = 70, 60
INK, PALE, GRID = "#222222", "#666666", "#e4e4e4"
LEGEND_LINE = 22

Point = tuple[float, float]
"""Pixels from the left and from the top."""


@dataclass(frozen=True)
class Panel:
    """A part of the picture with its own axes."""

    left: int
    right: int
    top: int
    bottom: int
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> Point:
        """Return the pixel of a value."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        # Pixels count from the top, values from the bottom.
        column = self.left + across * (self.right - self.left)
        row = self.bottom - up * (self.bottom - self.top)
        return column, row


@dataclass(frozen=True)
class Style:
    """How a line looks."""

    color: str
    dash: tuple[int, int] | None


def draw(
    path: Path,
    found: Mapping[str, Any],
    study: str,
) -> None:
    """Write the JSON of a comparison as a PNG."""
    buffer = io.BytesIO()
    picture(found, study).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def picture(found: Mapping[str, Any], study: str) -> Image:
    """Draw the JSON of a comparison."""
    from PIL import Image, ImageDraw

    names = [item["name"] for item in found["combinations"]]
    styles = _styles(names)
    legend = 40 + LEGEND_LINE * math.ceil(len(names) / 2)
    height = HEIGHT + legend
    size = (WIDTH * SCALE, height * SCALE)
    scale, unit = time_unit(found["seconds"])
    times: list[float] = []
    for seconds in found["curves"]["seconds"]:
        times.append(seconds / scale)
    left, right = _panels(found, times, names)

    # The intervals come first, so that axes, lines and words lie on top of them.
    image = Image.new("RGB", size, "white")
    image.paste(_bands(size, left, times, found["curves"], styles), (0, 0))
    pen = ImageDraw.Draw(image)
    below = f"simulated time ({unit})"
    _axes(pen, left, "Hypervolume (share of the box)", below)
    _axes(pen, right, "Mean rank (1 is best)", below)

    if found["target"] is not None:
        begin = left.at(left.x[0], found["target"])
        end = left.at(left.x[1], found["target"])
        _line(pen, [begin, end], Style(PALE, (4, 4)), 1)
    for name in names:
        curve = found["curves"][name]
        medians = curve["median"]
        begins = _first_above(medians, left.y[0])
        _line(
            pen,
            _steps(left, times[begins:], medians[begins:]),
            styles[name],
            2.4,
        )
        _line(
            pen,
            _steps(right, times, curve["mean_rank"]),
            styles[name],
            2.4,
        )

    _heading(pen, found, study)
    _legend(pen, found["combinations"], styles, scale, unit)
    return image.resize((WIDTH, height), Image.Resampling.LANCZOS)


def _styles(names: Sequence[str]) -> dict[str, Style]:
    """Return the look of each line: other colours first, other dashes once these are used up."""
    styles: dict[str, Style] = {}
    for index, name in enumerate(names):
        color = COLORS[index % len(COLORS)]
        round_of_colors = index // len(COLORS)
        dash = DASHES[round_of_colors % len(DASHES)]
        styles[name] = Style(color, dash)
    return styles


def _first_above(values: Sequence[float], bottom: float) -> int:
    """Return where a curve enters the picture: cut off, it would lie on the axis until then."""
    for index, value in enumerate(values):
        if value >= bottom:
            return index
    return len(values) - 1


def _heading(
    pen: ImageDraw,
    found: Mapping[str, Any],
    study: str,
) -> None:
    rival = ""
    if found["best_rival"]:
        rival = f"; dashed: where {found['best_rival']} ends"
    _text(
        pen,
        (40, 18),
        f"{study}: {found['seeds']} simulated studies each",
        20,
    )
    _text(
        pen,
        (40, 44),
        f"median over seeds with 95 % bootstrap interval{rival}",
        13,
        PALE,
    )


def time_unit(seconds: float) -> tuple[float, str]:
    """Return the unit in which a time has few digits: its seconds and its sign."""
    if seconds < 300:
        return 1.0, "s"
    if seconds < 3 * 3600:
        return 60.0, "min"
    return 3600.0, "h"


def ticks(
    low: float,
    high: float,
    most: int = 6,
) -> list[float]:
    """Return round numbers in a range, about `most` of them."""
    step = _round_step((high - low) / most)
    # Ends that lie on a tick but for rounding get theirs.
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    found: list[float] = []
    for index in range(first, last + 1):
        found.append(round(index * step, 12))
    return found


def _round_step(rough: float) -> float:
    """Return the smallest round number that is not below a number, rounding apart."""
    power = 10.0 ** math.floor(math.log10(rough))
    for factor in (1, 2, 2.5, 5):
        step = power * factor
        if step >= rough * 0.999:
            return step
    return power * 10


def _panels(
    found: Mapping[str, Any], times: Sequence[float], names: Sequence[str]
) -> tuple[Panel, Panel]:
    """Return where hypervolumes are drawn, and where ranks."""
    x = (0.0, times[-1])
    middle = WIDTH * 62 // 100
    top = TOP + 20
    bottom = HEIGHT - BOTTOM
    shares = _range_of([found["curves"][name] for name in names])
    # The best rank is above: the axis goes down, with some room for the lines at its ends.
    ranks = (len(names) + 0.2, 0.8)
    left = Panel(70, middle - 30, top, bottom, x, shares)
    right = Panel(
        middle + 50,
        WIDTH - 30,
        top,
        bottom,
        x,
        ranks,
    )
    return left, right


def _range_of(curves: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Return the hypervolumes that are shown."""
    top = max(max(curve["high"]) for curve in curves)
    # What happens near the top decides; the first tenth of the time only shows that everything
    # begins at nothing.
    start = len(curves[0]["low"]) // 10
    low = min(curve["low"][start] for curve in curves)
    if top <= low:
        # Level curves, where an axis from low to top would have no length.
        low = 0.0
        top = max(top, 1.0)
    room = 0.05 * (top - low)
    return max(0.0, low - room), top + room


def _bands(
    size: tuple[int, int],
    panel: Panel,
    times: Sequence[float],
    curves: Mapping[str, Any],
    styles: Mapping[str, Style],
) -> Image:
    """Draw the intervals, one over the other."""
    from PIL import Image, ImageDraw

    # The more there are, the paler each is, so that those below still show.
    opacity = max(12, min(38, 270 // len(styles)))
    image = Image.new("RGB", size, "white")
    for name, style in styles.items():
        upper = _steps(panel, times, curves[name]["high"])
        lower = _steps(panel, times, curves[name]["low"])
        outline = _enlarged([*upper, *reversed(lower)])
        layer = Image.new("L", size, 0)
        ImageDraw.Draw(layer).polygon(outline, fill=opacity)
        image.paste(
            Image.new("RGB", size, style.color),
            (0, 0),
            layer,
        )
    return image


def _enlarged(points: Sequence[Point]) -> list[Point]:
    """Return points of the picture on the larger one that is drawn."""
    large: list[Point] = []
    for x, y in points:
        large.append((x * SCALE, y * SCALE))
    return large


def _steps(
    panel: Panel,
    times: Sequence[float],
    values: Sequence[float],
) -> list[Point]:
    """Return the corners of a curve that stays until the next time; it is cut off at the axes."""
    low = min(panel.y)
    high = max(panel.y)
    points: list[Point] = []
    before: float | None = None
    for time, value in zip(times, values, strict=True):
        clipped = min(max(value, low), high)
        if before is not None:
            points.append(panel.at(time, before))
        points.append(panel.at(time, clipped))
        before = clipped
    return points


def _axes(
    pen: ImageDraw,
    panel: Panel,
    title: str,
    below: str,
) -> None:
    """Draw the axes of a panel with their ticks, the words above it and those below it."""
    ranks = panel.y[0] > panel.y[1]
    if ranks:
        values = [float(rank) for rank in range(1, math.floor(panel.y[0]) + 1)]
    else:
        values = ticks(*panel.y)
    for value in values:
        x, y = panel.at(panel.x[0], value)
        _line(
            pen,
            [(x, y), (panel.right, y)],
            Style(GRID, None),
            1,
        )
        _text(pen, (x - 8, y), f"{value:g}", 13, PALE, "rm")
    for value in ticks(*panel.x):
        x, y = panel.at(value, panel.y[0])
        _line(pen, [(x, y), (x, y + 5)], Style(PALE, None), 1)
        _text(pen, (x, y + 10), f"{value:g}", 13, PALE, "mt")

    corner = (panel.left, panel.bottom)
    frame = [(panel.left, panel.top), corner, (panel.right, panel.bottom)]
    _line(pen, frame, Style(PALE, None), 1)
    middle = (panel.left + panel.right) / 2
    _text(
        pen,
        (panel.left, panel.top - 10),
        title,
        15,
        INK,
        "lb",
    )
    _text(
        pen,
        (middle, panel.bottom + 32),
        below,
        13,
        PALE,
        "mt",
    )


def _legend(
    pen: ImageDraw,
    combinations: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Style],
    scale: float,
    unit: str,
) -> None:
    """Write names and values in two columns."""
    rows = math.ceil(len(combinations) / 2)
    for index, item in enumerate(combinations):
        x = 70 + (index // rows) * (WIDTH // 2)
        y = HEIGHT + 14 + LEGEND_LINE * (index % rows)
        _line(
            pen,
            [(x, y), (x + 34, y)],
            styles[item["name"]],
            3,
        )
        end = item["hypervolume"]
        interval = f"[{end['low']:.4f}, {end['high']:.4f}]"
        words = f"{item['name']}   {end['median']:.4f} {interval}"
        words += _reached(item["to_target"], scale, unit)
        _text(pen, (x + 44, y), words, 13, INK, "lm")


def _reached(
    reach: Mapping[str, Any] | None,
    scale: float,
    unit: str,
) -> str:
    """Return when a curve gets to the dashed line, where there is one."""
    if reach is None:
        return ""
    if reach["seconds"] is None:
        return "   below the line"
    return f"   at the line after {reach['seconds'] / scale:.3g} {unit}"


def _line(
    pen: ImageDraw,
    points: Sequence[Point],
    style: Style,
    width: float,
) -> None:
    large = _enlarged(points)
    parts = [large]
    if style.dash is not None:
        parts = _dashed(large, style.dash)
    wide = max(1, round(width * SCALE))
    for part in parts:
        pen.line(
            part,
            fill=style.color,
            width=wide,
            joint="curve",
        )


def _dashed(points: Sequence[Point], dash: tuple[int, int]) -> list[list[Point]]:
    """Cut a line into dashes."""
    drawn = dash[0] * SCALE
    period = drawn + dash[1] * SCALE
    parts: list[list[Point]] = []
    # Dashes go on around corners: the position is that along the whole line.
    position = 0.0
    for start, end in itertools.pairwise(points):
        length = math.dist(start, end)
        done = 0.0
        while done < length:
            inside = position % period
            border = period
            if inside < drawn:
                border = drawn
            step = min(border - inside, length - done)
            if inside < drawn:
                begins = _between(start, end, done, length)
                ends = _between(
                    start,
                    end,
                    done + step,
                    length,
                )
                parts.append([begins, ends])
            # Rounding can leave a step of nothing, which would never end.
            done += max(step, 1e-6)
            position += max(step, 1e-6)
    return parts


def _between(
    start: Point,
    end: Point,
    part: float,
    whole: float,
) -> Point:
    """Return the point at which a part of the way is done."""
    x = start[0] + (end[0] - start[0]) * part / whole
    y = start[1] + (end[1] - start[1]) * part / whole
    return x, y


def _text(
    pen: ImageDraw, place: Point, words: str, size: int, color: str = INK, anchor: str = "lt"
) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size * SCALE)
    x, y = place
    pen.text(
        (x * SCALE, y * SCALE),
        words,
        fill=color,
        font=font,
        anchor=anchor,
    )
