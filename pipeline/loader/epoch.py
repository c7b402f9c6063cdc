"""One epoch of a component: its record batches in the order of their hashes, without sorting more than is asked for.

Batches are counted into buckets by the leading bits of their hash, in two passes over them; a bucket, some hundred
batches, is sorted when a row of it is wanted. Of 20 million batches that is a fraction of a second, and 4 bytes each.
"""

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.loader.groups import groups
from tokenmill.pipeline.loader.stock import I32, I64, Stock

_BATCHES_PER_BUCKET_BITS = 8


class EpochOrder:
    """Batches of a stock by rank, and the rows in them by place: the order of the epoch before windows are shuffled.

    Args:
        stock: what is visited.
        key: 64-bit key of the epoch.
    """

    def __init__(self, stock: Stock, key: int) -> None:
        self._stock = stock
        self._key = key
        size = stock.batch_rows.size
        bits = max(0, size.bit_length() - _BATCHES_PER_BUCKET_BITS)
        self._batches: I32 = np.empty(size, np.int32)
        self._first_ranks: I64 = np.zeros((1 << bits) + 1, np.int64)
        self._first_places: I64 = np.zeros((1 << bits) + 1, np.int64)
        self._sorted: npt.NDArray[np.bool_] = np.zeros(1 << bits, np.bool_)
        _partition(
            stock.batch_rows,
            stock.unit_batches,
            stock.unit_keys,
            np.uint64(key),
            bits,
            self._batches,
            self._first_ranks,
            self._first_places,
            np.empty(1 << bits, np.int64),
            np.empty(size, np.int32),
        )

    def batches(self, first: int, end: int) -> I64:
        """Batches of the ranks first … end - 1: int64."""
        buckets = np.searchsorted(self._first_ranks, [first, end - 1], side="right") - 1
        for bucket in range(buckets[0], buckets[1] + 1):
            self._sort(bucket)
        return self._batches[first:end].astype(np.int64)

    def ranks(self, places: I64) -> I64:
        """Rank of the batch that holds each place: int64."""
        found = np.empty_like(places)
        for bucket, members in groups(np.searchsorted(self._first_places, places, side="right") - 1):
            ends = self._first_places[bucket] + np.cumsum(self._sizes(bucket))
            found[members] = self._first_ranks[bucket] + np.searchsorted(ends, places[members], side="right")
        return found

    def first_place(self, rank: int) -> int:
        """Place of the first row of the batch of a rank."""
        bucket = int(np.searchsorted(self._first_ranks, rank, side="right")) - 1
        inside = rank - int(self._first_ranks[bucket])
        return int(self._first_places[bucket] + self._sizes(bucket)[:inside].sum(dtype=np.int64))

    def _sizes(self, bucket: int) -> I32:
        """Rows of a bucket's batches, in order."""
        self._sort(bucket)
        return self._stock.batch_rows[self._batches[self._first_ranks[bucket] : self._first_ranks[bucket + 1]]]

    def _sort(self, bucket: int) -> None:
        if not self._sorted[bucket]:
            members = self._batches[self._first_ranks[bucket] : self._first_ranks[bucket + 1]]
            hashes = self._stock.batch_hashes(members.astype(np.int64), self._key)
            members[:] = members[np.argsort(hashes, kind="stable")]  # ties (there are none) keep stored order
            self._sorted[bucket] = True


@helper
def _mix(value, key):  # type: ignore[no-untyped-def]
    """`mix64` of one value."""
    x = (value + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) + key
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@helper
def _bucket(place, unit_key, key, bits):  # type: ignore[no-untyped-def]
    """Leading bits of the hash of the batch at a place of its unit; a shift by 64 is no shift."""
    hashed = _mix(_mix(np.uint64(place), np.uint64(0)) ^ unit_key, key)
    return np.int64((hashed >> np.uint64(1)) >> np.uint64(63 - bits))


@kernel
def _partition(  # type: ignore[no-untyped-def]
    batch_rows, unit_batches, unit_keys, key, bits, batches, first_ranks, first_places, following, buckets
):
    for unit in range(unit_keys.size):
        for batch in range(unit_batches[unit], unit_batches[unit + 1]):
            bucket = _bucket(batch - unit_batches[unit], unit_keys[unit], key, bits)
            buckets[batch] = bucket
            first_ranks[bucket + 1] += 1
            first_places[bucket + 1] += batch_rows[batch]
    for bucket in range(first_ranks.size - 1):
        first_ranks[bucket + 1] += first_ranks[bucket]
        first_places[bucket + 1] += first_places[bucket]
        following[bucket] = first_ranks[bucket]
    for batch in range(batches.size):
        batches[following[buckets[batch]]] = batch
        following[buckets[batch]] += 1
