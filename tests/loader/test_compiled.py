"""Compiled shard tables: they hold what the Parquet table holds, are made once, and are proved before they are used."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from tests.loader.small_run import Stored
from tests.loader.test_loader import by_row
from tokenmill.manifests.shards import packing_hashes
from tokenmill.pipeline.loader import Stage, open_mixture
from tokenmill.pipeline.loader.compiled import compile_table, compiled_path, open_table, table_packings
from tokenmill.pipeline.storage import Storage


@pytest.fixture
def tables(tmp_path) -> str:
    return str(tmp_path / "tables")


def file_of(run, tables) -> Path:
    return Path(tables, compiled_path(run.mixture.shard_table_hash))


def test_a_compiled_table_gives_the_same_rows(run, tables):
    plain = open_mixture(run.path, batch_size=6)
    whole = by_row(list(plain))
    for _ in range(2):  # made, then found
        loader = open_mixture(run.path, batch_size=6, tables_dir=tables)
        assert by_row(list(loader)) == whole
        assert loader.state_dict()["plan"] == plain.plan.hash
    assert [path.name for path in Path(tables).iterdir() if path.is_file()] == [file_of(run, tables).name]


def test_it_is_read_without_the_parquet_table_and_without_a_copy(run, tables):
    storage = Storage(str(run.root))
    parquet = open_table(storage, run.mixture, None)
    open_table(storage, run.mixture, tables)
    Path(run.root, run.mixture.shard_table_path).unlink()
    before = pa.total_allocated_bytes()
    table = open_table(storage, run.mixture, tables)
    assert pa.total_allocated_bytes() - before < 1024
    assert table.replace_schema_metadata().equals(parquet)
    assert table_packings(table) == table_packings(parquet) == packing_hashes(run.shards)
    values = table.column("batch_rows").chunk(0).flatten().to_numpy()
    with pytest.raises(ValueError, match="read-only"):
        values[0] = 1


def test_a_table_in_several_pieces_is_compiled_whole(run, tables):
    pieces = pa.concat_tables([run.shards.slice(0, 2), run.shards.slice(2)])
    compile_table(Storage(tables), run.mixture.shard_table_hash, pieces)
    table = open_table(Storage(str(run.root)), run.mixture, tables)
    assert table.column("batch_rows").num_chunks == 1
    assert table.to_pylist() == run.shards.select(table.column_names).to_pylist()


def test_damage_is_noticed(run, tables):
    """A flipped byte anywhere is, but in what each read proves, or in padding."""
    storage = Storage(str(run.root))
    kept = ["component", "unit", "path", "rows", "tokens", "batch_rows"]
    expected = open_table(storage, run.mixture, tables).select(kept).to_pylist()
    file = file_of(run, tables)
    good = file.read_bytes()
    checked = int.from_bytes(good[16:24], "little")
    assert len(good) - checked == 16 * (8 + 4 + 16)  # offsets, lengths and hashes of 16 record batches
    for place in range(len(good)):
        file.write_bytes(good[:place] + bytes([good[place] ^ 4]) + good[place + 1 :])
        if place < checked:
            with pytest.raises(ValueError, match="is damaged: delete it"):
                open_table(storage, run.mixture, tables)
        else:
            assert open_table(storage, run.mixture, tables).select(kept).to_pylist() == expected
    for end in (0, 9, len(good) // 2, len(good) - 1):
        file.write_bytes(good[:end])
        with pytest.raises(ValueError, match="is damaged: delete it"):
            open_table(storage, run.mixture, tables)
    file.unlink()
    open_table(storage, run.mixture, tables)


def test_several_may_make_it_at_once(run, tables):
    storage = Storage(str(run.root))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: open_table(storage, run.mixture, tables), range(8)))
    assert all(table.equals(found[0]) for table in found)


def test_a_table_of_another_run_under_its_name_is_refused(run, tables, tmp_path):
    compile_table(Storage(tables), "f" * 32, run.shards)
    Path(tables, compiled_path("f" * 32)).rename(file_of(run, tables))
    with pytest.raises(ValueError, match="is damaged"):
        open_mixture(run.path, batch_size=4, tables_dir=tables)


def test_a_folder_that_is_not_here_is_refused(run):
    with pytest.raises(ValueError, match="give a folder on this machine"):
        open_mixture(run.path, batch_size=4, tables_dir="memory://tables")


def test_packing_hashes_tell_rows_and_not_where_they_lie(make_run):
    units = [[[4, 4], [2]], [[3]]]
    run = make_run([Stored("a/train", 1.0, units), Stored("b/train", 1.0, units)], length=16, vocab_size=50)
    shards = run.shards
    moved = shards.set_column(2, "path", pa.array([f"x/{path}" for path in shards.column("path").to_pylist()]))
    assert packing_hashes(moved) == packing_hashes(shards)
    assert packing_hashes(shards.slice(3)) == {"b/train": packing_hashes(shards)["b/train"]}
    hashes = {packing_hashes(shards)["a/train"], packing_hashes(shards.slice(1))["a/train"]}
    renamed = shards.set_column(1, "unit", pa.array([f"{unit}-" for unit in shards.column("unit").to_pylist()]))
    for row in shards.to_pylist()[:1]:
        row["batch_hashes"][1] = bytes(16)
        changed = pa.concat_tables([pa.Table.from_pylist([row], schema=shards.schema), shards.slice(1)])
        hashes |= {packing_hashes(renamed)["a/train"], packing_hashes(changed)["a/train"]}
    assert len(hashes) == 4


def test_stages_of_compiled_tables(run, tables):
    stages = [Stage(run.path, 24), Stage(run.path, 24)]
    plain, mapped = (open_mixture(stages, batch_size=8, tables_dir=folder) for folder in (None, tables))
    assert by_row(list(mapped)) == by_row(list(plain))
    assert np.array_equal(mapped.plan.stage_of([23, 24]), [0, 1])
