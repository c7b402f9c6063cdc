"""Rounds of *deduplicate* up to verified pairs, against the same in memory, in many small groups and partitions."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.corpus import fingerprint
from tests.pipeline.dedup_tables import Documents, Local, context_of, local, recipe_of, write_part
from tokenmill.dedup.survivors import neighbours
from tokenmill.pipeline import exchange
from tokenmill.pipeline.dedup_rounds import bands, groups, order, rows, verify
from tokenmill.pipeline.dedup_rounds.driver import find_edges
from tokenmill.pipeline.dedup_rounds.edges import COPY_COLUMNS, EDGE_COLUMNS, FIRST_COLUMNS, Context, Verified
from tokenmill.pipeline.exchange import read_records
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Dedup, Recipe
from tokenmill.pipeline.storage import Storage

WIDTH = 7
PRIORITIES = (0, 3)


@contextmanager
def tiny(group_documents: int, partition_bytes: int, chunk: int = 3, fan_out: int = 128) -> Iterator[None]:
    """Groups, partitions and files so small that a handful of documents fills several."""
    with ExitStack() as stack:
        for module, name, value in (
            (groups, "GROUP_DOCUMENTS", group_documents),
            (exchange, "PARTITION_BYTES", partition_bytes),
            (exchange, "FAN_OUT", fan_out),
            (order, "SAMPLE_EVERY", 2),
            (rows, "SIGNATURE_ROWS", 4),
            (bands, "PAIRS", chunk),
            (verify, "SIGNATURES", chunk),
            (verify, "EDGES", chunk),
        ):
            stack.enter_context(mock.patch.object(module, name, value))
        yield


@dataclass(frozen=True)
class Corpus:
    """Parts and their documents by key."""

    parts: tuple[Part, ...]
    documents: dict[str, Documents]


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """Few distinct signatures and texts, so that buckets, copies and ties are common; some parts without a row."""
    pool = draw(st.lists(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=WIDTH, max_size=WIDTH), min_size=1))
    found: dict[str, Documents] = {}
    parts = []
    keys = draw(st.lists(st.integers(0, (1 << 64) - 1), min_size=1, max_size=6, unique=True))
    for key in (f"{number:016x}" for number in keys):
        content = draw(st.lists(st.integers(0, 2 * len(pool) - 1), max_size=9))
        size = len(content)
        found[key] = Documents(
            np.array(content, np.int64),
            np.array(draw(st.lists(st.integers(0, 3), min_size=size, max_size=size)), np.int64),
            np.array([pool[one // 2] for one in content], np.uint32).reshape(-1, WIDTH),
            np.array(draw(st.lists(st.booleans(), min_size=size, max_size=size)), np.bool_),
        )
        parts.append(Part(f"s{draw(st.integers(0, 1))}", key, draw(st.integers(0, 1)), ()))
    return Corpus(tuple(parts), found)


def dedup_of(threshold: float = 0.7, limit: int = 64, **settings: object) -> Dedup:
    return Dedup(num_permutations=WIDTH, bands=3, rows=2, threshold=threshold, bucket_limit=limit, **settings)


def context_for(folder: str | Path, recipe: Recipe, corpus: Corpus, runner: Local | None = None) -> Context:
    storage = Storage(str(folder))
    tables = {key: write_part(storage, key, found, group_rows=2) for key, found in corpus.documents.items()}
    return context_of(runner or local(storage, recipe), corpus.parts, corpus.documents, tables)


def run_rounds(folder: str | Path, recipe: Recipe, corpus: Corpus, runner: Local | None = None) -> Verified:
    return find_edges(context_for(folder, recipe, corpus, runner))


def survivors(recipe: Recipe, corpus: Corpus) -> list[tuple[int, str, int]]:
    """(number, part, row) of every kept document, in survivor order, the slow way."""
    listed, base = [], 0
    for part in sorted(corpus.parts, key=lambda part: int(part.key, 16)):
        found = corpus.documents[part.key]
        policy = {"priority": -recipe.source(part.source).priority}
        for row, kept in enumerate(found.kept):
            policy["longest"] = -int(found.text_bytes[row])
            if kept:
                key = (part.generation, *(policy[name] for name in recipe.dedup.survivor), base + row)
                listed.append((key, base + row, part.key, row))
        base += len(found.kept)
    return [place for _, *place in sorted(listed)]


def expected_of(recipe: Recipe, corpus: Corpus) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]], int]:
    """Edges and copies as the rounds' columns have them, and meetings cut, from the version in memory."""
    order = survivors(recipe, corpus)
    numbers = [number for number, _, _ in order]
    texts = [int(corpus.documents[part].content[row]) for _, part, row in order]
    if not recipe.dedup.exact:
        texts = list(range(len(order)))
    first = [texts.index(text) for text in texts]
    standing = [rank for rank in range(len(order)) if first[rank] == rank]
    signatures = np.array(
        [corpus.documents[order[rank][1]].signature[order[rank][2]] for rank in standing], np.uint32
    ).reshape(-1, WIDTH)
    found = neighbours(signatures, recipe.dedup.minhash, recipe.dedup.bucket_limit)
    edges = []
    for earlier, later, equal in zip(found.earlier.tolist(), found.later.tolist(), found.equal.tolist(), strict=True):
        a, b = standing[earlier], standing[later]
        edges.append((a, b, numbers[a], numbers[b], equal, first.count(a), first.count(b)))
    copies = [(numbers[r], r, first[r], numbers[first[r]]) for r in range(len(order)) if first[r] != r]
    return sorted(edges), sorted(copies), found.cut_pairs


