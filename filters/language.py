"""Language identification: py3langid's naive Bayes model, read by a kernel whose scores are the same bits everywhere.

py3langid (a fork of langid.py, Lui and Baldwin 2012) walks an automaton over the text's bytes, counts the features it
meets, and scores column (language) l by

    prior[l] + Σ log1p(count[f]) · table[f, l]

then takes a softmax at temperature √bytes. It leaves the sum to BLAS in float32, whose result depends on the processor.
Here the table holds integers in units of 2^-9 (exact: it is stored as float16, none of it smaller than 2), log1p comes
from integer arithmetic, rounded to 2^-24, and the sum of their products is one of int64, so exact in any order; it is
below 2^53, so as float64 too. What follows is plain IEEE arithmetic in a fixed order, `exp` included.

One thread on pages of 3 KB: some 8,000 documents a second, with their paragraphs 4,500, py3langid 500; the same three
labels in order on 7,500 sentences in 75 languages and on 300 web pages, scores within 5e-6. What limits it is memory:
a page meets some 1,200 of 100,000 features (`language_kernel.py`).
"""

import math
import unicodedata
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from numba import njit

from tokenmill.filters.bounds import named_reasons
from tokenmill.filters.edits import text_buffers
from tokenmill.filters.labels import names_language
from tokenmill.filters.language_kernel import identify
from tokenmill.filters.paragraph_languages import LINE, NO_PARAGRAPHS, ROW, Paragraphs
from tokenmill.filters.softmax import POWERS
from tokenmill.manifests.schemas import LANGUAGE

VERSION = 1

#: One unit of `LanguageModel.table`, and the largest magnitude in it.
TABLE_UNIT = 2.0**-9
TABLE_LIMIT = 1 << 13
_LOG_UNIT = 2.0**-24
# Σ log1p(count) ≤ ln 2 · bytes, so 2^16 bytes keep the sum below 2^53; normalised text is at most 3 times as long.
_MAX_ENCODED_BYTES = 1 << 16
MAX_PREFIX_BYTES = _MAX_ENCODED_BYTES // 3
# States of the automaton are held for so many texts: four bytes for each of theirs.
_TEXTS_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class LanguageModel:
    """An automaton over bytes and the scores of its features.

    Attributes:
        next_state: uint32 (rows * 256); state s goes on byte b to next_state[state_row[s] * 256 + b]. It starts in 0.
        state_row: unsigned (states).
        state_feature: int32 (states); the feature met on entering the state, or -1.
        table: int16 (features, columns), in units of TABLE_UNIT, magnitudes below TABLE_LIMIT.
        prior: float64 (columns).
        labels: of each column; columns with the same label are scripts of one language and share its score.
        model_hash: xxh3-128 (hex) of the file it was read from.
    """

    next_state: npt.NDArray[np.uint32]
    state_row: npt.NDArray[np.unsignedinteger]
    state_feature: npt.NDArray[np.int32]
    table: npt.NDArray[np.int16]
    prior: npt.NDArray[np.float64]
    labels: tuple[str, ...]
    model_hash: str

    def __post_init__(self) -> None:
        assert self.table.shape[1] == len(self.prior) == len(self.labels), "one column a label"
        assert len(set(self.labels)) >= 3, "three languages are reported"


@dataclass(frozen=True)
class LanguageBounds:
    """What the language gate keeps, in the order in which it is tried; None is off.

    Attributes:
        keep: languages; a text in which none was found is in none of them.
        min_score: of the best language, 0 … 1.
        max_other_language_fraction: of the characters in paragraphs, those in other languages.
    """

    keep: tuple[str, ...] | None = None
    min_score: float | None = None
    max_other_language_fraction: float | None = None

    def __post_init__(self) -> None:
        if isinstance(self.keep, str):
            raise ValueError(
                f"language.keep is the string {self.keep!r}; give a list of languages, such as [{self.keep}]"
            )


def language_signals(texts: pa.LargeStringArray, model: LanguageModel, prefix_bytes: int = 4096) -> pa.RecordBatch:
    """The three likeliest languages of every text.

    Args:
        texts: n texts.
        model: from the shell.
        prefix_bytes: bytes of UTF-8 read of each text, cut at a character; at most MAX_PREFIX_BYTES.

    Returns:
        n rows of LANGUAGE, all null where the text is. A text with no feature of the model has no languages and scores
        of 0. Equal scores are in the order of the model's columns.

    Raises:
        ValueError: prefix_bytes is out of range.
    """
    return paragraph_languages(texts, NO_PARAGRAPHS, model, prefix_bytes)[0]


