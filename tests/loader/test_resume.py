"""Kills, forks, exits and other numbers of ranks: every row is what it was in the unbroken run."""

import json
import subprocess
import sys
import threading

import numpy as np
import pytest

from tests.loader.forking import rows_after_a_fork
from tests.loader.row_digests import row_digests
from tests.loader.small_run import Stored
from tokenmill.pipeline.loader import Batch, Loader, open_mixture

TRAINS = """
import json, os, signal, sys
from tests.loader.forking import rows_after_a_fork
from tests.loader.row_digests import row_digests
from tokenmill.pipeline.loader import open_mixture
path, folder, kill_at, moment = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
loader = open_mixture(path, batch_size=4, prefetch_batches=3)
if os.path.exists(f"{folder}/state.json"):
    loader.load_state_dict(json.load(open(f"{folder}/state.json")))
def kill(number, now):
    if (number, now) == (kill_at, moment):
        os.kill(os.getpid(), signal.SIGKILL)
for number, batch in enumerate(loader):
    kill(number, "got")
    with open(f"{folder}/log.jsonl", "a") as log:
        log.write(json.dumps(row_digests([batch])) + "\\n")
    kill(number, "trained")
    with open(f"{folder}/new.json", "w") as file:
        json.dump(loader.state_dict(), file)
    os.replace(f"{folder}/new.json", f"{folder}/state.json")
    kill(number, "saved")
"""


def test_a_run_killed_at_any_batch_resumes_exactly(run, tmp_path):
    """Killed with SIGKILL between a batch, its training and its state; what was trained on twice was the same."""
    whole = row_digests(open_mixture(run.path, batch_size=4))
    kills = [(0, "got"), (6, "trained"), (17, "saved"), (23, "got"), (-1, "never")]
    for number, moment in kills:
        command = [sys.executable, "-c", TRAINS, run.path, str(tmp_path), str(number), moment]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == (-9 if number >= 0 else 0), done.stderr
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    trained = [(int(k), digest) for line in lines for k, digest in line.items()]
    assert dict(trained) == whole
    assert all(whole[k] == digest for k, digest in trained)
    assert len(trained) == len(whole) + 4  # the batch that was trained on and not saved


def of_all_ranks(path: str, ranks: int, state: dict | None, batches: int | None = None, **fields) -> tuple[dict, dict]:
    """Rows of all ranks' next batches, to the end or so many of them, and the state behind."""
    found: dict[int, str] = {}
    for rank in range(ranks):
        loader = open_mixture(path, dp_rank=rank, dp_size=ranks, **fields)
        if state is not None:
            loader.load_state_dict(state)
        for number, batch in enumerate(loader, 1):
            found |= row_digests([batch])
            if number == batches:
                break
        after = loader.state_dict()
    return found, after


