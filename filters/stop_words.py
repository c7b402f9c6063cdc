"""Stop words as the kernels look them up: one table of 64-bit hashes for the lists of all languages.

A list's words are hashed with a salt of the list's own, so that one table holds them all and a document is looked up
under its language. A word that hashes like a stop word counts as it: a chance of about 2^-64 a word and stop word.
"""

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from tokenmill.filters.scan import I64, U64, hash_bytes
from tokenmill.kernels import helper

_GOLDEN = 0x9E3779B97F4A7C15


class StopWords(NamedTuple):
    """The words to look for in each of d documents.

    Attributes:
        slots: uint64[2^k], open addressing by the lowest bits of the salted hash; 0 is free.
        salts: uint64[d], what a word's hash is xored with.
        listed: bool[d], whether the document's language has a list.
    """

    slots: U64
    salts: U64
    listed: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class StopWordLists:
    """The lists of several languages, as one table.

    Attributes:
        labels: string[n], the languages, in their short form.
        slots: uint64[2^k], as StopWords.
        salts: uint64[n + 1], of each language; the last is for documents without a list.
    """

    labels: pa.Array
    slots: U64
    salts: U64

    def of_documents(self, languages: pa.Array) -> StopWords:
        """What to look for in each document, by its language's label; a null, or one not in the lists, has none."""
        found = pc.fill_null(pc.index_in(languages, value_set=self.labels), len(self.labels))
        index = found.to_numpy(zero_copy_only=False)
        return StopWords(self.slots, self.salts[index], index < len(self.labels))

    def of_one(self, documents: int) -> StopWords:
        """The first list for every document."""
        return StopWords(self.slots, np.full(documents, self.salts[0]), np.ones(documents, np.bool_))


def stop_word_lists(lists: Mapping[str, Set[str]]) -> StopWordLists:
    """The table of each language's words, by label. Raises ValueError on an empty list: leave the language out."""
    for label, words in lists.items():
        if not words or "" in words:
            raise ValueError(f"the stop words of {label!r} are {sorted(words)}; give words, or leave the language out")
    salts = [(number * _GOLDEN) % 2**64 for number in range(len(lists) + 1)]
    size = 1 << (4 * sum(map(len, lists.values()))).bit_length()
    slots = np.zeros(size, np.uint64)
    for salt, words in zip(salts, lists.values(), strict=False):
        for word in sorted(words):
            _insert(slots, salt, word.encode())
    return StopWordLists(pa.array(list(lists), pa.string()), slots, np.array(salts, np.uint64))


def _insert(slots: U64, salt: int, word: bytes) -> None:
    key = int(hash_bytes(np.frombuffer(word, np.uint8), 0, len(word))) ^ salt
    assert key != 0, f"the hash of {word!r} is 0, the mark of a free slot"
    slot = key % len(slots)
    while slots[slot]:
        assert slots[slot] != key, f"{word!r} hashes like another stop word"
        slot = (slot + 1) % len(slots)
    slots[slot] = key


@njit(nogil=True, cache=True)
def count_stop_words(documents: I64, hashes: U64, stop_words: StopWords) -> I64:
    """Distinct stop words of each document: int64[d], 0 where its language has no list.

    Args:
        documents: int64[d + 1], first word of each document, then n.
        hashes: uint64[n], of each word (`hash_bytes`).
        stop_words: what to look for in each.
    """
    counts = np.zeros(len(documents) - 1, np.int64)
    seen = np.full(len(stop_words.slots), -1, np.int64)  # the last document each stop word was met in
    for row in range(len(counts)):
        if stop_words.listed[row]:
            for k in range(documents[row], documents[row + 1]):
                slot = _slot(hashes[k] ^ stop_words.salts[row], stop_words.slots)
                if slot >= 0 and seen[slot] != row:
                    seen[slot] = row
                    counts[row] += 1
    return counts


@helper
def _slot(key: np.uint64, slots: U64) -> int:
    """Slot of a salted hash; -1 if it is not in the table."""
    slot = int(np.int64(key & np.uint64(len(slots) - 1)))
    while slots[slot] != 0:
        if slots[slot] == key:
            return slot
        slot = (slot + 1) & (len(slots) - 1)
    return -1
