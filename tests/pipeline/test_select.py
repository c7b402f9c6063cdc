"""select and deduplicate around their kernels: reasons in order, strata, survivor order, books."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.bench import reselect
from tests.pipeline.deduplicate_at_once import survivor_order
from tokenmill.dedup.survivor_order import survivor_keys
from tokenmill.filters.bounds import Cut, first_violated
from tokenmill.manifests.balance import Tally
from tokenmill.manifests.schemas import DECISIONS
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.steps import select
from tokenmill.pipeline.steps.ingest import ingest_balance
from tokenmill.pipeline.steps.select import _strata, select_balance, settled_bounds
from tokenmill.pipeline.steps.thresholds import PLACE, tie_hashes
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import new_table, open_groups, read_table

RECIPE = """
name: select
tokenizer: {train: {vocab_size: 1000}}
sources:
  - name: web
    reader: jsonl
    paths: [x]
    filters: [{gopher_quality: {min_words: {percentile: 10}, max_words: null}}]
sequences: {length: 64}
strata: {validation_fraction: 0.25, by: [language]}
seed: 5
"""


def test_percentiles_are_settled_and_null_stays_off():
    source = load_recipe(RECIPE, "r").recipe.sources[0]
    cut = Cut(17.0, 0, 10)
    ((group, bounds),) = settled_bounds(source, {"web/gopher_quality.min_words": cut})
    assert group == "gopher_quality"
    assert (bounds["min_words"], bounds["max_words"], bounds["min_stop_words"]) == (cut, None, 2)


def test_how_many_row_groups_are_decided_at_once_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The same bytes as one row group at a time, and the same decisions as from whole signal tables."""
    storage, recipe_file = Storage(str(tmp_path)), load_recipe(reselect.RECIPE, "r")
    tables = reselect.write_part(storage, recipe_file, 0, 5000).tables
    source = recipe_file.recipe.sources[0]
    words = read_table(storage, tables["signals/gopher_quality"].path).column("words").to_numpy()
    cut = Cut(float(np.sort(words)[600]), 1 << 62, 12)
    bounds = [
        (group, {**values, "min_words": cut} if group == "gopher_quality" else values)
        for group, values in settled_bounds(source, {})
    ]
    with open_groups(storage, tables["documents"].path) as documents:
        group_rows = documents.group_rows
    written, decided = set(), []
    for at_once in (1, 2, 16):
        monkeypatch.setattr(select, "GROUPS_AT_ONCE", at_once)
        found = list(select.decide_part(storage, recipe_file.recipe, source, tables, bounds))
        assert [index for groups, _, _ in found for index in groups] == list(range(5))
        decided.append(pa.Table.from_batches([batch for _, batch, _ in found]))
        with new_table(storage, DECISIONS) as writer:
            select.write_decisions(found, group_rows, writer)
            written.add(writer.commit("decisions", "d/{hash}").hash)
    assert len(written) == 1
    assert decided[0] == decided[1] == decided[2]

    def whole(name: str, columns: list[str] | None = None) -> pa.RecordBatch:
        with open_groups(storage, tables[name].path) as groups:
            return groups.read(range(len(groups)), columns)

    ties = tie_hashes(whole("documents", PLACE), recipe_file.recipe.seed)
    by_filters = pc.coalesce(*[first_violated(whole(f"signals/{g}"), on, g, lambda: ties) for g, on in bounds])
    reasons = decided[0].column("reason").to_pylist()
    for row, reason in enumerate(by_filters.to_pylist()):
        assert reasons[row] == reason or reasons[row].startswith(("gates.", "language."))
    assert sum(reason == "gopher_quality.min_words" for reason in reasons) > 100


def test_the_split_is_of_the_content_and_of_the_share_asked():
    recipe = load_recipe(RECIPE, "r").recipe
    rng = np.random.default_rng(0)
    hashes = pa.array([rng.bytes(16) for _ in range(4000)], pa.binary(16))
    language = pa.record_batch({"language": pa.array(["en", None] * 2000)})
    strata = _strata(recipe, hashes, language).to_pylist()
    held_out = [name for name in strata if name.startswith("validation")]
    assert abs(len(held_out) - 1000) < 4 * (4000 * 0.25 * 0.75) ** 0.5
    assert {name.split("/")[1] for name in strata} == {"en", "und"}
    assert strata[7:9] == _strata(recipe, hashes.slice(7, 2), language.slice(7, 2)).to_pylist()


@given(st.lists(st.tuples(st.sampled_from([None, "a.min_x", "gates.mime", "failed.not_json"]), st.integers(0, 99))))
def test_select_books_what_ingest_let_out(rows: list[tuple[str | None, int]]):
    reasons = [reason for reason, _ in rows]
    sizes = [None if reason and reason.startswith(("gates.", "failed.")) else size for reason, size in rows]
    decisions = pa.RecordBatch.from_arrays(
        [
            pa.array([r is None for r in reasons], pa.bool_()),
            pa.array(reasons, pa.string()),
            pa.array([None if r else "train" for r in reasons], pa.string()),
        ],
        schema=DECISIONS,
    )
    balance = select_balance(decisions, pa.array(sizes, pa.int64()))
    balance.check("select")
    assert balance.taken.documents == sum(size is not None for size in sizes)
    assert balance.out == Tally(reasons.count(None), sum(size for reason, size in rows if reason is None))


@given(
    st.lists(st.tuples(st.sampled_from([None, "f1", "f2"]), st.sampled_from([None, "gates.mime"]), st.integers(0, 99)))
)
def test_ingest_books_failures_before_gates(rows: list[tuple[str | None, str | None, int]]):
    batch = pa.record_batch(
        {
            "failure": pa.array([f for f, _, _ in rows], pa.string()),
            "gate": pa.array([g for _, g, _ in rows], pa.string()),
            "raw_bytes": pa.array([size for _, _, size in rows], pa.int64()),
        }
    )
    balance = ingest_balance(batch)
    balance.check("ingest")
    assert balance.taken == Tally(len(rows), sum(size for _, _, size in rows))
    for reason in ("f1", "f2"):
        expected = [size for failure, _, size in rows if failure == reason]
        assert balance.failed.get(reason, Tally()) == Tally(len(expected), sum(expected))


documents = st.tuples(st.integers(0, 2), st.integers(0, 2), st.integers(0, 5), st.integers(0, 3), st.integers(0, 9))


@pytest.mark.parametrize("policy", [("priority", "longest"), ("longest", "priority"), ("longest",)])
@given(st.lists(documents, min_size=1, unique_by=lambda item: item[3:]))
def test_survivor_order_is_generation_policy_identity(policy: tuple[str, ...], rows: list[tuple[int, ...]]):
    generation, priority, size, part, row = (np.array(column) for column in zip(*rows, strict=True))
    keys = survivor_keys(policy, {"priority": priority, "longest": size})
    order = survivor_order(generation, keys, part.astype(np.uint64), row)

    def slow(item: tuple[int, ...]) -> tuple[int, ...]:
        g, p, s, k, r = item
        return (g, *(-p if name == "priority" else -s for name in policy), k, r)

    assert [rows[index] for index in order] == sorted(rows, key=slow)
