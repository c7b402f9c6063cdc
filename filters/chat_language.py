"""The languages of what was asked and of what was answered.

The user's turns of a conversation are one text to the model, the assistant's another. They are taken to differ where
the model is sure of both; requests for a translation differ as well, so no bound is on by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.turns import ASSISTANT, USER, role_texts, turn_spans

VERSION = 1

#: texts, bytes of each that are looked at → rows of LANGUAGE
Identify = Callable[[pa.LargeStringArray, int], pa.RecordBatch]

CHAT_LANGUAGE_SCHEMA = pa.schema(
    [
        pa.field("prompt_language", pa.string()),  # of the user's turns; null where there are none
        pa.field("prompt_language_score", pa.float32()),  # 0 … 1
        pa.field("answer_language", pa.string()),  # of the assistant's turns; null where there are none
        pa.field("answer_language_score", pa.float32()),
        pa.field("language_mismatch", pa.int32()),  # 1: they differ, and the model is sure of both
    ]
)


@dataclass(frozen=True)
class ChatLanguageParams:
    """When the model is sure.

    Attributes:
        sure_score: least score of both languages.
        sure_bytes: least bytes of both texts.
        prefix_bytes: of each text that are looked at.
    """

    sure_score: float = 0.8
    sure_bytes: int = 40
    prefix_bytes: int = 4096

    def __post_init__(self) -> None:
        """Raise ValueError for a score outside 0 … 1, and for numbers of bytes that are none."""
        score: Any = self.sure_score
        if not isinstance(score, int | float) or not 0 <= score <= 1:
            raise ValueError(f"sure_score is a score, 0 … 1, not {self.sure_score!r}")
        for name, least in (("sure_bytes", 0), ("prefix_bytes", 64)):
            value = getattr(self, name)
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a number of bytes, {least} or more, not {value!r}")


@dataclass(frozen=True)
class ChatLanguageBounds:
    """Bounds over CHAT_LANGUAGE_SCHEMA; None is off."""

    max_language_mismatch: float | None = None
    min_prompt_language_score: float | None = None
    min_answer_language_score: float | None = None


def chat_language_signals(
    texts: pa.LargeStringArray, params: ChatLanguageParams, turns: pa.RecordBatch, identify: Identify
) -> pa.RecordBatch:
    """Signals of CHAT_LANGUAGE_SCHEMA: one row a text, in order, all null where the text is.

    Args:
        texts: n texts.
        params: when the model is sure.
        turns: n rows of TURNS, as they lie in the texts.
        identify: the language model.
    """
    spans = turn_spans(turns.column("turns"))
    told = [role_texts(texts, spans, role) for role in (USER, ASSISTANT)]
    found = [identify(each, params.prefix_bytes).select(["language", "language_score"]) for each in told]
    sure = [
        pc.and_(
            pc.greater_equal(pc.binary_length(each), params.sure_bytes),
            pc.greater_equal(languages.column(1), np.float32(params.sure_score)),
        )
        for each, languages in zip(told, found, strict=True)
    ]
    differ = pc.and_(pc.not_equal(found[0].column(0), found[1].column(0)), pc.and_(*sure))
    mismatch = pc.if_else(pc.is_valid(texts), pc.fill_null(differ, False).cast(pa.int32()), pa.scalar(None, pa.int32()))
    columns = [*found[0].columns, *found[1].columns, mismatch]
    return pa.RecordBatch.from_arrays(columns, schema=CHAT_LANGUAGE_SCHEMA)
