"""`deduplicate` against a version that compares every pair, and on corpora whose answer is known."""

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dedup.texts import removals, shingles_of
from tokenmill.dedup.exact import hash_matrix
from tokenmill.dedup.jaccard import MILLION
from tokenmill.dedup.minhash import MinHashParams, signature_matrix, signatures
from tokenmill.dedup.survivors import Removals, deduplicate
from tokenmill.dedup.verify import min_equal_for_text
from tokenmill.filters.content_hashes import content_hashes

PARAMS = MinHashParams()
SMALL = MinHashParams(num_permutations=7, bands=3, rows=2, threshold=0.7)

Ledger = list[tuple[int, int, float, int]]


def ledger(found: Removals) -> Ledger:
    columns = (found.removed, found.keeper, found.similarity, found.kind)
    return list(zip(*(column.tolist() for column in columns), strict=True))


def run(texts: Sequence[str], params: MinHashParams = PARAMS) -> Removals:
    return removals(texts, params, "signature")


def brute_force(
    contents: list[int],
    rows: list[list[int]],
    params: MinHashParams,
    limit: int,
    by_text: list[list[int]] | None = None,
) -> tuple[Ledger, list[int], int]:
    """Every pair compared, every bucket listed: the ledger, each row's cluster, meetings cut.

    `by_text` has the similarity of each two contents in millionths, 0 below the threshold.
    """
    n = len(rows)
    first = [contents.index(content) for content in contents]
    standing = [i for i in range(n) if first[i] == i]
    equal = [[sum(a == b for a, b in zip(rows[i], rows[j], strict=True)) for j in range(n)] for i in range(n)]
    near = [[Fraction(e, params.num_permutations) >= Fraction(str(params.threshold)) for e in row] for row in equal]
    whole = params.num_permutations
    if by_text is not None:
        least, whole = min_equal_for_text(params), MILLION
        near = [[equal[i][j] >= least and by_text[contents[i]][contents[j]] > 0 for j in range(n)] for i in range(n)]
        equal = [[by_text[contents[i]][contents[j]] for j in range(n)] for i in range(n)]
    neighbours: set[tuple[int, int]] = set()
    cut = 0
    for i in standing:
        for band in range(params.bands):
            part = slice(band * params.rows, (band + 1) * params.rows)
            before = [j for j in standing if j < i and rows[j][part] == rows[i][part]]
            cut += len(before[limit:])
            neighbours |= {(j, i) for j in before[:limit] if near[i][j]}
    keeper: dict[int, int] = {}
    for i in standing:
        kept = [j for j in range(i) if (j, i) in neighbours and j not in keeper]
        if kept:
            keeper[i] = max(kept, key=lambda j: (equal[i][j], -j))
    gone: Ledger = []
    for i in range(n):
        if first[i] in keeper:
            to = keeper[first[i]]
            similarity = float(np.float32(equal[first[i]][to]) / np.float32(whole))
            gone.append((i, to, similarity, 1))
        elif first[i] != i:
            gone.append((i, first[i], 1.0, 0))
    label = list(range(n))
    for _ in range(n):
        for a, b in [*neighbours, *((first[i], i) for i in range(n))]:
            label[a] = label[b] = min(label[a], label[b])
    return gone, label, cut


@st.composite
def corpora(draw: st.DrawFn) -> tuple[list[int], list[list[int]]]:
    """Contents and their signatures: few values, so that buckets, chains and ties are common."""
    pool = draw(st.lists(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=7, max_size=7), min_size=1, max_size=16))
    contents = draw(st.lists(st.integers(0, len(pool) - 1), max_size=24))
    return contents, [pool[content] for content in contents]


@settings(max_examples=500, deadline=None)
@given(corpora(), st.sampled_from([0.5, 0.7, 1.0]), st.integers(1, 4) | st.just(64))
def test_all_is_as_when_every_pair_is_compared(
    corpus: tuple[list[int], list[list[int]]], threshold: float, limit: int
) -> None:
    contents, rows = corpus
    params = MinHashParams(num_permutations=7, bands=3, rows=2, threshold=threshold)
    hashes = np.array([[content] * 16 for content in contents], np.uint8).reshape(-1, 16)
    found = deduplicate(hashes, np.array(rows, np.uint32).reshape(-1, 7), params, limit)
    expected, label, cut = brute_force(contents, rows, params, limit)
    assert ledger(found) == expected
    assert found.cluster.tolist() == label
    assert found.cluster_documents.tolist() == [label.count(value) for value in label]
    assert found.cut_pairs == cut
    assert set(found.keeper.tolist()).isdisjoint(found.removed.tolist())


@settings(max_examples=300, deadline=None)
@given(corpora(), st.sampled_from([0.5, 0.7, 0.9]), st.integers(1, 4) | st.just(64), st.data())
def test_text_decides_where_it_is_looked_at(
    corpus: tuple[list[int], list[list[int]]], threshold: float, limit: int, data: st.DataObject
) -> None:
    contents, rows = corpus
    params = MinHashParams(num_permutations=7, bands=3, rows=2, threshold=threshold)
    size = max(contents, default=0) + 1
    values = st.sampled_from([0, 0, 1, 700_000, 999_999, MILLION])
    lists = data.draw(st.lists(st.lists(values, min_size=size, max_size=size), min_size=size, max_size=size))
    by_text = [[lists[max(i, j)][min(i, j)] for j in range(size)] for i in range(size)]

    def check_text(earlier: np.ndarray, later: np.ndarray) -> np.ndarray:
        assert (earlier < later).all()
        pairs = zip(earlier.tolist(), later.tolist(), strict=True)
        return np.array([by_text[contents[i]][contents[j]] for i, j in pairs], np.int32)

    hashes = np.array([[content] * 16 for content in contents], np.uint8).reshape(-1, 16)
    found = deduplicate(hashes, np.array(rows, np.uint32).reshape(-1, 7), params, limit, check_text)
    expected, label, cut = brute_force(contents, rows, params, limit, by_text)
    assert ledger(found) == expected
    assert found.cluster.tolist() == label
    assert found.cut_pairs == cut


