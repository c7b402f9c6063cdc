"""The lexicon of exceptions and units, as kernels look words up in it: an open hash table in two arrays.

- entries uint64[SLOTS, 3]: bytes 0–7; bytes 8–14 with the number of bytes on top (0 is an empty slot); kinds, and from
  bits 8 and 16 the code point where the second and third word begin, 0 where there is none;
- sieve uint16[65536]: bit n of [first byte << 8 | last byte] is set where some entry has n bytes.
"""

import numpy as np

from tokenmill.filters.eight_bytes import load8
from tokenmill.filters.english import MAX_EXCEPTION_BYTES
from tokenmill.kernels import helper, kernel

SLOTS = 8192
EXCEPTION, MERGED, UNIT = 1, 2, 4  # kinds of entries

_ONE, _EIGHT = np.uint64(1), np.uint64(8)
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_SHIFT = np.uint64(64 - 13)


@kernel
def key(data, start, end):  # type: ignore[no-untyped-def]
    """Up to 15 bytes as two words, the number of bytes in the top byte."""
    size = np.uint64(end - start)
    low, high = np.uint64(0), np.uint64(0)
    if start + 16 <= len(data):  # nearly always: no loop over bytes, whose number is hard to predict
        low, high = load8(data, start), load8(data, start + 8)
        if size < _EIGHT:
            low, high = low & ((_ONE << (size * _EIGHT)) - _ONE), np.uint64(0)
        else:
            high &= (_ONE << ((size - _EIGHT) * _EIGHT)) - _ONE
    else:
        for k in range(start, min(end, start + 8)):
            low |= np.uint64(data[k]) << np.uint64(8 * (k - start))
        for k in range(start + 8, end):
            high |= np.uint64(data[k]) << np.uint64(8 * (k - start - 8))
    high |= size << np.uint64(56)
    return low, high


@kernel
def slot_of(low, high):  # type: ignore[no-untyped-def]
    """The slot in which the search for a key begins."""
    return np.int64(((low ^ (high * _GOLDEN)) * _GOLDEN) >> _SHIFT)


@helper
def _listed(data, start, end, sieve):  # type: ignore[no-untyped-def]
    """Whether bytes start … end may be an entry of the lexicon; nearly always right."""
    ends = (np.int64(data[start]) << 8) | np.int64(data[end - 1])
    return end - start <= MAX_EXCEPTION_BYTES and (np.int64(sieve[ends]) >> (end - start)) & 1 != 0


@helper
def find(data, start, end, entries, sieve, kind):  # type: ignore[no-untyped-def]
    """Slot of the entry in bytes start … end that is of this kind, or -1."""
    if start >= end or not _listed(data, start, end, sieve):
        return -1
    low, high = key(data, start, end)
    slot = slot_of(low, high)
    while entries[slot, 1] != 0:
        if entries[slot, 0] == low and entries[slot, 1] == high:
            return slot if np.int64(entries[slot, 2]) & kind else -1
        slot = (slot + 1) & (SLOTS - 1)
    return -1
