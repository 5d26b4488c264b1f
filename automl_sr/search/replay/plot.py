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


@dataclass(frozen=True)
class Panel:
    """A part of the picture with its own axes."""

    left: int
    right: int
    top: int
    bottom: int
    x: tuple[float, float]
    y: tuple[float, float]

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Return the pixel of a value."""
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return self.left + across * (self.right - self.left), self.bottom - up * (
            self.bottom - self.top
        )


@dataclass(frozen=True)
class Style:
    """How a line looks."""

    color: str
    dash: tuple[int, int] | None


def draw(path: Path, found: Mapping[str, Any], study: str) -> None:
    """Write the JSON of a comparison as a PNG."""
    buffer = io.BytesIO()
    picture(found, study).save(buffer, format="PNG")
    write_atomically(path, buffer.getvalue())


def picture(found: Mapping[str, Any], study: str) -> Image:
    """Draw the JSON of a comparison."""
    from PIL import Image, ImageDraw

    names = []
    for item in found["combinations"]:
        names.append(item["name"])
    styles = {
        name: Style(COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)])
        for index, name in enumerate(names)
    }
    legend = 40 + LEGEND_LINE * math.ceil(len(names) / 2)
    height = HEIGHT + legend
    size = (WIDTH * SCALE, height * SCALE)
    image = Image.new("RGB", size, "white")
    scale, unit = time_unit(found["seconds"])
    times = []
    for seconds in found["curves"]["seconds"]:
        times.append(seconds / scale)
    left, right = _panels(found, times, names)
    image.paste(_bands(size, left, times, found["curves"], styles), (0, 0))
    pen = ImageDraw.Draw(image)
    for panel, title in (
        (left, "Hypervolume (share of the box)"),
        (right, "Mean rank (1 is best)"),
    ):
        _axes(pen, panel, title, f"simulated time ({unit})")
    if found["target"] is not None:
        ends = [left.at(left.x[0], found["target"]), left.at(left.x[1], found["target"])]
        _line(pen, ends, Style(PALE, (4, 4)), 1)
    for name in names:
        curve = found["curves"][name]
        shown = next(
            (index for index, value in enumerate(curve["median"]) if value >= left.y[0]),
            len(times) - 1,
        )
        _line(pen, _steps(left, times[shown:], curve["median"][shown:]), styles[name], 2.4)
        _line(pen, _steps(right, times, curve["mean_rank"]), styles[name], 2.4)
    rival = ""
    if found["best_rival"]:
        rival = f"; dashed: where {found['best_rival']} ends"
    _text(pen, (40, 18), f"{study}: {found['seeds']} simulated studies each", 20)
    _text(pen, (40, 44), f"median over seeds with 95 % bootstrap interval{rival}", 13, PALE)
    _legend(pen, found["combinations"], styles, scale, unit)
    return image.resize((WIDTH, height), Image.Resampling.LANCZOS)


def time_unit(seconds: float) -> tuple[float, str]:
    """Choose the unit in which a time has few digits."""
    if seconds < 300:
        return 1.0, "s"
    if seconds < 3 * 3600:
        return (60.0, "min")
    return (3600.0, "h")


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Return round numbers in a range."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    found: list[float] = []
    for index in range(first, math.floor(high / step + 1e-9) + 1):
        found.append(round(index * step, 12))
    return found


def _panels(
    found: Mapping[str, Any], times: Sequence[float], names: Sequence[str]
) -> tuple[Panel, Panel]:
    curves = []
    for name in names:
        curves.append(found["curves"][name])
    top = max(max(curve["high"]) for curve in curves)
    # What happens near the top decides; the first tenth of the time only shows that everything
    # begins at nothing.
    start = len(times) // 10
    low = min(curve["low"][start] for curve in curves)
    low, top = (low, top) if top > low else (0.0, max(top, 1.0))
    room = 0.05 * (top - low)
    x = (0.0, times[-1])
    middle = WIDTH * 62 // 100
    return (
        Panel(70, middle - 30, TOP + 20, HEIGHT - BOTTOM, x, (max(0.0, low - room), top + room)),
        Panel(middle + 50, WIDTH - 30, TOP + 20, HEIGHT - BOTTOM, x, (len(names) + 0.2, 0.8)),
    )


def _bands(
    size: tuple[int, int],
    panel: Panel,
    times: Sequence[float],
    curves: Mapping[str, Any],
    styles: Mapping[str, Style],
) -> Image:
    """Draw the intervals, one over the other."""
    from PIL import Image, ImageDraw

    image = Image.new("RGB", size, "white")
    for name, style in styles.items():
        layer = Image.new("L", size, 0)
        upper = _steps(panel, times, curves[name]["high"])
        lower = _steps(panel, times, curves[name]["low"])
        outline = []
        for x, y in [*upper, *reversed(lower)]:
            outline.append((x * SCALE, y * SCALE))
        ImageDraw.Draw(layer).polygon(outline, fill=max(12, min(38, 270 // len(styles))))
        image.paste(Image.new("RGB", size, style.color), (0, 0), layer)
    return image


def _steps(
    panel: Panel, times: Sequence[float], values: Sequence[float]
) -> list[tuple[float, float]]:
    """Return the corners of a curve that stays until the next time; it is cut off at the axes."""
    low, high = min(panel.y), max(panel.y)
    clipped = [min(max(value, low), high) for value in values]
    points: list[tuple[float, float]] = []
    for index, (time, value) in enumerate(zip(times, clipped, strict=True)):
        if index:
            points.append(panel.at(time, clipped[index - 1]))
        points.append(panel.at(time, value))
    return points


def _axes(pen: ImageDraw, panel: Panel, title: str, below: str) -> None:
    ranks = panel.y[0] > panel.y[1]
    if ranks:
        values = [float(rank) for rank in range(1, math.floor(panel.y[0]) + 1)]
    else:
        values = ticks(*panel.y)
    for value in values:
        x, y = panel.at(panel.x[0], value)
        _line(pen, [(x, y), (panel.right, y)], Style(GRID, None), 1)
        _text(pen, (x - 8, y), f"{value:g}", 13, PALE, "rm")
    for value in ticks(*panel.x):
        x, y = panel.at(value, panel.y[0])
        _line(pen, [(x, y), (x, y + 5)], Style(PALE, None), 1)
        _text(pen, (x, y + 10), f"{value:g}", 13, PALE, "mt")
    _line(
        pen,
        [(panel.left, panel.top), (panel.left, panel.bottom), (panel.right, panel.bottom)],
        Style(PALE, None),
        1,
    )
    _text(pen, (panel.left, panel.top - 10), title, 15, INK, "lb")
    _text(pen, ((panel.left + panel.right) / 2, panel.bottom + 32), below, 13, PALE, "mt")


def _legend(
    pen: ImageDraw,
    combinations: Sequence[Mapping[str, Any]],
    styles: Mapping[str, Style],
    scale: float,
    unit: str,
) -> None:
    rows = math.ceil(len(combinations) / 2)
    for index, item in enumerate(combinations):
        x = 70 + (index // rows) * (WIDTH // 2)
        y = HEIGHT + 14 + LEGEND_LINE * (index % rows)
        _line(pen, [(x, y), (x + 34, y)], styles[item["name"]], 3)
        end = item["hypervolume"]
        words = f"{item['name']}   {end['median']:.4f} [{end['low']:.4f}, {end['high']:.4f}]"
        if (reach := item["to_target"]) is not None:
            there = reach["seconds"]
            words += (
                "   below the line"
                if there is None
                else f"   at the line after {there / scale:.3g} {unit}"
            )
        _text(pen, (x + 44, y), words, 13, INK, "lm")


def _line(
    pen: ImageDraw, points: Sequence[tuple[float, float]], style: Style, width: float
) -> None:
    large = []
    for x, y in points:
        large.append((x * SCALE, y * SCALE))
    wide = max(1, round(width * SCALE))
    for part in [large] if style.dash is None else _dashed(large, style.dash):
        pen.line(part, fill=style.color, width=wide, joint="curve")


def _dashed(
    points: Sequence[tuple[float, float]], dash: tuple[int, int]
) -> list[list[tuple[float, float]]]:
    """Cut a line into dashes."""
    drawn, gap = (length * SCALE for length in dash)
    parts: list[list[tuple[float, float]]] = []
    position = 0.0
    for (x, y), (to_x, to_y) in itertools.pairwise(points):
        length = math.hypot(to_x - x, to_y - y)
        done = 0.0
        while done < length:
            inside = position % (drawn + gap)
            step = min((drawn if inside < drawn else drawn + gap) - inside, length - done)
            if inside < drawn:
                begin, end = (
                    (x + (to_x - x) * part / length, y + (to_y - y) * part / length)
                    for part in (done, done + step)
                )
                parts.append([begin, end])
            done += max(step, 1e-6)
            position += max(step, 1e-6)
    return parts


def _text(
    pen: ImageDraw,
    place: tuple[float, float],
    words: str,
    size: int,
    color: str = INK,
    anchor: str = "lt",
) -> None:
    from PIL import ImageFont

    font = ImageFont.load_default(size * SCALE)
    pen.text((place[0] * SCALE, place[1] * SCALE), words, fill=color, font=font, anchor=anchor)
