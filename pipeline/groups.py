"""The signal groups a recipe can ask for, in one explicit table. A new filter is a module, its test and a line here."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, NamedTuple

import pyarrow as pa

from tokenmill.filters import c4, chat, chat_language, fineweb, gopher, repeated_lines, repetition
from tokenmill.filters.splitter import SplitTexts
from tokenmill.filters.stop_words import StopWords


class Measured(NamedTuple):
    """What a group says of a batch of texts.

    Attributes:
        signals: a row a text.
        edits: of EDITS, where the group has an edit rule.
        edited: the edited texts, where the group has them at hand.
    """

    signals: pa.RecordBatch
    edits: pa.RecordBatch | None = None
    edited: SplitTexts | None = None


#: texts, params, number of the first row → what the group says
Measure = Callable[[SplitTexts, Any, int], Measured]


@dataclass(frozen=True)
class Group:
    """A signal group: what it measures, with which parameters, and the bounds that decide.

    Attributes:
        name: as in the recipe, in file names and in drop reasons.
        version: raised when the measure changes what it writes.
        bounds: frozen dataclass of `min_<signal>` / `max_<signal>`.
        params: frozen dataclass of what the measure depends on, or None.
        measure: the function of texts alone, where there is one.
        edits: whether it also edits the text; the groups after it then read the edited text.
        per_language: whether its bounds may differ by language, as filters/languages.yaml says.
        measure_with: the function that measures with the stop words of each text's language, where it looks at them.
        measure_turns: the function that measures conversations: texts, rows of TURNS as they lie in them, params.
        measure_languages: the same, with the source's language model behind them.
    """

    name: str
    version: int
    bounds: type
    measure: Measure | None = None
    params: type | None = None
    edits: bool = False
    per_language: bool = False
    measure_with: Callable[[SplitTexts, StopWords], Measured] | None = None
    measure_turns: Callable[[SplitTexts, pa.RecordBatch, Any], Measured] | None = None
    measure_languages: Callable[[SplitTexts, pa.RecordBatch, Any, chat_language.Identify], Measured] | None = None

    @property
    def by_turns(self) -> bool:
        """Whether it measures conversations."""
        return self.measure_turns is not None or self.measure_languages is not None

    @property
    def settings(self) -> tuple[str, ...]:
        """Every key the recipe may give."""
        own = fields(self.params) if self.params else ()
        names = tuple(field.name for field in (*fields(self.bounds), *own))
        return (*names, "per_language") if self.per_language else names


GROUPS: dict[str, Group] = {
    group.name: group
    for group in (
        Group(
            "gopher_quality",
            gopher.VERSION,
            gopher.GopherQualityBounds,
            lambda split, params, first_row: Measured(gopher.gopher_quality_signals(split)),
            per_language=True,
            measure_with=lambda split, stop_words: Measured(gopher.gopher_quality_signals(split, stop_words)),
        ),
        Group(
            "gopher_repetition",
            repetition.VERSION,
            repetition.GopherRepetitionBounds,
            lambda split, params, first_row: Measured(repetition.gopher_repetition_signals(split)),
            per_language=True,
        ),
        Group(
            "c4",
            c4.VERSION,
            c4.C4Bounds,
            lambda split, params, first_row: Measured(*c4.c4(split, params, first_row)),
            params=c4.C4Params,
            edits=True,
        ),
        Group(
            "fineweb_quality",
            fineweb.VERSION,
            fineweb.FineWebQualityBounds,
            lambda split, params, first_row: Measured(fineweb.fineweb_quality_signals(split)),
            per_language=True,
        ),
        Group(
            repeated_lines.RULE,
            repeated_lines.VERSION,
            repeated_lines.RepeatedLinesBounds,
            lambda split, params, first_row: Measured(
                *repeated_lines.repeated_lines(split, params, first_row=first_row)
            ),
            params=repeated_lines.RepeatedLinesParams,
            edits=True,
        ),
        Group(
            "chat",
            chat.VERSION,
            chat.ChatBounds,
            lambda split, params, first_row: Measured(chat.chat_signals(split.texts, params)),
            params=chat.ChatParams,
            measure_turns=lambda split, turns, params: Measured(chat.chat_signals(split.texts, params, turns)),
        ),
        Group(
            "chat_language",
            chat_language.VERSION,
            chat_language.ChatLanguageBounds,
            params=chat_language.ChatLanguageParams,
            measure_languages=lambda split, turns, params, identify: Measured(
                chat_language.chat_language_signals(split.texts, params, turns, identify)
            ),
        ),
    )
}
