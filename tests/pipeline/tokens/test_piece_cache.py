"""The cache of pieces: what it holds is what was put in, whatever is forgotten, and whatever hashes are equal."""

import random

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pipeline.tokens.byte_level_tokenizers import PRE_TOKENIZERS, train
from tokenmill.kernels import kernel
from tokenmill.pipeline.tokens.byte_level import read
from tokenmill.pipeline.tokens.byte_level_encoder import ByteLevelEncoder
from tokenmill.pipeline.tokens.piece_cache import (
    find_long,
    find_short,
    first_bytes,
    hash_bytes,
    keep_long,
    keep_short,
    piece_cache,
    short_ids,
    short_row,
)
from tokenmill.pipeline.tokens.probes import strings


@kernel
def _first(data, at, number):  # type: ignore[no-untyped-def]
    return first_bytes(data, at, number)


@kernel
def _hash(data, at, number):  # type: ignore[no-untyped-def]
    return hash_bytes(data, at, number)


@kernel
def _find_short(data, at, number, short, out):  # type: ignore[no-untyped-def]
    row = find_short(data, at, number, short_row(data, at, number, short), short)
    return -1 if row < 0 else short_ids(short, row, out, 0)


@kernel
def _keep_short(data, at, number, short, ids):  # type: ignore[no-untyped-def]
    keep_short(data, at, number, short_row(data, at, number, short), short, ids, 0, ids.shape[0])


@kernel
def _find_long(data, at, number, mixed, long, kept, out):  # type: ignore[no-untyped-def]
    return find_long(data, at, number, mixed, long, kept, out, 0)


@kernel
def _keep_long(data, at, number, mixed, long, kept, used, ids):  # type: ignore[no-untyped-def]
    keep_long(data, at, number, mixed, long, kept, used, ids, 0, ids.shape[0])


def array(data: bytes) -> np.ndarray:
    return np.frombuffer(data, np.uint8)


class Short:
    """`short` from Python."""

    def __init__(self, rows: int) -> None:
        self.table = np.zeros((rows, 4), np.uint64)

    def keep(self, piece: bytes, ids: list[int]) -> None:
        _keep_short(array(piece), 0, len(piece), self.table, np.array(ids, np.uint32))

    def find(self, piece: bytes) -> list[int] | None:
        out = np.zeros(5, np.uint32)
        count = _find_short(array(piece), 0, len(piece), self.table, out)
        return None if count < 0 else out[:count].tolist()


class Long:
    """`long` and `kept` from Python; the hash is given, so that two pieces can have one."""

    def __init__(self, rows: int, kept: int) -> None:
        self.table, self.kept, self.used = (
            np.zeros((rows, 2), np.uint64),
            np.zeros(kept, np.uint32),
            np.ones(1, np.int64),
        )

    def keep(self, piece: bytes, ids: list[int], mixed: int | None = None) -> None:
        data = array(piece)
        mixed = _hash(data, 0, len(piece)) if mixed is None else mixed
        _keep_long(data, 0, len(piece), np.uint64(mixed), self.table, self.kept, self.used, np.array(ids, np.uint32))

    def find(self, piece: bytes, mixed: int | None = None) -> list[int] | None:
        out, data = np.zeros(1024, np.uint32), array(piece)
        mixed = _hash(data, 0, len(piece)) if mixed is None else mixed
        count = _find_long(data, 0, len(piece), np.uint64(mixed), self.table, self.kept, out)
        return None if count < 0 else out[:count].tolist()


@given(data=st.binary(min_size=1, max_size=24), at=st.integers(0, 23), number=st.integers(1, 24))
def test_first_bytes(data: bytes, at: int, number: int) -> None:
    at %= len(data)
    number = min(number, len(data) - at)
    assert _first(array(data), at, number) == int.from_bytes(data[at : at + min(8, number)], "little")


@given(piece=st.binary(min_size=1, max_size=40), before=st.binary(max_size=9), behind=st.binary(max_size=9))
def test_a_hash_is_that_of_the_bytes_wherever_they_stand(piece: bytes, before: bytes, behind: bytes) -> None:
    alone = _hash(array(piece), 0, len(piece))
    assert alone == _hash(array(before + piece + behind), len(before), len(piece))
    assert alone != 0


def test_hashes_of_alike_pieces_differ() -> None:
    pieces = {bytes([byte]) * size for byte in (0, 1, 97, 255) for size in range(1, 100)}
    pieces |= {b"\0" * place + b"\1" + b"\0" * (30 - place) for place in range(30)}
    assert len({int(_hash(array(piece), 0, len(piece))) for piece in pieces}) == len(pieces)


IDS = st.lists(st.integers(0, 2**24 - 1), min_size=1, max_size=5)


@given(kept=st.lists(st.tuples(st.binary(min_size=1, max_size=15), IDS), max_size=30), rows=st.sampled_from([2, 4, 64]))
def test_short_pieces_come_back_or_are_forgotten(kept: list[tuple[bytes, list[int]]], rows: int) -> None:
    cache, known = Short(rows), {}
    for piece, ids in kept:
        if cache.find(piece) is None:  # as the kernel does: a piece is kept once
            cache.keep(piece, ids)
            known[piece] = ids
        assert cache.find(piece) == known[piece]
    assert all(cache.find(piece) in (None, ids) for piece, ids in known.items())
    absent = {bytes([byte]) * size for byte in (0, 97) for size in range(1, 16)} - known.keys()
    assert [piece for piece in absent if cache.find(piece) is not None] == []


