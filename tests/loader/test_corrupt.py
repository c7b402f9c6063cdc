"""Corrupt record batches: named, or padding from then on, in the same order, and kept in the state."""

import json
import logging
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tests.loader.row_digests import row_digests
from tests.loader.small_run import SPECIAL_IDS, Run
from tokenmill.manifests.shards import CorruptShardError
from tokenmill.pipeline.loader import Batch, Loader, merge_states, open_mixture
from tokenmill.pipeline.storage import Storage

#: Shard and the record batches of it that are damaged.
SHARD, LOST = "sequences/web/train/unit-001.000.arrow", (1, 3)


def flip(file: Path, shard: dict, batch: int) -> None:
    data = bytearray(file.read_bytes())
    data[shard["batch_offsets"][batch] + shard["batch_lengths"][batch] // 2] ^= 1
    file.write_bytes(data)


def damage(run: Run, path: str = SHARD, batches: tuple[int, ...] = LOST) -> Callable[[], None]:
    """Flip a byte in each of these record batches; returns what mends them."""
    file = run.root / path
    whole = file.read_bytes()
    shard = next(shard for shard in run.shards.to_pylist() if shard["path"] == path)
    for batch in batches:
        flip(file, shard, batch)
    return lambda: file.write_bytes(whole) and None


def skipping(run: Run, **fields) -> Loader:
    return open_mixture(run.path, **{"batch_size": 4, "on_corrupt": "skip_and_report", **fields})


def is_padding(batch: Batch) -> np.ndarray:
    return ~batch.maskable.any(axis=1)


def rows_in(run: Run, batch: Batch, path: str, numbers: tuple[int, ...]) -> np.ndarray:
    """Which rows of a batch come from these record batches of a shard."""
    shards = [shard for shard in run.shards.to_pylist() if path.startswith(f"sequences/{shard['component']}/")]
    name, starts = shards[0]["component"], {}
    count = 0
    for shard in shards:
        for number, rows in enumerate(shard["batch_rows"]):
            starts[shard["path"], number] = range(count, count + rows)
            count += rows
    lost = [row for number in numbers for row in starts[path, number]]
    return np.isin(batch.stored_row, lost) & (batch.component == batch.component_names.index(name))


def test_rows_of_a_corrupt_batch_become_padding(run, caplog):
    whole = row_digests(open_mixture(run.path, batch_size=4))
    damage(run)
    loader = skipping(run)
    met: set[int] = set()
    changed = 0
    with caplog.at_level(logging.WARNING):
        for batch in loader:
            lost = rows_in(run, batch, SHARD, LOST)
            assert is_padding(batch).tolist() == lost.tolist()
            assert (batch.clean[lost] == SPECIAL_IDS["pad"]).all()
            assert not batch.masked[lost].any()
            assert (batch.loss_weight[lost] == 0).all()
            met |= {number for number in LOST if rows_in(run, batch, SHARD, (number,)).any()}
            assert batch.state["skipped_batches"] == [[SHARD, number] for number in sorted(met)]
            assert loader.state_dict() == batch.state
            digests = row_digests([batch])
            assert [digests[k] == whole[k] for k in batch.rows.tolist()] == (~lost).tolist()
            changed += int(lost.sum())
    assert changed == 9 * 3  # 8 rows and 1, three epochs
    assert sorted(record.args[:3] for record in caplog.records) == [
        (number, f"{run.root}/{SHARD}", rows) for number, rows in zip(LOST, (8, 1), strict=True)
    ]
    assert all("its bytes hash to" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("objective", ["llada", "illada", "autoregressive"])
def test_every_objective_takes_rows_of_padding(run, objective):
    damage(run)
    ends = [batch.denominator for batch in skipping(run, objective=objective)]
    assert len(ends) == 67


def test_a_truncated_shard_loses_its_last_batches(run):
    shard = run.shards.to_pylist()[2]
    file = run.root / shard["path"]
    file.write_bytes(file.read_bytes()[: shard["batch_offsets"][-1] + 8])
    with pytest.raises(CorruptShardError, match="is corrupt: the file ends after 8 of its"):
        list(open_mixture(run.path, batch_size=4))
    *_, last = skipping(run)
    assert last.state["skipped_batches"] == [[shard["path"], len(shard["batch_rows"]) - 1]]


def test_a_missing_shard_is_lost_whole(run):
    shard = run.shards.to_pylist()[1]
    (run.root / shard["path"]).unlink()
    with pytest.raises(FileNotFoundError, match=f"no such file: {re.escape(str(run.root))}/{shard['path']}"):
        list(open_mixture(run.path, batch_size=4))
    *_, last = skipping(run)
    assert last.state["skipped_batches"] == [[shard["path"], number] for number in range(len(shard["batch_rows"]))]


def test_swapped_shards_are_lost_both(run):
    one, two = (run.root / path for path in run.shards["path"].to_pylist()[1:3])
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    *_, last = skipping(run)
    lost = {path for path, _ in last.state["skipped_batches"]}
    assert lost == {str(path.relative_to(run.root)) for path in (one, two)}


def test_a_run_that_is_gone_is_no_corrupt_shard(run):
    loader = skipping(run)
    run.root.rename(run.root.with_name("elsewhere"))
    with pytest.raises(FileNotFoundError, match="no such file"):
        list(loader)


def test_errors_that_are_not_of_the_bytes_are_never_skipped(run, monkeypatch):
    def fails(*_, **__):
        raise OSError("reading failed 5 times")

    monkeypatch.setattr(Storage, "read_range", fails)
    with pytest.raises(OSError, match="5 times"):
        list(skipping(run))


def test_bytes_damaged_on_their_way_are_fetched_again(run, monkeypatch):
    whole = row_digests(open_mixture(run.path, batch_size=4))
    read_range, seen = Storage.read_range, set()

    def damaged_once(self, path, offset, length, **waiting):
        data = read_range(self, path, offset, length, **waiting)
        if (path, offset) in seen:
            return data
        seen.add((path, offset))
        return data[:-1] + bytes([data[-1] ^ 1])

    monkeypatch.setattr(Storage, "read_range", damaged_once)
    assert row_digests(open_mixture(run.path, batch_size=4)) == whole


@pytest.mark.parametrize("on_corrupt", ["raise", "skip_and_report"])
@pytest.mark.parametrize("ranks", [1, 3])
def test_a_resumed_run_skips_the_same_though_the_shard_was_mended(run, ranks, on_corrupt):
    mend = damage(run)
    batches = list(skipping(run, batch_size=6))
    unbroken = row_digests(batches)
    at = next(i for i, batch in enumerate(batches) if len(batch.state["skipped_batches"]) == len(LOST))
    mend()
    state = json.loads(json.dumps(batches[at].state))
    resumed = {}
    for rank in range(ranks):
        loader = open_mixture(run.path, batch_size=6, dp_rank=rank, dp_size=ranks, on_corrupt=on_corrupt)
        loader.load_state_dict(state)
        assert loader.state_dict() == state
        resumed |= row_digests(loader)
    assert resumed == {k: unbroken[k] for k in unbroken if k >= state["next_row"]}
    assert any(rows_in(run, batch, SHARD, LOST).any() for batch in batches[at + 1 :])


def test_a_state_from_before_skips_nothing(run):
    mend = damage(run)
    loader = skipping(run)
    start = loader.state_dict()
    *_, last = loader
    assert len(last.state["skipped_batches"]) == 2
    mend()
    loader.load_state_dict(start)
    assert row_digests(loader) == row_digests(open_mixture(run.path, batch_size=4))


def test_what_ranks_skipped_is_put_together(run):
    damage(run)
    shares = [list(skipping(run, dp_rank=rank, dp_size=4)) for rank in range(4)]
    whole = list(skipping(run))
    for number, batch in enumerate(whole):
        assert merge_states([share[number].state for share in shares]) == batch.state
    assert len({json.dumps(share[number].state) for share in shares for number in range(len(whole))}) > len(whole)


def test_states_of_other_batches_are_not_put_together(run):
    first, second, *_ = open_mixture(run.path, batch_size=4)
    with pytest.raises(ValueError, match="state 1 has next_row 8, state 0 4"):
        merge_states([first.state, second.state])
    with pytest.raises(ValueError, match="no states"):
        merge_states([])


@pytest.mark.parametrize("skipped", [["x"], [["x"]], [[SHARD, "1"]], [[1, SHARD]], None])
def test_skipped_batches_of_another_form_are_refused(run, skipped):
    loader = open_mixture(run.path, batch_size=4)
    with pytest.raises(ValueError, match="it is a list of"):
        loader.load_state_dict(loader.state_dict() | {"skipped_batches": skipped})


@pytest.mark.parametrize("name", [["no/such.arrow", 0], [SHARD, 4], [SHARD, -1]])
def test_skipped_batches_that_are_not_there_are_refused(run, name):
    loader = open_mixture(run.path, batch_size=4)
    with pytest.raises(ValueError, match=f"the state skipped record batch {name[1]} of shard '{name[0]}'"):
        loader.load_state_dict(loader.state_dict() | {"skipped_batches": [name]})


def test_what_to_do_is_one_of_two(run):
    with pytest.raises(ValueError, match="on_corrupt is 'ignore': give 'raise' or"):
        open_mixture(run.path, batch_size=4, on_corrupt="ignore")
