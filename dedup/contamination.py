r"""Texts that hold items of benchmarks: how many n-grams of theirs, how much of the text that is, and whose.

As GPT-3 was held against its benchmarks (Brown et al. 2020, arXiv 2005.14165, appendix C), 13-grams of words and never
fewer than 8 words; Llama 2 (arXiv 2307.09288, section A.6) also counts the share of words in them, as `fraction` does
here. Words are those of `shingles`: case, marks, punctuation and white space count for nothing, digits do.

Of each text of an item (question, answer, one choice) every n-gram is indexed; a text of fewer words, but 8 or more, is
one n-gram as a whole; a shorter one says too little and is not indexed. N-grams that say nothing of an item are not:

- more than half numbers of up to four digits and single letters: counted sequences, the alphabet;
- in more than `max_items` different items of the benchmark: its prompt, a passage that many questions share.

    item        "A robe takes 2 bolts of blue fiber and half that much white fiber. How many …?"   ngram 13
    indexed     a robe takes 2 bolts of blue fiber and half that much white / robe takes 2 … white fiber / …
    text        "…: A ROBE takes 2 bolts\nof blue fiber, and half that much white fiber"           hits 2, item 1

N-grams are compared by 64-bit hashes. One that is in no benchmark passes for one of an index of 10^6 with a chance of
5e-14: one in a corpus of 2 · 10^13 words. Bloom filters (two bits of one 64-bit word an n-gram) are asked first, one of
all n-grams and one of the last 8 words of the short ones: nearly nothing is searched for.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numba import njit

from tokenmill.dedup.ngram_index import I32, WORDS, NgramIndex, may_hold, powers, running_sums
from tokenmill.dedup.shingles import I64, U64, mix, word_hashes
from tokenmill.kernels import helper

VERSION = 1
CONTAMINATION = pa.schema(
    [
        pa.field("hits", pa.int32()),  # n-grams of the text that are of benchmarks
        pa.field("fraction", pa.float64()),  # of its words: in such n-grams
        pa.field("benchmark", pa.string()),  # that most of them are of, of several the first by name; null without any
        pa.field("item", pa.int32()),  # of that benchmark, from 0: the first that an n-gram is of
        pa.field("answer_hits", pa.int32()),  # of a conversation: in its answers alone; null without turns
    ]
)


@dataclass(frozen=True)
class ContaminationBounds:
    """Bounds over CONTAMINATION, in the order in which they are tried; None is off."""

    max_hits: float | None = 0
    max_fraction: float | None = None
    max_answer_hits: float | None = None


class Answers(NamedTuple):
    """The answers of n conversations: k texts, and int64[n + 1], the first of each conversation, then k."""

    texts: pa.LargeStringArray
    documents: I64


def contamination_signals(
    texts: pa.LargeStringArray, index: NgramIndex, answers: Answers | None = None
) -> pa.RecordBatch:
    """How much of benchmarks each text holds.

    Args:
        texts: n texts.
        index: what is looked for.
        answers: of conversations, theirs.

    Returns:
        n rows of CONTAMINATION, all null where the text is.
    """
    hits, covered, benchmark, item, words = _find(texts, index)
    fraction = np.zeros(len(texts), np.float64)
    np.divide(covered, words, out=fraction, where=words != 0)
    there = texts.is_valid().to_numpy(zero_copy_only=False)
    clean = ~there | (hits == 0)
    codes = pa.array(benchmark, pa.int32(), mask=clean)
    in_answers = np.zeros(len(texts), np.int64)
    if answers is not None:
        total = np.concatenate([[0], np.cumsum(_find(answers.texts, index)[0])])
        in_answers = np.diff(total[answers.documents])
    columns = [
        pa.array(hits, pa.int32(), mask=~there),
        pa.array(fraction, pa.float64(), mask=~there),
        pa.array(index.names, pa.string()).take(codes),
        pa.array(item, pa.int32(), mask=clean),
        pa.array(in_answers, pa.int32(), mask=~there if answers is not None else np.ones(len(texts), np.bool_)),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CONTAMINATION)


def _find(texts: pa.LargeStringArray, index: NgramIndex) -> tuple[I64, I64, I32, I32, I64]:
    """Hits, words in them, benchmark, item and number of words of each text."""
    words, documents = word_hashes(texts, WORDS)
    hits, covered = np.zeros(len(texts), np.int64), np.zeros(len(texts), np.int64)
    benchmark, item = np.zeros(len(texts), np.int32), np.zeros(len(texts), np.int32)
    params = index.params
    _count_hits(
        (running_sums(words), documents, powers(params.ngram), params.ngram, params.least_words),
        (index.hashes, index.benchmarks, index.items, index.bloom, index.tails),
        np.zeros((len(index.names), 2), np.int64),
        np.zeros(len(words), np.uint8),
        (hits, covered, benchmark, item),
    )
    return hits, covered, benchmark, item, np.diff(documents)


@njit(nogil=True, cache=True)
def _count_hits(texts, index, counts, marked, out):  # type: ignore[no-untyped-def]
    """Fill `out` (hits, covered, benchmark, item) for every text; the tuples hold what `_find` passes.

    At each word, the n-gram that ends there is looked for, then, from the shortest, the shorter ones.

    Args:
        texts: sums, documents, powers, ngram, least words.
        index: hashes, benchmarks, items, bloom, tails.
        counts: int64[b, 2], scratch of zeros: of each benchmark, hits and first item.
        marked: uint8[w], scratch of zeros: the words in hits.
        out: four arrays of n.
    """
    sums, documents, powers, ngram, least = texts
    hashes, _, _, bloom, tails = index
    hits, covered, benchmark, item = out
    for row in range(len(documents) - 1):
        begin = documents[row]
        for stop in range(begin + least, documents[row + 1] + 1):
            if stop - begin >= ngram:
                found = _place(hashes, bloom, _gram(sums, powers, stop, ngram))
                if found >= 0:
                    hits[row] += 1
                    covered[row] += _take(index, found, counts, marked, stop - ngram, stop)
            if may_hold(tails, _gram(sums, powers, stop, least)):
                for length in range(least, min(ngram, stop - begin + 1)):
                    found = _place(hashes, bloom, _gram(sums, powers, stop, length))
                    if found >= 0:
                        hits[row] += 1
                        covered[row] += _take(index, found, counts, marked, stop - length, stop)
        if hits[row]:
            most = np.argmax(counts[:, 0])
            benchmark[row], item[row] = most, counts[most, 1]
            counts[:] = 0


@helper
def _gram(sums: U64, powers: U64, stop: int, length: int) -> np.uint64:
    return np.uint64(mix(sums[stop] - sums[stop - length] * powers[length]))


@helper
def _place(hashes: U64, bloom: U64, gram: np.uint64) -> int:
    """Where the hash is; -1 where it is not."""
    if not may_hold(bloom, gram):
        return -1
    low, high = 0, len(hashes)
    while low < high:
        middle = (low + high) >> 1
        if hashes[middle] < gram:
            low = middle + 1
        else:
            high = middle
    return low if low < len(hashes) and hashes[low] == gram else -1


@helper
def _take(index, found, counts, marked, start, stop):  # type: ignore[no-untyped-def]
    """Count n-gram `found` for its benchmark, and mark its words start … stop: how many were not marked."""
    _, benchmarks, items, _, _ = index
    of = benchmarks[found]
    if counts[of, 0] == 0:
        counts[of, 1] = items[found]
    counts[of, 0] += 1
    new = 0
    for k in range(start, stop):
        new += int(marked[k] == 0)
        marked[k] = 1
    return new
