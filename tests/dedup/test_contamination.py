"""N-grams of benchmarks in texts, against a slow version with Python's sets and tuples."""

import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.dedup.test_shingles import words_of as shingle_words
from tokenmill.dedup.contamination import CONTAMINATION, Answers, contamination_signals
from tokenmill.dedup.folding import ALONE, SEPARATOR, SEVERAL, folding
from tokenmill.dedup.ngram_index import WORDS, Benchmark, ContaminationParams, build_index
from tokenmill.dedup.shingles import word_hashes

Gram = tuple[str, ...]


def words_of(text: str) -> list[str]:
    return shingle_words(text, WORDS)


def slow_grams(text: str, params: ContaminationParams) -> set[Gram]:
    """Those of an item's text that are looked for."""
    words = words_of(text)
    size = min(params.ngram, len(words))
    if size < min(8, params.ngram):
        return set()
    grams = {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}
    return {gram for gram in grams if 2 * sum(bool(re.fullmatch("[0-9]{1,4}|[a-z]", w)) for w in gram) <= size}


def slow_index(benchmarks: Sequence[Benchmark], params: ContaminationParams) -> dict[Gram, tuple[str, int]]:
    """The benchmark and the item of each n-gram."""
    found: dict[Gram, tuple[str, int]] = {}
    for benchmark in sorted(benchmarks):
        holders: dict[Gram, list[int]] = defaultdict(list)
        for number, item in enumerate(benchmark.items):
            if item not in benchmark.items[:number]:
                for gram in set().union(*(slow_grams(text, params) for text in item)):
                    holders[gram].append(number)
        for gram, items in holders.items():
            if len(items) <= params.max_items:
                found.setdefault(gram, (benchmark.name, items[0]))
    return found


def slow_signals(text: str | None, index: dict[Gram, tuple[str, int]], params: ContaminationParams) -> dict[str, Any]:
    if text is None:
        return dict.fromkeys(CONTAMINATION.names)
    words, covered = words_of(text), set()
    hits: list[tuple[str, int]] = []
    for stop in range(len(words) + 1):
        for length in (params.ngram, *range(min(8, params.ngram), params.ngram)):
            gram = tuple(words[max(0, stop - length) : stop])
            if len(gram) == length and gram in index:
                hits.append(index[gram])
                covered |= set(range(stop - length, stop))
    names = [name for name, _ in hits]
    most = min(names, key=lambda name: (-names.count(name), name)) if names else None
    return {
        "hits": len(hits),
        "fraction": len(covered) / len(words) if words else 0.0,
        "benchmark": most,
        "item": next((item for name, item in hits if name == most), None),
        "answer_hits": None,
    }


def signals(texts: Sequence[str | None], benchmarks: Sequence[Benchmark], params: ContaminationParams) -> list[Any]:
    array = pa.array(["put before", *texts], pa.large_string())[1:]  # a slice: offsets do not begin at 0
    found = contamination_signals(array, build_index(benchmarks, params))
    assert found.schema == CONTAMINATION
    return found.to_pylist()  # type: ignore[no-any-return]


WORD = st.sampled_from(["mill", "Stone", "R\u00cdVER", "straße", "7", "12345", "x", "42", "\u6c34", "of"])
TEXT = st.lists(WORD, max_size=14).map(" ".join)
SAYING = st.lists(st.sampled_from(["mill", "Stone", "R\u00cdVER", "12345"]), min_size=5, max_size=14).map(" ".join)
ITEM = st.lists(st.one_of(SAYING, SAYING, TEXT), max_size=3)


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[Benchmark], list[str | None], ContaminationParams]:
    """Benchmarks whose items share texts, and texts put together from theirs and from other words."""
    pool = draw(st.lists(ITEM, min_size=1, max_size=5))
    benchmarks = [Benchmark(name, draw(st.lists(st.sampled_from(pool), max_size=6))) for name in ("b", "a")]
    of_pool = st.sampled_from([text for item in pool for text in item] or ["mill"])
    piece = st.one_of(of_pool, of_pool, TEXT)
    joined = st.tuples(st.sampled_from([" ", ", ", "\n", "-"]), st.lists(piece, max_size=4))
    texts = draw(st.lists(st.one_of(st.none(), joined.map(lambda parts: parts[0].join(parts[1]))), max_size=5))
    params = ContaminationParams(draw(st.integers(5, 11)), draw(st.integers(1, 3)))
    return benchmarks, texts, params


@settings(max_examples=300)
@given(cases())
def test_equals_the_slow_version(case: tuple[list[Benchmark], list[str | None], ContaminationParams]):
    benchmarks, texts, params = case
    index = slow_index(benchmarks, params)
    assert signals(texts, benchmarks, params) == [slow_signals(text, index, params) for text in texts]
    built = build_index(benchmarks, params)
    assert len(built.hashes) == len(index)
    assert (np.diff(built.hashes) > 0).all()


QUESTION = (
    "A miller grinds forty sacks of wheat on every working day of the week, and half as many on Saturday. "
    "How many sacks does she grind in four weeks of harvest?"
)
OTHER = "The bridge over the river was closed for repairs during the winter, and traffic went by the old road instead."
BOOK = [Benchmark("mill", [["What is a mill?", "yes"], [QUESTION, "It is 880 sacks."]])]


