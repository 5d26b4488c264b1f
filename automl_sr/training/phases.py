"""Training as a list of phases, and the timetable that turns shares into steps."""

from __future__ import annotations

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
"""No rung lies within this share of the trunk after a phase that reset the model or its optimizer."""


@dataclass(frozen=True)
class Phase:
    """A stretch of training with its own name, length and behaviour.

    `share` is relative to the other phases'. `on_enter` run once when the phase begins, `on_leave` once when it ends,
    never on resume; each may return a `ModelUpdate`. `wraps` change the training step in this phase only. A phase that
    is not `comparable` (a search, a growth phase) holds no rung. `lr` multiplies the recipe's rate; `decay` lets it
    fall to zero over the phase. A `tail` phase runs on the branch of every rung, after the trunk. A `continued` phase
    goes on where it stopped in an earlier run (`refine`): what a wrap anneals over its phase has come to its end.
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
    """What an enter or a leave did to the run: another model, and what becomes of optimizer and average."""

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


@dataclass(frozen=True)
class Timetable:
    """All phases in steps: the trunk's from 0 to `trunk_steps`, and the tail's shares of a finished run."""

    steps: int
    spans: tuple[Span, ...]
    tail: tuple[tuple[Phase, float], ...]

    @classmethod
    def of(cls, phases: Sequence[Phase], steps: int, cooldown: float) -> Timetable:
        """Lay out phases over `steps`; the tail is the cool-down and the phases marked so. Raises PluginError."""
        trunk = [phase for phase in phases if not phase.tail]
        tail = [phase for phase in phases if phase.tail]
        names = [phase.name for phase in phases]
        if len(set(names)) != len(names) or not trunk:
            raise PluginError(f"Training needs a trunk and phases with names of their own, not {names}.")
        if min(phase.share for phase in phases) <= 0:
            raise PluginError("Every phase needs a share above 0.")
        rest = (1 - cooldown) / sum(phase.share for phase in phases)
        shares = [(phase, rest * phase.share) for phase in tail]
        if cooldown > 0:
            shares.insert(0, (Phase(COOLDOWN, cooldown, decay=True, tail=True), cooldown))
        trunk_steps = steps - sum(max(1, round(share * steps)) for _, share in shares)
        if trunk_steps < len(trunk):
            raise PluginError(f"{steps} steps are too few for {len(names)} phases.", "Raise budget.steps.")
        return cls(steps, tuple(_spans(trunk, 0, trunk_steps)), tuple(shares))

    def going_on(self, name: str, steps: int) -> Timetable:
        """Lay out more steps of one phase of the trunk, then the tail. Raises PluginError where they are too few.

        It keeps its wraps and its rate, but neither enters nor leaves: pruning, growing and searching are over.
        """
        phase = next((span.phase for span in self.spans if span.phase.name == name), None)
        if phase is None:
            raise PluginError(f"The plan has no phase {name!r} to go on with.")
        phase = replace(phase, on_enter=(), on_leave=(), decay=False, continued=True)
        trunk_steps = steps - sum(max(1, round(share * steps)) for _, share in self.tail)
        if trunk_steps < 1:
            raise PluginError(f"{steps} steps are too few for {len(self.tail) + 1} phases.", "Ask for more steps.")
        return Timetable(steps, (Span(0, phase, 0, trunk_steps),), self.tail)

    @property
    def trunk_steps(self) -> int:
        """Where the trunk ends."""
        return self.spans[-1].stop

    def tail_spans(self, branch: int) -> tuple[Span, ...]:
        """Lay out the tail behind a branch at this step of the trunk, as long in proportion as that of the last one."""
        spans: list[Span] = []
        start = branch
        for phase, share in self.tail:
            stop = start + max(1, round(share * self.steps * branch / self.trunk_steps))
            spans.append(Span(len(self.spans) + len(spans), phase, start, stop))
            start = stop
        return tuple(spans)

    def rungs(self, count: int, reduction: int, first: int | None = None) -> dict[int, int]:
        """Give the steps of the trunk at which it branches, by rung: geometric, the last at its end.

        None lies below `first`, by default 10 % of the steps or 300, whichever is more. Those in a phase that is not
        comparable, or just after a reset, are left out; the others keep their numbers, as trials are compared by them.
        """
        earliest = max(round(0.1 * self.steps), 300) if first is None else first
        wanted = {count - 1 - power: round(self.trunk_steps / reduction**power) for power in reversed(range(count))}
        end = count - 1
        return {
            rung: step for rung, step in wanted.items() if rung == end or (step >= earliest and self._settled(step))
        }

    def _settled(self, step: int) -> bool:
        for span in self.spans:
            if span.start < step <= span.stop:
                margin = SETTLE * self.trunk_steps if span.phase.on_enter else 0
                return span.phase.comparable and step - span.start > margin
        return False

    def signature(self) -> list[list[Any]]:
        """Give the table as JSON, so that a resume with another one can be refused."""
        trunk: list[list[Any]] = [[span.phase.name, span.start, span.stop, span.phase.lr] for span in self.spans]
        return trunk + [[phase.name, share, phase.lr] for phase, share in self.tail]


def _spans(phases: Sequence[Phase], start: int, stop: int) -> list[Span]:
    """Divide steps by share so that every phase has at least one and they add up exactly."""
    total = sum(phase.share for phase in phases)
    spans, done, begin = [], 0.0, start
    for index, phase in enumerate(phases):
        done += phase.share
        left = len(phases) - index - 1
        end = stop if left == 0 else min(max(begin + 1, start + round((stop - start) * done / total)), stop - left)
        spans.append(Span(index, phase, begin, end))
        begin = end
    return spans
