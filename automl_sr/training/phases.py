"""Training as a list of phases, and the timetable that turns shares into steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from automl_sr.errors import PluginError

if TYPE_CHECKING:
    from torch import nn

    from automl_sr.plugin.blueprint import Blueprint
    from automl_sr.training.run import Run
    from automl_sr.training.step import TrainStep

Enter = Callable[["Run"], "ModelUpdate | None"]
Wrap = Callable[["TrainStep", "Run"], "TrainStep"]

COOLDOWN = "cooldown"
SETTLE = 0.05
"""No rung lies within this share of the trunk after a phase that reset the model or its
optimizer.
"""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own name, length and behaviour.

    `share` is relative to the other phases'. `on_enter` run once when the phase begins, `on_leave`
    once when it ends, never on resume; each may return a `ModelUpdate`. `wraps` change the training
    step in this phase only. A phase that is not `comparable` (a search, a growth phase) holds no
    rung. `lr` multiplies the recipe's rate; `decay` lets it fall to zero over the phase. A `tail`
    phase runs on the branch of every rung, after the trunk. A `continued` phase goes on where it
    stopped in an earlier run (`refine`): what a wrap anneals over its phase has come to its end.

    With `rung` the model is measured at the end of the phase, with `inherits` before its first step
    too. Steps of a phase that does not count (`counts=False`, a search) are no training of what
    ships: rungs are laid out over the steps after it. A phase whose entering `resets` the optimizer
    has to say so: just after it no rung lies.
    """

    name: str
    share: float
    on_enter: tuple[Enter, ...] = ()
    on_leave: tuple[Enter, ...] = ()
    wraps: tuple[Wrap, ...] = ()
    comparable: bool = True
    lr: float = 1.0
    decay: bool = False
    tail: bool = False
    continued: bool = False
    rung: bool = False
    inherits: bool = False
    counts: bool = True
    resets: bool = False

    def entering(self, *on_enter: Enter) -> Phase:
        """Append to what happens when the phase begins."""
        return replace(self, on_enter=(*self.on_enter, *on_enter))

    def leaving(self, *on_leave: Enter) -> Phase:
        """Append to what happens when the phase ends."""
        return replace(self, on_leave=(*self.on_leave, *on_leave))

    def wrapping(self, *wraps: Wrap) -> Phase:
        """Append to what changes the training step in this phase."""
        return replace(self, wraps=(*self.wraps, *wraps))


@dataclass(frozen=True)
class ModelUpdate:
    """What an enter or a leave did to the run: another model, and what becomes of optimizer and
    average.
    """

    model: nn.Module | None = None
    blueprint: Blueprint | None = None
    optimizer: Literal["keep", "reset"] = "keep"
    ema: Literal["keep", "reset"] = "keep"


@dataclass(frozen=True)
class Span:
    """A phase with its steps: it covers `start` to `stop`, the latter not included."""

    index: int
    phase: Phase
    start: int
    stop: int

    @property
    def steps(self) -> int:
        """The number of steps."""
        return self.stop - self.start


BEFORE_TRAINING = -1
"""The rung at step 0: only trials that inherit weights have it, and are compared there."""


@dataclass(frozen=True)
class BranchPoint:
    """A step of the trunk at which the model is measured, on a branch; without a rung it is a point
    of the curve.
    """

    step: int
    rung: int | None


