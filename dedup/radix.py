"""Dealing and sorting integers by counting: linear in the records, whatever they hold."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.kernels import helper, kernel

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

#: Records that are sorted together, about: their keys, ranks and places stay in a core's cache.
_TOGETHER = 1 << 11
_DIGIT = 256
_BYTE = np.uint64(0xFF)
_LOW = np.uint64(32)


class Dealt(NamedTuple):
    """Records by partition: `order`, int64[n], stable; `counts`, int64[partitions], how many each has."""

    order: I64
    counts: I64


def by_hash(keys: U64, partitions: int) -> I64:
    """Partition of evenly spread 64-bit keys, by their range: int64[n]."""
    found = np.empty(len(keys), np.int64)
    _fill_partitions(keys, np.uint64(partitions), found)
    return found


def dealt(partition: I64, partitions: int) -> Dealt:
    """Deal records out: `partition`, int64[n], each 0 … partitions - 1."""
    counts = np.bincount(partition, minlength=partitions)
    order = np.empty(len(partition), np.int64)
    _deal(partition, np.cumsum(counts) - counts, order)
    return Dealt(order, counts)


def order_by(keys: U64, ranks: U64 | None = None) -> I64:
    """Order by key, or by (key, rank), both uint64[n]: int64[n]; equal ones stay in order.

    Records are dealt out by the leading bits of their keys; each hand is sorted by its varying bytes, the last first.
    """
    order = np.empty(len(keys), np.int64)
    if len(keys):
        least = keys.min()
        bits = (len(keys) // _TOGETHER).bit_length() or 1  # a shift by 64 is no shift
        shift = np.uint64(max(0, int(keys.max() - least).bit_length() - bits))
        counts = np.zeros((1 << bits) + 1, np.int64)
        _sort(keys, keys if ranks is None else ranks, least, shift, counts, order)
    return order


def places_in(ordered: U64, values: U64) -> I64:
    """np.searchsorted(ordered, values), near linear: int64, as long as `values`.

    Values that come in no order miss the cache at each step of a search: 27 s for 10M among 20M, here 1.2 s.
    """
    order = order_by(values)
    found = np.empty(len(values), np.int64)
    found[order] = np.searchsorted(ordered, values[order])
    return found


@kernel
def _fill_partitions(keys: U64, partitions: np.uint64, found: I64) -> None:
    for i in range(keys.shape[0]):
        found[i] = ((keys[i] >> _LOW) * partitions) >> _LOW


@kernel
def _deal(partition: I64, at: I64, order: I64) -> None:
    for i in range(partition.shape[0]):
        order[at[partition[i]]] = i
        at[partition[i]] += 1


@njit(nogil=True, cache=True)
def _sort(keys: U64, ranks: U64, least: np.uint64, shift: np.uint64, counts: I64, order: I64) -> None:
    for i in range(keys.shape[0]):
        counts[((keys[i] - least) >> shift) + np.uint64(1)] += 1
    largest = 0
    for hand in range(1, counts.shape[0]):
        largest = max(largest, counts[hand])
        counts[hand] += counts[hand - 1]
    for i in range(keys.shape[0]):
        hand = (keys[i] - least) >> shift
        order[counts[hand]] = i
        counts[hand] += 1
    values, places, ends = np.empty(largest, np.uint64), np.empty((2, largest), np.int64), np.empty(_DIGIT, np.int64)
    begin = 0
    for hand in range(counts.shape[0] - 1):  # each count is now where its hand ends
        if counts[hand] > begin + 1:
            _sort_by(ranks, order[begin : counts[hand]], values, places, ends)
            _sort_by(keys, order[begin : counts[hand]], values, places, ends)
        begin = counts[hand]


@helper
def _sort_by(column: U64, rows: I64, values: U64, places: I64, ends: I64) -> None:
    """Sort `rows` by their values in `column`, stable; the rest is room to work in."""
    n, varying = rows.shape[0], np.uint64(0)
    for i in range(n):
        values[i] = column[rows[i]]
        varying |= values[i] ^ values[0]
        places[0, i] = i
    now = 0
    for byte in range(8):
        shift = np.uint64(8 * byte)
        if (varying >> shift) & _BYTE == 0:
            continue
        for digit in range(_DIGIT):
            ends[digit] = 0
        for i in range(n):
            ends[(values[i] >> shift) & _BYTE] += 1
        end = n
        for digit in range(_DIGIT - 1, -1, -1):
            end -= ends[digit]
            ends[digit] = end
        for i in range(n):
            place = places[now, i]
            digit = (values[place] >> shift) & _BYTE
            places[1 - now, ends[digit]] = place
            ends[digit] += 1
        now = 1 - now
    for i in range(n):  # the rows move through the room that the other places leave
        places[1 - now, i] = rows[places[now, i]]
    for i in range(n):
        rows[i] = places[1 - now, i]
