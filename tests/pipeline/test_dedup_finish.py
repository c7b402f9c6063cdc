"""Rounds 5 to 7 against `survivors.deduplicate`, which sees everything at once."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tokenmill.dedup.components import components, sizes
from tokenmill.dedup.exact import first_equal
from tokenmill.dedup.minhash import MinHashParams
from tokenmill.dedup.survivors import KINDS, Removals, neighbours, walk
from tokenmill.dedup.verify import similarity
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.manifests.schemas import CLUSTERS, LEDGER
from tokenmill.pipeline import exchange
from tokenmill.pipeline.book import TaskRun
from tokenmill.pipeline.dedup_rounds import gone
from tokenmill.pipeline.dedup_rounds.components import WALKED_BYTES
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask, Verified
from tokenmill.pipeline.dedup_rounds.finish import finish
from tokenmill.pipeline.dedup_rounds.groups import Group, GroupPart, group_bases, group_of
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table, write_table

RECIPE = """
name: finish
tokenizer: {train: {vocab_size: 1000}}
sources:
  - {name: web, reader: jsonl, paths: [none]}
  - {name: code, reader: jsonl, paths: [none]}
dedup: {num_permutations: 7, bands: 3, rows: 2, threshold: 0.7}
sequences: {length: 2048}
"""
SOURCES = ("web", "code")
#: Rounds that are run where one task cannot walk all edges.
GONE_STEPS = {"dedup_ends", "dedup_roots", "dedup_gone"}
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]


@dataclass
class Corpus:
    """Documents by number, what is known of them, and what the rounds should say.

    Attributes:
        kept: bool[n], by number.
        order: int64[m], numbers of kept documents in survivor order: `order[rank]`.
        content: int64[m], by rank: what they say.
        earlier: int64[k], ranks; pairs as `survivors.walk` takes them.
        later: int64[k].
        equal: int32[k].
        rows_of_parts: rows of each part, kept or not.
        groups_of_parts: parts of each group.
    """

    kept: npt.NDArray[np.bool_]
    order: I64
    content: I64
    earlier: I64
    later: I64
    equal: npt.NDArray[np.int32]
    rows_of_parts: list[int]
    parts_of_groups: list[int]
    permutations: int = 7

    def removals(self) -> Removals:
        """As `survivors.deduplicate` joins pairs and exact copies."""
        n = len(self.order)
        hashes = np.repeat(self.content.astype(np.uint64)[:, None], 2, axis=1).view(np.uint8)
        first = first_equal(hashes)
        keeper, best = walk(n, self.earlier, self.later, self.equal)
        near = keeper[first] >= 0
        final = np.where(near, keeper[first], first)
        equal = np.where(near, best[first], np.int32(self.permutations))
        removed = np.flatnonzero(final != np.arange(n))
        left, right = np.concatenate((self.earlier, first)), np.concatenate((self.later, np.arange(n)))
        cluster = components(n, left, right)
        kind = near[removed].astype(np.int8)
        similar = similarity(equal[removed], self.permutations)
        return Removals(removed, final[removed], similar, kind, cluster, sizes(cluster), len(self.earlier), 0)

    def firsts(self) -> I64:
        """Rank of the first document of each document's text, by rank."""
        return first_equal(np.repeat(self.content.astype(np.uint64)[:, None], 2, axis=1).view(np.uint8))


