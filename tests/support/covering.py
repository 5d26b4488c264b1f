"""Covering arrays: few rows in which every pair of values, or every triple, stands together."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

Row = dict[str, str]
Group = tuple[tuple[str, str], ...]
"""Values that are to stand together: pairs of a factor and its value."""


@dataclass(frozen=True)
class Covering:
    """Rows that cover all groups but the impossible ones, which no legal row holds."""

    rows: list[Row]
    impossible: list[Group]


def groups_of(factors: Mapping[str, Sequence[str]], size: int) -> Iterator[Group]:
    """Give every group of values of different factors."""
    for names in itertools.combinations(factors, size):
        for values in itertools.product(*(factors[name] for name in names)):
            yield tuple(zip(names, values, strict=True))


def groups_in(row: Row, size: int) -> set[Group]:
    """Give the groups that stand together in a row, whole or begun, in the order of its factors."""
    return set(itertools.combinations(row.items(), size))


def covering(
    factors: Mapping[str, Sequence[str]],
    legal: Callable[[Row], bool],
    size: int = 2,
    known: Iterable[Row] = (),
) -> Covering:
    """Cover all groups of a size by legal rows, greedily, and the same ones each time.

    `legal` says of a row, or of one that has some of its factors yet, whether it can stand. What
    `known` rows cover needs no other. Where it makes no difference, the first value is taken.
    """
    left = dict.fromkeys(groups_of(factors, size))
    for row in known:
        for group in groups_in(row, size):
            left.pop(group, None)
    rows: list[Row] = []
    impossible: list[Group] = []
    while left:
        first = next(iter(left))
        row = _completed(dict(first), factors, legal, left, size)
        if row is None:
            impossible.append(first)
            del left[first]
            continue
        rows.append(row)
        for group in groups_in(row, size):
            left.pop(group, None)
    return Covering(rows, impossible)


def _completed(
    begun: Row,
    factors: Mapping[str, Sequence[str]],
    legal: Callable[[Row], bool],
    left: Mapping[Group, None],
    size: int,
) -> Row | None:
    """Give a row its other values, those first that cover most; back where none is legal."""
    ordered = {name: begun[name] for name in factors if name in begun}
    if not legal(ordered):
        return None
    open_factors = [name for name in factors if name not in begun]
    if not open_factors:
        return ordered

    name = open_factors[0]
    choices = []
    for place, value in enumerate(factors[name]):
        tried = {**begun, name: value}
        in_order = {known: tried[known] for known in factors if known in tried}
        gain = sum(group in left for group in groups_in(in_order, size))
        choices.append((-gain, place, tried))
    for _, _, tried in sorted(choices, key=lambda choice: choice[:2]):
        found = _completed(tried, factors, legal, left, size)
        if found is not None:
            return found
    return None
