"""Hygiene of conversations: answers that loop, leak, refuse, say nothing or never stop thinking; lengths.

A signal of answers is that of the worst of them: all the assistant's turns, of a preference pair both replies. A text
without turns is one answer. Words and sentences are the splitter's; those of code are what it makes of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.filters.answers import (
    EMPTY,
    HEAD,
    NESTED,
    THINK_BYTES,
    UNFINISHED,
    UNOPENED,
    count_leaked,
    match_phrases,
    scan_thinks,
)
from tokenmill.filters.loops import PLAIN_WORDS, WORDS, find_loops
from tokenmill.filters.repeats import DUPLICATE_N, TOP_N, count_duplicates, count_ngrams
from tokenmill.filters.scan import I64, character_counts, fractions, text_bytes
from tokenmill.filters.splitter import SplitTexts, split_sentences
from tokenmill.filters.turns import ASSISTANT, TurnSpans, one_answer, turn_spans, turn_texts

VERSION = 1

_SAME_DIGITS = np.arange(256, dtype=np.uint8)
_SAME_DIGITS[ord("0") : ord("9") + 1] = ord("0")

#: First words of a refusal, in lower case. English, after the heads that instruction sets are cleaned of (Vicuna's
#: optional_clean.py, WizardLM "unfiltered"), those that open nearly nothing but refusals.
REFUSALS = (
    *("i'm sorry, but i can", "i'm sorry, i can", "i am sorry, but i can", "sorry, but i can", "sorry, i can't"),
    *("i'm sorry, but as an ai", "i'm sorry, as an ai", "as an ai language model", "as a large language model"),
    *("as an ai assistant, i can", "as an ai, i can", "as an ai, i do not", "as an ai, i don't", "i'm just an ai"),
    *("i apologize, but i can", "i apologize, but as an ai", "my apologies, but i can", "i must decline"),
    *("i can't assist with", "i cannot assist with", "i can't help with", "i cannot help with", "i'm unable to"),
    *("i am unable to", "i'm not able to", "i am not able to", "i cannot fulfill", "i can't fulfill"),
    *("i cannot provide", "i can't provide", "i won't be able to", "i will not be able to", "i cannot comply"),
    *("i'm afraid i can", "unfortunately, i can't", "unfortunately, i cannot", "unfortunately, i am not able to"),
)
#: What stands where an answer was to be written.
PLACEHOLDERS = (
    *("...", "\u2026", "n/a", "todo", "tbd", "null", "nan", "undefined", "<answer>", "[answer]", "[your answer here]"),
    *("your answer here", "[insert answer here]", "<no output>", "<nooutput>", "no output", "[deleted]", "[removed]"),
)

CHAT_SCHEMA = pa.schema(
    [
        pa.field("turns", pa.int32()),
        pa.field("prompt_bytes", pa.int64()),  # of all turns that are not the assistant's
        pa.field("answer_bytes", pa.int64()),  # of all the assistant's
        pa.field("shortest_answer_bytes", pa.int64()),  # null where there is no answer
        pa.field("longest_answer_bytes", pa.int64()),  # null where there is no answer
        pa.field("empty_answers", pa.int32()),  # nothing but white space and thinking, and no call of a tool
        pa.field("placeholder_answers", pa.int32()),
        pa.field("refusals", pa.int32()),  # answers that begin with one, behind their thinking
        pa.field("loop_repeats", pa.int32()),  # of the loop that repeats most; 0 without loops
        pa.field("loop_fraction", pa.float64()),  # of the answer's bytes: in loops
        # of its sentences' code points: said before in it, but for digits
        pa.field("duplicate_sentence_fraction", pa.float64()),
        pa.field("duplicate_ngram_fraction", pa.float64()),  # of its code points: in 10-grams of words met before in it
        pa.field("unfinished_thinks", pa.int32()),  # <think> that is never closed
        pa.field("nested_thinks", pa.int32()),
        pa.field("empty_thinks", pa.int32()),
        pa.field("unopened_thinks", pa.int32()),  # </think> that was never opened
        pa.field("think_fraction", pa.float64()),  # of the answer's bytes
        # of its words (of a verifiable prompt: those of `answer`): in runs of `leak_words` that an earlier turn has
        pa.field("answer_in_prompt_fraction", pa.float64()),
    ]
)


@dataclass(frozen=True)
class ChatParams:
    """What the signals are measured with.

    Attributes:
        loop_words: said again in a loop, see `filters.loops`.
        plain_loop_words: the same, in one of plain text.
        leak_words: words of a run that leaks; an answer of fewer, three at least, leaks as a whole.
        refusals: first words of refusals, ASCII in lower case; `'` stands for the typographic one too.
        placeholders: whole answers that are none, in the same form.
    """

    loop_words: int = WORDS
    plain_loop_words: int = PLAIN_WORDS
    leak_words: int = 8
    refusals: tuple[str, ...] = REFUSALS
    placeholders: tuple[str, ...] = PLACEHOLDERS

    def __post_init__(self) -> None:
        """Raise ValueError for numbers below 1 and for phrases that are no phrases in lower case."""
        for name in ("loop_words", "plain_loop_words", "leak_words"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is a number of words, 1 or more, not {value!r}")
        for name in ("refusals", "placeholders"):
            phrases = getattr(self, name)
            if not isinstance(phrases, list | tuple) or not all(isinstance(each, str) for each in phrases):
                raise ValueError(f"{name} is a list of phrases, not {phrases!r}")
            bad = [each for each in phrases if not each.strip() or each != each.strip().lower()]
            if bad:
                raise ValueError(f"{name}: phrases are in lower case, without white space around them, not {bad[0]!r}")
            object.__setattr__(self, name, tuple(phrases))


@dataclass(frozen=True)
class ChatBounds:
    """Bounds over CHAT_SCHEMA, in the order in which they are tried; None is off."""

    max_unfinished_thinks: float | None = 0
    max_nested_thinks: float | None = 0
    max_empty_answers: float | None = 0
    max_placeholder_answers: float | None = 0
    max_unopened_thinks: float | None = None
    max_empty_thinks: float | None = None
    min_think_fraction: float | None = None
    max_think_fraction: float | None = None
    max_loop_repeats: float | None = 2
    max_loop_fraction: float | None = None
    max_duplicate_sentence_fraction: float | None = 0.5
    max_duplicate_ngram_fraction: float | None = 0.6
    max_refusals: float | None = None
    max_answer_in_prompt_fraction: float | None = None
    min_turns: float | None = None
    max_turns: float | None = None
    min_prompt_bytes: float | None = None
    max_prompt_bytes: float | None = None
    min_answer_bytes: float | None = None
    max_answer_bytes: float | None = None
    min_shortest_answer_bytes: float | None = None
    max_longest_answer_bytes: float | None = None


def chat_signals(texts: pa.LargeStringArray, params: ChatParams, turns: pa.RecordBatch | None = None) -> pa.RecordBatch:
    """Signals of CHAT_SCHEMA: one row a text, in order, all null where the text is.

    Args:
        texts: n texts.
        params: what is measured with.
        turns: n rows of TURNS, as they lie in the texts; None: each text is one answer.
    """
    spans = one_answer(texts) if turns is None else turn_spans(turns.column("turns"))
    contents = turn_texts(texts, spans)
    data, bounds = text_bytes(contents)
    answers = np.flatnonzero(spans.roles == ASSISTANT)
    starts, ends = bounds[answers], bounds[answers + 1]
    sizes = ends - starts
    split = SplitTexts(contents)
    first = np.searchsorted(answers, spans.documents)  # first answer of each conversation
    loops, thinks = np.zeros((len(answers), 2), np.int64), np.zeros((len(answers), 6), np.int64)
    find_loops(data, starts, ends, params.loop_words, params.plain_loop_words, loops)
    scan_thinks(data, starts, ends, thinks)
    heads = thinks[:, HEAD].copy()
    calls = spans.fields[answers]
    per_answer = {
        "empty_answers": (heads == ends) & ~calls,
        "placeholder_answers": _matched(data, heads, ends, params.placeholders) == 2,
        "refusals": _matched(data, heads, ends, params.refusals) > 0,
        "unfinished_thinks": thinks[:, UNFINISHED],
        "nested_thinks": thinks[:, NESTED],
        "empty_thinks": thinks[:, EMPTY],
        "unopened_thinks": thinks[:, UNOPENED],
    }
    worst = {
        "longest_answer_bytes": sizes,
        "loop_repeats": loops[:, 0],
        "loop_fraction": fractions(loops[:, 1], sizes),
        "duplicate_sentence_fraction": _duplicate_sentences(split)[answers],
        "duplicate_ngram_fraction": _duplicate_ngrams(split)[answers],
        "think_fraction": fractions(thinks[:, THINK_BYTES], sizes),
    }
    all_bytes = _sums(np.diff(bounds), spans.documents)
    answer_bytes = _sums(sizes, first)
    columns = {
        "turns": np.diff(spans.documents),
        "prompt_bytes": all_bytes - answer_bytes,
        "answer_bytes": answer_bytes,
        "shortest_answer_bytes": -_most(-1 * sizes, first),
        "answer_in_prompt_fraction": _leaks(split, spans, turns, params.leak_words),
        **{name: _sums(np.asarray(values, np.int64), first) for name, values in per_answer.items()},
        **{name: _most(values, first) for name, values in worst.items()},
    }
    return _batch(columns, texts, unanswered=np.diff(first) == 0)


def _batch(
    columns: dict[str, npt.NDArray[Any]], texts: pa.LargeStringArray, unanswered: npt.NDArray[np.bool_]
) -> pa.RecordBatch:
    missing = texts.is_null().to_numpy(zero_copy_only=False)
    arrays = []
    for field in CHAT_SCHEMA:
        null = missing | unanswered if field.name in ("shortest_answer_bytes", "longest_answer_bytes") else missing
        arrays.append(pa.array(np.where(null, 0, columns[field.name]), field.type, mask=null))
    return pa.RecordBatch.from_arrays(arrays, schema=CHAT_SCHEMA)


def _sums(values: I64, first: I64) -> I64:
    """Sum of the values first[i] … first[i + 1] for each i."""
    return np.diff(np.concatenate([[0], np.cumsum(values)])[first])


def _most(values: npt.NDArray[Any], first: I64) -> npt.NDArray[Any]:
    """The greatest of the values first[i] … first[i + 1] for each i; 0 of none."""
    most = np.zeros(len(first) - 1, values.dtype)
    some = np.flatnonzero(np.diff(first))
    if len(some):
        most[some] = np.maximum.reduceat(values, first[some])
    return most


def _matched(data: npt.NDArray[np.uint8], heads: I64, ends: I64, phrases: tuple[str, ...]) -> npt.NDArray[np.uint8]:
    raw = [phrase.encode() for phrase in phrases]
    bounds = np.concatenate([[0], np.cumsum([len(each) for each in raw], dtype=np.int64)]).astype(np.int64)
    found = np.zeros(len(heads), np.uint8)
    match_phrases(data, heads, ends, np.frombuffer(b"".join(raw) or b"\0", np.uint8), bounds, found)
    return found


def _duplicate_sentences(split: SplitTexts) -> npt.NDArray[np.float64]:
    """Of the code points of each text's sentences, those of second and later occurrences, all digits being one."""
    found = split_sentences(split.words)
    again = np.zeros((len(split.texts), 2), np.int64)
    data = _SAME_DIGITS[found.data]
    data.flags.writeable = False  # to Numba a writable array is another type
    count_duplicates(data, found.starts, found.ends, found.characters, found.documents, again)
    return fractions(again[:, 1], _sums(found.characters.astype(np.int64), found.documents))


