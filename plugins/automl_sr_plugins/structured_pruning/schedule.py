"""Dividing the last stretch of a training: before, while and after a net is made smaller."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from automl_sr.api import Phase

if TYPE_CHECKING:
    from automl_sr.api import TrainStep

Enter = Callable[..., Any]
Wrap = Callable[..., "TrainStep"]


class Stretch(NamedTuple):
    """A part of a phase."""

    name: str
    share: float
    """Of the phase."""
    enters: tuple[Enter, ...] = ()
    wraps: tuple[Wrap, ...] = ()
    comparable: bool = True
    resets: bool = False
    rung: bool = False


def divided(phases: list[Phase], before: Sequence[Stretch], last: Stretch) -> list[Phase]:
    """Divide the last phase of the trunk into stretches, which come one after the other.

    What happens when the phase begins happens in the first, what happens when it ends in the last.
    """
    whole = next(phase for phase in reversed(phases) if not phase.tail)
    stretches = [*before, last]
    made = []
    for stretch in stretches:
        part = replace(
            whole,
            name=f"{whole.name} {stretch.name}",
            share=whole.share * stretch.share,
            comparable=whole.comparable and stretch.comparable,
            rung=whole.rung and stretch is last,
        )
        if stretch.rung:
            part = replace(part, rung=True)
        if stretch is not stretches[0]:
            part = replace(part, on_enter=(), inherits=False, resets=stretch.resets)
        if stretch is not last:
            part = replace(part, on_leave=())
        made.append(part.entering(*stretch.enters).wrapping(*stretch.wraps))

    at = phases.index(whole)
    return [*phases[:at], *made, *phases[at + 1 :]]
