"""The node's cache: right bytes or none, within its limit, shared, and never a reason to stop."""

import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import xxhash

from tests.loader.row_digests import row_digests
from tests.loader.small_run import Run, Stored, write_run
from tests.loader.test_loader import counted
from tokenmill.pipeline.loader import open_mixture
from tokenmill.pipeline.loader.cache import BatchCache


def written(cache: BatchCache, data: bytes) -> bytes:
    digest = xxhash.xxh3_128_digest(data)
    cache.write(digest, data)
    return digest


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def size(folder: Path) -> int:
    return sum(path.stat().st_size for path in files(folder))


def test_what_was_written_is_read(tmp_path):
    cache = BatchCache(str(tmp_path / "cache"))
    digest = written(cache, b"some bytes")
    assert cache.read(digest) == b"some bytes"
    assert BatchCache(str(tmp_path / "cache"), 10**12).read(digest) == b"some bytes"
    assert cache.read(bytes(16)) is None
    assert len(files(tmp_path)) == 1


def test_a_second_loader_reads_no_shard(run, tmp_path, monkeypatch):
    reads = counted(run, monkeypatch)
    whole = row_digests(open_mixture(run.path, batch_size=4))
    del reads[:]
    cached = [row_digests(open_mixture(run.path, batch_size=4, cache_dir=str(tmp_path / "cache"))) for _ in range(2)]
    assert cached == [whole, whole]
    assert len(reads) == len(set(reads)) == sum(len(rows) for rows in run.shards["batch_rows"].to_pylist())


def test_a_damaged_file_is_removed_and_fetched_anew(run, tmp_path, caplog):
    whole = row_digests(open_mixture(run.path, batch_size=4, cache_dir=str(tmp_path / "cache")))
    kept = {path: path.read_bytes() for path in files(tmp_path / "cache")}
    flipped, short, *_ = kept
    flipped.write_bytes(kept[flipped][:-1] + bytes([kept[flipped][-1] ^ 1]))
    short.write_bytes(kept[short][:-9])
    with caplog.at_level(logging.WARNING):
        assert row_digests(open_mixture(run.path, batch_size=4, cache_dir=str(tmp_path / "cache"))) == whole
    assert sorted(record.getMessage().split()[3] for record in caplog.records) == sorted(map(str, (flipped, short)))
    assert {path: path.read_bytes() for path in files(tmp_path / "cache")} == kept


def test_the_cache_of_an_older_manifest_gives_no_wrong_bytes(tmp_path):
    """The second run has other rows under the same paths, and one shard of the first."""

    def published(name: str, weight: float, rows: int) -> Run:
        stored = [Stored("a/train", 1.0, [[[4, 4]]]), Stored("b/train", weight, [[[rows, 2]]])]
        return write_run(tmp_path / name, stored, length=8, vocab_size=40)

    older, newer = published("older", 1.0, 3), published("newer", 2.0, 5)
    assert older.shards["path"] == newer.shards["path"]
    cache = str(tmp_path / "cache")
    list(open_mixture(older.path, batch_size=1, cache_dir=cache))
    assert row_digests(open_mixture(newer.path, batch_size=1, cache_dir=cache)) == row_digests(
        open_mixture(newer.path, batch_size=1)
    )


def test_the_least_recently_used_go_first(tmp_path):
    cache = BatchCache(str(tmp_path / "cache"), 1000)
    digests = [written(cache, bytes([number]) * 100) for number in range(10)]
    for number, path in ((n, p) for n, digest in enumerate(digests) for p in files(tmp_path) if p.name == digest.hex()):
        os.utime(path, ns=(number, number))
    assert cache.read(digests[0]) is not None
    written(cache, b"x" * 100)
    assert [number for number, digest in enumerate(digests) if cache.read(digest) is None] == [1, 2, 3]


@pytest.mark.parametrize("limit", [1, 5000, 300 << 20])
def test_the_limit_is_kept(tmp_path, limit):
    cache = BatchCache(str(tmp_path / "cache"), limit)
    for number in range(40):
        written(cache, number.to_bytes(4, "big") * 200)
        assert size(tmp_path) <= limit


