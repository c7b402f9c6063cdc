"""What holds for every group: a batch is its documents one by one, and no text whatever makes it fail."""

from collections.abc import Callable
from dataclasses import asdict, fields
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.filters import slow_c4, slow_signals
from tokenmill.filters.c4 import C4_SCHEMA, C4Bounds, C4Params, c4
from tokenmill.filters.edits import apply_edits
from tokenmill.filters.fineweb import FINEWEB_QUALITY_SCHEMA, FineWebQualityBounds
from tokenmill.filters.gopher import GOPHER_QUALITY_SCHEMA, GopherQualityBounds
from tokenmill.filters.repeated_lines import REPEATED_LINES_SCHEMA, RepeatedLinesBounds
from tokenmill.filters.repetition import GOPHER_REPETITION_SCHEMA, GopherRepetitionBounds
from tokenmill.filters.splitter import SplitTexts
from tokenmill.pipeline.groups import GROUPS, Group
from tokenmill.pipeline.language_model import load_language_model

Measure = Callable[[pa.LargeStringArray], pa.RecordBatch]


def measure_of(group: Group) -> Measure:
    """Its signals with its default parameters."""
    params = group.params() if group.params else None
    assert group.measure is not None
    measure = group.measure
    return lambda texts: measure(SplitTexts(texts), params, 0).signals


#: Every group of a recipe, whichever there are, and the language signals.
MEASURES: dict[str, Measure] = {name: measure_of(group) for name, group in GROUPS.items() if group.measure}
MEASURES["language"] = lambda texts: load_language_model("py3langid").signals(texts, 4096)
#: No shares of a whole: marks a word, of which a word may hold several; and n-grams, which overlap.
ABOVE_ONE = {
    *("hash_fraction", "ellipsis_fraction"),
    *(f"top_{n}_gram_character_fraction" for n in (2, 3, 4)),
}

ODD_TEXTS = [
    "",
    " ",
    "\n\n \t\r\n\x0c\u2028\u3000",
    "12 34 !? ... --",
    "word " * 5000,
    "x" * 20000,
    "هذا نص عربي، من اليمين إلى اليسار.\nשלום עולם!",
    "\u202eright to left\u202c",
    "e\u0301\u0301\u0301 \u0301\u0301 \u0301",
    "\u0301" * 3000,
    "\u200d" * 100 + "\n" + "\u200c\u200b\u2060" * 100,
    "lone \ud800 surrogates \udfff replaced".encode(errors="replace").decode(),
    b"lone \xed\xa0\x80 surrogates \xff replaced".decode(errors="replace"),
    "👩\u200d👩\u200d👧\u200d👦 \u200d\u200d \ufe0f",
    "".join(map(chr, range(0x20))) + "\x7f\x80\x85\x9f",
    "\ufeffbom\ufffd\uffff\U0010ffff",
    "これは日本語の文章です。そうですね！",
    "ภาษาไทย ไม่มีช่องว่าง",
    "• a\n- b\n# c\nd…",
    "{lorem ipsum} javascript [1][edit]",
    "Straße İstanbul ǅ ﬁn",
]

texts_of = st.lists(
    st.none() | st.sampled_from(ODD_TEXTS) | st.text(st.characters(codec="utf-8"), max_size=60), max_size=6
)


def array(values: list[str | None]) -> pa.LargeStringArray:
    return pa.array(values, pa.large_string())


def check_values(batch: pa.RecordBatch) -> None:
    """Every number of every signal is finite and within the range of its kind."""
    for name in batch.schema.names:
        values = batch.column(name).drop_null()
        if pa.types.is_string(values.type):
            continue
        numbers = values.cast(pa.float64()).to_numpy()
        assert np.isfinite(numbers).all(), name
        assert (numbers >= 0).all(), name
        if name.endswith(("_fraction", "_score")) and name not in ABOVE_ONE:
            assert (numbers <= 1).all(), name


@pytest.mark.parametrize("group", MEASURES)
def test_odd_texts(group: str) -> None:
    batch = MEASURES[group](array([*ODD_TEXTS, None]))
    assert batch.num_rows == len(ODD_TEXTS) + 1
    check_values(batch)
    missing = [[value is None for value in row.values()] for row in batch.to_pylist()]
    assert [all(row) for row in missing] == [False] * len(ODD_TEXTS) + [True]
    if group != "language":  # a text without features has no language
        assert [any(row) for row in missing] == [False] * len(ODD_TEXTS) + [True]


@pytest.mark.parametrize("group", MEASURES)
@given(values=texts_of, data=st.data())
def test_a_batch_is_its_documents(group: str, values: list[str | None], data: st.DataObject) -> None:
    signals = MEASURES[group]
    whole = signals(array(values))
    check_values(whole)
    singly: list[dict[str, Any]] = [row for value in values for row in signals(array([value])).to_pylist()]
    assert whole.to_pylist() == singly
    cuts = sorted(data.draw(st.lists(st.integers(0, len(values)), min_size=1, max_size=3)))
    texts = array(values)
    parts = [texts.slice(start, end - start) for start, end in pairwise([0, *cuts, len(values)])]
    split = pa.Table.from_batches([signals(part) for part in parts])
    assert split.to_pylist() == singly
    assert split.schema == whole.schema


