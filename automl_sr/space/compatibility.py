"""Which techniques go together: requirements, conflicts, and whether a choice can still be
completed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from automl_sr.plugin.technique import Technique
from automl_sr.space.domains import SlotSpace, TechniqueSpace

Capabilities = frozenset[str]


@dataclass(frozen=True)
class Chosen:
    """What the techniques chosen so far provide, require and exclude."""

    provides: Capabilities = frozenset()
    requires: Capabilities = frozenset()
    conflicts: Capabilities = frozenset()

    def fits(self, technique: type[Technique]) -> bool:
        """Whether no conflict stands between the chosen techniques and another one, in either
        direction.
        """
        return not (technique.conflicts & self.provides) and not (
            technique.provides & self.conflicts
        )

    def plus(self, technique: type[Technique]) -> Chosen:
        """Choose one more technique."""
        return Chosen(
            self.provides | technique.provides,
            self.requires | technique.requires,
            self.conflicts | technique.conflicts,
        )

    @property
    def complete(self) -> bool:
        """Whether everything that is required is provided."""
        return self.requires <= self.provides


class Compatibility:
    """Answers, for one row of slots, which options lead to a complete choice."""

    def __init__(self, slots: Sequence[SlotSpace]) -> None:
        self.slots = slots
        self._completable: dict[tuple[int, Chosen], bool] = {}

    def allowed(self, index: int, chosen: Chosen) -> list[TechniqueSpace]:
        """List the options of a slot that fit what earlier slots chose and that later slots can
        complete.
        """
        found: list[TechniqueSpace] = []
        for option in self.slots[index].options:
            if chosen.fits(option.technique) and self.completable(
                index + 1, chosen.plus(option.technique)
            ):
                found.append(option)
        return found

    def completable(self, index: int, chosen: Chosen) -> bool:
        """Whether the slots from `index` on can be filled."""
        if index == len(self.slots):
            return chosen.complete
        key = (index, chosen)
        if key not in self._completable:
            techniques = (
                option.technique
                for option in self.slots[index].options
                if chosen.fits(option.technique)
            )
            nexts = dict.fromkeys(chosen.plus(technique) for technique in techniques)
            self._completable[key] = any(
                self.completable(index + 1, following) for following in nexts
            )
        return self._completable[key]

    def states(self) -> list[list[Chosen]]:
        """List, for each slot, the different situations in which it can be asked."""
        rows = [[Chosen()]]
        for index in range(len(self.slots) - 1):
            following = (
                chosen.plus(option.technique)
                for chosen in rows[-1]
                for option in self.allowed(index, chosen)
            )
            rows.append(list(dict.fromkeys(following)))
        return rows


def reachable(slots: Sequence[SlotSpace]) -> list[set[str]]:
    """Name, for each slot, the techniques that occur in at least one complete choice."""
    compatibility = Compatibility(slots)
    if not slots or not compatibility.completable(0, Chosen()):
        return [set() for _ in slots]
    found: list[set[str]] = []
    for index, states in enumerate(compatibility.states()):
        found.append(
            {option.name for chosen in states for option in compatibility.allowed(index, chosen)}
        )
    return found


def why_never(slots: Sequence[SlotSpace], technique: type[Technique]) -> str:
    """Say why a technique occurs in no complete choice."""
    others = []
    for slot in slots:
        for option in slot.options:
            if option.technique is not technique:
                others.append(option.technique)
    provided: Capabilities = technique.provides.union(*(other.provides for other in others))
    missing = sorted(technique.requires - provided)
    if missing:
        return (
            f"it requires {', '.join(map(repr, missing))}, which no technique of this space"
            " provides"
        )
    return "what it requires or excludes fits no choice of the other slots"
