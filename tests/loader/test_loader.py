"""Opening, ranks, state, and what is refused."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.loader.small_run import Stored
from tokenmill.manifests.shards import CorruptShardError
from tokenmill.pipeline.loader import Batch, Llada, latest_mixture, open_mixture
from tokenmill.pipeline.loader.reader import Reader
from tokenmill.pipeline.storage import Storage

BY_ROW = ("clean", "noisy", "masked", "maskable", "mask_probability", "loss_weight", "position_ids", "component")


def by_row(batches: list[Batch]) -> dict[int, list]:
    """What each global row was, by its number; a row that comes twice is an error."""
    found: dict[int, list] = {}
    for batch in batches:
        for i, k in enumerate(batch.rows.tolist()):
            assert k not in found
            found[k] = [getattr(batch, name)[i].tolist() for name in (*BY_ROW, "epoch", "stored_row")]
    return found


def test_rows_are_the_stored_rows_of_the_order(run):
    loader = open_mixture(run.path, batch_size=8, objective=Llada(random_length_probability=0.0))
    order = loader.order
    count = 0
    for batch in loader:
        component, epoch, row = order.order(batch.rows)
        assert batch.rows.tolist() == list(range(count, count + 8))
        assert (batch.component.tolist(), batch.epoch.tolist()) == (component.tolist(), epoch.tolist())
        assert batch.stored_row.tolist() == row.tolist()
        for i in range(8):
            name = batch.component_names[component[i]]
            assert batch.clean[i].tolist() == run.rows[name][row[i]].tolist()
            assert int(batch.maskable[i].sum()) == run.valid[name][row[i]]
        count += 8
    assert count == loader.plan.total_rows // 8 * 8
    assert count >= 100


def test_a_run_folder_opens_its_latest_mixture(run):
    by_path, by_folder = (next(iter(open_mixture(str(p), batch_size=4))) for p in (run.path, run.root))
    assert by_folder.state == by_path.state
    storage = Storage(str(run.root))
    storage.write("manifests/run-00002.ab.json", b'{"mixture": "manifests/mixtures/two.json"}')
    storage.write("manifests/run-00010.cd.json", b'{"mixture": "manifests/mixtures/ten.json"}')
    assert latest_mixture(storage) == "manifests/mixtures/ten.json"
    storage.write("manifests/run-00010.ef.json", b"{}")
    with pytest.raises(ValueError, match="two manifests numbered 00010"):
        latest_mixture(storage)
    storage.write("manifests/run-00011.aa.json", b"{}")
    with pytest.raises(ValueError, match="names no mixture"):
        latest_mixture(storage)


@pytest.mark.parametrize("ranks", [1, 2, 3, 6])
def test_ranks_partition_each_global_batch(run, ranks):
    whole = list(open_mixture(run.path, batch_size=6))
    shares = [list(open_mixture(run.path, batch_size=6, dp_rank=r, dp_size=ranks)) for r in range(ranks)]
    assert {len(share) for share in shares} == {len(whole)}
    for g, batch in enumerate(whole):
        assert [share[g].rows.tolist() for share in shares] == [batch.rows[r::ranks].tolist() for r in range(ranks)]
        assert sum(share[g].denominator for share in shares) == batch.denominator
        assert {json.dumps(share[g].state) for share in shares} == {json.dumps(batch.state)}
    assert by_row([batch for share in shares for batch in share]) == by_row(whole)


@pytest.mark.parametrize(("ranks", "batch_size"), [(1, 6), (2, 6), (3, 12), (4, 4)])
@pytest.mark.parametrize("consumed", [0, 1, 7])
def test_any_number_of_ranks_and_batch_size_resumes_exactly(run, ranks, batch_size, consumed):
    whole = by_row(list(open_mixture(run.path, batch_size=6)))
    first = open_mixture(run.path, batch_size=6)
    iterator = iter(first)
    before = [next(iterator) for _ in range(consumed)]
    state = json.loads(json.dumps(first.state_dict()))
    assert state == (before[-1].state if before else first.state_dict())
    assert state["next_row"] == 6 * consumed
    after = []
    for rank in range(ranks):
        loader = open_mixture(run.path, batch_size=batch_size, dp_rank=rank, dp_size=ranks)
        loader.load_state_dict(state)
        after += list(loader)
    resumed = by_row(before + after)
    end = 6 * consumed + (first.plan.total_rows - 6 * consumed) // batch_size * batch_size
    assert sorted(resumed) == list(range(end))
    assert all(whole[k] == resumed[k] for k in resumed if k in whole)


def test_a_loader_goes_on_where_it_stands(run):
    whole = [batch.rows.tolist() for batch in open_mixture(run.path, batch_size=5)]
    loader = open_mixture(run.path, batch_size=5)
    assert loader.num_batches == len(whole)
    seen = []
    for batch in loader:
        seen.append(batch.rows.tolist())
        if len(seen) == 3:
            break
    assert loader.num_batches == len(whole) - 3
    seen += [batch.rows.tolist() for batch in loader]
    assert seen == whole
    assert list(loader) == []


def test_a_state_loaded_between_two_batches_takes_effect(run):
    loader = open_mixture(run.path, batch_size=5)
    start, iterator = loader.state_dict(), iter(loader)
    first = [next(iterator).rows.tolist() for _ in range(3)]
    loader.load_state_dict(start)
    assert [next(iterator).rows.tolist() for _ in range(3)] == first


def test_the_state_of_another_plan_is_refused(run, make_run):
    loader = open_mixture(run.path, batch_size=4)
    others = {
        "plan": open_mixture(run.path, batch_size=4, total_rows=40),
        "noise_seed": open_mixture(run.path, batch_size=4, seed=99),
        "objective": open_mixture(run.path, batch_size=4, mask_token_id=50),
    }
    for field, other in others.items():
        mine, theirs = loader.state_dict()[field], other.state_dict()[field]
        with pytest.raises(ValueError, match=re.escape(f"state's {field} is {theirs!r}, this loader's {mine!r}")):
            loader.load_state_dict(other.state_dict())
    for field, value in {"format": "x", "skipped_batches": 3, "next_row": 10**9}.items():
        with pytest.raises(ValueError, match=f"state's {field} is"):
            loader.load_state_dict(loader.state_dict() | {field: value})
    assert loader.state_dict()["next_row"] == 0


def test_a_noise_seed_changes_the_noise_and_not_the_order(run):
    one, two = (next(iter(open_mixture(run.path, batch_size=16, seed=seed))) for seed in (1, 2))
    assert one.clean.tolist() == two.clean.tolist()
    assert one.masked.tolist() != two.masked.tolist()


def test_a_mask_id_past_the_vocabulary(run):
    batch = next(iter(open_mixture(run.path, batch_size=16, mask_token_id=50)))
    assert (batch.noisy == 50).tolist() == batch.masked.tolist()


def test_a_mask_id_in_the_data_is_refused(run):
    with pytest.raises(ValueError, match=r"mask_token_id 3 occurs in the data, at place \d+ of global row \d+"):
        list(open_mixture(run.path, batch_size=16, mask_token_id=3))


def test_dropped_tails_become_padding(run):
    objective = Llada(random_length_probability=1.0, tail="drop")
    batch = next(iter(open_mixture(run.path, batch_size=64, objective=objective)))
    assert (batch.clean == 0).tolist() == (~batch.maskable).tolist()
    assert 0.2 < batch.maskable.mean() < 0.8


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"batch_size": 10, "dp_size": 4},
            "batch_size 10 (all ranks together) does not divide among 4 ranks: give 8 or 12",
        ),
        ({"batch_size": 0}, "batch_size 0"),
        ({"batch_size": 4, "dp_rank": 2, "dp_size": 2}, "dp_rank 2 of dp_size 2"),
        ({"batch_size": 4, "objective": "bert"}, "no objective 'bert': there are 'llada', 'llada_sft'"),
        ({"batch_size": 4, "seed": -1}, "seed is -1"),
        ({"batch_size": 4, "total_rows": 10**6}, "Either plan at most 268 rows"),
        ({"batch_size": 4, "window_bytes": 100}, "window_bytes is 100"),
    ],
)
def test_bad_arguments_are_refused(run, fields, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        open_mixture(run.path, **fields)


def test_wrong_places_are_refused(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="is the run finished"):
        open_mixture(str(tmp_path / "nowhere"), batch_size=4)
    with pytest.raises(FileNotFoundError, match="no such file"):
        open_mixture(f"{run.root}/manifests/mixtures/{'0' * 32}.json", batch_size=4)
    with pytest.raises(ValueError, match=re.escape("is not a run's manifests/mixtures/<hash>.json")):
        open_mixture(f"{run.root}/mixture.json", batch_size=4)


def test_changed_manifests_are_refused(run):
    table = Path(run.root, run.mixture.shard_table_path)
    table.write_bytes(table.read_bytes() + b"!")
    with pytest.raises(ValueError, match=r"shard table .* hashes to"):
        open_mixture(run.path, batch_size=4)
    Path(run.path).write_text(Path(run.path).read_text().replace('"seed": 7', '"seed": 8'))
    with pytest.raises(ValueError, match="not to its name"):
        open_mixture(run.path, batch_size=4)


def test_a_corrupt_byte_is_named(run):
    shard = run.shards.filter(
        [path.endswith("unit-001.000.arrow") for path in run.shards["path"].to_pylist()]
    ).to_pylist()[0]
    file = Path(run.root, shard["path"])
    data = bytearray(file.read_bytes())
    data[shard["batch_offsets"][2] + shard["batch_lengths"][2] // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(CorruptShardError, match=f"record batch 2 of shard .*{re.escape(shard['path'])} is corrupt"):
        list(open_mixture(run.path, batch_size=4))


def test_a_truncated_shard_is_named(run):
    path = run.shards["path"].to_pylist()[0]
    file = Path(run.root, path)
    file.write_bytes(file.read_bytes()[: run.shards["batch_offsets"].to_pylist()[0][-1] + 8])
    with pytest.raises(CorruptShardError, match=f"of shard .*{re.escape(path)} is corrupt"):
        list(open_mixture(run.path, batch_size=4))


def test_two_shards_swapped_are_noticed(run):
    one, two = (Path(run.root, path) for path in run.shards["path"].to_pylist()[1:3])
    kept = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(kept)
    with pytest.raises(CorruptShardError, match="is corrupt"):
        list(open_mixture(run.path, batch_size=4))


def counted(run, monkeypatch) -> list[tuple[str, int]]:
    """Every range read from now on: (path, offset)."""
    reads = []
    read_range = Storage.read_range

    def counting(self, path, offset, length, **waiting):
        reads.append((path, offset))
        return read_range(self, path, offset, length, **waiting)

    monkeypatch.setattr(Storage, "read_range", counting)
    return reads


def test_each_record_batch_is_fetched_once_an_epoch(run, monkeypatch):
    reads = counted(run, monkeypatch)
    loader = open_mixture(run.path, batch_size=4)
    assert reads == []
    batches = list(loader)
    assert len(reads) == len(set(reads)) == sum(len(rows) for rows in run.shards["batch_rows"].to_pylist())
    assert len(batches) == 67


def test_a_rank_fetches_only_batches_that_hold_its_rows(make_run, monkeypatch):
    run = make_run([Stored("a/train", 1.0, [[[1] * 40]])], length=16, vocab_size=50)
    reads = counted(run, monkeypatch)
    batches = list(open_mixture(run.path, batch_size=4, dp_rank=1, dp_size=4))
    assert sum(batch.rows.size for batch in batches) == 10
    assert len(reads) == len(set(reads)) == 10


def test_memory_is_bounded_and_failed_reads_are_tried_again(run, monkeypatch):
    fields = {"length": 16, "vocab_size": 50}
    reader = Reader(Storage(str(run.root)), run.shards, memory_bytes=8 * 32 * 2, **fields)
    reads = counted(run, monkeypatch)
    sizes = [size for shard in run.shards["batch_rows"].to_pylist() for size in shard]
    for batch in [*range(len(sizes)), 0]:
        assert reader.get(batch).tokens.shape == (sizes[batch], 16)
        assert reader._held_bytes == sum(sizes[held] * 32 for held in reader._held) <= 8 * 32 * 2
    assert len(reads) == len(sizes) + 1
    good = Storage.read_range
    monkeypatch.setattr(Storage, "read_range", lambda *_, **__: (_ for _ in ()).throw(OSError("no route")))
    with pytest.raises(OSError, match="no route"):
        reader.get(5)
    monkeypatch.setattr(Storage, "read_range", good)
    assert reader.get(5).tokens.shape == (sizes[5], 16)


def test_wide_vocabularies_are_read_as_uint32(make_run):
    tokens = np.arange(8 * 4).reshape(8, 4) + 70_000
    run = make_run([Stored("a/train", 1.0, [[[8]]], tokens=tokens)], length=4, vocab_size=80_000)
    batch = next(iter(open_mixture(run.path, batch_size=8)))
    assert sorted(batch.clean.tolist()) == tokens.tolist()


IMPORTS = """
import sys, time
before = time.process_time()
import tokenmill.pipeline.loader
took = time.process_time() - before
heavy = {"ray", "torch", "pydantic", "click", "tokenizers", "pandas"}
roots = {name.split(".")[0] for name in sys.modules}
ours = {name.split(".")[2] for name in sys.modules if name.startswith("tokenmill.pipeline.")}
print(took, sorted(heavy & roots), sorted(ours))
"""


def test_import_is_quick_and_light():
    runs = [
        subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True, check=True) for _ in range(3)
    ]
    answers = [run.stdout.strip().split(" ", 1) for run in runs]
    assert {rest for _, rest in answers} == {"[] ['loader', 'retries', 'storage']"}
    assert min(float(took) for took, _ in answers) < 1.0