@dataclass
class Bench:
    """A folder with a corpus at rest, and the rounds run on it."""

    storage: Storage
    corpus: Corpus
    recipe: Recipe = field(default_factory=lambda: load_recipe(RECIPE, "test").recipe)
    edges_a_file: int = 5
    known: dict[str, Receipt] = field(default_factory=dict)
    ran: list[str] = field(default_factory=list)

    def submit(self, step: str, tasks: Sequence[RoundTask]) -> list[Receipt]:
        """Tasks in a shuffled order; receipts in theirs."""
        done: dict[int, Receipt] = {}
        for index in random.Random(len(tasks)).sample(range(len(tasks)), len(tasks)):
            run = TaskRun(self.storage, self.known)
            receipt = tasks[index].function(run, self.recipe, *tasks[index].arguments)
            assert (receipt.step, receipt.task) == (step, tasks[index].name)
            if receipt.path not in self.known:
                self.ran.append(f"{step} {receipt.task}")
                self.known[receipt.path] = receipt
            done[index] = receipt
        return [done[index] for index in range(len(tasks))]

    def groups(self) -> tuple[Group, ...]:
        """Groups of parts, with the tables that the ledger's books read."""
        found, base, parts = [], 0, iter(self.corpus.rows_of_parts)
        number = 0
        for index, count in enumerate(self.corpus.parts_of_groups):
            members = []
            for rows in (next(parts) for _ in range(count)):
                kept = self.corpus.kept[base : base + rows]
                key = f"{(number + 1) << 56:016x}"
                tables = {
                    "decisions": pa.table({"kept": pa.array(kept)}),
                    "signals/hashes": pa.table({"text_bytes": pa.array(np.arange(base, base + rows) + 1)}),
                }
                written = {
                    name: write_table(self.storage, name, f"{name}/{key}.parquet", table)
                    for name, table in tables.items()
                }
                members.append(GroupPart(SOURCES[number % 2], key, 0, base, rows, int(kept.sum()), written))
                base, number = base + rows, number + 1
            found.append(Group(index, tuple(members)))
        return tuple(found)

    def units(self, groups: tuple[Group, ...]) -> dict[str, str]:
        """Two units a source: parts of several groups in one, several units in a group."""
        parts = [part for group in groups for part in group.parts]
        half = len(parts) // 2
        return {part.key: f"{part.source}-g0-{int(index > half)}" for index, part in enumerate(parts)}

    def verified(self, groups: tuple[Group, ...]) -> Verified:
        """The files that the first rounds would have written."""
        corpus, order, bases = self.corpus, self.corpus.order.astype(np.uint64), group_bases(groups)
        first = corpus.firsts()
        copies = np.bincount(first, minlength=len(order)).astype(np.int32) - 1
        of_group = group_of(order, bases)
        edges = []
        for group in groups:
            mine = np.flatnonzero(of_group[corpus.later] == group.index)
            mine = np.random.default_rng(group.index).permutation(mine)
            earlier, later = corpus.earlier[mine], corpus.later[mine]
            columns = {
                "earlier": earlier.astype(np.uint64),
                "later": later.astype(np.uint64),
                "earlier_number": order[earlier],
                "later_number": order[later],
                "equal": corpus.equal[mine],
                "earlier_documents": copies[earlier] + np.int32(1),
                "later_documents": copies[later] + np.int32(1),
            }
            for at in range(0, len(mine), self.edges_a_file):
                own = {name: column[at : at + self.edges_a_file] for name, column in columns.items()}
                path = f"dedup/verify/{group.name}.{at}.arrow"
                nowhere = np.zeros(len(own["equal"]), np.int64)
                edges.append(exchange.write_partitions(self.storage, f"edges/{at}", path, own, nowhere, 1))
        again = np.flatnonzero(first != np.arange(len(order)))
        heads = np.flatnonzero(copies > 0)
        ranks = np.arange(len(order), dtype=np.uint64)
        copy_columns = {
            "number": order[again],
            "rank": ranks[again],
            "first": first[again].astype(np.uint64),
            "first_number": order[first[again]],
        }
        first_columns = {"number": order[heads], "rank": ranks[heads], "copies": copies[heads]}
        return Verified(
            tuple(edges),
            self._by_group("copies", copy_columns, of_group[again], len(groups)),
            self._by_group("firsts", first_columns, of_group[heads], len(groups)),
            (),
            cut_pairs=3,
        )

    def _by_group(
        self, name: str, columns: dict[str, npt.NDArray[np.generic]], by: I64, groups: int
    ) -> tuple[Output, ...]:
        """Two files, as two tasks would have written them."""
        halves = []
        for half in range(2):
            own = {column: values[half::2] for column, values in columns.items()}
            path = f"dedup/{name}/{half}.arrow"
            halves.append(exchange.write_partitions(self.storage, name, path, own, by[half::2], groups))
        return tuple(halves)

    def go(self, near: bool = True, exact: bool = True) -> list[Receipt]:
        """All of rounds 5 to 7."""
        groups = self.groups()
        verified = self.verified(groups)
        verified = Verified(
            verified.edges if near else (),
            verified.copies if exact else (),
            verified.firsts if exact else (),
            (),
            verified.cut_pairs,
        )
        return finish(Context(self.recipe, groups, self.submit, self.units(groups)), verified)

    def expected(self, name: str, unit: str) -> pa.Table:
        """A unit's ledger or clusters, from the whole corpus at once."""
        groups, found, order = self.groups(), self.corpus.removals(), self.corpus.order
        units = self.units(groups)
        place = {
            part.base + row: (part.key, row) for group in groups for part in group.parts for row in range(part.rows)
        }
        if name == "ledger":
            columns = (found.removed, found.keeper, found.similarity, found.kind)
            rows = sorted(
                (*place[order[removed]], *place[order[keeper]], similar, KINDS[kind], None)
                for removed, keeper, similar, kind in zip(*(column.tolist() for column in columns), strict=True)
            )
            schema = LEDGER
        else:
            counts = found.cluster_documents.tolist()
            rows = sorted(
                (*place[order[rank]], *place[order[label]], counts[rank], None)
                for rank, label in enumerate(found.cluster.tolist())
                if counts[rank] > 1
            )
            schema = CLUSTERS
        own = [row for row in rows if units[row[0]] == unit]
        return pa.table([pa.array([row[i] for row in own], kind) for i, kind in enumerate(schema.types)], schema=schema)


