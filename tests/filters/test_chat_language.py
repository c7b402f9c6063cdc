"""Languages of prompt and answer: against the model asked about each conversation's turns, joined by hand."""

from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.filters.slow_signals import array
from tests.filters.test_chat import Turns, conversation
from tokenmill.filters.chat_language import CHAT_LANGUAGE_SCHEMA, ChatLanguageParams, chat_language_signals
from tokenmill.manifests.schemas import LANGUAGE, TURNS
from tokenmill.pipeline.language_model import load_language_model

ENGLISH = "Where is the old bridge over the river, and who built it?"
GERMAN = "Die alte Brücke steht am Rand der Stadt, und niemand weiß, wer sie gebaut hat."
PARAMS = ChatLanguageParams(sure_score=0.5, sure_bytes=9)


def measured(cases: list[Turns | None], identify: Any, params: ChatLanguageParams = PARAMS) -> list[dict[str, Any]]:
    made = [("", dict.fromkeys(TURNS.names)) if case is None else conversation(case) for case in cases]
    texts = array(None if case is None else text for case, (text, _) in zip(cases, made, strict=True))
    turns = pa.RecordBatch.from_pylist([row for _, row in made], schema=TURNS)
    found = chat_language_signals(texts, params, turns, identify)
    assert found.schema == CHAT_LANGUAGE_SCHEMA
    return found.to_pylist()


def by_first_letter(texts: pa.LargeStringArray, prefix_bytes: int) -> pa.RecordBatch:
    """A model: the language is the first letter; it is sure of those in "ab"."""
    assert prefix_bytes == PARAMS.prefix_bytes
    names = [text and text[0] for text in texts.to_pylist()]
    rows = [{"language": name, "language_score": name and (0.5 if name in "ab" else 0.25)} for name in names]
    return pa.RecordBatch.from_pylist(rows, schema=LANGUAGE)


CONTENTS = st.text("abc", min_size=1, max_size=6)
CASES = st.lists(st.tuples(st.sampled_from(["system", "user", "assistant", "tool"]), CONTENTS), min_size=1, max_size=5)


@given(st.lists(st.none() | CASES, max_size=4))
def test_signals_are_those_of_the_oracle(cases: list[Turns | None]):
    expected = []
    for case in cases:
        told = ["\n\n".join(text for other, text in case or () if other == role) for role in ("user", "assistant")]
        row: dict[str, Any] = dict.fromkeys(CHAT_LANGUAGE_SCHEMA.names)
        for name, text in zip(("prompt", "answer"), told, strict=True):
            if text:
                row |= {f"{name}_language": text[0], f"{name}_language_score": 0.5 if text[0] in "ab" else 0.25}
        if case is not None:
            sure = all(text[:1] in ("a", "b") and len(text) >= PARAMS.sure_bytes for text in told)
            row["language_mismatch"] = int(sure and told[0][0] != told[1][0])
        expected.append(row)
    assert measured(cases, by_first_letter) == expected


@pytest.mark.parametrize(("answer", "mismatch"), [(GERMAN, 1), (ENGLISH.replace("?", "."), 0), ("Ja.", 0)])
def test_real_languages(answer: str, mismatch: int):
    (found,) = measured(
        [[("system", GERMAN), ("user", ENGLISH), ("assistant", answer)]],
        load_language_model("py3langid").languages,
        ChatLanguageParams(),
    )
    assert (found["prompt_language"], found["language_mismatch"]) == ("en", mismatch)


@pytest.mark.parametrize(
    ("given_params", "message"),
    [
        ({"sure_score": 2}, "sure_score is a score"),
        ({"sure_bytes": -1}, "sure_bytes"),
        ({"prefix_bytes": 1}, "64 or more"),
    ],
)
def test_params_that_cannot_be(given_params: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        ChatLanguageParams(**given_params)