def test_a_cache_has_groups_where_it_is_large(tmp_path):
    """Making room in one group leaves the others alone."""
    cache = BatchCache(str(tmp_path / "cache"), 1 << 30)
    assert cache._width == 32
    cache._group_bytes = 250
    datas = [number.to_bytes(4, "big") * 25 for number in range(200)]
    for data in datas:
        written(cache, data)
    groups = [int(path.name[:2], 16) // 32 for path in files(tmp_path)]
    assert {groups.count(group) for group in range(8)} == {2}


def test_old_drafts_are_removed_and_young_ones_stay(tmp_path):
    cache = BatchCache(str(tmp_path))
    written(cache, b"first")
    drafts = tmp_path / "tokenmill-batches" / "tmp"
    (drafts / "old").write_bytes(b"left by a killed process")
    (drafts / "young").write_bytes(b"being written")
    os.utime(drafts / "old", (time.time() - 7200,) * 2)
    written(BatchCache(str(tmp_path)), b"second")
    assert [path.name for path in drafts.iterdir()] == ["young"]


def test_a_cache_that_cannot_be_written_is_said_once(run, tmp_path, caplog):
    (tmp_path / "file").write_bytes(b"")
    whole = row_digests(open_mixture(run.path, batch_size=4))
    with caplog.at_level(logging.WARNING):
        assert row_digests(open_mixture(run.path, batch_size=4, cache_dir=str(tmp_path / "file"))) == whole
    assert [record.getMessage().split(" (")[0] for record in caplog.records] == [
        f"the cache in {tmp_path}/file/tokenmill-batches does not work"
    ]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"cache_dir": "s3://bucket/cache"}, "cache_dir is 's3://bucket/cache'"),
        ({"cache_dir": "cache", "cache_bytes": 0}, "cache_bytes is 0"),
    ],
)
def test_bad_arguments_are_refused(run, fields, message):
    with pytest.raises(ValueError, match=message):
        open_mixture(run.path, batch_size=4, **fields)


IN_A_PROCESS = """
import json, logging, resource, sys
from tests.loader.row_digests import row_digests
from tokenmill.pipeline.loader import open_mixture
path, cache, limit, cache_bytes, times = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:])
logging.basicConfig(format="%(levelname)s %(message)s")
loaders = [open_mixture(path, batch_size=4, cache_dir=cache, cache_bytes=cache_bytes) for _ in range(times)]
warm = row_digests(open_mixture(path, batch_size=4))
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
for loader in loaders:
    assert row_digests(loader) == warm
print(json.dumps(warm))
"""


def start(run: Run, cache: Path, limit: int = 0, cache_bytes: int = 1 << 20, times: int = 1) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", IN_A_PROCESS, run.path, str(cache), *map(str, (limit, cache_bytes, times))]
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_full_disk_is_said_once_and_nothing_half_written_stays(run, tmp_path):
    """A limit on the size of files stands in for the disk: the system refuses the same writes."""
    lengths = [length for lengths in run.shards["batch_lengths"].to_pylist() for length in lengths]
    limit = sorted(lengths)[len(lengths) // 2]
    process = start(run, tmp_path / "cache", limit)
    out, said = process.communicate(timeout=300)
    assert process.returncode == 0, said
    assert said.count("WARNING") == 1
    assert "File too large" in said
    assert {int(row) for row in json.loads(out)} == set(row_digests(open_mixture(run.path, batch_size=4)))
    kept = files(tmp_path / "cache")
    assert {path.stat().st_size for path in kept} == {length for length in lengths if length <= limit}
    assert [path for path in kept if path.parent.name == "tmp"] == []


def test_two_processes_fill_and_empty_one_cache_at_once(run, tmp_path):
    lengths = [length for lengths in run.shards["batch_lengths"].to_pylist() for length in lengths]
    limit = sum(lengths) // 2
    processes = [start(run, tmp_path / "cache", cache_bytes=limit, times=12) for _ in range(2)]
    answers = [process.communicate(timeout=300) for process in processes]
    assert [(process.returncode, said) for process, (_, said) in zip(processes, answers, strict=True)] == [(0, "")] * 2
    assert answers[0][0] == answers[1][0]
    assert 0 < size(tmp_path / "cache") <= limit + max(lengths)
    for path in files(tmp_path / "cache"):
        assert xxhash.xxh3_128_hexdigest(path.read_bytes()) == path.name