@pytest.mark.parametrize(
    "said",
    [
        QUESTION,
        QUESTION.upper(),
        QUESTION.replace(" ", "\n"),
        QUESTION.replace(",", " \u2014").replace("?", "!!"),
        QUESTION.replace("grinds", "grínds").replace("wheat", "wh\u00adeat"),
    ],
)
def test_an_item_is_found_however_it_is_set(said: str):
    number = len(words_of(QUESTION)) - 12
    (row,) = signals([f"{OTHER}\n\n{said}\n{OTHER}"], BOOK, ContaminationParams())
    words = len(words_of(QUESTION))
    assert row == {
        "hits": number,
        "fraction": words / (words + 2 * len(words_of(OTHER))),
        "benchmark": "mill",
        "item": 1,
        "answer_hits": None,
    }


def test_what_is_not_its_item_is_not():
    reordered = " ".join(reversed(QUESTION.split()))
    others = QUESTION.replace("forty", "50").replace("half", "twice").replace("in four", "in six")
    rows = signals([OTHER, "", None, reordered, others, "What is a mill?"], BOOK, ContaminationParams())
    assert [row["hits"] for row in rows] == [0, 0, None, 0, 0, 0]
    assert [row["benchmark"] for row in rows] == [None] * 6


def test_short_texts_are_whole_and_shorter_ones_nothing():
    eight = "the lamp goes out when nobody is near"
    index = build_index([Benchmark("s", [[eight], ["the lamp goes out when nobody is"]])], ContaminationParams())
    texts = pa.array([f"so {eight} it", eight, "the lamp goes out when nobody is far"], pa.large_string())
    assert contamination_signals(texts, index).column("hits").to_pylist() == [1, 1, 0]
    assert index.indexed_items == (1,)


def test_each_text_has_its_own_benchmark_and_item():
    books = [Benchmark("b", [["nothing"], [QUESTION], [OTHER]]), Benchmark("a", [[OTHER.replace("winter", "spring")]])]
    other = " ".join(OTHER.split()[:-3]).replace("winter", "spring")
    rows = signals([f"{QUESTION} {other}", other, OTHER, QUESTION, other], books, ContaminationParams())
    assert [(row["benchmark"], row["item"]) for row in rows] == [("b", 1), ("a", 0), ("b", 2), ("b", 1), ("a", 0)]


def test_what_many_items_share_and_what_is_only_numbers_is_left_out():
    prompt = "answer the following question with one of the letters that stand before the choices below"
    counted = " ".join(map(str, range(40)))
    letters = "a b c d e f g h i j k l m n o"
    items = [[f"{prompt} {QUESTION.replace('forty', word)}", counted, letters] for word in ("ten", "two", "six")]
    texts = [prompt, counted, "A, B, C, D, E, F, G, H, I, J, K, L, M, N, O", items[1][0]]
    for most, found in ((3, [True, False, False, True]), (2, [False, False, False, True])):
        rows = signals(texts, [Benchmark("q", items)], ContaminationParams(max_items=most))
        assert [row["hits"] > 0 for row in rows] == found
    # the same item twice is one item
    assert signals([prompt], [Benchmark("q", [items[0]] * 9)], ContaminationParams(max_items=1))[0]["hits"] > 0


def test_answers_alone():
    index = build_index(BOOK, ContaminationParams())
    texts = pa.array([f"{QUESTION}\n\n{OTHER}", None, f"{OTHER}\n\n{QUESTION}", OTHER], pa.large_string())
    answers = Answers(pa.array([OTHER, QUESTION, OTHER], pa.large_string()), np.array([0, 1, 1, 3, 3]))
    found = contamination_signals(texts, index, answers)
    hits = len(words_of(QUESTION)) - 12
    assert found.column("hits").to_pylist() == [hits, None, hits, 0]
    assert found.column("answer_hits").to_pylist() == [0, None, hits, 0]


def test_no_text_has_more_words_than_bytes():
    """What `word_hashes` makes room for."""
    table = folding(False, True)
    most = 0
    for code in np.flatnonzero(table.fold & SEVERAL):
        index = int(table.fold[code] & ~SEVERAL)
        entries = table.expansions[index + 1 : index + 1 + table.expansions[index]]
        words = int(((entries & ALONE) != 0).sum() + (entries == SEPARATOR).sum()) + 1
        most = max(most, words - len(chr(code).encode()))
    assert most <= 0
    texts = pa.array(["a " * 5000, "\u6c34" * 5000, "x", "", "a.b" * 3], pa.large_string())
    words, documents = word_hashes(texts, WORDS)
    assert np.diff(documents).tolist() == [5000, 5000, 1, 0, 4]
    assert len(words) == documents[-1]


@pytest.mark.parametrize("given_", [{"ngram": 4}, {"ngram": True}, {"max_items": 0}, {"max_items": 1.5}])
def test_params_that_make_no_sense(given_: dict[str, Any]):
    with pytest.raises(ValueError, match="give a whole number"):
        ContaminationParams(**given_)
