"""Labels of a supervised fastText model (Joulin et al. 2016, arXiv:1607.01759), scored by a kernel of ours.

The mean of the rows of a text's features (`fasttext_features.py`) goes through the output matrix to the labels' scores:
a softmax; a sigmoid a label (one-vs-all, negative sampling); or the product of the sigmoids on the way to the label's
leaf in a Huffman tree (hierarchical softmax: lid.176).

The package computes in float32 with the C library's `exp`. Here sums are in float64, in the order of the text, and
`exp` is `language.py`'s: the same bits everywhere, no interpreter lock, no call a document. Scores agree with the
package's within 1e-5 (`fasttext-wheel` 0.9.2; one-vs-all within 0.01, where the package looks its sigmoid up in a table
of 512 values), as do the 1e-5 it adds to each factor; only that no score is above 1.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.filters.edits import text_buffers
from tokenmill.filters.fasttext_features import add_end, new_memory, sum_features, sum_tokens
from tokenmill.filters.language import label_array, language_table
from tokenmill.filters.paragraph_languages import NO_PARAGRAPHS, ROW, Paragraphs
from tokenmill.filters.softmax import POWERS, exp, pick_three
from tokenmill.kernels import allocating_helper, helper

VERSION = 1

Loss = Literal["tree", "softmax", "sigmoid"]
LOSSES = {"tree": 0, "softmax": 1, "sigmoid": 2}
#: Above every count: the weight of a tree's node before it has children.
UNBUILT = 10**15
_REMEMBERED_TOKENS = 1 << 12
_ADDED = 1e-5  # what fastText adds to a probability before it takes a logarithm


@dataclass(frozen=True, eq=False)
class FastTextModel:
    """A supervised model's tables, quantised ones spelled out.

    Attributes:
        rows: float32 (entries that are words + kept buckets, dim); the input matrix.
        output: float32 (dim, labels, or labels - 1 inner nodes of the tree); transposed.
        children: int32 (labels - 1, 2) of the tree's inner nodes, the root last; node i is inner node i - labels, or
            label i. (0, 2) without a tree.
        words: uint8; the words, end to end.
        word_offsets: int64 (words + 1).
        slots: int32 (power of 2); open addressing by a word's hash: the word's index, -1 if free.
        bucket_rows: int32 (buckets): row of each bucket of n-grams, -1 if the model kept none.
        min_n, max_n: lengths of the character n-grams in code points; max_n = 0 for none.
        word_ngrams: longest run of tokens.
        loss: how scores come out of the output matrix.
        labels: of each column, in short form; columns with the same label share its score.
        model_hash: xxh3-128 (hex) of the file it was read from.
    """

    rows: npt.NDArray[np.float32]
    output: npt.NDArray[np.float32]
    children: npt.NDArray[np.int32]
    words: npt.NDArray[np.uint8]
    word_offsets: npt.NDArray[np.int64]
    slots: npt.NDArray[np.int32]
    bucket_rows: npt.NDArray[np.int32]
    min_n: int
    max_n: int
    word_ngrams: int
    loss: Loss
    labels: tuple[str, ...]
    model_hash: str


def fasttext_signals(texts: pa.LargeStringArray, model: FastTextModel, prefix_bytes: int = 4096) -> pa.RecordBatch:
    """The three likeliest labels of every text.

    Args:
        texts: n texts.
        model: from the shell; three labels or more.
        prefix_bytes: bytes of UTF-8 read of each text, cut at a character.

    Returns:
        n rows of LANGUAGE, all null where the text is. A text without a token, or without a feature of the model, has
        no languages and scores of 0. Equal scores are in the order of the model's labels.

    Raises:
        ValueError: prefix_bytes is not positive.
    """
    return paragraph_labels(texts, NO_PARAGRAPHS, model, prefix_bytes)[0]


def paragraph_labels(
    texts: pa.LargeStringArray, paragraphs: Paragraphs, model: FastTextModel, prefix_bytes: int
) -> tuple[pa.RecordBatch, pa.StringArray]:
    """`fasttext_signals`, and in the same pass the best label of each paragraph, as of a text of its own.

    Args:
        texts: n texts.
        paragraphs: of these texts and this prefix_bytes.
        model: from the shell; three labels or more.
        prefix_bytes: as for `fasttext_signals`, and so the errors.
    """
    if prefix_bytes <= 0:
        raise ValueError(f"prefix_bytes is {prefix_bytes}; give 1 or more")
    offsets, data = text_buffers(texts)
    first_column = _first_columns(model)
    columns, scores = np.full((len(texts), 3), -1, np.int32), np.zeros((len(texts), 3), np.float64)
    best = np.full(len(paragraphs), -1, np.int32)
    _identify(
        (data, offsets, prefix_bytes),
        (paragraphs, np.searchsorted(paragraphs[:, ROW], np.arange(len(texts) + 1))),
        (model.rows, model.words, model.word_offsets, model.slots, model.bucket_rows),
        (model.min_n, model.max_n, model.word_ngrams),
        (model.output, model.children, LOSSES[model.loss], first_column, POWERS),
        bool((first_column == np.arange(len(first_column))).all()),
        (columns, scores, best),
    )
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    return language_table(model.labels, columns, scores, missing), label_array(model.labels, best)


@lru_cache(maxsize=8)
def _first_columns(model: FastTextModel) -> npt.NDArray[np.int64]:
    """The first column of each column's label."""
    return np.array([model.labels.index(label) for label in model.labels], np.int64)


