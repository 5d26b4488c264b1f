"""Which techniques go together, and whether a choice can still be completed."""

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
        """Whether nothing stands between the chosen techniques and another one, in either way."""
        excluded = technique.conflicts & self.provides
        excludes = technique.provides & self.conflicts
        return not excluded and not excludes

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
        # What later slots can do depends only on what the chosen ones provide, require and exclude
        # together: many choices share an answer, and trying all of them would multiply the slots.
        self._completable: dict[tuple[int, Chosen], bool] = {}

    def allowed(self, index: int, chosen: Chosen) -> list[TechniqueSpace]:
        """List the options of a slot that fit what earlier slots chose.

        Later slots can complete the choice with each of them.
        """
        found: list[TechniqueSpace] = []
        for option in self.slots[index].options:
            if not chosen.fits(option.technique):
                continue
            following = chosen.plus(option.technique)
            if self.completable(index + 1, following):
                found.append(option)
        return found

    def completable(self, index: int, chosen: Chosen) -> bool:
        """Whether the slots from `index` on can be filled."""
        if index == len(self.slots):
            return chosen.complete
        key = (index, chosen)
        if key not in self._completable:
            self._completable[key] = self._can_go_on(index, chosen)
        return self._completable[key]

    def _can_go_on(self, index: int, chosen: Chosen) -> bool:
        tried: set[Chosen] = set()
        for option in self.slots[index].options:
            if not chosen.fits(option.technique):
                continue
            following = chosen.plus(option.technique)
            if following in tried:
                continue
            if self.completable(index + 1, following):
                return True
            tried.add(following)
        return False

    def states(self) -> list[list[Chosen]]:
        """List, for each slot, the different situations in which it can be asked."""
        rows = [[Chosen()]]
        for index in range(len(self.slots) - 1):
            # A dict, not a set: situations keep their order, and so do the parameters of a space.
            following: dict[Chosen, None] = {}
            for chosen in rows[-1]:
                for option in self.allowed(index, chosen):
                    following[chosen.plus(option.technique)] = None
            rows.append(list(following))
        return rows


def reachable(slots: Sequence[SlotSpace]) -> list[set[str]]:
    """Name, for each slot, the techniques that occur in at least one complete choice."""
    compatibility = Compatibility(slots)
    if not slots or not compatibility.completable(0, Chosen()):
        return [set() for _ in slots]
    found: list[set[str]] = []
    for index, states in enumerate(compatibility.states()):
        names: set[str] = set()
        for chosen in states:
            for option in compatibility.allowed(index, chosen):
                names.add(option.name)
        found.append(names)
    return found


def why_never(slots: Sequence[SlotSpace], technique: type[Technique]) -> str:
    """Say why a technique occurs in no complete choice."""
    provided = set(technique.provides)
    for slot in slots:
        for option in slot.options:
            provided |= option.technique.provides
    missing = sorted(technique.requires - provided)
    if not missing:
        return "what it requires or excludes fits no choice of the other slots"
    named = ", ".join(map(repr, missing))
    return f"it requires {named}, which no technique of this space provides"