def _duplicate_ngrams(split: SplitTexts) -> npt.NDArray[np.float64]:
    grams = np.zeros((len(split.texts), len(TOP_N) + len(DUPLICATE_N)), np.int64)
    count_ngrams(split.word_hashes, split.words.characters, split.words.documents, grams)
    return fractions(grams[:, -1].copy(), character_counts(*text_bytes(split.texts)))


def _leaks(
    split: SplitTexts, spans: TurnSpans, turns: pa.RecordBatch | None, leak_words: int
) -> npt.NDArray[np.float64]:
    """Of each conversation, the greatest share of an answer's words that an earlier turn has."""
    is_answer = (spans.roles == ASSISTANT).astype(np.uint8)
    documents = spans.documents
    if turns is not None and turns.column("answer").null_count < turns.num_rows:
        # the answer of a verifiable prompt, as if it were given behind the prompt
        known = turns.column("answer")
        at = np.flatnonzero(known.is_valid().to_numpy(zero_copy_only=False))
        order = np.insert(np.arange(len(is_answer)), documents[at + 1], len(is_answer) + np.arange(len(at)))
        both = pa.concat_arrays([split.texts, known.drop_null().cast(pa.large_string())])
        split = SplitTexts(both.take(pa.array(order)))
        is_answer = np.insert(is_answer, documents[at + 1], 1)
        documents = documents + np.concatenate([[0], np.cumsum(known.is_valid().to_numpy(zero_copy_only=False))])
    leaked = np.zeros(len(is_answer), np.int64)
    words = split.words.documents
    count_leaked(split.word_hashes, words, documents, is_answer, leak_words, leaked)
    return _most(fractions(leaked, np.diff(words)), documents)