def huffman_children(counts: list[int]) -> npt.NDArray[np.int32]:
    """`FastTextModel.children` for labels that were met `counts` times, in descending order: fastText's `buildTree`.

    Of the two lightest nodes without a parent, the first becomes the left child, reached by 1 - sigmoid; of equal
    weights an inner node comes before a label.
    """
    size = len(counts)
    weights = [*counts, *[UNBUILT] * (size - 1)]
    children = np.empty((size - 1, 2), np.int32)
    leaf, node = size - 1, size
    for parent in range(size, 2 * size - 1):
        for side in range(2):
            if leaf >= 0 and weights[leaf] < weights[node]:
                children[parent - size, side], leaf = leaf, leaf - 1
            else:
                children[parent - size, side], node = node, node + 1
        weights[parent] = sum(weights[child] for child in children[parent - size])
    return children


@njit(nogil=True, cache=True)
def _identify(texts, paragraphs, tables, settings, scoring, one_column, found):  # type: ignore[no-untyped-def]
    """Fill `found` for every text and paragraph; the tuples hold what `paragraph_labels` passes."""
    data, offsets, prefix_bytes = texts
    spans, first_span = paragraphs
    columns, scores, best = found
    dim = tables[0].shape[1]
    sums = np.empty((2, dim), np.float64)
    posterior = np.empty(len(scoring[3]), np.float64)
    spare = (np.empty(scoring[0].shape[1], np.float64), np.empty(3, np.int32), np.empty(3, np.float64))
    memory = new_memory(_REMEMBERED_TOKENS if len(data) >= _REMEMBERED_TOKENS else 0)
    no_hashes = np.empty(0, np.int64)
    in_one_pass = settings[2] <= 1  # runs of tokens go on from one paragraph to the next
    for row in range(len(offsets) - 1):
        at, end = offsets[row], offsets[row + 1]
        if end - at > prefix_bytes:
            end = at + prefix_bytes
            while data[end] & 0xC0 == 0x80:
                end -= 1
        num_features, num_tokens = 0, 0
        sums[0] = 0.0
        if not in_one_pass:
            num_features = sum_features(data[at:end], tables, settings, sums[0])
        for index in range(first_span[row], first_span[row + 1]):
            first, last = spans[index, 0], spans[index, 1]
            if in_one_pass:
                counts = sum_tokens(data, at, first, tables, settings, memory, no_hashes, sums[:1])
                sums[1] = 0.0
                own = sum_tokens(data, first, last, tables, settings, memory, no_hashes, sums)
                num_tokens += counts[0] + own[0]
                num_features += counts[2] + own[2]
                own_features = own[2] + add_end(tables, sums[1]) if own[0] else 0
            else:
                own_features = sum_features(data[first:last], tables, settings, sums[1])
            if own_features:
                best[index] = _best(sums[1], own_features, scoring, one_column, posterior, spare)
            at = last
        if in_one_pass:
            counts = sum_tokens(data, at, end, tables, settings, memory, no_hashes, sums[:1])
            num_tokens, num_features = num_tokens + counts[0], num_features + counts[2]
            num_features += add_end(tables, sums[0]) if num_tokens else 0
        if num_features:
            score(sums[0], num_features, scoring, spare[0], posterior)
            pick_three(posterior, scoring[3], columns[row], scores[row])
            for place in range(3):
                scores[row, place] = min(1.0, scores[row, place])