def paragraph_languages(
    texts: pa.LargeStringArray, paragraphs: Paragraphs, model: LanguageModel, prefix_bytes: int
) -> tuple[pa.RecordBatch, pa.StringArray]:
    """`language_signals`, and in the same walk the best language of each paragraph, as of a text of its own.

    Args:
        texts: n texts.
        paragraphs: of these texts and this prefix_bytes.
        model: from the shell.
        prefix_bytes: as for `language_signals`, and so the errors.
    """
    if not 0 < prefix_bytes <= MAX_PREFIX_BYTES:
        raise ValueError(f"prefix_bytes is {prefix_bytes}; give 1 … {MAX_PREFIX_BYTES}")
    offsets, data = text_buffers(texts)
    encoded = [_as_read(data[start:end].tobytes()) for start, end in _prefixes(data, offsets, prefix_bytes).tolist()]
    alone = _read_otherwise(data, paragraphs)
    shared = paragraphs[~alone]
    best = np.empty(len(paragraphs), np.int32)
    columns, scores, best[~alone] = _identified(encoded, shared[:, ROW], shared[:, LINE], model)
    read = [_as_read(data[start:end].tobytes()) for start, end in paragraphs[alone, :2].tolist()]
    best[alone] = _identified(read, shared[:0, ROW], shared[:0, LINE], model)[0][:, 0]
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    return language_table(model.labels, columns, scores, missing), label_array(model.labels, best)


def language_table(
    names: tuple[str, ...],
    columns: npt.NDArray[np.int32],
    scores: npt.NDArray[np.float64],
    missing: npt.NDArray[np.bool_],
) -> pa.RecordBatch:
    """LANGUAGE from a model's columns (n, 3), -1 for none, their names, and scores (n, 3); null where missing (n)."""
    columns[missing] = -1  # whatever bytes lie under a null
    arrays = []
    for place in range(3):
        arrays += [label_array(names, columns[:, place]), pa.array(scores[:, place], pa.float32(), mask=missing)]
    return pa.RecordBatch.from_arrays(arrays, schema=LANGUAGE)


def label_array(names: tuple[str, ...], columns: npt.NDArray[np.int32]) -> pa.StringArray:
    """The names of a model's columns (n); null for -1."""
    return pa.array(names, pa.string()).take(pa.array(columns, pa.int32(), mask=columns < 0))


def language_violations(signals: pa.RecordBatch, bounds: LanguageBounds) -> pa.Array:
    """For each row of LANGUAGE_SIGNALS, the first bound it violates, such as "language.keep"; null where no text was.

    `keep` takes a language by any of its names; LANGUAGE is enough without `max_other_language_fraction`.
    """
    scores = signals.column("language_score").cast(pa.float64()).to_numpy(zero_copy_only=False)
    first = np.full(signals.num_rows, -1, np.int32)
    if bounds.max_other_language_fraction is not None:
        others = signals.column("other_language_fraction").cast(pa.float64()).to_numpy(zero_copy_only=False)
        first[others > bounds.max_other_language_fraction] = 2
    if bounds.min_score is not None:
        first[scores < bounds.min_score] = 1
    if bounds.keep is not None:
        labels = pc.unique(signals.column("language")).drop_null().to_pylist()
        covered = [label for label in labels if any(names_language(asked, label) for asked in bounds.keep)]
        kept = pc.is_in(signals.column("language"), value_set=pa.array(covered, pa.string()))
        first[~kept.to_numpy(zero_copy_only=False) & ~np.isnan(scores)] = 0
    return named_reasons(first, [f"language.{field.name}" for field in fields(LanguageBounds)])


def _as_read(prefix: bytes) -> bytes:
    """A prefix as the model reads it: lower case if there is no lower case in it, in Unicode's form NFC."""
    text = prefix.decode()
    text = text.lower() if text.isupper() else text
    return (text if text.isascii() else unicodedata.normalize("NFC", text)).encode()


