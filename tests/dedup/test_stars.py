"""Stars and fates of a part of the edges, against plain Python that sees all of them."""

from collections import defaultdict

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.dedup.fates import is_among, surely_gone, walk_ranks
from tokenmill.dedup.stars import contract, distinct, large_star

Pairs = list[tuple[int, int]]
U64 = npt.NDArray[np.uint64]

#: Ranks far apart and beyond 2^63, which no signed number holds.
SPREAD = 0x0FFF_FFFF_FFFF_FFF1


@st.composite
def graphs(draw: st.DrawFn) -> Pairs:
    """Edges (earlier, later), each once, in any order."""
    nodes = draw(st.integers(2, 16))
    pair = st.tuples(st.integers(0, nodes - 1), st.integers(0, nodes - 1)).filter(lambda pair: pair[0] != pair[1])
    found = draw(st.lists(pair, max_size=40))
    return list(dict.fromkeys((min(pair) * SPREAD, max(pair) * SPREAD) for pair in found))


def columns(pairs: Pairs) -> tuple[U64, U64]:
    return (np.array([a for a, _ in pairs], np.uint64), np.array([b for _, b in pairs], np.uint64))


def labels(pairs: Pairs) -> dict[int, int]:
    """Least node of each node's component, by spreading it until nothing changes."""
    found = {node: node for pair in pairs for node in pair}
    while True:
        before = dict(found)
        for a, b in pairs:
            found[a] = found[b] = min(found[a], found[b])
        if found == before:
            return found


