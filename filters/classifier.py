"""Score of one label of a supervised fastText classifier: how likely a text is of the kind that was asked for.

A text is read as `fasttext_features.py` says, whole or a prefix of it: tokens between white space, every line break a
blank. `training_line` brings an example to the same tokens, so a model scores in a recipe what it would have been
trained on. It leaves out what fastText reads as marks of its own format: tokens that begin with `__label__`, which are
no features here either, and the token `</s>`, which would end the example and is a word like others here.

Scores are those of `filters/fasttext.py`: within 1e-5 of the package's `predict`, the same bits everywhere.
"""

import re

import numpy as np
import pyarrow as pa
from numba import njit

from tokenmill.filters.edits import text_buffers
from tokenmill.filters.fasttext import LOSSES, FastTextModel, score
from tokenmill.filters.fasttext_features import sum_features
from tokenmill.filters.softmax import POWERS

VERSION = 1
#: The signal of a group `classifier.<name>`: 0 … 1, null where the text is.
CLASSIFIER = pa.schema([pa.field("score", pa.float32())])
LABEL_PREFIX = "__label__"
#: What `tokenmill classifier train` calls its two kinds of examples, and the first of them what is scored by default.
POSITIVE, NEGATIVE = "positive", "negative"
_WHOLE = np.iinfo(np.int64).max
_SPACES = re.compile("[\0\t-\r ]+")  # as the kernel's _is_space: a no-break space is a character of a word


def classifier_signals(
    texts: pa.LargeStringArray, model: FastTextModel, column: int, max_bytes: int | None = None
) -> pa.RecordBatch:
    """The score of one label for every text.

    Args:
        texts: n texts.
        model: from the shell.
        column: index of the label in `model.labels`.
        max_bytes: bytes of UTF-8 read of each text, cut at a character; None for all.

    Returns:
        n rows of CLASSIFIER. A text without a token, or without a feature of the model, scores 0.

    Raises:
        ValueError: max_bytes is not positive.
    """
    if max_bytes is not None and max_bytes <= 0:
        raise ValueError(f"max_bytes is {max_bytes}; give 1 or more, or null for whole texts")
    offsets, data = text_buffers(texts)
    scores = np.zeros(len(texts), np.float64)
    _score(
        (data, offsets, _WHOLE if max_bytes is None else max_bytes),
        (model.rows, model.words, model.word_offsets, model.slots, model.bucket_rows),
        (model.min_n, model.max_n, model.word_ngrams),
        (model.output, model.children, LOSSES[model.loss], np.arange(len(model.labels)), POWERS),
        column,
        scores,
    )
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    return pa.RecordBatch.from_arrays([pa.array(scores, pa.float32(), mask=missing)], schema=CLASSIFIER)


def training_line(text: str) -> str:
    """The tokens of a text as one line of fastText's training format, without its label; empty if there are none."""
    tokens = _SPACES.split(text)
    return " ".join(token for token in tokens if token not in ("", "</s>") and not token.startswith(LABEL_PREFIX))


@njit(nogil=True, cache=True)
def _score(texts, tables, settings, scoring, column, scores):  # type: ignore[no-untyped-def]
    """Fill `scores` for every text; the tuples hold what `classifier_signals` passes."""
    data, offsets, max_bytes = texts
    hidden = np.empty(tables[0].shape[1], np.float64)
    values = np.empty(scoring[0].shape[1], np.float64)
    posterior = np.empty(len(scoring[3]), np.float64)
    for row in range(len(offsets) - 1):
        start, end = offsets[row], offsets[row + 1]
        if end - start > max_bytes:
            end = start + max_bytes
            while data[end] & 0xC0 == 0x80:
                end -= 1
        num_features = sum_features(data[start:end], tables, settings, hidden)
        if num_features:
            score(hidden, num_features, scoring, values, posterior)
            scores[row] = min(1.0, posterior[column])


def label_column(labels: tuple[str, ...], label: str) -> int:
    """Index of a label, given with or without `__label__`. Raises ValueError naming those there are."""
    plain = label.removeprefix(LABEL_PREFIX)
    if plain not in labels:
        raise ValueError(f"no label {plain!r} in this model; it has {', '.join(labels)}: name one of them as `label`")
    return labels.index(plain)