def same_signatures(order: I64, kept: npt.NDArray[np.bool_], rows: list[int], groups: list[int]) -> Corpus:
    """A corpus without any pair."""
    none = np.zeros(0, np.int64)
    return Corpus(kept, order, np.arange(len(order)), none, none, none.astype(np.int32), rows, groups)


@st.composite
def corpora(draw: st.DrawFn) -> Corpus:
    """Few contents with few distinct minima, dealt out to parts and groups; some rows are not kept."""
    parts_of_groups = draw(st.lists(st.integers(1, 3), min_size=1, max_size=4))
    rows_of_parts = [draw(st.integers(0, 6)) for _ in range(sum(parts_of_groups))]
    kept = np.array([draw(st.integers(0, 5)) > 0 for _ in range(sum(rows_of_parts))], np.bool_)
    order = np.array(draw(st.permutations(np.flatnonzero(kept).tolist())), np.int64)
    pool = draw(st.lists(st.lists(st.sampled_from([0, 0, 0, 1]), min_size=7, max_size=7), min_size=1, max_size=16))
    content = np.array([draw(st.integers(0, len(pool) - 1)) for _ in order], np.int64)
    corpus = same_signatures(order, kept, rows_of_parts, parts_of_groups)
    corpus.content = content
    standing = np.flatnonzero(corpus.firsts() == np.arange(len(order)))
    signatures = np.array([pool[one] for one in content[standing]], np.uint32).reshape(-1, 7)
    params = MinHashParams(num_permutations=7, bands=3, rows=2, threshold=0.7)
    found = neighbours(signatures, params, draw(st.integers(1, 4) | st.just(64)))
    corpus.earlier, corpus.later, corpus.equal = standing[found.earlier], standing[found.later], found.equal
    return corpus