def test_a_repeated_text_whose_first_row_goes_is_removed_for_the_one_that_stays() -> None:
    rows = np.array([[0] * 7, [0] * 5 + [1] * 2, [0] * 3 + [1] * 4, [0] * 5 + [1] * 2], np.uint32)
    hashes = np.array([[text] * 16 for text in (0, 1, 2, 1)], np.uint8)
    found = deduplicate(hashes, rows, SMALL)
    near = float(np.float32(5) / np.float32(7))
    assert ledger(found) == [(1, 0, near, 1), (3, 0, near, 1)]  # row 2 is near row 1 only, and row 1 is gone
    assert found.cluster.tolist() == [0, 0, 0, 0]
    assert found.verified_pairs == 2


def words(rng: np.random.Generator, count: int) -> list[str]:
    return ["".join(map(chr, row)) for row in rng.integers(97, 123, (count, 7))]


@pytest.mark.parametrize("text", ["", "one page, five hundred times over and over again", "!!!"])
def test_all_identical(text: str) -> None:
    found = run([text] * 500)
    assert ledger(found) == [(row, 0, 1.0, 0) for row in range(1, 500)]
    assert found.cluster_documents.tolist() == [500] * 500
    assert found.cut_pairs == 0


def test_all_near_identical_is_bounded_and_reported() -> None:
    """Same words, other punctuation: no exact duplicate, one bucket a band, 64 meetings a document."""
    found = run(["one two three four five six" + "." * row for row in range(300)])
    assert ledger(found) == [(row, 0, 1.0, 1) for row in range(1, 300)]
    assert found.cut_pairs == 14 * sum(max(0, row - 64) for row in range(300))


def test_no_documents_and_one() -> None:
    nothing = run([])
    assert ledger(nothing) == []
    assert nothing.cluster.tolist() == []
    one = run(["alone"])
    assert ledger(one) == []
    assert (one.cluster.tolist(), one.cluster_documents.tolist()) == ([0], [1])


@pytest.mark.parametrize("verify", ["signature", "text"])
@pytest.mark.parametrize("params", [PARAMS, MinHashParams(ngram_characters=24)])
def test_short_documents_are_neither_skipped_nor_lumped_together(params: MinHashParams, verify: str) -> None:
    found = removals(["contact us", "about us", "Contact us!", "contact  us", "", " ", "?"], params, verify)
    assert ledger(found) == [(2, 0, 1.0, 1), (3, 0, 1.0, 0), (5, 4, 1.0, 0)]


def test_a_chain_of_revisions_does_not_go_with_its_first() -> None:
    """200 revisions, each a word apart from the one before: one cluster, yet every removal is near its own keeper."""
    rng = np.random.default_rng(5)
    revision, texts = words(rng, 300), []
    for place in rng.permutation(300)[:200]:
        texts.append(" ".join(revision))
        revision[place] = words(rng, 1)[0]
    found = run(texts)
    sets = shingles_of(texts, PARAMS)
    exact = [len(sets[a] & sets[b]) / len(sets[a] | sets[b]) for a, b, _, _ in ledger(found)]
    assert found.cluster.tolist() == [0] * 200
    assert min(exact) > 0.8 - 4 * 0.038
    assert (found.similarity >= 0.8).all()
    kept = sorted(set(range(200)) - set(found.removed.tolist()))
    assert set(found.keeper.tolist()) <= set(kept)
    assert 15 < len(kept) < 60
    assert len(sets[0] & sets[-1]) / len(sets[0] | sets[-1]) < 0.1


def test_chunks_of_text_change_nothing() -> None:
    rng = np.random.default_rng(3)
    base = words(rng, 60)
    texts = [" ".join(base[: 40 + row % 20]) for row in range(50)]
    whole = run(texts)
    column = pa.array(texts, pa.large_string())
    chunks = [column[:13], column[13:14], column[14:14], column[14:]]
    hashes = np.concatenate([hash_matrix(content_hashes(c).column(0)) for c in chunks])
    rows = np.concatenate([signature_matrix(signatures(c, PARAMS).column(0)) for c in chunks])
    again = deduplicate(hashes, rows, PARAMS)
    assert len(whole.removed) > 10
    assert ledger(again) == ledger(whole)
    assert again.cluster.tolist() == whole.cluster.tolist()


@pytest.mark.parametrize(
    ("hashes", "rows", "message"),
    [
        (np.zeros((2, 8), np.uint8), np.zeros((2, 7), np.uint32), r"uint8\[n, 16\], found uint8\[2, 8\]"),
        (np.zeros((2, 16), np.uint8), np.zeros((3, 7), np.uint32), r"uint32\[2, 7\].*found uint32\[3, 7\]"),
        (np.zeros((2, 16), np.uint8), np.zeros((2, 9), np.uint32), r"num_permutations = 7\), found uint32\[2, 9\]"),
        (np.zeros((2, 16), np.uint8), np.zeros((2, 7), np.int64), r"found int64\[2, 7\]"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(hashes: np.ndarray, rows: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        deduplicate(hashes, rows, SMALL)
