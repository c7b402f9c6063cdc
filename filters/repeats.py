"""Which items of a list occurred before, and which word n-grams of a document repeat: the kernels of the filters.

Items are compared by 64-bit hashes: of m distinct items some two are taken for one with a chance of about m² / 2⁶⁵,
which is 3e-6 for ten million. An n-gram's hash is Σ wordᵢ · Kⁿ⁻ⁱ mod 2⁶⁴ over hashes of whole words, so that order
counts and ("ab", "c") differs from ("a", "bc").

An n-gram can repeat only where the (n-1)-grams at its first and its second word both do. So only the bigrams are all
looked up; each longer n only at the few positions left, in order, which changes no count and no tie.
"""

import numpy as np
from numba import njit

from tokenmill.filters.scan import I32, I64, U8, U64, hash_bytes
from tokenmill.kernels import helper

#: Word n-grams whose most frequent one is asked for, and those whose duplicates are; the code below relies on both.
TOP_N = (2, 3, 4)
DUPLICATE_N = (5, 6, 7, 8, 9, 10)
_FIRST_DUPLICATE_N, _LAST_N = DUPLICATE_N[0], DUPLICATE_N[-1]

_KEY = np.uint64(0xD6E8FEB86659FD93)
_SLOT = np.uint64(0x9E3779B97F4A7C15)
_64 = np.uint64(64)


@helper
def table_size(items: int) -> int:
    """Slots of a table for so many items: the power of two from 1.5 to 3 times as many."""
    size = 4
    while 2 * size < 3 * items:
        size *= 2
    return size


@helper
def count_each(keys: U64, at: I32, num: int, table: I32, first: I32, counts: I32) -> None:
    """Find, for each position listed, the first one with the same key, and how many there are.

    Args:
        keys: uint64 by position.
        at: int32, its first `num`: positions, ascending.
        num: how many.
        table: scratch int32, table_size(num) or more.
        first: int32 by position, filled where listed: the first position with that key.
        counts: int32 by position, filled where listed: positions with that key if it is the first of them, else 0.
    """
    size = table_size(num)
    bits = 0
    while (1 << bits) < size:
        bits += 1
    shift = _64 - np.uint64(bits)
    table[:size] = -1
    for k in range(num):
        position = at[k]
        key = keys[position]
        slot = np.int64((key * _SLOT) >> shift)
        other = table[slot]
        while other >= 0 and keys[other] != key:
            slot = (slot + 1) & (size - 1)
            other = table[slot]
        if other < 0:
            table[slot] = other = position
        counts[position] = 0
        first[position] = other
        counts[other] += 1


@njit(nogil=True, cache=True)
def count_duplicates(data: U8, starts: I64, ends: I64, characters: I32, documents: I64, out: I64) -> None:
    """For each document, how many of its pieces occurred before in it, and their code points.

    Args:
        data: uint8, all texts.
        starts: int64[n], first byte of each piece.
        ends: int64[n], byte behind its last.
        characters: int32[n], its code points.
        documents: int64[d + 1], first piece of each document, then n.
        out: int64[d, 2], filled.
    """
    longest = 0
    for row in range(len(documents) - 1):
        longest = max(longest, documents[row + 1] - documents[row])
    keys = np.empty(longest, np.uint64)
    at, first, counts = np.arange(longest).astype(np.int32), np.empty(longest, np.int32), np.empty(longest, np.int32)
    table = np.empty(table_size(longest), np.int32)
    for row in range(len(documents) - 1):
        base, num = documents[row], documents[row + 1] - documents[row]
        for k in range(num):
            keys[k] = hash_bytes(data, starts[base + k], ends[base + k])
        count_each(keys, at, num, table, first, counts)
        again = length = 0
        for k in range(num):
            if first[k] != k:
                again += 1
                length += characters[base + k]
        out[row, 0], out[row, 1] = again, length


@njit(nogil=True, cache=True)
def count_ngrams(words: U64, characters: I32, documents: I64, out: I64) -> None:
    """For each document, code points of its most frequent n-grams and of its duplicate ones.

    Args:
        words: uint64[n], hash of each word.
        characters: int32[n], its code points.
        documents: int64[d + 1], first word of each document, then n.
        out: int64[d, 9], filled: TOP_N (all occurrences, spaces included), then DUPLICATE_N (without spaces).
    """
    most = 0
    for row in range(len(documents) - 1):
        most = max(most, documents[row + 1] - documents[row])
    grams = np.empty(most, np.uint64)
    at, first, counts = np.empty(most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    table = np.empty(table_size(most), np.int32)
    for row in range(len(documents) - 1):
        base, num = documents[row], documents[row + 1] - documents[row]
        for k in range(num):
            grams[k] = words[base + k]
            at[k] = k
        lengths = characters[base : base + num]
        listed = num  # of the positions in `at`: at first all, as if every word were repeated
        for n in range(2, _LAST_N + 1):
            listed = _extend(words[base : base + num], grams, at, listed, n)
            count_each(grams, at, listed, table, first, counts)
            if n < _FIRST_DUPLICATE_N:
                out[row, n - 2] = _top_characters(at, listed, counts, lengths, n)
            listed = _keep_repeated(at, listed, first, counts)
            if n >= _FIRST_DUPLICATE_N:
                out[row, n - 2] = _duplicate_characters(at, listed, first, counts, lengths, n)


@helper
def _extend(words: U64, grams: U64, at: I32, listed: int, n: int) -> int:
    """Keep of `at` what the next position follows, where `grams` become n-grams; how many."""
    kept = 0
    for k in range(listed - 1):
        position = at[k]  # without branches, which would be hard to predict; what is not kept is not looked at again
        grams[position] = grams[position] * _KEY + words[position + n - 1]
        at[kept] = position
        kept += int(at[k + 1] == position + 1)
    return kept


@helper
def _keep_repeated(at: I32, listed: int, first: I32, counts: I32) -> int:
    """Keep of `at` the positions whose n-gram occurs more than once; how many."""
    kept = 0
    for k in range(listed):
        position = at[k]
        at[kept] = position
        kept += int(counts[first[position]] > 1)
    return kept


@helper
def _top_characters(at: I32, listed: int, counts: I32, lengths: I32, n: int) -> int:
    """Code points of all occurrences of the most frequent n-gram, of equal ones the first; 0 where there is none."""
    if len(lengths) < n:
        return 0
    best, most = 0, 1  # if none repeats, the first of the document
    for k in range(listed):
        position = at[k]
        if counts[position] > most:
            best, most = position, counts[position]
    length: int = _characters(lengths, best, n) + n - 1  # with the spaces between its words
    return length * most


@helper
def _duplicate_characters(at: I32, listed: int, first: I32, counts: I32, lengths: I32, n: int) -> int:
    """Code points of n-grams seen before, walking the words and stepping over each one found; uses up `counts`."""
    total = reached = 0
    for k in range(listed):
        position = at[k]
        if position < reached:
            continue
        if counts[first[position]] == 0:
            total += _characters(lengths, position, n)
            reached = position + n
        else:
            counts[first[position]] = 0  # seen
    return total


@helper
def _characters(lengths: I32, position: int, n: int) -> int:
    total = 0
    for k in range(position, position + n):
        total += lengths[k]
    return total