@pytest.mark.parametrize("ranks", [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64])
def test_any_number_of_ranks_gives_the_same_rows(run, ranks):
    whole = row_digests(open_mixture(run.path, batch_size=1))
    size = 192 if 192 % ranks == 0 else 64
    found, after = of_all_ranks(run.path, ranks, None, batch_size=size)
    assert found == {k: whole[k] for k in range(268 // size * size)}
    assert after["next_row"] == len(found)


def test_ranks_batch_size_and_depth_may_change_at_each_resume(run):
    whole = row_digests(open_mixture(run.path, batch_size=1))
    found: dict[int, str] = {}
    state = None
    for ranks, size, batches, depth in [(64, 64, 1, 1), (5, 20, 3, 4), (1, 7, 2, 2), (16, 32, 2, 9), (3, 6, None, 1)]:
        part, state = of_all_ranks(run.path, ranks, state, batches, batch_size=size, prefetch_batches=depth)
        assert not part.keys() & found.keys()
        found |= part
    assert found == {k: whole[k] for k in range(state["next_row"])}
    assert 268 - state["next_row"] < 6


@pytest.mark.parametrize(("ranks", "size"), [(1, 5), (4, 8), (7, 56)])
def test_the_partial_last_batch_is_dropped_on_every_rank(run, ranks, size):
    counts = []
    for rank in range(ranks):
        loader = open_mixture(run.path, batch_size=size, dp_rank=rank, dp_size=ranks)
        expected = loader.num_batches
        batches = list(loader)
        counts.append(len(batches))
        assert {batch.rows.size for batch in batches} == {size // ranks}
        assert (expected, loader.num_batches) == (len(batches), 0)
    assert set(counts) == {268 // size}


def test_an_epoch_ends_within_a_batch(make_run):
    run = make_run([Stored("a/train", 1.0, [[[3, 4]]], max_epochs=4)], length=8, vocab_size=40)
    batches = list(open_mixture(run.path, batch_size=4))
    assert [batch.epoch.tolist() for batch in batches[:4]] == [[0] * 4, [0, 0, 0, 1], [1] * 4, [1, 1, 2, 2]]
    rows = np.concatenate([batch.stored_row for batch in batches])
    assert [sorted(rows[epoch * 7 : epoch * 7 + 7].tolist()) for epoch in range(4)] == [list(range(7))] * 4
    whole = row_digests(batches)
    assert row_digests(open_mixture(run.path, batch_size=1)) == whole
    loader = open_mixture(run.path, batch_size=3)
    loader.load_state_dict(batches[1].state)  # row 8, the second of the second epoch
    assert row_digests(loader) == {k: whole[k] for k in range(8, 26)}


def test_a_source_of_one_row_and_a_weight_too_small_for_most_blocks(make_run):
    """One row, visited again and again, and a component that comes about once in five blocks of 1,024 rows."""
    run = make_run(
        [
            Stored("web/train", 1.0, [[[64] * 4]], max_epochs=1000),
            Stored("one/train", 0.2, [[[1]]], max_epochs=10**5),
            Stored("rare/train", 0.0002, [[[2, 1]]], max_epochs=1000),
        ],
        length=4,
        vocab_size=80,
    )
    loader = open_mixture(run.path, batch_size=256, total_rows=10 * 1024)
    batches = list(loader)
    names = batches[0].component_names
    component = np.concatenate([batch.component for batch in batches])
    assert np.bincount(component).tolist() == list(loader.plan.mixture.counts(10 * 1024))
    rare = np.flatnonzero(component == names.index("rare/train"))
    assert 1 <= len({row // 1024 for row in rare.tolist()}) <= 3
    of_one = component == names.index("one/train")
    assert set(np.concatenate([batch.stored_row for batch in batches])[of_one].tolist()) == {0}
    assert np.concatenate([batch.epoch for batch in batches])[of_one].tolist() == list(range(of_one.sum()))
    whole = row_digests(batches)
    resumed, _ = of_all_ranks(run.path, 2, batches[20].state, batch_size=128, total_rows=10 * 1024)
    assert resumed == {k: digest for k, digest in whole.items() if k >= 21 * 256}


@pytest.mark.parametrize("objective", ["llada", "illada", "autoregressive"])
def test_a_row_that_is_all_padding(make_run, objective):
    run = make_run([Stored("a/train", 1.0, [[[5]]], valid=lambda i: 0 if i in (1, 4) else 8)], length=8, vocab_size=40)
    (batch,) = open_mixture(run.path, batch_size=5, objective=objective)
    empty = np.isin(batch.stored_row, (1, 4))
    assert empty.sum() == 2
    if objective == "autoregressive":
        assert (batch.labels[empty] == -100).all()
        assert (batch.input_ids[empty] == 0).all()
    else:
        assert not batch.maskable[empty].any()
        assert batch.maskable[~empty].all()
        assert (batch.noisy[empty] == 0).all()
    inside = [int(((batch.cu_seqlens >= row * 8) & (batch.cu_seqlens < row * 8 + 8)).sum()) for row in range(5)]
    assert [inside[row] for row in np.flatnonzero(empty)] == [1, 1]


def test_a_trainer_that_ends_amid_a_batch_ends_well(run):
    """The iterator is still held when the interpreter ends."""
    code = (
        "import sys\nfrom tokenmill.pipeline.loader import open_mixture\n"
        "batches = iter(open_mixture(sys.argv[1], batch_size=4))\nprint(next(batches).rows.tolist())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, run.path], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "[0, 1, 2, 3]\n", "")


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("tokenmill")}


def test_threads_start_with_the_first_batch_and_end_with_the_iterator(run):
    loader = open_mixture(run.path, batch_size=4)
    iterator = iter(loader)
    assert threads() == set()
    first = next(iterator)
    assert "tokenmill-planner" in threads()
    iterator.close()
    assert threads() == set()
    with loader:
        second = next(iter(loader))
        assert (first.rows[0], second.rows[0]) == (0, 4)
        third = iter(loader)
        next(third)
    assert threads() == set()
    assert next(third).rows[0] == 12  # closed, and started again
    list(third)
    assert threads() == set()


def test_an_iterator_goes_on_in_a_forked_process(run):
    assert rows_after_a_fork(run.path) == 268


def test_an_error_comes_at_its_batch_and_the_next_iteration_tries_it_again(run, monkeypatch):
    whole = row_digests(open_mixture(run.path, batch_size=4))
    broken, plan_from = threading.Event(), Loader._plan_from

    def planned(self: Loader, first_row: int):
        for wanted in plan_from(self, first_row):
            if wanted.first_row == 36 and not broken.is_set():
                broken.set()
                raise OSError("of the tenth batch")
            yield wanted

    monkeypatch.setattr(Loader, "_plan_from", planned)
    loader = open_mixture(run.path, batch_size=4, prefetch_batches=5)
    found: list[Batch] = []
    with pytest.raises(OSError, match="of the tenth batch"):
        found.extend(loader)
    assert loader.state_dict()["next_row"] == 36 == 4 * len(found)
    assert row_digests([*found, *loader]) == whole


@pytest.mark.parametrize("depth", [0, -1])
def test_reading_not_ahead_at_all_is_refused(run, depth):
    with pytest.raises(ValueError, match=f"prefetch_batches is {depth}: give at least 1"):
        open_mixture(run.path, batch_size=4, prefetch_batches=depth)


def test_two_iterators_of_a_loader_share_its_rows(run):
    loader = open_mixture(run.path, batch_size=4)
    one, two = iter(loader), iter(loader)
    assert [int(next(iterator).rows[0]) for iterator in (one, two, two, one)] == [0, 4, 8, 12]
    one.close()
    assert int(next(two).rows[0]) == 16


def test_the_state_is_of_the_batch_handed_out(run):
    loader = open_mixture(run.path, batch_size=4, prefetch_batches=8)
    for number, batch in enumerate(loader, 1):
        assert loader.state_dict()["next_row"] == batch.state["next_row"] == 4 * number
