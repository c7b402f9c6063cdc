"""Text → words → shingles, as 64-bit hashes, in one pass over Arrow's buffers.

Code points are normalised through the table of `folding`. A word is a maximal run of word characters; in scripts
written without spaces each character is a word. Where shingles are of characters, each word character of any script is
a word, and what separates counts for nothing.

A shingle is `ngram` consecutive words: Σ wordᵢ·Kⁿ⁻ⁱ mod 2⁶⁴, mixed, over hashes of whole words, so that order counts
and ("ab", "c") differs from ("a", "bc") (datatrove joins without a separator and takes them for one). A document with
fewer words is one shingle of them all; one without words is one shingle of its raw bytes.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.folding import ALONE, DROPPED, SEPARATOR, SEVERAL, VALUE, folding
from tokenmill.kernels import helper, kernel

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_START = np.uint64(0x243F6A8885A308D3)  # hash of a word before its first character
_WORD = np.uint64(0x9FB21C651E98DF25)
_SHINGLE = np.uint64(0xD6E8FEB86659FD93)
_GOLDEN, _MIX1, _MIX2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_S27, _S30, _S31, _ONE = np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(1)

# Eight bytes as one integer: each byte's lowest bit, highest bit, the rest; the bit that sets small letters apart; what
# lifts "a", and what follows "z", to the highest bit.
_EACH, _TOPS, _LOWS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080), np.uint64(0x7F7F7F7F7F7F7F7F)
_SMALL, _FROM_A, _BEYOND_Z = np.uint64(0x20) * _EACH, np.uint64(31) * _EACH, np.uint64(5) * _EACH
_BYTE, _LAST = np.uint64(0xFF), np.uint64(56)


#: Words held at a time, so that scratch memory does not grow with the document.
WORDS_AT_ONCE = 4096
_SLACK = 32  # words one code point may end or add: far fewer


@dataclass(frozen=True)
class Shingling:
    """What the shingles of a document are.

    Attributes:
        ngram: words a shingle, or characters.
        characters: whether they are characters.
        keep_digits: whether "7 of 9" and "1 of 2" differ: templates then do, and so do sums and tables.
    """

    ngram: int = 5
    characters: bool = False
    keep_digits: bool = False


@kernel
def mix(x: np.uint64) -> np.uint64:
    """`manifests.keyed.mix64` under key 0, for kernels."""
    x = (x + _ONE) * _GOLDEN
    x = (x ^ (x >> _S30)) * _MIX1
    x = (x ^ (x >> _S27)) * _MIX2
    return x ^ (x >> _S31)


@helper
def _decode(data: U8, at: int, end: int) -> tuple[int, int]:
    """Code point of 2 to 4 bytes at `at` and its size; an ill-formed byte is taken for U+FFFD (a separator)."""
    lead = int(data[at])
    size = 2 if lead < 0xE0 else (3 if lead < 0xF0 else 4)
    if lead < 0xC0 or lead > 0xF4 or at + size > end:
        return 0xFFFD, 1
    code = lead & (0x7F >> size)
    for k in range(1, size):
        code = (code << 6) | (int(data[at + k]) & 0x3F)
    return code if code < 0x110000 else 0xFFFD, size


@helper
def _take(entry: np.uint32, word: np.uint64, words: U64, filled: int) -> tuple[np.uint64, int]:
    """Feed one folded code point: the word going on (or `_START`) and how many words are finished."""
    if entry != SEPARATOR and entry & ALONE == 0:
        return (word ^ np.uint64(entry)) * _WORD, filled
    if word != _START:  # a word's hash is _START with chance 2^-64; it would be skipped
        words[filled] = word
        filled += 1
    if entry != SEPARATOR:
        words[filled] = (_START ^ np.uint64(entry & VALUE)) * _WORD
        filled += 1
    return _START, filled


@helper
def _load8(data: U8, at: int) -> np.uint64:
    """The eight bytes from `at` on as one little-endian integer: the compiler makes it a single load."""
    block = np.uint64(0)
    for k in range(8):
        block |= np.uint64(data[np.uint64(at) + np.uint64(k)]) << np.uint64(8 * k)
    return block


@helper
def _leading_letters(block: np.uint64) -> int:
    """How many of eight bytes, from the lowest on, are ASCII letters."""
    low = (block | _SMALL) & _LOWS
    others = (~((low + _FROM_A) & ~(low + _BEYOND_Z)) | block) & _TOPS
    if others == 0:
        return 8
    below = ((others & (~others + _ONE)) - _ONE) & _EACH  # a bit a byte, up to the first other one's
    return int((below * _EACH) >> _LAST) - 1


@helper
def _hash_letters(block: np.uint64, count: int, word: np.uint64) -> np.uint64:
    """Hash of a word that goes on with `count` ≤ 8 ASCII letters; no branch depends on how many there are."""
    small = block | _SMALL
    for k in range(8):
        longer = (word ^ ((small >> np.uint64(8 * k)) & _BYTE)) * _WORD
        word = longer if k < count else word
    return word


@helper
def _read_words(data: U8, at: int, end: int, fold: U32, expansions: U32, words: U64, filled: int) -> tuple[int, int]:
    """Append hashes of words, not yet mixed, until `words` is full or the text ends: byte to go on from, words held."""
    room = words.shape[0] - _SLACK
    spelled = fold[0x61] < ALONE  # letters make words, are none by themselves
    word = _START
    while at < end and (filled < room or word != _START):
        if data[at] < 0x80 and spelled and at + 10 < end:  # most words, up to eight letters, in one step
            block = _load8(data, at)
            letters = _leading_letters(block)
            if letters > 0:
                word = _hash_letters(block, letters, word)
                at += letters
                if data[at] < 0x80 and fold[data[at]] == SEPARATOR:
                    words[filled] = word
                    filled += 1
                    at += 1
                    at += data[at] == 0x20  # one step more, where a comma and a space follow
                    word = _START
                continue
        if data[at] < 0x80:
            entry = fold[data[at]]
            at += 1
        else:
            code, size = _decode(data, at, end)
            entry = fold[code]
            at += size
        if DROPPED < entry < ALONE:  # nearly every other character: goes on with the word
            word = (word ^ np.uint64(entry)) * _WORD
            continue
        if entry == DROPPED:
            continue
        if entry & SEVERAL == 0:
            word, filled = _take(entry, word, words, filled)
            continue
        index = np.int64(entry & VALUE)
        for k in range(index + 1, index + 1 + np.int64(expansions[index])):
            word, filled = _take(expansions[k], word, words, filled)
    if at >= end:
        word, filled = _take(SEPARATOR, word, words, filled)
    return at, filled


@helper
def _fill_shingles(words: U64, filled: int, ngram: int, out: U64) -> int:
    """Hashes of each `ngram` consecutive words of the first `filled`, if there are so many: how many."""
    count = filled - ngram + 1
    if count <= 0:
        return 0
    leaving = _ONE  # Kⁿ⁻¹, the factor of the word that leaves
    total = np.uint64(0)
    for k in range(ngram - 1):
        leaving *= _SHINGLE
        total = total * _SHINGLE + words[k]
    for k in range(count):
        total = total * _SHINGLE + words[k + ngram - 1]
        out[k] = total
        total -= leaving * words[k]
    for k in range(count):  # apart, so that eight are mixed at once
        out[k] = mix(out[k])
    return int(count)


@helper
def _shingle_of_bytes(data: U8, at: int, end: int) -> np.uint64:
    """Hash of the raw bytes: the only shingle of a document without words."""
    total = _START ^ np.uint64(end - at)
    for k in range(at, end):
        total = (total ^ np.uint64(data[k])) * _WORD
    return np.uint64(mix(mix(total)))


@kernel  # optimised by itself, MinHash is 6 % faster
def next_shingles(
    data: U8, begin: int, at: int, end: int, fold: U32, expansions: U32, words: U64, carried: int, ngram: int, out: U64
) -> tuple[int, int, int]:
    """Next shingles of the document in bytes begin … end, reading from `at`.

    Args:
        data: all texts, UTF-8.
        begin: first byte of the document.
        at: where the last call stopped; `begin` at first.
        end: end of the document.
        fold: see `Folding`.
        expansions: see `Folding`.
        words: scratch uint64[WORDS_AT_ONCE + ngram]; `carried` words at its front come from the last call.
        carried: 0 at first, then as returned.
        ngram: words a shingle.
        out: uint64, as long as `words`: the shingles.

    Returns:
        Byte to go on from (`end` when done), words carried, shingles written.
    """
    start = at
    at, filled = _read_words(data, at, end, fold, expansions, words, carried)
    for k in range(carried, filled):
        words[k] = mix(words[k])
    count = _fill_shingles(words, filled, ngram, out)
    # Only a first call that read everything can find fewer words than a shingle has: later ones carry ngram - 1.
    if start == begin and at >= end and count == 0:
        if filled:
            return at, 0, _fill_shingles(words, filled, filled, out)
        out[0] = _shingle_of_bytes(data, begin, end)
        return at, 0, 1
    carried = min(filled, ngram - 1)
    for k in range(carried):
        words[k] = words[filled - carried + k]
    return at, carried, count


def word_hashes(texts: pa.LargeStringArray, shingling: Shingling) -> tuple[U64, I64]:
    """The words of n texts, one after another.

    Args:
        texts: n texts; what lies under a null is read too.
        shingling: what a word is; `ngram` is of no matter.

    Returns:
        uint64[w] hashes, mixed; int64[n + 1], first word of each text, then w.
    """
    data, bounds = text_buffers(texts)
    table = folding(shingling.characters, shingling.keep_digits)
    # a text has no more words than bytes; of this only what is written to takes memory
    words = np.empty(bounds[-1] - bounds[0] + _SLACK + 1, np.uint64)
    documents = np.zeros(len(bounds), np.int64)
    _hash_words(data, bounds, table.fold, table.expansions, words, documents)
    return words[: documents[-1]], documents


@kernel
def _hash_words(data: U8, bounds: I64, fold: U32, expansions: U32, words: U64, documents: I64) -> None:
    filled = 0
    for row in range(len(bounds) - 1):
        at, end = bounds[row], bounds[row + 1]
        if at < end:
            _, filled = _read_words(data, at, end, fold, expansions, words, filled)
        documents[row + 1] = filled
    for k in range(filled):
        words[k] = mix(words[k])


def text_buffers(texts: pa.LargeStringArray) -> tuple[U8, I64]:
    """Bytes and offsets int64[n + 1] of an Arrow column, as read-only views. Raises TypeError on another type."""
    if texts.type != pa.large_string():
        raise TypeError(f"texts must be an Arrow large_string array, found {texts.type}: cast it")
    _, offsets, data = texts.buffers()
    text_bytes = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
    if offsets is None or offsets.size == 0:  # Arrow allows an empty column without buffers
        bounds = np.zeros(1, np.int64)
    else:
        bounds = np.frombuffer(offsets, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    # Most buffers are read-only already; to Numba a writable array is another type, and another compilation.
    text_bytes.flags.writeable = bounds.flags.writeable = False
    return text_bytes, bounds
