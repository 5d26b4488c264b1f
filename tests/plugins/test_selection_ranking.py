"""Which samples a score keeps: the algebra of core-sets."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from automl_sr_plugins.selection.ranking import (
    capped,
    count_of,
    easiest,
    hardest,
    hardest_first,
    shares_of,
    varied,
)

scores = st.lists(st.sampled_from([0.0, 0.1, 0.25, 0.5, 1.0, 3.0]), min_size=1, max_size=60).map(
    np.array
)


@st.composite
def scores_and_counts(draw):
    values = draw(scores)
    kept = draw(st.integers(0, len(values)))
    return values, kept, draw(st.integers(0, len(values) - kept))


@given(scores_and_counts())
def test_the_easiest_and_the_hardest_are_disjoint_and_together_everything(case):
    values, kept, _ = case
    low, high = easiest(values, kept), hardest(values, len(values) - kept)
    assert sorted([*low, *high]) == list(range(len(values)))


@given(scores_and_counts())
def test_smaller_core_sets_lie_in_larger_ones(case):
    values, kept, more = case
    assert set(hardest(values, kept)) <= set(hardest(values, kept + more))
    assert set(easiest(values, kept)) <= set(easiest(values, kept + more))


@given(scores_and_counts())
def test_the_refined_core_set_is_the_larger_one_without_the_hardest(case):
    values, kept, dropped = case
    refined = set(hardest(values, kept, dropped))
    top = set(hardest(values, dropped))
    assert refined == set(hardest(values, kept + dropped)) - top
    assert len(refined) == kept
    assert not refined & top


@given(scores_and_counts())
def test_no_dropped_sample_is_easier_than_one_that_is_kept(case):
    values, kept, _ = case
    order = hardest_first(values)
    assert list(values[order]) == sorted(values, reverse=True)
    if 0 < kept < len(values):
        assert (
            values[hardest(values, kept)].min() >= values[easiest(values, len(values) - kept)].max()
        )


def test_equal_scores_keep_their_order():
    assert list(hardest_first(np.array([1.0, 2.0, 1.0, 2.0]))) == [1, 3, 0, 2]


def test_a_share_is_the_nearest_number_of_samples():
    assert [count_of(share, 10) for share in (0.25, 0.24, 0.5, 1.0)] == [3, 2, 5, 10]


@given(st.data())
def test_no_image_gives_more_than_its_share_unless_too_few_would_be_left(data):
    sources = np.array(data.draw(st.lists(st.integers(0, 4), min_size=1, max_size=50)))
    order = np.array(data.draw(st.permutations(range(len(sources)))), dtype=np.int64)
    most = data.draw(st.sampled_from([0.2, 0.5, 1.0]))
    kept = data.draw(st.integers(0, len(sources)))
    chosen = capped(order, sources, kept, most)
    limits = {
        source: max(1, int(np.ceil(most * np.sum(sources == source)))) for source in set(sources)
    }
    assert len(set(chosen)) == kept
    if kept <= sum(limits.values()):
        assert all(np.sum(sources[chosen] == source) <= limit for source, limit in limits.items())
    if most == 1.0:
        assert list(chosen) == list(order[:kept])


@given(st.lists(st.integers(0, 30), min_size=1, max_size=12), st.floats(0, 1))
def test_shares_add_up_and_no_group_gives_more_than_it_has(sizes, share):
    kept = int(share * sum(sizes))
    parts = shares_of(np.array(sizes), kept)
    assert parts.sum() == kept
    assert all(0 <= part <= size for part, size in zip(parts, sizes, strict=True))
    assert all(
        abs(part - kept * size / max(1, sum(sizes))) < 1
        for part, size in zip(parts, sizes, strict=True)
    )


def test_every_group_gives_its_highest_scores():
    values = np.array([5.0, 4.0, 3.0, 2.0, 1.0, 9.0])
    groups = np.array([0, 0, 0, 1, 1, 1])
    assert sorted(varied(values, groups, 4)) == [0, 1, 3, 5]