def test_a_value_out_of_range_is_found() -> None:
    for name, value in [("words", -1.0), ("words", float("nan")), ("a_fraction", 1.1), ("language_score", 2.0)]:
        with pytest.raises(AssertionError, match=name):
            check_values(pa.RecordBatch.from_pydict({name: [0.5, value]}))


SLOW: dict[str, Callable[[str], tuple[Any, ...]]] = {
    "gopher_quality": slow_signals.gopher_quality,
    "gopher_repetition": slow_signals.gopher_repetition,
    "c4": lambda text: slow_c4.clean(text, C4Params()).signals,
    "fineweb_quality": slow_signals.fineweb_quality,
}
#: What the rules are about, so that few draws meet many of them.
SPACES = ["\n", "\n\n", "\r\n", "\u2028", "\x1f", "\u3000", " \n", "\0", "\u200d", "\u202e"]
WORDS = ["a ", "b ", "the ", "mill. ", "a b ", "ab ", "né", "一", "e\u0301", "# ", "…", "...", "- ", "• ", "! "]
LINES = ["?\n", "।\n", "[1]", "[１]", "{", "lorem ipsum. ", "use coo\u212aies. ", "a line that is long, of its own.\n"]
words_of_rules = st.lists(st.sampled_from([*SPACES, *WORDS, *LINES]), max_size=60).map("".join)


@pytest.mark.parametrize("group", SLOW)
@given(values=st.lists(st.none() | words_of_rules | st.sampled_from(ODD_TEXTS), max_size=4), data=st.data())
def test_kernels_equal_the_obvious_version(group: str, values: list[str | None], data: st.DataObject) -> None:
    batch = MEASURES[group](array(["before", *values]).slice(data.draw(st.integers(0, 1))))
    assert batch.to_pylist()[batch.num_rows - len(values) :] == slow_signals.rows(values, SLOW[group], batch.schema)


def test_one_line_of_50_mb() -> None:
    line = "The mill by the river, " * 2_200_000
    texts = array(["A short text.", line, None])
    found = {group: measure(texts).to_pylist() for group, measure in MEASURES.items()}
    assert {group: rows[::2] for group, rows in found.items()} == {
        group: measure(array(["A short text.", None])).to_pylist() for group, measure in MEASURES.items()
    }
    assert found["language"][1]["language"] == "en"
    quality, repetition, fineweb = (
        found[name][1] for name in ("gopher_quality", "gopher_repetition", "fineweb_quality")
    )
    assert quality["words"] == 11_000_000
    assert quality["stop_words"] == 1
    assert repetition["characters"] == len(line)
    # Of the bigrams "The mill", "by the", "the river", "river ," … each as frequent, the first counts.
    assert repetition["top_2_gram_character_fraction"] == 2_200_000 * len("The mill") / len(line)
    assert repetition["duplicate_line_character_fraction"] == 0
    assert fineweb["line_punctuation_fraction"] == 0
    assert fineweb["lines"] == 1


@given(values=texts_of, data=st.data())
def test_c4_edits_of_a_batch_are_those_of_its_parts(values: list[str | None], data: st.DataObject) -> None:
    texts, params = array(values), C4Params()
    cut = data.draw(st.integers(0, len(values)))
    edits = c4(SplitTexts(texts), params)[1]
    left = c4(SplitTexts(texts.slice(0, cut)), params)[1]
    right = c4(SplitTexts(texts.slice(cut)), params, first_row=cut)[1]
    assert pa.Table.from_batches([left, right]).to_pylist() == edits.to_pylist()
    whole = apply_edits(texts, edits, 0).to_pylist()
    assert whole == [
        *apply_edits(texts.slice(0, cut), left, 0).to_pylist(),
        *apply_edits(texts.slice(cut), right, cut).to_pylist(),
    ]
    assert [text is None for text in whole] == [value is None for value in values]


@pytest.mark.parametrize(
    ("bounds", "schema"),
    [
        (GopherQualityBounds, GOPHER_QUALITY_SCHEMA),
        (GopherRepetitionBounds, GOPHER_REPETITION_SCHEMA),
        (C4Bounds, C4_SCHEMA),
        (FineWebQualityBounds, FINEWEB_QUALITY_SCHEMA),
        (RepeatedLinesBounds, REPEATED_LINES_SCHEMA),
    ],
)
def test_bounds_name_signals(bounds: Any, schema: pa.Schema) -> None:
    names = [field.name for field in fields(bounds)]
    assert [name for name in names if name[:4] not in ("min_", "max_") or name[4:] not in schema.names] == []
    assert {name[4:] for name in names} == set(schema.names)
    assert list(asdict(bounds())) == names