def records(storage: Storage, outputs: tuple, columns: dict[str, str], partitions: int) -> list[tuple[int, ...]]:
    """All records of all partitions, sorted; columns have the stated types and order."""
    found: list[tuple[int, ...]] = []
    for index in range(partitions):
        arrays = read_records(storage, outputs, index, columns)
        assert {name: str(array.dtype) for name, array in arrays.items()} == columns
        found += zip(*(array.tolist() for array in arrays.values()), strict=True)
    return sorted(found)


@settings(max_examples=20)
@given(
    corpora(),
    st.sampled_from([0.5, 0.7, 1.0]),
    st.sampled_from([2, 3, 64]),
    st.permutations(["priority", "longest"]),
    st.booleans(),
    st.tuples(st.integers(1, 12), st.sampled_from([100, 400, 1 << 20]), st.just(3), st.sampled_from([2, 128])),
)
def test_the_rounds_find_what_memory_finds(
    corpus: Corpus, threshold: float, limit: int, policy: list[str], exact: bool, sizes: tuple[int, int, int, int]
) -> None:
    recipe = recipe_of(dedup_of(threshold, limit, survivor=tuple(policy), exact=exact), PRIORITIES)
    with tempfile.TemporaryDirectory() as folder, tiny(*sizes):
        context = context_for(folder, recipe, corpus)
        found = find_edges(context)
        storage, count = Storage(folder), len(context.groups)
        edges, copies, cut = expected_of(recipe, corpus)
        one_of_each = {output.path for output in found.edges}
        assert len(one_of_each) == len(found.edges)
        assert records(storage, found.edges, EDGE_COLUMNS, 1) == edges
        assert records(storage, found.copies, COPY_COLUMNS, count) == copies
        firsts = {first: rank for _, _, rank, first in copies}
        assert records(storage, found.firsts, FIRST_COLUMNS, count) == sorted(
            (number, rank, [copy[3] for copy in copies].count(number)) for number, rank in firsts.items()
        )
        ranked = records(storage, found.ranks, rows.RANK_COLUMNS, count)
        assert ranked == sorted((number, rank) for rank, (number, _, _) in enumerate(survivors(recipe, corpus)))
        assert found.cut_pairs == cut