def check(bench: Bench, receipts: list[Receipt]) -> None:
    """Every unit's files and books are what the whole corpus says."""
    *ledgers, summary = receipts
    groups, found = bench.groups(), bench.corpus.removals()
    units = bench.units(groups)
    assert [receipt.task for receipt in ledgers] == sorted(set(units.values()))
    for receipt in ledgers:
        assert {part.key for g in groups for part in g.parts if units[part.key] == receipt.task} == {
            name.split("/")[-1] for name in receipt.inputs if name.startswith("decisions/")
        }
        for name in ("ledger", "clusters"):
            table = read_table(bench.storage, receipt.output(f"{name}/{receipt.task}").path)
            assert table.equals(bench.expected(name, receipt.task))
    assert summary.step == "dedup_summary"
    total = sum((receipt.balance for receipt in ledgers), start=type(summary.balance)())
    order = bench.corpus.order
    assert (total.taken.documents, total.taken.bytes) == (len(order), int((order + 1).sum()))
    dropped = {f"dedup.{KINDS[kind]}": order[found.removed[found.kind == kind]] for kind in (0, 1)}
    assert {name: (tally.documents, tally.bytes) for name, tally in total.dropped.items()} == {
        name: (len(numbers), int((numbers + 1).sum())) for name, numbers in dropped.items() if len(numbers)
    }


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(corpora(), st.sampled_from([60, 200, 1 << 20]), st.sampled_from([2, 128]), st.sampled_from([0, 2]))
def test_the_rounds_say_what_the_whole_says(
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
    corpus: Corpus,
    partition_bytes: int,
    fan_out: int,
    few_edges: int,
) -> None:
    monkeypatch.setattr(gone, "FEW_EDGES", few_edges)
    monkeypatch.setattr(exchange, "PARTITION_BYTES", partition_bytes)
    monkeypatch.setattr(exchange, "FAN_OUT", fan_out)
    bench = Bench(Storage(str(tmp_path_factory.mktemp("run"))), corpus)
    receipts = bench.go()
    check(bench, receipts)
    assert receipts[-1].notes["verified_pairs"] == len(corpus.earlier)
    assert receipts[-1].notes["cut_pairs"] == 3
    asked = len(corpus.earlier) * WALKED_BYTES > partition_bytes
    steps = {name.split()[0] for name in bench.ran} & GONE_STEPS
    told = asked and len(corpus.earlier) > few_edges * len(set(corpus.later.tolist()))
    assert steps == (GONE_STEPS if told else {"dedup_ends", "dedup_roots"} if asked else set())


@pytest.mark.parametrize(("near", "exact"), [(True, False), (False, True), (False, False)])
def test_a_half_that_is_switched_off_leaves_the_other(tmp_path: Path, near: bool, exact: bool) -> None:
    corpus = pairs_among(40, [(k, k + 5) for k in range(0, 30)])
    corpus.content = np.where(np.arange(40) >= 35, 7, np.arange(40)) if exact else corpus.content
    bench = Bench(Storage(str(tmp_path)), corpus)
    if not near:
        none = np.zeros(0, np.int64)
        corpus.earlier, corpus.later, corpus.equal = none, none, none.astype(np.int32)
    receipts = bench.go(near, exact)
    check(bench, receipts)
    dropped = sum(tally.documents for receipt in receipts for tally in receipt.balance.dropped.values())
    assert dropped == (15 if near else 0) + (5 if exact else 0)


def pairs_among(documents: int, pairs: Sequence[tuple[int, int]] | I64, seed: int = 0) -> Corpus:
    """Documents whose survivor order has nothing to do with where they lie, in 4 groups of 3 parts each."""
    order = np.random.default_rng(seed).permutation(documents)
    rows = np.diff(np.linspace(0, documents, 13).astype(np.int64)).tolist()
    corpus = same_signatures(order, np.ones(documents, np.bool_), rows, [3] * 4)
    both = np.sort(np.asarray(pairs, np.int64).reshape(-1, 2), axis=1)
    both = both[np.lexsort((both[:, 0], both[:, 1]))]
    corpus.earlier, corpus.later = both[:, 0].copy(), both[:, 1].copy()
    corpus.equal = (5 + (both.sum(axis=1) % 3)).astype(np.int32)
    return corpus