def stars_in_turn(pairs: Pairs, partitions: int) -> tuple[dict[int, int], int]:
    """Contract and alternate as the rounds do, with nodes dealt out to partitions: labels, and rounds taken."""
    held = defaultdict(list)
    for index, pair in enumerate(pairs):
        held[index % partitions].append(pair)
    edges = [edge for own in held.values() for edge in zip(*(x.tolist() for x in contract(*columns(own))), strict=True)]
    rounds = 0
    while True:
        rounds += 1
        assert rounds < 50
        small = defaultdict(list)
        for node, least in edges:
            small[node // SPREAD % partitions].append((node, least))
        both = defaultdict(list)
        for own in small.values():
            for node, least in zip(*(x.tolist() for x in contract(*columns(own))), strict=True):
                both[node // SPREAD % partitions].append((node, least))
                both[least // SPREAD % partitions].append((least, node))
        stars = [large_star(*columns(own)) for own in both.values()]
        edges = [edge for star in stars for edge in zip(*(x.tolist() for x in star.tied), strict=True)]
        if not sum(star.unsettled for star in stars):
            return dict(edges), rounds


@settings(max_examples=300, deadline=None)
@given(graphs(), st.integers(1, 5))
def test_stars_in_turn_find_the_components_for_any_number_of_partitions(pairs: Pairs, partitions: int) -> None:
    found, rounds = stars_in_turn(pairs, partitions)
    expected = labels(pairs)
    assert found == {node: label for node, label in expected.items() if node != label}
    assert partitions > 1 or rounds == 1


@settings(max_examples=200, deadline=None)
@given(graphs(), st.randoms())
def test_contracting_ties_each_node_to_the_least_in_any_order(pairs: Pairs, random: object) -> None:
    expected = {node: label for node, label in labels(pairs).items() if node != label}
    shuffled = [pair[::-1] if random.random() < 0.5 else pair for pair in random.sample(pairs, len(pairs))]
    tied = contract(*columns(shuffled))
    assert tied.node.tolist() == sorted(expected)
    assert dict(zip(tied.node.tolist(), tied.least.tolist(), strict=True)) == expected


def test_a_chain_dealt_out_to_many_partitions_takes_few_rounds() -> None:
    chain = [(k * SPREAD % 2**64, (k + 1) * SPREAD % 2**64) for k in range(15)]
    long = [(k, k + 1) for k in range(4000)]
    assert stars_in_turn(chain, 4)[0] == {node: 0 for _, node in chain}
    edges = columns(long)
    assert contract(*edges).least.max() == 0
    found, rounds = stars_in_turn([(a * SPREAD, b * SPREAD) for a, b in long[:15]], 7)
    assert set(found.values()) == {0}
    assert rounds <= 6


def test_a_large_star_counts_nodes_that_do_not_hang_on_a_least_one() -> None:
    def unsettled(pairs: Pairs) -> int:
        both = [*pairs, *(pair[::-1] for pair in pairs)]
        return large_star(*columns(both)).unsettled

    assert unsettled([]) == 0
    assert unsettled([(0, 1), (0, 2), (5, 6)]) == 0
    assert unsettled([(0, 1), (0, 1)]) == 0  # the same edge from two tasks
    assert unsettled([(0, 1), (1, 2)]) == 1  # 1 hangs on 0 and holds 2
    assert unsettled([(0, 2), (1, 2)]) == 1  # 2 hangs on two


def test_distinct_is_sorted_and_without_repeats() -> None:
    assert distinct(np.array([3, 1, 3, 2**64 - 1, 1], np.uint64)).tolist() == [1, 3, 2**64 - 1]
    assert distinct(np.zeros(0, np.uint64)).tolist() == []


def walked(pairs: Pairs, equal: dict[tuple[int, int], int]) -> dict[int, tuple[int, int]]:
    """(keeper, equal minima) of each node that goes, by the rule as it is written."""
    gone: dict[int, tuple[int, int]] = {}
    for node in sorted({node for pair in pairs for node in pair}):
        kept = [a for a, b in pairs if b == node and a not in gone]
        if kept:
            best = max(kept, key=lambda a: (equal[a, node], -a))
            gone[node] = (best, equal[best, node])
    return gone


@settings(max_examples=300, deadline=None)
@given(graphs(), st.data())
def test_the_walk_names_the_most_similar_kept_neighbour(pairs: Pairs, data: st.DataObject) -> None:
    equal = {pair: data.draw(st.integers(1, 3)) for pair in pairs}
    ranks = distinct(np.concatenate(columns(pairs)))
    keeper, best = walk_ranks(ranks, *columns(pairs), np.array([equal[pair] for pair in pairs], np.int32))
    gone = {int(ranks[at]): (int(ranks[keeper[at]]), int(best[at])) for at in range(len(ranks)) if keeper[at] >= 0}
    assert gone == walked(pairs, equal)


@settings(max_examples=500, deadline=None)
@given(graphs(), st.booleans(), st.data())
def test_an_edge_that_is_left_out_changes_no_fate(pairs: Pairs, told: bool, data: st.DataObject) -> None:
    """Documents are dealt out to groups, which know of their own who is a root and who goes, or are told of all."""
    nodes = sorted({node for pair in pairs for node in pair})
    group = {node: data.draw(st.integers(0, 2)) for node in nodes}
    equal = {pair: data.draw(st.integers(1, 3)) for pair in pairs}
    laters = {later for _, later in pairs}
    gone: dict[int, set[int]] = {}
    for index in range(3):
        roots = np.array([node for node in nodes if node not in laters and (told or group[node] == index)], np.uint64)
        own = [pair for pair in pairs if group[pair[1]] == index]
        gone[index] = set(surely_gone(*columns(own), roots).tolist())
        assert gone[index] <= set(walked(pairs, equal))
    everyone = set().union(*gone.values())
    left = [pair for pair in pairs if pair[0] not in (everyone if told else gone[group[pair[1]]])]
    assert walked(left, equal) == walked(pairs, equal)


@pytest.mark.parametrize("size", [3, 60])
def test_of_a_clique_only_the_edges_of_the_first_are_left(size: int) -> None:
    earlier, later = columns([(a, b) for b in range(size) for a in range(b)])
    gone = distinct(surely_gone(earlier, later, np.zeros(1, np.uint64)))
    assert gone.tolist() == list(range(1, size))
    assert earlier[~is_among(earlier, gone)].tolist() == [0] * (size - 1)


def test_is_among() -> None:
    values = np.array([0, 5, 6, 2**64 - 1], np.uint64)
    assert is_among(values, np.array([5, 2**64 - 1], np.uint64)).tolist() == [False, True, False, True]
    assert is_among(values, np.zeros(0, np.uint64)).tolist() == [False] * 4