def _read_otherwise(data: npt.NDArray[np.uint8], paragraphs: Paragraphs) -> npt.NDArray[np.bool_]:
    """Which paragraphs are read otherwise than as part of their text: those in capitals.

    Normalisation knows no other difference: it joins nothing across a line break, nor does the lower case of a Σ.
    """
    found = np.zeros(len(paragraphs), np.bool_)
    _without_small_letters(data, paragraphs, found)
    for index in np.flatnonzero(found).tolist():
        start, end = paragraphs[index, :2].tolist()
        found[index] = data[start:end].tobytes().decode().isupper()
    return found


@njit(nogil=True, cache=True)
def _without_small_letters(data, paragraphs, found):  # type: ignore[no-untyped-def]
    """Mark the paragraphs that have none of a … z."""
    for index in range(len(paragraphs)):
        at, end = paragraphs[index, 0], paragraphs[index, 1]
        while at < end and not 97 <= data[at] <= 122:
            at += 1
        found[index] = at == end


@njit(nogil=True, cache=True)
def _prefixes(data, offsets, prefix_bytes):  # type: ignore[no-untyped-def]
    """Start and end (n, 2) of the first prefix_bytes of every text, cut at a character."""
    spans = np.empty((len(offsets) - 1, 2), np.int64)
    for row in range(len(spans)):
        start, end = offsets[row], offsets[row + 1]
        if end - start > prefix_bytes:
            end = start + prefix_bytes
            while data[end] & 0xC0 == 0x80:
                end -= 1
        spans[row, 0], spans[row, 1] = start, end
    return spans


@lru_cache(maxsize=8)
def _log1p_units(size: int) -> npt.NDArray[np.int64]:
    """log(1 + count) in units of _LOG_UNIT for counts 0 … size - 1, each rounded to a whole number.

    By integers in units of 2^-80: log(n + 1) - log(n) = 2 atanh(1 / (2n + 1)) = 2 Σ 1 / (k (2n + 1)^k), k odd.
    """
    bits, logarithm, units = 80, 0, [0]
    for n in range(1, size):
        base, k = 2 * n + 1, 1
        power = (2 << bits) // base
        while power:
            logarithm += power // k
            power //= base * base
            k += 2
        units.append((logarithm * round(1 / _LOG_UNIT) + (1 << (bits - 1))) >> bits)
    return np.array(units, np.int64)


@lru_cache(maxsize=8)
def _labels_of_columns(model: LanguageModel) -> tuple[npt.NDArray[np.int64], float]:
    """The first column of each column's label, and the margin of `pick_clear`."""
    first = np.array([model.labels.index(label) for label in model.labels], np.int64)
    return first, 1.0 + math.log(np.bincount(first).max())


def _identified(
    encoded: list[bytes], rows: npt.NDArray[np.int64], lines: npt.NDArray[np.int64], model: LanguageModel
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64], npt.NDArray[np.int32]]:
    """Columns (-1 for none) and scores of the three likeliest languages, both (n, 3), and each line's best column."""
    columns, scores = np.full((len(encoded), 3), -1, np.int32), np.zeros((len(encoded), 3), np.float64)
    best = np.full(len(rows), -1, np.int32)
    first_column, margin = _labels_of_columns(model)
    starts = np.searchsorted(rows, np.arange(len(encoded) + 1))
    lines = np.ascontiguousarray(lines)  # one type of array for the kernel: it is compiled once
    for first in range(0, len(encoded), _TEXTS_AT_ONCE):
        last = min(first + _TEXTS_AT_ONCE, len(encoded))
        lengths = np.fromiter(map(len, encoded[first:last]), np.int64, last - first)
        longest = int(lengths.max())
        assert longest < _MAX_ENCODED_BYTES, "normalisation made a prefix more than 3 times as long"
        weights = _log1p_units(max(4096, 1 << longest.bit_length()))
        asked = slice(starts[first], starts[last])
        identify(
            (np.frombuffer(b"".join(encoded[first:last]), np.uint8), np.concatenate([[0], np.cumsum(lengths)])),
            (model.next_state, model.state_row, model.state_feature),
            (model.table, model.prior, first_column, weights, POWERS, margin, TABLE_UNIT * _LOG_UNIT),
            (starts[first : last + 1] - starts[first], lines[asked]),
            (columns[first:last], scores[first:last], best[asked]),
        )
    return columns, scores, best