@dataclass(frozen=True)
class Timetable:
    """All phases in steps: the trunk's from 0 to `trunk_steps`, and the tail's shares of a finished
    run.
    """

    steps: int
    spans: tuple[Span, ...]
    tail: tuple[tuple[Phase, float], ...]

    @classmethod
    def of(cls, phases: Sequence[Phase], steps: int, cooldown: float) -> Timetable:
        """Lay out phases over `steps`; the tail is the cool-down and the phases marked so.

        Raises PluginError.
        """
        trunk = []
        for phase in phases:
            if not phase.tail:
                trunk.append(phase)
        tail = []
        for phase in phases:
            if phase.tail:
                tail.append(phase)
        names = [phase.name for phase in phases]
        if len(set(names)) != len(names) or not trunk:
            raise PluginError(
                f"Training needs a trunk and phases with names of their own, not {names}."
            )
        if min(phase.share for phase in phases) <= 0:
            raise PluginError("Every phase needs a share above 0.")
        rest = (1 - cooldown) / sum(phase.share for phase in phases)
        shares = []
        for phase in tail:
            shares.append((phase, rest * phase.share))
        if cooldown > 0:
            shares.insert(0, (Phase(COOLDOWN, cooldown, decay=True, tail=True), cooldown))
        trunk_steps = steps - sum(max(1, round(share * steps)) for _, share in shares)
        if trunk_steps < len(trunk):
            raise PluginError(
                f"{steps} steps are too few for {len(names)} phases.", "Raise budget.steps."
            )
        return cls(steps, tuple(_spans(trunk, 0, trunk_steps)), tuple(shares))

    def going_on(self, name: str, steps: int) -> Timetable:
        """Lay out more steps of one phase of the trunk, then the tail. Raises PluginError where
        they are too few.

        It keeps its wraps and its rate, but neither enters nor leaves: pruning, growing and
        searching are over. The tail is at least as long as it was in the search: cut short, it
        would leave a model worse than the one before.
        """
        phase = next((span.phase for span in self.spans if span.phase.name == name), None)
        if phase is None:
            raise PluginError(f"The plan has no phase {name!r} to go on with.")
        phase = replace(
            phase,
            on_enter=(),
            on_leave=(),
            decay=False,
            continued=True,
            rung=False,
            inherits=False,
            counts=True,
        )
        shares = []
        for _, share in self.tail:
            shares.append(max(share, share * self.steps / steps))
        tail_steps = sum(max(1, round(share * steps)) for share in shares)
        trunk_steps = steps - tail_steps
        if trunk_steps < 1:
            raise PluginError(
                f"{steps} steps are too few: the tail of this plan alone takes {tail_steps}.",
                f"Ask for {tail_steps + 1} or more.",
            )
        tail = tuple((part, share) for (part, _), share in zip(self.tail, shares, strict=True))
        return Timetable(steps, (Span(0, phase, 0, trunk_steps),), tail)

    @property
    def trunk_steps(self) -> int:
        """Where the trunk ends."""
        return self.spans[-1].stop

    def tail_spans(self, branch: int) -> tuple[Span, ...]:
        """Lay out the tail behind a branch at this step of the trunk, as long in proportion as that
        of the last one.
        """
        if branch == 0:
            return ()  # inherited weights have nothing to cool down from
        spans: list[Span] = []
        start = branch
        for phase, share in self.tail:
            stop = start + max(1, round(share * self.steps * branch / self.trunk_steps))
            spans.append(Span(len(self.spans) + len(spans), phase, start, stop))
            start = stop
        return tuple(spans)

    def branches(
        self, count: int, reduction: int, first: int | None = None
    ) -> tuple[BranchPoint, ...]:
        """Return the steps of the trunk at which it branches, the last one at its end.

        Rungs are geometric over the steps that count: the last of `count` at the end, each one
        before it at one in `reduction` of the steps. None lies below `first`, by default 10 % of
        these steps or 300, whichever is more. Those in a phase that is not comparable, or just
        after a reset, are left out; the others keep their numbers, as trials are compared by them.
        The end of a phase that asks for a rung takes the number of the rung that is nearest by
        share of training, where that is fair: see `_number`.
        """
        begin = self._counted_from()
        counted = self.trunk_steps - begin
        tenth = round(0.1 * self.steps * counted / self.trunk_steps)
        earliest = begin + (max(tenth, 300) if first is None else first)
        last = count - 1
        rungs = {last: self.trunk_steps}
        for rung in range(last):
            step = begin + round(counted / reduction ** (last - rung))
            if step >= earliest and self._settled(step):
                rungs[rung] = step
        unnumbered = []
        for span in self.spans:
            if not span.phase.rung or span.stop >= self.trunk_steps:
                continue
            number = None
            if span.stop >= earliest:
                number = self._number(span, begin, count, reduction)
            if number is None:
                unnumbered.append(span.stop)
                continue
            if number in rungs and self._is_asked(rungs[number]):
                unnumbered.append(rungs[number])  # of several ends near one rung the last counts
            rungs[number] = span.stop
        if self.spans[0].phase.inherits:
            rungs[BEFORE_TRAINING] = 0
        points = [BranchPoint(step, rung) for rung, step in rungs.items()]
        points += [BranchPoint(step, None) for step in unnumbered]
        return tuple(sorted(points, key=lambda point: point.step))

    def _counted_from(self) -> int:
        """Return the step from which on training counts: the end of the last phase that does
        not.
        """
        return max((span.stop for span in self.spans if not span.phase.counts), default=0)

    def _number(self, span: Span, begin: int, count: int, reduction: int) -> int | None:
        """Return the rung that the end of a phase is compared at, or nothing where comparing would
        not be fair.

        Fair is what has had about as much training: its share lies within the square root of
        `reduction` of that of the rung, in a phase that is comparable. The last rung is that of
        finished trials alone.
        """
        if not span.phase.comparable or span.stop <= begin:
            return None
        share = (span.stop - begin) / (self.trunk_steps - begin)
        power = round(-math.log(share) / math.log(reduction))
        if 0 < power < count:
            return count - 1 - power
        return None

    def _is_asked(self, step: int) -> bool:
        return any(span.phase.rung and span.stop == step for span in self.spans)

    def _settled(self, step: int) -> bool:
        for span in self.spans:
            if span.start < step <= span.stop:
                margin = SETTLE * self.trunk_steps if span.phase.resets else 0
                return span.phase.comparable and step - span.start > margin
        return False

    def signature(self) -> list[list[Any]]:
        """Return the table as JSON, so that a resume with another one can be refused."""
        trunk: list[list[Any]] = []
        for span in self.spans:
            trunk.append([span.phase.name, span.start, span.stop, span.phase.lr])
        return trunk + [[phase.name, share, phase.lr] for phase, share in self.tail]


def _spans(phases: Sequence[Phase], start: int, stop: int) -> list[Span]:
    """Divide steps by share so that every phase has at least one and they add up exactly."""
    total = sum(phase.share for phase in phases)
    spans, done, begin = [], 0.0, start
    for index, phase in enumerate(phases):
        done += phase.share
        left = len(phases) - index - 1
        if left == 0:
            end = stop
        else:
            end = min(max(begin + 1, start + round((stop - start) * done / total)), stop - left)
        spans.append(Span(index, phase, begin, end))
        begin = end
    return spans
