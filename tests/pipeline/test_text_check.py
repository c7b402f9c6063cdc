"""`dedup: {verify: text}` in a run: what goes was like its keeper in the text that pack would have read."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.dedup.texts import shingles_of
from tests.pipeline.corpus import write_corpus, write_recipe
from tests.pipeline.runs import run_inline
from tokenmill.dedup.minhash import MinHashParams
from tokenmill.pipeline import checks
from tokenmill.pipeline.kept import NONE_REMOVED, edit_outputs, kept_documents
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tasks import outputs_of

FILTERS = ["gopher_repetition", "gopher_quality", "c4"]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def ledger_of(output: Path, receipts: list) -> list[dict]:
    tables = [out for r in receipts if r.step == "deduplicate" for out in r.outputs if out.name.startswith("ledger/")]
    return [row for table in tables for row in pq.read_table(output / table.path).to_pylist()]


def test_near_duplicates_are_those_of_the_text(corpus: Path, tmp_path: Path) -> None:
    recipe = write_recipe(corpus)
    recipe.write_text(recipe.read_text() + "dedup: {verify: text}\n")
    output = tmp_path / "out"
    published, _ = run_inline(recipe, output)
    storage = Storage(str(output))
    receipts = checks.receipts_in(storage, published)
    texts = {}
    for part in [receipt.task for receipt in receipts if receipt.step == "select"]:
        tables = outputs_of([receipt for receipt in receipts if receipt.task == part])
        for batch in kept_documents(storage, tables, edit_outputs(tables, FILTERS), NONE_REMOVED):
            texts |= {(part, int(row)): t for row, t in zip(batch.rows, batch.texts.to_pylist(), strict=True)}
    near = [row for row in ledger_of(output, receipts) if row["kind"] == "near"]
    assert len(near) == 6
    for row in near:
        keys = ((row["removed_part"], row["removed_row"]), (row["keeper_part"], row["keeper_row"]))
        one, other = shingles_of([texts[key] for key in keys], MinHashParams())
        shared, union = len(one & other), len(one | other)
        assert 5 * shared >= 4 * union
        assert row["similarity"] == np.float32(1_000_000 * shared // union) / np.float32(1_000_000)
    assert {row["similarity"] for row in near} != {1.0}
