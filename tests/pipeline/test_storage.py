"""Storage: a file is there whole or not at all."""

from pathlib import Path

import pytest
import xxhash

from tokenmill.pipeline.storage import Storage


def test_a_commit_is_atomic_and_hashed(tmp_path: Path):
    storage = Storage(str(tmp_path))
    stored = storage.write("a/b.bin", b"content")
    assert (stored.path, stored.bytes, stored.hash) == ("a/b.bin", 7, xxhash.xxh3_128_hexdigest(b"content"))
    assert storage.read("a/b.bin") == b"content"
    assert storage.read_range("a/b.bin", 2, 3) == b"nte"
    assert storage.read_range("a/b.bin", 5, 100) == b"nt"
    assert storage.sizes() == {"a/b.bin": 7}


def test_the_hash_may_stand_in_the_name(tmp_path: Path):
    stored = Storage(str(tmp_path)).write("t.{hash}.json", b"x")
    assert stored.path == f"t.{xxhash.xxh3_128_hexdigest(b'x')}.json"


def test_a_draft_that_fails_leaves_nothing(tmp_path: Path):
    storage = Storage(str(tmp_path))

    def write_half() -> None:
        with storage.temporary() as draft:
            draft.file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_half()
    assert storage.sizes() == {}


def test_a_missing_file_is_named_in_full(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=str(tmp_path / "absent")):
        Storage(str(tmp_path)).open("absent")


def test_deleting_twice_is_no_error(tmp_path: Path):
    storage = Storage(str(tmp_path))
    storage.write("a", b"")
    storage.delete("a")
    storage.delete("a")
    assert storage.sizes() == {}


def test_what_is_there_may_stay(tmp_path: Path):
    storage = Storage(str(tmp_path))
    (tmp_path / "a").write_bytes(b"before")
    for data, found in ((b"behind", b"before"), (b"longer, so not the same", b"longer, so not the same")):
        with storage.temporary() as draft:
            draft.file.write(data)
            assert draft.commit("a", replace=False).bytes == len(data)
        assert (tmp_path / "a").read_bytes() == found