@njit(nogil=True, cache=True)
def score(hidden, num_features, scoring, values, posterior):  # type: ignore[no-untyped-def]
    """From the sum of a text's features to one score a label, in the label's first column; `values` is room."""
    output, children, loss, first_column, powers = scoring
    values[:] = 0.0
    for d in range(len(hidden)):
        weight = hidden[d] / num_features
        for column in range(len(values)):
            values[column] += weight * output[d, column]
    _probabilities(values, children, loss, powers, posterior)
    for column in range(len(posterior)):
        if first_column[column] != column:
            posterior[first_column[column]] += posterior[column]


@helper
def _best(hidden, num_features, scoring, one_column, posterior, spare):  # type: ignore[no-untyped-def]
    """The best label's first column."""
    if scoring[2] == 0 and one_column:
        return _best_leaf(hidden, num_features, scoring)
    score(hidden, num_features, scoring, spare[0], posterior)
    pick_three(posterior, scoring[3], spare[1], spare[2])
    return spare[1][0]


@allocating_helper
def _best_leaf(hidden, num_features, scoring):  # type: ignore[no-untyped-def]
    """The tree's best leaf by the scores of `_probabilities`, without those of branches that cannot hold it.

    A node's weight times (1 + _ADDED)^depth bounds those of its leaves; of equal ones the leaf on the left is best.
    """
    output, children, _, _, powers = scoring
    size = len(children) + 1
    growth = 1.0
    for _ in range(size):
        growth *= 1.0 + 2 * _ADDED
    nodes, weights = np.empty(size + 1, np.int64), np.empty(size + 1, np.float64)
    nodes[0], weights[0] = 2 * size - 2, 1.0
    count, best, highest = 1, -1, -1.0
    while count:
        count -= 1
        node, weight = nodes[count], weights[count]
        if weight * growth < highest:
            continue
        if node < size:
            if weight > highest or (weight == highest and node < best):
                best, highest = node, weight
            continue
        value = 0.0
        for d in range(len(hidden)):
            value += hidden[d] / num_features * output[d, node - size]
        right = _sigmoid(value, powers)
        heavier = 1 if right > 0.5 else 0
        for side in (1 - heavier, heavier):  # the heavier one is taken next
            nodes[count] = children[node - size, side]
            weights[count] = weight * (right + _ADDED if side else 1.0 - right + _ADDED)
            count += 1
    return best


@allocating_helper
def _probabilities(values, children, loss, powers, posterior):  # type: ignore[no-untyped-def]
    """From the output matrix's `values` to one score a label."""
    if loss == 0:
        size = len(posterior)
        weight = np.empty(2 * size - 1, np.float64)
        weight[2 * size - 2] = 1.0
        for node in range(2 * size - 2, size - 1, -1):
            right = _sigmoid(values[node - size], powers)
            weight[children[node - size, 0]] = weight[node] * (1.0 - right + _ADDED)
            weight[children[node - size, 1]] = weight[node] * (right + _ADDED)
        for column in range(size):
            posterior[column] = weight[column]
    elif loss == 1:
        highest = values.max()
        total = 0.0
        for column in range(len(posterior)):
            posterior[column] = exp(values[column] - highest, powers)
            total += posterior[column]
        for column in range(len(posterior)):
            posterior[column] = posterior[column] / total + _ADDED
    else:
        for column in range(len(posterior)):
            posterior[column] = _sigmoid(values[column], powers) + _ADDED


@helper
def _sigmoid(x, powers):  # type: ignore[no-untyped-def]
    small = exp(-abs(x), powers)
    return 1.0 / (1.0 + small) if x >= 0 else small / (1.0 + small)