def check_numbers(bench: Bench, receipts: list[Receipt]) -> None:
    """As `check` of the files, in arrays: for corpora that a loop over rows is too slow for."""
    found, order = bench.corpus.removals(), bench.corpus.order
    base = {part.key: part.base for group in bench.groups() for part in group.parts}

    def numbers(table: pa.Table, part: str, row: str) -> I64:
        keys, inverse = np.unique(table.column(part).to_numpy(zero_copy_only=False), return_inverse=True)
        return np.array([base[key] for key in keys], np.int64)[inverse] + table.column(row).to_numpy()

    def whole(name: str) -> pa.Table:
        paths = [output.path for receipt in receipts for output in receipt.outputs if output.name.startswith(name)]
        return pa.concat_tables([read_table(bench.storage, path) for path in paths])

    table = whole("ledger/")
    told = np.stack((numbers(table, "removed_part", "removed_row"), numbers(table, "keeper_part", "keeper_row")))
    expected = np.stack((order[found.removed], order[found.keeper]))
    by, by_expected = np.argsort(told[0]), np.argsort(expected[0])
    assert np.array_equal(told[:, by], expected[:, by_expected])
    assert np.array_equal(table.column("similarity").to_numpy()[by], found.similarity[by_expected])
    table = whole("clusters/")
    members = np.flatnonzero(found.cluster_documents > 1)
    told = np.stack(
        (
            numbers(table, "part", "row"),
            numbers(table, "cluster_part", "cluster_row"),
            table.column("cluster_documents").to_numpy(),
        )
    )
    expected = np.stack((order[members], order[found.cluster[members]], found.cluster_documents[members]))
    assert np.array_equal(told[:, np.argsort(told[0])], expected[:, np.argsort(expected[0])])


def chain(length: int, seed: int) -> I64:
    """Pairs of neighbours in a chain whose members stand anywhere in survivor order."""
    members = np.random.default_rng(seed).permutation(length)
    return np.stack((members[:-1], members[1:]), axis=1)


@pytest.mark.parametrize(("partition_bytes", "rounds"), [(120 << 10, 7), (1 << 30, 1)])
def test_a_chain_of_2000_revisions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition_bytes: int, rounds: int
) -> None:
    monkeypatch.setattr(exchange, "PARTITION_BYTES", partition_bytes)
    bench = Bench(Storage(str(tmp_path)), pairs_among(2000, chain(2000, 1)), edges_a_file=1000)
    receipts = bench.go()
    check_numbers(bench, receipts)
    assert set(bench.corpus.removals().cluster.tolist()) == {0}
    assert receipts[-1].notes["largest_component"] == {"number": int(bench.corpus.order[0]), "texts": 2000}
    assert receipts[-1].notes["rounds"] == rounds


@pytest.mark.parametrize("partition_bytes", [1500, 1 << 30])
def test_components_joined_late_by_one_edge_are_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, partition_bytes: int
) -> None:
    monkeypatch.setattr(exchange, "PARTITION_BYTES", partition_bytes)
    pairs = [(k, k + 2) for k in range(98)]  # two chains, of even and of odd ranks
    bench = Bench(Storage(str(tmp_path / "one")), pairs_among(100, [*pairs, (98, 99)]))
    check(bench, bench.go())
    assert set(bench.corpus.removals().cluster.tolist()) == {0}
    bench = Bench(Storage(str(tmp_path / "two")), pairs_among(100, pairs))
    check(bench, bench.go())
    assert set(bench.corpus.removals().cluster.tolist()) == {0, 1}


@pytest.mark.parametrize("met", [1, 4])
def test_a_cluster_of_200000(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, met: int) -> None:
    """Every document met the first `met`: a star, and what heavy buckets leave of a clique."""
    monkeypatch.setattr(exchange, "PARTITION_BYTES", 4 << 20)
    later = np.repeat(np.arange(1, 200_000), met)
    earlier = np.tile(np.arange(met), 199_999)
    pairs = np.stack((earlier, later), axis=1)[earlier < later]
    bench = Bench(Storage(str(tmp_path)), pairs_among(200_000, pairs), edges_a_file=300_000)
    receipts = bench.go()
    check_numbers(bench, receipts)
    assert receipts[-1].notes["verified_pairs"] == len(pairs)


