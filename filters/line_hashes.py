"""Hashes of normalised lines, and how many documents hold each: what `filters.repeated_lines` counts with."""

import unicodedata
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.filters.normal_form import composing, have_marked, squeeze
from tokenmill.filters.repeats import count_each, table_size
from tokenmill.filters.scan import (
    I32,
    I64,
    U8,
    U64,
    count_characters,
    hash_bytes,
    text_bytes,
)
from tokenmill.filters.splitter import Spans


@dataclass(frozen=True, eq=False)
class Counts:
    """How many documents hold each line.

    Attributes:
        hashes: uint64[n], ascending, each once.
        documents: uint32[n].
        places: uint64[n], the least place of a document that holds it.
    """

    hashes: U64
    documents: npt.NDArray[np.uint32]
    places: U64


NOTHING = Counts(np.zeros(0, np.uint64), np.zeros(0, np.uint32), np.zeros(0, np.uint64))


def normalised_hashes(pieces: Spans) -> tuple[U64, I32]:
    """Of n pieces in NFC, runs of white space one space, stripped: uint64[n] hashes and int32[n] code points."""
    hashes, characters = _hash_spaced(pieces.data, pieces.starts, pieces.ends)
    marked = np.flatnonzero(have_marked(pieces.data, pieces.starts, pieces.ends, composing()))
    if len(marked):
        spans = zip(pieces.starts[marked].tolist(), pieces.ends[marked].tolist(), strict=True)
        lines = [pieces.data[start:end].tobytes().decode() for start, end in spans]
        composed = pa.array([unicodedata.normalize("NFC", line) for line in lines], pa.large_string())
        data, bounds = text_bytes(composed)
        hashes[marked], characters[marked] = _hash_spaced(data, bounds[:-1], bounds[1:])
    return hashes, characters


@njit(nogil=True, cache=True)
def _hash_spaced(data: U8, starts: I64, ends: I64) -> tuple[U64, I32]:
    """Hashes and code points of spans of bytes, runs of white space one space, stripped: uint64[n], int32[n]."""
    longest = 0
    for k in range(len(starts)):
        longest = max(longest, ends[k] - starts[k])
    line = np.empty(longest, np.uint8)
    hashes, characters = np.empty(len(starts), np.uint64), np.empty(len(starts), np.int32)
    for k in range(len(starts)):
        size = squeeze(data, starts[k], ends[k], line)
        hashes[k], characters[k] = hash_bytes(line, 0, size), count_characters(line, 0, size)
    return hashes, characters


@njit(nogil=True, cache=True)
def first_in_document(hashes: U64, documents: I64) -> npt.NDArray[np.bool_]:
    """Whether each piece is the first of its document with its hash: bool[n].

    Args:
        hashes: uint64[n].
        documents: int64[d + 1], first piece of each document, then n.
    """
    most = 0
    for row in range(len(documents) - 1):
        most = max(most, documents[row + 1] - documents[row])
    at, first, counts = np.arange(most).astype(np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    table = np.empty(table_size(most), np.int32)
    found = np.empty(len(hashes), np.bool_)
    for row in range(len(documents) - 1):
        base, num = documents[row], documents[row + 1] - documents[row]
        count_each(hashes[base : base + num], at, num, table, first, counts)
        for k in range(num):
            found[base + k] = first[k] == k
    return found


def count_each_document(hashes: U64, places: U64) -> Counts:
    """Counts of (line, document) pairs, each given once: uint64[n] hashes of lines, uint64[n] places of documents."""
    order = np.lexsort((places, hashes))
    ordered = hashes[order]
    opens = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1])) if len(order) else order
    documents = np.diff(np.append(opens, len(order))).astype(np.uint32)
    return Counts(ordered[opens], documents, places[order][opens])


def push_counts(stack: list[Counts], item: Counts) -> list[Counts]:
    """Put counts on a stack whose sizes at least halve from one to the next: it holds few arrays, and little twice."""
    while stack and 2 * len(item.hashes) >= len(stack[-1].hashes):
        item = _merged(stack[-1], item)
        stack = stack[:-1]
    return [*stack, item]


def sum_stack(stack: list[Counts]) -> Counts:
    """The sum of a stack of `push_counts`."""
    total = NOTHING
    for item in reversed(stack):
        total = _merged(item, total)
    return total


def _merged(one: Counts, other: Counts) -> Counts:
    return Counts(*_merge(one.hashes, one.documents, one.places, other.hashes, other.documents, other.places))


@njit(nogil=True, cache=True)
def _merge(a, a_documents, a_places, b, b_documents, b_places):  # type: ignore[no-untyped-def]
    """Sum of two counts: hashes ascending, documents added, the lesser place."""
    size = len(a) + len(b)
    hashes, documents, places = np.empty(size, np.uint64), np.empty(size, np.uint32), np.empty(size, np.uint64)
    i = j = count = 0
    while i < len(a) or j < len(b):
        from_a = j == len(b) or (i < len(a) and a[i] <= b[j])
        from_b = i == len(a) or (j < len(b) and b[j] <= a[i])
        if from_a and from_b:
            hashes[count], documents[count] = a[i], a_documents[i] + b_documents[j]
            places[count] = min(a_places[i], b_places[j])
        elif from_a:
            hashes[count], documents[count], places[count] = a[i], a_documents[i], a_places[i]
        else:
            hashes[count], documents[count], places[count] = b[j], b_documents[j], b_places[j]
        i += from_a
        j += from_b
        count += 1
    return hashes[:count].copy(), documents[:count].copy(), places[:count].copy()