def many(parts: int = 5, documents: int = 60, seed: int = 0) -> Corpus:
    """A corpus of many clusters, copies and rows that are not kept."""
    rng = np.random.default_rng(seed)
    heads = rng.integers(0, 1 << 32, (documents, WIDTH), np.uint32)
    found: dict[str, Documents] = {}
    for key in rng.integers(0, 1 << 63, parts).tolist():
        head = rng.integers(0, documents, documents)
        signature = heads[head]
        changed = rng.random(documents) < 0.5
        signature[changed, rng.integers(0, WIDTH, documents)[changed]] = 7
        content = np.where(changed, rng.integers(0, 1 << 40, documents), head)
        kept = rng.random(documents) < 0.8
        found[f"{key:016x}"] = Documents(content, rng.integers(0, 5, documents), signature, kept)
    places = enumerate(found)
    return Corpus(tuple(Part(f"s{index % 2}", key, index // 4, ()) for index, key in places), found)


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    return many()


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return recipe_of(dedup_of(), PRIORITIES)


@pytest.fixture(scope="module")
def unbroken(corpus: Corpus, recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Hashes of the files that undisturbed rounds leave."""
    folder = tmp_path_factory.mktemp("unbroken")
    with tiny(70, 2000, 50):
        found = run_rounds(folder, recipe, corpus)
        assert records(Storage(str(folder)), found.edges, EDGE_COLUMNS, 1) == expected_of(recipe, corpus)[0]
    assert {len(found.ranks) > 1, len(found.copies) > 1, len(found.edges) > 3} == {True}
    return files(folder)


def files(folder: Path) -> dict[str, str]:
    found = {path: digest for path, digest in fingerprint(folder).items() if path.startswith("dedup/")}
    assert found
    return found


def test_the_order_of_the_parts_changes_no_byte(
    corpus: Corpus, recipe: Recipe, unbroken: dict[str, str], tmp_path: Path
) -> None:
    with tiny(70, 2000, 50):
        run_rounds(tmp_path, recipe, Corpus(corpus.parts[::-1], corpus.documents))
    assert files(tmp_path) == unbroken


@pytest.mark.parametrize("stop_at", [1, 7, 13, 20, 24, 30, 34, 37])
def test_rounds_stopped_anywhere_go_on_with_the_same_bytes(
    corpus: Corpus, recipe: Recipe, unbroken: dict[str, str], tmp_path: Path, stop_at: int
) -> None:
    with tiny(70, 2000, 50):
        stopped = local(Storage(str(tmp_path)), recipe)
        stopped.stop_at = stop_at
        with pytest.raises(KeyboardInterrupt):
            run_rounds(tmp_path, recipe, corpus, stopped)
        again = Local(stopped.storage, recipe, stopped.known, [])
        run_rounds(tmp_path, recipe, corpus, again)
    assert not set(stopped.ran) & set(again.ran)
    assert files(tmp_path) == unbroken


def test_a_damaged_signature_file_is_named(corpus: Corpus, recipe: Recipe, tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    tables = {key: write_part(storage, key, found) for key, found in corpus.documents.items()}
    key = corpus.parts[2].key
    path = tmp_path / tables[key]["signals/minhash"].path
    path.write_bytes(path.read_bytes()[:-100])
    context = context_of(local(storage, recipe), corpus.parts, corpus.documents, tables)
    with pytest.raises(ValueError, match=f"cannot read .*/{tables[key]['signals/minhash'].path}: .*delete it and run"):
        find_edges(context)


def test_signatures_of_other_parameters_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="have 7 minima, the recipe asks for 8"):
        run_rounds(tmp_path, recipe_of(Dedup(num_permutations=8, bands=3, rows=2), PRIORITIES), corpus)


@pytest.mark.parametrize("kept", [0, 1])
def test_no_document_and_one(tmp_path: Path, kept: int) -> None:
    one = Documents(np.zeros(1, np.int64), np.ones(1, np.int64), np.zeros((1, WIDTH), np.uint32), np.array([kept > 0]))
    found = run_rounds(tmp_path, recipe_of(dedup_of()), Corpus((Part("s0", "0" * 16, 0, ()),), {"0" * 16: one}))
    assert found.edges == ()
    assert [sum(output.detail["rows"]) for output in (*found.ranks, *found.copies)] == [kept, 0]
    assert (found.cut_pairs, found.heaviest) == (0, ())


def test_a_heavy_bucket_is_bounded_and_named(tmp_path: Path) -> None:
    """5,000 documents with one signature: each meets the first four, and the bucket is in the notes."""
    count = 5000
    alike = Documents(
        np.arange(count), np.zeros(count, np.int64), np.zeros((count, WIDTH), np.uint32), np.ones(count, np.bool_)
    )
    recipe = recipe_of(dedup_of(limit=4))
    found = run_rounds(tmp_path, recipe, Corpus((Part("s0", "1" * 16, 0, ()),), {"1" * 16: alike}))
    pairs = records(Storage(str(tmp_path)), found.edges, EDGE_COLUMNS, 1)
    assert [edge[:2] for edge in pairs] == sorted((a, b) for b in range(count) for a in range(min(b, 4)))
    assert found.cut_pairs == 3 * sum(range(count - 4))
    assert [bucket[:2] for bucket in found.heaviest] == [(count, 0)] * 3
