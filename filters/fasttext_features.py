"""The features that a fastText model sees in a text, summed: its words, n-grams of characters and runs of words.

A token lies between white space. Its features are the word, if the model knows it, and the n-grams, n = min_n … max_n
code points, of "<token>", each hashed (FNV-1a) into a bucket, which has a row of the input matrix; one character at
either end is no 1-gram. Runs of 2 … word_ngrams tokens have buckets too. A whole text is one line: a line break is a
space, as those who call fastText's `predict` replace it, and the mark of a line's end stands at the end. After
`Dictionary::getLine` of fastText 0.9.2, which also ends a line at a token `</s>`: here that is a word like others.
"""

import numpy as np
import numpy.typing as npt
from numba import njit

from tokenmill.kernels import allocating_helper, helper

_FNV_START, _FNV_PRIME = 2166136261, 16777619
_WORD_NGRAM_FACTOR = 116049371
_END_OF_LINE = np.frombuffer(b"</s>", np.uint8)
# A token with more is not remembered; a word of 20 letters has 60 n-grams of 2 … 4, most of which few models have.
_REMEMBERED_FEATURES = 48
_WAITING_FEATURES = 512
_LABEL_PREFIX = np.frombuffer(b"__label__", np.uint8)


def word_slots(words: npt.NDArray[np.uint8], offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int32]:
    """The `slots` of a FastTextModel for the words that lie between n + 1 offsets; at most half full."""
    slots = np.full(2 << len(offsets).bit_length(), -1, np.int32)
    _fill_slots(words, offsets, slots)
    return slots


@njit(nogil=True, cache=True)
def _fill_slots(words, offsets, slots):  # type: ignore[no-untyped-def]
    mask = len(slots) - 1
    for index in range(len(offsets) - 1):
        place = _hash(words, offsets[index], offsets[index + 1]) & mask
        while slots[place] >= 0:
            place = (place + 1) & mask
        slots[place] = index