@pytest.mark.parametrize(
    ("partition_bytes", "met_of_64", "least", "most", "turns"),
    [(1 << 20, 64, 1, 1, 1), (1 << 20, 32, 1, 4, 3), (1 << 40, 64, 30, 64, 0)],
)
def test_of_a_cluster_over_groups_few_edges_are_walked(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    partition_bytes: int,
    met_of_64: int,
    least: int,
    most: int,
    turns: int,
) -> None:
    """Of 3,000 documents each is like the first 64, or half of them; groups tell each other who goes, or do not."""
    monkeypatch.setattr(exchange, "PARTITION_BYTES", partition_bytes)
    later, earlier = np.divmod(np.arange(64 * 3000), 64)
    there = (earlier < later) & (np.random.default_rng(0).integers(0, 64, len(later)) < met_of_64)
    pairs = np.stack((earlier, later), axis=1)[there]
    bench = Bench(Storage(str(tmp_path)), pairs_among(3000, pairs), edges_a_file=20_000)
    check_numbers(bench, bench.go())
    walked = sum(receipt.notes["pairs"] for receipt in bench.known.values() if receipt.step == "dedup_walk")
    assert least * 2999 <= walked <= most * 2999
    assert len({name[-2:] for name in bench.ran if name.startswith("dedup_gone")}) == turns


def files_of(receipts: list[Receipt]) -> dict[str, str]:
    return {output.name: output.hash for receipt in receipts for output in receipt.outputs}


def test_bytes_depend_on_neither_partitions_nor_the_order_of_edges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    corpus = pairs_among(300, np.concatenate((chain(200, 2), 200 + chain(100, 3))))
    corpus.content[250:] = corpus.content[:50]  # copies of members of the first chain
    corpus.earlier, corpus.later, corpus.equal = (
        column[corpus.later < 250] for column in (corpus.earlier, corpus.later, corpus.equal)
    )
    found = []
    for index, (partition_bytes, edges_a_file, fan_out) in enumerate(
        [(1 << 30, 1000, 128), (4000, 7, 2), (2500, 40, 3)]
    ):
        monkeypatch.setattr(exchange, "PARTITION_BYTES", partition_bytes)
        monkeypatch.setattr(exchange, "FAN_OUT", fan_out)
        bench = Bench(Storage(str(tmp_path / str(index))), corpus, edges_a_file=edges_a_file)
        receipts = bench.go()
        check(bench, receipts)
        found.append(files_of(receipts))
    assert found[0] == found[1] == found[2]


def test_a_run_killed_between_or_within_rounds_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchange, "PARTITION_BYTES", 3000)
    monkeypatch.setattr(gone, "FEW_EDGES", 0)
    corpus = pairs_among(200, chain(150, 4))
    corpus.content[150:] = corpus.content[:50]
    bench = Bench(Storage(str(tmp_path)), corpus)
    before = bench.go()
    ran, steps = bench.ran, [name.split()[0] for name in bench.ran]
    assert max(int(name[-2:]) for name in ran if "star" in name) >= 2
    assert set(steps) > GONE_STEPS
    for step in dict.fromkeys(steps):
        bench.ran = []
        # a task's key does not know of later rounds: what comes after is found again where its inputs are the same
        lost = {path for path, one in bench.known.items() if one.step == step and one.key < "8"}
        lost |= {max(path for path, one in bench.known.items() if one.step == step)}
        for path in lost:
            for output in bench.known.pop(path).outputs:
                bench.storage.delete(output.path)
        assert bench.go() == before
        assert len(bench.ran) == len(lost)
    first_large = steps.index("dedup_large_star")
    bench.ran = []
    for path in [path for path, one in bench.known.items() if f"{one.step} {one.task}" in ran[first_large + 2 :]]:
        for output in bench.known.pop(path).outputs:
            bench.storage.delete(output.path)
    assert bench.go() == before
    assert sorted(bench.ran) == sorted(ran[first_large + 2 :])
