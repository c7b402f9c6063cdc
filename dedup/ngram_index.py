r"""The n-grams of benchmarks' items, to be looked up in texts; `contamination` says which they are, and why.

An n-gram's hash is Σ wordᵢ·Kⁿ⁻ⁱ mod 2⁶⁴, mixed, over hashes of its words: from running sums over all words of a batch
the hash of any n consecutive ones follows by one product and a subtraction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.shingles import I64, U64, Shingling, word_hashes
from tokenmill.kernels import helper, kernel
from tokenmill.manifests.keyed import mix64

I32 = npt.NDArray[np.int32]
Bools = npt.NDArray[np.bool_]

WORDS = Shingling(keep_digits=True)
#: Words of the shortest text that is indexed as a whole, as of GPT-3's shortest n-grams.
LEAST_WORDS = 8
_KEY = np.uint64(0xD6E8FEB86659FD93)
_ONE, _FIRST, _SECOND, _IN_WORD = np.uint64(1), np.uint64(58), np.uint64(52), np.uint64(63)


@dataclass(frozen=True)
class ContaminationParams:
    """What counts as an item's.

    Attributes:
        ngram: words of an n-gram.
        max_items: items of one benchmark that may share an n-gram; more, and it is left out.
    """

    ngram: int = 13
    max_items: int = 4

    def __post_init__(self) -> None:
        """Raise ValueError for numbers that make no sense."""
        for name, least in (("ngram", 5), ("max_items", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"contamination.{name} is {value!r}: give a whole number, {least} or more")

    @property
    def least_words(self) -> int:
        """Words of the shortest text that is indexed."""
        return min(LEAST_WORDS, self.ngram)


class Benchmark(NamedTuple):
    """A benchmark: its name, and the texts of each of its items."""

    name: str
    items: Sequence[Sequence[str]]


@dataclass(frozen=True, eq=False)
class NgramIndex:
    """The n-grams of benchmarks.

    Attributes:
        names: of the benchmarks, sorted.
        params: what it was built with.
        hashes: uint64[n], ascending, each once.
        benchmarks: int32[n], index into `names`, the first that has the n-gram.
        items: int32[n], its first item that has it.
        bloom: uint64[2^b], in which the `hashes` have their bits.
        tails: uint64[2^c], the same of the last `least_words` words of each n-gram of fewer words than `ngram`.
        indexed_items: of each benchmark, how many items have an n-gram.
    """

    names: tuple[str, ...]
    params: ContaminationParams
    hashes: U64
    benchmarks: I32
    items: I32
    bloom: U64
    tails: U64
    indexed_items: tuple[int, ...]


def build_index(benchmarks: Sequence[Benchmark], params: ContaminationParams) -> NgramIndex:
    """The n-grams of benchmarks that say something; an item that stands twice in one counts once, as the first."""
    benchmarks = sorted(benchmarks)
    texts: list[str] = []
    owners: list[tuple[int, int]] = []  # of each text
    for number, benchmark in enumerate(benchmarks):
        first = {tuple(item): at for at, item in reversed(list(enumerate(benchmark.items)))}
        for item, at in first.items():
            texts += item
            owners += [(number, at)] * len(item)
    hashes, tails, is_short, of_text = _text_ngrams(pa.array(texts, pa.large_string()), params)
    owner = np.array(owners, np.int32).reshape(-1, 2)[of_text]
    kept = _telling(hashes, owner, params.max_items)
    indexed = np.unique(owner[kept], axis=0)[:, 0]
    kept = kept[np.flatnonzero(np.diff(hashes[kept], prepend=~hashes[kept][:1]))]  # each once, of its first item
    return NgramIndex(
        names=tuple(benchmark.name for benchmark in benchmarks),
        params=params,
        hashes=hashes[kept],
        benchmarks=owner[kept, 0].copy(),
        items=owner[kept, 1].copy(),
        bloom=_bloom(hashes[kept]),
        tails=_bloom(tails[kept[is_short[kept]]]),
        indexed_items=tuple(np.bincount(indexed, minlength=len(benchmarks)).tolist()),
    )


def _text_ngrams(texts: pa.LargeStringArray, params: ContaminationParams) -> tuple[U64, U64, Bools, I64]:
    """The n-grams that are more than numbers and letters.

    Returns:
        uint64[n], hash of each; uint64[n], that of its last `least_words` words; bool[n], whether it is of fewer words
        than `ngram`; int64[n], the text it is of.
    """
    words, documents = word_hashes(texts, WORDS)
    sizes = np.diff(documents)
    of_word = np.repeat(np.arange(len(texts)), sizes)
    place, size = np.arange(len(words)) - documents[of_word], sizes[of_word]
    is_last = np.where(size >= params.ngram, place >= params.ngram - 1, place == size - 1)
    last = np.flatnonzero(is_last & (size >= params.least_words))
    length = np.minimum(size[last], params.ngram)
    dull = np.concatenate([[0], np.cumsum(np.isin(words, _dull_words()))])
    telling = 2 * (dull[last + 1] - dull[last + 1 - length]) <= length
    last, length = last[telling], length[telling]
    sums, factors = running_sums(words), powers(params.ngram)
    hashes, tails = (
        mix64(sums[last + 1] - sums[last + 1 - num] * factors[num], 0) for num in (length, params.least_words)
    )
    return hashes, tails, length < params.ngram, of_word[last]


def _telling(hashes: U64, owner: I32, max_items: int) -> I64:
    """Places of one n-gram for each (hash, item), in order; none whose hash more than `max_items` of a benchmark have.

    Args:
        hashes: uint64[n].
        owner: int32[n, 2], benchmark and item.
        max_items: see ContaminationParams.
    """
    order = np.lexsort((owner[:, 1], owner[:, 0], hashes))
    by_hash, by_owner = hashes[order], owner[order]
    new_hash = np.diff(by_hash, prepend=~by_hash[:1]) != 0
    new_benchmark = new_hash | (np.diff(by_owner[:, 0], prepend=-1) != 0)
    new_item = new_benchmark | (np.diff(by_owner[:, 1], prepend=-1) != 0)
    run = np.cumsum(new_benchmark) - 1
    items = np.bincount(run[new_item]) if len(order) else np.zeros(0, np.int64)
    kept: I64 = order[new_item & (items[run] <= max_items)]
    return kept


def _dull_words() -> U64:
    """Hashes of the numbers of up to four digits and of the letters."""
    numbers = [f"{number:0{digits}d}" for digits in range(1, 5) for number in range(10**digits)]
    return word_hashes(pa.array([" ".join([*numbers, *map(chr, range(97, 123))])], pa.large_string()), WORDS)[0]


def powers(most: int) -> U64:
    """_KEY to the power of 0 … most, modulo 2^64: uint64[most + 1]."""
    return np.concatenate([[_ONE], np.cumprod(np.full(most, _KEY))])


def _bloom(hashes: U64) -> U64:
    """Two bits for each hash in the word that its low bits name, at least half as many words as hashes."""
    bloom = np.zeros(1 << (len(hashes) // 2).bit_length(), np.uint64)
    bits = (_ONE << (hashes >> _FIRST)) | (_ONE << ((hashes >> _SECOND) & _IN_WORD))
    np.bitwise_or.at(bloom, hashes & np.uint64(len(bloom) - 1), bits)
    return bloom


def running_sums(words: U64) -> U64:
    """Σ wordᵢ·Kᵏ⁻ⁱ mod 2⁶⁴ over the first k words: uint64[w + 1]; that of any n words follows by a subtraction."""
    sums = np.zeros(len(words) + 1, np.uint64)
    _fill_sums(words, sums)
    return sums


@kernel
def _fill_sums(words: U64, sums: U64) -> None:
    for k in range(len(words)):
        sums[k + 1] = sums[k] * _KEY + words[k]


@helper
def may_hold(bloom: U64, gram: np.uint64) -> bool:
    """Whether a Bloom filter has both bits of a hash."""
    bits = (_ONE << (gram >> _FIRST)) | (_ONE << ((gram >> _SECOND) & _IN_WORD))
    return bool(bloom[gram & np.uint64(len(bloom) - 1)] & bits == bits)