def test_a_new_piece_takes_its_row_and_what_stood_there_the_row_beside() -> None:
    def row_of(piece: bytes) -> int:
        cache = Short(2)
        cache.keep(piece, [1])
        return int(np.flatnonzero(cache.table[:, 3])[0])

    first, second, third = [bytes([byte]) for byte in range(32) if row_of(bytes([byte])) == 0][:3]
    cache = Short(2)
    cache.keep(first, [1])
    cache.keep(second, [2, 2**24 - 1])
    assert (cache.find(first), cache.find(second)) == ([1], [2, 2**24 - 1])
    cache.keep(third, [3, 0, 2**24 - 1])
    assert [cache.find(piece) for piece in (first, second, third)] == [None, [2, 2**24 - 1], [3, 0, 2**24 - 1]]


def test_an_empty_table_has_no_piece_not_even_of_zeros() -> None:
    assert [Short(64).find(b"\0" * size) for size in range(1, 16)] == [None] * 15
    assert [Long(64, 1024).find(b"\0" * size) for size in (1, 16, 500)] == [None] * 3


def test_of_two_pieces_with_one_hash_each_is_only_itself() -> None:
    """Also of one length, of other lengths with the same beginning, and where the last byte alone differs."""
    cache, mixed = Long(64, 4096), 0xABCDEF0123456789
    pieces = [b"x" * 20, b"x" * 19 + b"y", b"x" * 21, b"y" + b"x" * 19, b"x" * 17, b"x" * 20 + b"\0"]
    for number, piece in enumerate(pieces):
        assert [cache.find(other, mixed) for other in pieces[number:]] == [None] * (len(pieces) - number)
        cache.keep(piece, [number, 99], mixed)
        assert cache.find(piece, mixed) == [number, 99]


def test_two_pieces_with_one_hash_are_made_to_measure() -> None:
    """The hash takes in eight bytes by a multiplication: its middle can be undone, so two pieces are made to meet."""
    m2 = 0xD6E8FEB86659FD93
    first = b"collision of sixteen"  # 20 bytes: words of 8, 8 and 4

    def after_first(word: bytes) -> int:
        mixed = 20 * 0x9E3779B97F4A7C15 % 2**64
        mixed = (mixed ^ int.from_bytes(word, "little")) * m2 % 2**64
        return mixed ^ mixed >> 32

    difference = after_first(first[:8]) ^ after_first(b"COLLISIO")
    second = b"COLLISIO" + (int.from_bytes(first[8:16], "little") ^ difference).to_bytes(8, "little") + first[16:]
    mixed = {int(_hash(array(piece), 0, 20)) for piece in (first, second)}
    assert first != second
    assert len(mixed) == 1
    cache = Long(64, 4096)
    cache.keep(first, [1, 2, 3, 4])
    assert (cache.find(first), cache.find(second)) == ([1, 2, 3, 4], None)


@given(seed=st.integers(0, 10**6), kept=st.sampled_from([1024, 1300, 4000]))
def test_long_pieces_come_back_or_are_forgotten(seed: int, kept: int) -> None:
    """Room for some 60 pieces: all are forgotten again and again."""
    rng, cache, known = random.Random(seed), Long(64, kept), {}
    pieces = [rng.randbytes(rng.randrange(1, 120)) for _ in range(150)]
    for piece in (rng.choice(pieces) for _ in range(300)):
        if cache.find(piece) is None:
            known[piece] = [rng.randrange(2**32) for _ in range(rng.randrange(1, len(piece) + 1))]
            cache.keep(piece, known[piece])
        assert cache.find(piece) == known[piece]
        assert cache.used[0] <= kept
    assert all(cache.find(piece) in (None, ids) for piece, ids in known.items())


def test_a_piece_that_would_fill_the_room_is_not_kept() -> None:
    cache = Long(64, 1024)
    cache.keep(b"a" * 40, [7])
    cache.keep(b"b" * 500, list(range(400)))
    assert (cache.find(b"a" * 40), cache.find(b"b" * 500), cache.used[0]) == ([7], None, 1 + 2 + 10 + 1)


@pytest.mark.parametrize("cache_bytes", [0, 1, 4096, 100_000, 1 << 20, 32 << 20, (32 << 20) + 12345, 1 << 28])
def test_a_cache_takes_what_it_may(cache_bytes: int) -> None:
    cache = piece_cache(cache_bytes)
    taken = cache.short.nbytes + cache.long.nbytes + cache.kept.nbytes
    assert taken <= max(cache_bytes, 7 << 10)
    if cache_bytes >= 1 << 16:
        assert taken > 0.99 * cache_bytes


@pytest.mark.parametrize("cache_bytes", [0, 10_000, 1 << 20])
def test_ids_are_the_same_whatever_is_forgotten(cache_bytes: int) -> None:
    made = read(train(PRE_TOKENIZERS["llama3"]))
    long = [f"{text}{'x' * (size % 700)}é{size}" for size, text in enumerate(strings(5, 300))]
    texts = pa.array([*strings(5, 1500), *long, *strings(5, 1500)], pa.large_string())
    large, small = ByteLevelEncoder(made), ByteLevelEncoder(made, cache_bytes)
    expected = large.encode(texts, (), ())
    for _ in range(2):
        assert [part.tolist() for part in small.encode(texts, (), ())] == [part.tolist() for part in expected]


def test_memory_is_the_cache_s_however_much_is_read() -> None:
    made = ByteLevelEncoder(read(train(PRE_TOKENIZERS["llama3"])), 10_000)
    before = [part.nbytes for part in made._cache]
    for seed in range(3):
        made.encode(pa.array(list(strings(seed, 500)), pa.large_string()), (), ())
    assert [part.nbytes for part in made._cache] == before
    assert 1 <= made._cache.used[0] <= len(made._cache.kept)
