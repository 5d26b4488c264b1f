"""What is written on parts, and a drawing in words."""

from __future__ import annotations

from collections.abc import Sequence

from automl_sr.presentation.drawing.parts import Part

LONGEST_TITLE = 52
LONGEST_NAME = 22


def lines(part: Part) -> list[str]:
    """Return the lines that are written on a part; of a frame what stands left and right of its
    line.
    """
    if part.look == "frame":
        return [shortened(part.name, LONGEST_NAME), frame_words(part)]
    if part.look == "circle":
        return [part.title]
    if part.look == "port":
        return [shortened(", ".join([part.title, *part.details]), LONGEST_TITLE)]
    first = shortened(label(part), LONGEST_TITLE)
    if part.look == "pill":
        return [first]
    second = " · ".join(item for item in _facts(part) if item)
    return [first, shortened(second, LONGEST_TITLE)] if second else [first]


def label(part: Part) -> str:
    """Return what a part does, with what follows at once."""
    title = part.title
    if part.gathers:
        title = f"{title} of all blocks"
    return " · ".join([title, *part.suffixes])


def frame_words(part: Part) -> str:
    """Say how often a block is there, and what all of them have."""
    words = [f"×{part.count}"]
    words += _parameters(part)
    words += part.details
    return " · ".join(words)


def _facts(part: Part) -> list[str]:
    widths = ""
    if part.ins and part.outs and part.look == "box":
        widths = f"{_range(part.ins)} → {_range(part.outs)}"
    return [*part.details, widths, *_parameters(part), part.stored]


def _parameters(part: Part) -> list[str]:
    fewest, most = part.sizes[0], part.sizes[-1]
    if most == 0:
        return []
    if fewest == most:
        return [parameters_words(most)]
    return [f"{fewest:,}…{parameters_words(most)}"]


def _range(widths: tuple[int, ...]) -> str:
    if len(widths) == 1:
        return f"{widths[0]:,}"
    return f"{widths[0]:,}…{widths[-1]:,}"


def layers_words(count: int) -> str:
    """Write a number of layers."""
    if count == 1:
        return "1 layer"
    return f"{count:,} layers"


def parameters_words(count: int) -> str:
    """Write a number of parameters: whole below a million."""
    if count == 1:
        return "1 parameter"
    if count < 1_000_000:
        return f"{count:,} parameters"
    return f"{count / 1e6:.2f} M parameters"


def shortened(text: str, longest: int) -> str:
    """Take out the middle of what is too long: both ends of a name tell something."""
    flat = " ".join(text.split())
    if len(flat) <= longest:
        return flat
    begin = (longest - 1) // 2
    return f"{flat[:begin]}…{flat[-(longest - 1 - begin) :]}"


def in_words(parts: Sequence[Part]) -> str:
    """Describe a net to those who cannot see its drawing."""
    return "; ".join(_sentence(part) for part in parts) + "."


def _sentence(part: Part) -> str:
    if part.look == "frame":
        inner = ", ".join(_sentence(item) for item in part.inside)
        return f"{part.count} times ({inner})"
    if part.look == "circle":
        signs = {"+": "sum", "−": "difference", "×": "product", "÷": "quotient"}
        return signs.get(part.title, part.title)
    if part.look == "port":
        side = "output" if part.inputs else "input"
        return f"{side}: {shortened(', '.join([part.title, *part.details]), LONGEST_TITLE)}"
    return shortened(", ".join([label(part), *(item for item in _facts(part) if item)]), 120)
