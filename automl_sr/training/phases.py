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
"""No rung lies within this share of the trunk after a phase that reset the optimizer."""


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
    """What an enter or a leave did to the run.

    It gives another model, or says what becomes of optimizer and average.
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
    """A step of the trunk at which the model is measured, on a branch.

    Without a rung it is a point of the learning curve.
    """

    step: int
    rung: int | None


@dataclass(frozen=True)
class Timetable:
    """All phases in steps.

    The trunk's go from 0 to `trunk_steps`; the tail's are shares of a finished run.
    """

    steps: int
    spans: tuple[Span, ...]
    tail: tuple[tuple[Phase, float], ...]

    @classmethod
    def of(
        cls,
        phases: Sequence[Phase],
        steps: int,
        cooldown: float,
    ) -> Timetable:
        """Lay out phases over `steps`; the tail is the cool-down and the phases marked so.

        Without steps there is one phase, which is entered and left, and no tail. Raises
        PluginError.
        """
        trunk: list[Phase] = []
        tail: list[Phase] = []
        for phase in phases:
            if phase.tail:
                tail.append(phase)
            else:
                trunk.append(phase)
        _check(phases, trunk)
        if steps == 0:
            return cls._without_steps(phases)

        total = sum(phase.share for phase in phases)
        rest = (1 - cooldown) / total
        shares = []
        if cooldown > 0:
            # First: what a tail phase does begins with a model that has cooled down.
            cooling = Phase(COOLDOWN, cooldown, decay=True, tail=True)
            shares.append((cooling, cooldown))
        for phase in tail:
            shares.append((phase, rest * phase.share))

        trunk_steps = steps - _tail_steps([share for _, share in shares], steps)
        if trunk_steps < len(trunk):
            raise PluginError(
                f"{steps} steps are too few for {len(phases)} phases.",
                "Raise budget.steps.",
            )
        spans = _spans(trunk, 0, trunk_steps)
        return cls(steps, tuple(spans), tuple(shares))

    @classmethod
    def _without_steps(cls, phases: Sequence[Phase]) -> Timetable:
        """Lay out a run that trains nothing: given weights are shipped as they are."""
        if len(phases) > 1:
            names = ", ".join(phase.name for phase in phases)
            raise PluginError(
                f"Without training there is one phase, and this plan has {len(phases)}: {names}.",
                "Ask for steps of training.",
            )
        only = Span(0, phases[0], 0, 0)
        return cls(0, (only,), ())

    def going_on(self, name: str, steps: int) -> Timetable:
        """Lay out more steps of one phase of the trunk, then the tail.

        The phase keeps its wraps and its rate, but neither enters nor leaves: pruning, growing and
        searching are over. Raises PluginError where the steps are too few.
        """
        phase = replace(
            self._phase_named(name),
            on_enter=(),
            on_leave=(),
            decay=False,
            continued=True,
            rung=False,
            inherits=False,
            counts=True,
        )

        tail = []
        for part, share in self.tail:
            # At least as long as it was in the search: cut short, it would leave a model worse
            # than the one before.
            as_before = share * self.steps / steps
            tail.append((part, max(share, as_before)))

        tail_steps = _tail_steps([share for _, share in tail], steps)
        trunk_steps = steps - tail_steps
        if trunk_steps < 1:
            raise PluginError(
                f"{steps} steps are too few: the tail of this plan alone takes {tail_steps}.",
                f"Ask for {tail_steps + 1} or more.",
            )
        trunk = Span(0, phase, 0, trunk_steps)
        return Timetable(steps, (trunk,), tuple(tail))

    def _phase_named(self, name: str) -> Phase:
        for span in self.spans:
            if span.phase.name == name:
                return span.phase
        raise PluginError(f"The plan has no phase {name!r} to go on with.")

    @property
    def trunk_steps(self) -> int:
        """Where the trunk ends."""
        return self.spans[-1].stop

    def tail_spans(self, branch: int) -> tuple[Span, ...]:
        """Lay out the tail behind a branch at this step of the trunk.

        It is as long, in proportion to the steps before it, as that of the last branch.
        """
        if branch == 0:
            return ()  # inherited weights have nothing to cool down from

        spans: list[Span] = []
        start = branch
        for phase, share in self.tail:
            length = round(share * self.steps * branch / self.trunk_steps)
            stop = start + max(1, length)
            # Numbers go on behind the trunk's, so that a checkpoint says which of all it is in.
            index = len(self.spans) + len(spans)
            spans.append(Span(index, phase, start, stop))
            start = stop
        return tuple(spans)

    def branches(
        self,
        count: int,
        reduction: int,
        first: int | None = None,
    ) -> tuple[BranchPoint, ...]:
        """Return the steps of the trunk at which it branches, the last one at its end.

        Rungs are geometric over the steps that count: the last of `count` at the end, each one
        before it at one in `reduction` of the steps. None lies below `first`, by default 10 % of
        these steps or 300, whichever is more. Those in a phase that is not comparable, or just
        after a reset, are left out; the others keep their numbers, as trials are compared by them.
        The end of a phase that asks for a rung takes the number of the rung that is nearest by
        share of training, where that is fair: see `_number`.
        """
        if self.trunk_steps == 0:
            return (BranchPoint(0, count - 1),)
        begin = self._counted_from()
        earliest = begin + self._first_rung(begin, first)
        rungs = self._geometric(begin, earliest, count, reduction)

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

        points = []
        for rung, step in rungs.items():
            points.append(BranchPoint(step, rung))
        for step in unnumbered:
            points.append(BranchPoint(step, None))
        points.sort(key=lambda point: point.step)
        return tuple(points)

    def _first_rung(self, begin: int, first: int | None) -> int:
        """Return the steps that count before the first rung may lie there."""
        if first is not None:
            return first
        counted = self.trunk_steps - begin
        tenth = round(0.1 * self.steps * counted / self.trunk_steps)
        return max(tenth, 300)

    def _geometric(
        self,
        begin: int,
        earliest: int,
        count: int,
        reduction: int,
    ) -> dict[int, int]:
        """Return the steps of rungs by number, the last one first."""
        counted = self.trunk_steps - begin
        last = count - 1
        rungs = {last: self.trunk_steps}
        for rung in range(last):
            divisor = reduction ** (last - rung)
            step = begin + round(counted / divisor)
            if step >= earliest and self._settled(step):
                rungs[rung] = step
        return rungs

    def _counted_from(self) -> int:
        """Return the end of the last phase that does not count as training; 0 without one."""
        begin = 0
        for span in self.spans:
            if not span.phase.counts:
                begin = span.stop
        return begin

    def _number(
        self,
        span: Span,
        begin: int,
        count: int,
        reduction: int,
    ) -> int | None:
        """Return the rung at which the end of a phase is compared, or None where that is not fair.

        Fair is what has had about as much training: its share lies within the square root of
        `reduction` of that of the rung, in a phase that is comparable.
        """
        if not span.phase.comparable or span.stop <= begin:
            return None
        share = (span.stop - begin) / (self.trunk_steps - begin)
        # Rounding a logarithm to the base `reduction` is what allows its square root.
        fold = math.log(share) / math.log(reduction)
        power = round(-fold)
        if 0 < power < count:  # the last rung is that of finished trials alone
            return count - 1 - power
        return None

    def _is_asked(self, step: int) -> bool:
        ends = [span.stop for span in self.spans if span.phase.rung]
        return step in ends

    def _settled(self, step: int) -> bool:
        """Return whether a model is fit to be compared at a step."""
        for span in self.spans:
            if not span.start < step <= span.stop:
                continue
            margin = 0.0
            if span.phase.resets:
                margin = SETTLE * self.trunk_steps
            return span.phase.comparable and step - span.start > margin
        return False

    def signature(self) -> list[list[Any]]:
        """Return the table as JSON, so that a resume with another one can be refused."""
        signature: list[list[Any]] = []
        for span in self.spans:
            phase = span.phase
            signature.append([phase.name, span.start, span.stop, phase.lr])
        for phase, share in self.tail:
            signature.append([phase.name, share, phase.lr])
        return signature


def _check(phases: Sequence[Phase], trunk: Sequence[Phase]) -> None:
    """Raise PluginError where phases cannot be told apart or laid out."""
    names = [phase.name for phase in phases]
    if len(set(names)) != len(names) or not trunk:
        raise PluginError(
            f"Training needs a trunk and phases with names of their own, not {names}."
        )
    if min(phase.share for phase in phases) <= 0:
        raise PluginError("Every phase needs a share above 0.")


def _tail_steps(shares: Sequence[float], steps: int) -> int:
    """Return the steps of a tail whose every phase has at least one."""
    total = 0
    for share in shares:
        total += max(1, round(share * steps))
    return total


def _spans(
    phases: Sequence[Phase],
    start: int,
    stop: int,
) -> list[Span]:
    """Divide steps by share so that every phase has at least one and they add up exactly."""
    total = sum(phase.share for phase in phases)
    spans: list[Span] = []
    done = 0.0
    begin = start
    for index, phase in enumerate(phases):
        # From the sum of shares: rounding each phase's own would add up to another total.
        done += phase.share
        left = len(phases) - index - 1
        end = stop
        if left > 0:
            by_share = start + round((stop - start) * done / total)
            # At least one step for this phase, and for each of those that follow.
            end = max(begin + 1, by_share)
            end = min(end, stop - left)
        spans.append(Span(index, phase, begin, end))
        begin = end
    return spans