@allocating_helper
def sum_features(text, tables, settings, hidden):  # type: ignore[no-untyped-def]
    """Sum of the rows of all features of a text into `hidden`; how many they are, 0 for a text without a token."""
    rows, _, _, _, bucket_rows = tables
    word_ngrams = settings[2]
    hidden[:] = 0.0
    hashes = np.empty(len(text) // 2 + 2 if word_ngrams > 1 else 0, np.int64)
    memory = new_memory(0)
    sums = hidden.reshape((1, len(hidden)))
    num_tokens, num_hashes, num_features = sum_tokens(text, 0, len(text), tables, settings, memory, hashes, sums)
    if num_tokens == 0:
        return 0
    num_features += add_end(tables, hidden)
    if word_ngrams > 1:
        hashes[num_hashes] = _hash(_END_OF_LINE, 0, len(_END_OF_LINE))
        num_features += _add_runs(hashes[: num_hashes + 1], word_ngrams, rows, bucket_rows, hidden)
    return num_features


@allocating_helper
def new_memory(size):  # type: ignore[no-untyped-def]
    """What `sum_tokens` remembers of tokens of one text buffer, most of which come again; `size` a power of 2, or 0.

    Of each slot: the token's start, length, hash and number of features; and their rows.
    """
    return np.full((size, 4), -1, np.int64), np.empty((size, _REMEMBERED_FEATURES), np.int32)


@allocating_helper
def sum_tokens(data, start, end, tables, settings, memory, hashes, sums):  # type: ignore[no-untyped-def]
    """Add the rows of the features of the tokens in data[start:end] to each row of `sums`, one after another.

    Runs of tokens and the end of the line are not among them. Returns the numbers of tokens, of those whose hashes went
    into `hashes` (only if there is room for any: not labels), and of features.
    """
    slots, remembered = memory
    token = np.empty(end - start + 2, np.uint8)
    waiting = np.empty(_WAITING_FEATURES, np.int32)
    num_tokens, num_hashes, num_features, num_waiting, at = 0, 0, 0, 0, start
    while at < end:
        if _is_space(data[at]):
            at += 1
            continue
        first = at
        while at < end and not _is_space(data[at]):
            at += 1
        num_tokens += 1
        if _is_label(data, first, at):
            continue
        value = _hash(data, first, at)
        if len(hashes):
            hashes[num_hashes] = value
            num_hashes += 1
        if num_waiting + _REMEMBERED_FEATURES > len(waiting):
            _add(tables[0], waiting[:num_waiting], sums)
            num_waiting = 0
        slot = value & (len(slots) - 1)
        if len(slots) and slots[slot, 2] == value and _same(data, slots[slot, 0], slots[slot, 1], first, at):
            count = slots[slot, 3]
            waiting[num_waiting : num_waiting + count] = remembered[slot, :count]
            num_waiting += count
            num_features += count
            continue
        word = _find(data, first, at, value, tables)
        before = num_waiting
        count, num_waiting = _add_token(data[first:at], word, tables, settings, token, waiting, num_waiting, sums)
        num_features += count
        if len(slots) and count <= _REMEMBERED_FEATURES:
            slots[slot, 0], slots[slot, 1], slots[slot, 2], slots[slot, 3] = first, at - first, value, count
            remembered[slot, :count] = waiting[before : before + count]
    _add(tables[0], waiting[:num_waiting], sums)
    return num_tokens, num_hashes, num_features


@helper
def add_end(tables, hidden):  # type: ignore[no-untyped-def]
    """Add the row of the mark of a line's end, if the model knows it; how many."""
    word = _find(_END_OF_LINE, 0, len(_END_OF_LINE), _hash(_END_OF_LINE, 0, len(_END_OF_LINE)), tables)
    if word < 0:
        return 0
    hidden += tables[0][word]
    return 1


@helper
def _add_token(text, word, tables, settings, token, waiting, num_waiting, sums):  # type: ignore[no-untyped-def]
    """Put the rows of a token's word and of the n-grams of "<token>" into `waiting`; when full, add what is there.

    `token` is room for "<token>". Returns how many features the token has and how many wait.
    """
    rows, _, _, _, bucket_rows = tables
    min_n, max_n, _ = settings
    count = 0
    if word >= 0:
        waiting[num_waiting] = word
        count, num_waiting = 1, num_waiting + 1
    if max_n <= 0 or len(bucket_rows) == 0:
        return count, num_waiting
    inverse = 1.0 / len(bucket_rows)
    size = len(text) + 2
    token[0] = 60  # <
    for k in range(size - 2):
        token[1 + k] = text[k]
    token[size - 1] = 62  # >
    for start in range(size):
        if token[start] & 0xC0 == 0x80:
            continue
        value, end, n = _FNV_START, start, 0
        while end < size and n < max_n:
            value, end, n = _hash_byte(value, token[end]), end + 1, n + 1
            while end < size and token[end] & 0xC0 == 0x80:
                value, end = _hash_byte(value, token[end]), end + 1
            if n >= min_n and not (n == 1 and (start == 0 or end == size)):
                row = bucket_rows[_remainder(value, len(bucket_rows), inverse)]
                if row >= 0:
                    if num_waiting == len(waiting):
                        _add(rows, waiting, sums)
                        num_waiting = 0
                    waiting[num_waiting] = row
                    count, num_waiting = count + 1, num_waiting + 1
    return count, num_waiting


@helper
def _remainder(value, divisor, inverse):  # type: ignore[no-untyped-def]
    """Value % divisor of 32-bit numbers, without a division: the quotient in float64 is off by one at most."""
    left = value - np.int64(value * inverse) * divisor
    if left < 0:
        return left + divisor
    return left - divisor if left >= divisor else left


@helper
def _same(data, first, length, start, end):  # type: ignore[no-untyped-def]
    """Whether the `length` bytes from `first` on are those of data[start:end]."""
    if length != end - start:
        return False
    at = 0
    while at < length and data[first + at] == data[start + at]:
        at += 1
    return at == length


@helper
def _add_runs(hashes, word_ngrams, rows, bucket_rows, hidden):  # type: ignore[no-untyped-def]
    """Add the rows of the runs of 2 … word_ngrams tokens; how many. fastText extends the signs of the 32-bit hashes."""
    count = 0
    if len(bucket_rows) == 0:
        return count
    for start in range(len(hashes)):
        value = np.uint64(_signed(hashes[start]))
        for end in range(start + 1, min(len(hashes), start + word_ngrams)):
            value = value * np.uint64(_WORD_NGRAM_FACTOR) + np.uint64(_signed(hashes[end]))
            row = bucket_rows[np.int64(value % np.uint64(len(bucket_rows)))]
            if row >= 0:
                hidden += rows[row]
                count += 1
    return count


@helper
def _add(rows, features, sums):  # type: ignore[no-untyped-def]
    """Add the rows of `features`, in order, to each row of `sums`."""
    whole = len(features) // 4 * 4
    for k in range(len(sums)):
        hidden = sums[k]
        for i in range(0, whole, 4):  # four at a time: `hidden` is read and written once, the order is the same
            a, b, c, d = rows[features[i]], rows[features[i + 1]], rows[features[i + 2]], rows[features[i + 3]]
            for at in range(len(hidden)):
                hidden[at] = (((hidden[at] + a[at]) + b[at]) + c[at]) + d[at]
        for i in range(whole, len(features)):
            row = rows[features[i]]
            for at in range(len(hidden)):
                hidden[at] += row[at]


@helper
def _find(text, start, end, value, tables):  # type: ignore[no-untyped-def]
    """Index of the word text[start:end], whose hash is `value`; -1 if the model does not know it."""
    _, words, word_offsets, slots, _ = tables
    mask = len(slots) - 1
    place = value & mask
    while slots[place] >= 0:
        first = word_offsets[slots[place]]
        if word_offsets[slots[place] + 1] - first == end - start:
            same = 0
            while same < end - start and words[first + same] == text[start + same]:
                same += 1
            if same == end - start:
                return slots[place]
        place = (place + 1) & mask
    return -1


@helper
def _hash(text, start, end):  # type: ignore[no-untyped-def]
    value = _FNV_START
    for at in range(start, end):
        value = _hash_byte(value, text[at])
    return value


@helper
def _hash_byte(value, byte):  # type: ignore[no-untyped-def]
    """One step of 32-bit FNV-1a; fastText takes bytes as signed, so those from 128 on flip the upper 24 bits too."""
    signed = np.int64(byte) | 0xFFFFFF00 if byte >= 128 else np.int64(byte)
    return ((value ^ signed) * _FNV_PRIME) & 0xFFFFFFFF


@helper
def _signed(value):  # type: ignore[no-untyped-def]
    return value - (1 << 32) if value >= 1 << 31 else value


@helper
def _is_space(byte):  # type: ignore[no-untyped-def]
    return byte == 32 or 9 <= byte <= 13 or byte == 0


@helper
def _is_label(text, start, end):  # type: ignore[no-untyped-def]
    """Whether a token begins like a label: fastText takes it for one, and no label is a feature."""
    same = 0
    while same < min(len(_LABEL_PREFIX), end - start) and text[start + same] == _LABEL_PREFIX[same]:
        same += 1
    return same == len(_LABEL_PREFIX)
