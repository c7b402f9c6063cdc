"""The groups of signals that a source asks for, in order, ready to be measured."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.dedup.contamination import VERSION as CONTAMINATION_VERSION
from tokenmill.dedup.contamination import contamination_signals
from tokenmill.dedup.folding import UNICODE_VERSION
from tokenmill.dedup.minhash import signatures
from tokenmill.filters.classifier import VERSION as CLASSIFIER_VERSION
from tokenmill.filters.content_hashes import content_hashes
from tokenmill.filters.repeated_lines import RULE, RepeatedLinesParams, repeated_lines
from tokenmill.filters.repeated_lines import VERSION as REPEATED_LINES_VERSION
from tokenmill.filters.splitter import SplitTexts
from tokenmill.manifests.schemas import CONTENT
from tokenmill.pipeline.benchmarks import answers_of, open_benchmarks
from tokenmill.pipeline.classifier.model import CLASSIFIERS, open_classifier
from tokenmill.pipeline.compared import TEXT, compared_texts
from tokenmill.pipeline.datatrove_adapter import COLUMNS, GUEST, guest_libraries, guest_measure, guest_params
from tokenmill.pipeline.datatrove_adapter import VERSION as GUEST_VERSION
from tokenmill.pipeline.groups import GROUPS, Group, Measured
from tokenmill.pipeline.ingestion import WITH_TURNS
from tokenmill.pipeline.language_model import SIGNALS_VERSION, load_language_model
from tokenmill.pipeline.languages import language_words
from tokenmill.pipeline.recipe import Dedup, Filter, Recipe, Source
from tokenmill.pipeline.recipe.filters import CONTAMINATION
from tokenmill.pipeline.steps.ingest import gates_language
from tokenmill.pipeline.steps.repeated_lines import PLACE, Gathered, places_of


@dataclass(frozen=True, eq=False)
class Batch:
    """Some rows of a part, as a group reads them.

    Attributes:
        split: n texts.
        first_row: number of the first of them in the part.
        rows: n rows of `documents`, with the columns that the group names.
        languages: string[n], the labels of their languages, where they are known.
        turns: n rows of TURNS, as they lie in the texts, where a group reads them.
    """

    split: SplitTexts
    first_row: int
    rows: pa.RecordBatch
    languages: pa.Array | None
    turns: pa.RecordBatch | None = None


@dataclass(frozen=True)
class Measurement:
    """A group ready to be measured.

    Attributes:
        name: of the group.
        version: of what it writes.
        params: what it depends on.
        measure: the function.
        edits: whether it edits the text.
        libraries: whose versions it depends on.
        columns: of `documents`, beside the text.
        by_language: whether it looks at the documents' languages.
        by_turns: whether it looks at the turns of conversations.
        inputs: what it reads beside documents, edits and languages, by name: hashes.
    """

    name: str
    version: int
    params: Mapping[str, Any]
    measure: Callable[[Batch], Measured]
    edits: bool = False
    libraries: tuple[str, ...] = ("pyarrow",)
    columns: tuple[str, ...] = ()
    by_language: bool = False
    by_turns: bool = False
    inputs: Mapping[str, str] = field(default_factory=dict)


def measurements(recipe: Recipe, source: Source, gathered: Gathered | None = None) -> list[Measurement]:
    """The groups of a source, in order: up to `repeated_lines`, if it has that filter and its lines are not counted."""
    found: list[Measurement] = []
    if source.language is not None and not gates_language(source):
        found.append(_language(source.language.model, source.language.prefix_bytes))
    for entry in source.filters:
        if entry.group != RULE:
            found.append(_filter(entry, source))
        elif gathered is not None:
            found.append(_repeated_lines(entry, source.name, gathered))
        else:
            return found
    return [*found, *content_measurements(recipe.dedup)]


def content_measurements(dedup: Dedup) -> list[Measurement]:
    """What *deduplicate* compares, of the text as it stands after every edit rule."""
    found = [Measurement("hashes", 1, {}, lambda batch: Measured(_hashes(batch.split.texts)))]
    if dedup.of != TEXT:
        found.append(
            Measurement(
                "compared",
                1,
                {"of": dedup.of},
                lambda batch: Measured(content_hashes(_compared(batch, dedup.of))),
                by_turns=True,
            )
        )
    return [*found, _minhash(dedup)] if dedup.near else found


def _compared(batch: Batch, of: str) -> pa.LargeStringArray:
    return compared_texts(batch.split.texts, batch.turns, of)


def _language(name: str, prefix_bytes: int) -> Measurement:
    model = load_language_model(name)
    return Measurement(
        "language",
        SIGNALS_VERSION,
        {"prefix_bytes": prefix_bytes},
        lambda batch: Measured(model.signals(batch.split.texts, prefix_bytes)),
        inputs={f"language_model/{model.name}": model.model_hash},
    )


def _filter(entry: Filter, source: Source) -> Measurement:
    if entry.group.startswith(GUEST):
        return _guest(entry.group, entry.params)
    if entry.group.startswith(CLASSIFIERS):
        return _classifier(entry.group, **entry.params)
    if entry.group == CONTAMINATION:
        return _contamination(entry.params, source.reader in WITH_TURNS)
    group = GROUPS[entry.group]
    if entry.per_language and group.measure_with is not None:
        return _by_language(group, group.measure_with)
    params = group.params(**entry.params) if group.params else None
    if group.measure_turns is not None:
        return _by_turns(group, entry.params, params, group.measure_turns)
    if group.measure_languages is not None:
        return _by_turns(group, entry.params, params, group.measure_languages, source.language_model)
    measure = group.measure
    assert measure is not None, f"group {group.name} has a function that measures"
    return Measurement(
        group.name,
        group.version,
        entry.params,
        lambda batch: measure(batch.split, params, batch.first_row),
        group.edits,
    )


def _repeated_lines(entry: Filter, source: str, gathered: Gathered) -> Measurement:
    """How often a line must be repeated, and where, is in the lines that are: they alone are an input."""
    params = RepeatedLinesParams(**entry.params)
    read = cache(gathered.read)

    def measure(batch: Batch) -> Measured:
        places = places_of(batch.rows, source) if params.keep_first else None
        return Measured(*repeated_lines(batch.split, params, read(), places, batch.first_row))

    return Measurement(
        RULE,
        REPEATED_LINES_VERSION,
        {"unit": params.unit, "min_characters": params.min_characters, "keep_first": params.keep_first},
        measure,
        True,
        columns=tuple(PLACE) if params.keep_first else (),
        inputs={"lines/repeated": gathered.hash},
    )


def _guest(group: str, given: Mapping[str, Any]) -> Measurement:
    measure = guest_measure(group, given["step"], given["args"])
    return Measurement(
        group,
        GUEST_VERSION,
        guest_params(given["step"], given["args"]),
        lambda batch: Measured(*measure(batch.split.texts, batch.first_row, batch.rows.select(COLUMNS))),
        True,
        guest_libraries(),
        COLUMNS,
    )


def _classifier(group: str, model: str, label: str, max_bytes: int | None) -> Measurement:
    """The model's file is an input of the task, by its content: where it lies says nothing."""
    classifier = open_classifier(model, label)
    return Measurement(
        group,
        CLASSIFIER_VERSION,
        {"label": classifier.label, "max_bytes": max_bytes},
        lambda batch: Measured(classifier.signals(batch.split.texts, max_bytes)),
        inputs={"classifier_model": classifier.model.model_hash},
    )


def _contamination(params: Mapping[str, Any], by_turns: bool) -> Measurement:
    """The items of the benchmarks are inputs of the task, by their content: where their files lie says nothing."""
    opened = open_benchmarks(params)

    def measure(batch: Batch) -> Measured:
        answers = None if batch.turns is None else answers_of(batch.split.texts, batch.turns)
        return Measured(contamination_signals(batch.split.texts, opened.index, answers))

    return Measurement(
        CONTAMINATION,
        CONTAMINATION_VERSION,
        {"ngram": params["ngram"], "max_items": params["max_items"], "unicode": UNICODE_VERSION},
        measure,
        by_turns=by_turns,
        inputs={f"benchmark/{name}": content_hash for name, content_hash in opened.hashes.items()},
    )


def _by_turns(
    group: Group,
    given: Mapping[str, Any],
    params: Any,
    measure: Callable[..., Measured],
    language_model: str | None = None,
) -> Measurement:
    """A group that looks at the turns of conversations, and maybe asks a language model."""
    model = None if language_model is None else load_language_model(language_model)
    others = [] if model is None else [model.languages]

    def measured(batch: Batch) -> Measured:
        assert batch.turns is not None, "the recipe wants reader `chat` for this group"
        return measure(batch.split, batch.turns, params, *others)

    inputs = {} if model is None else {f"language_model/{model.name}": model.model_hash}
    return Measurement(group.name, group.version, given, measured, by_turns=True, inputs=inputs)


def _by_language(group: Group, measure_with: Callable[..., Measured]) -> Measurement:
    """A group that looks at the stop words of each document's language; other words measure it anew."""
    words = language_words()
    return Measurement(
        group.name,
        group.version,
        {"per_language": True},
        lambda batch: measure_with(batch.split, words.lists.of_documents(batch.languages)),
        by_language=True,
        inputs={"stop_words": words.content_hash},
    )


def _hashes(texts: pa.LargeStringArray) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays(
        [content_hashes(texts).column(0), pc.binary_length(texts).cast(pa.int64())], schema=CONTENT
    )


def _minhash(dedup: Dedup) -> Measurement:
    minhash = dedup.minhash
    params = {
        "num_permutations": minhash.num_permutations,
        "shingling": dataclasses.asdict(minhash.shingling),
        "unicode": UNICODE_VERSION,
        "seed": minhash.seed,
    }
    if dedup.of != TEXT:  # tasks that compare texts keep their keys
        params["of"] = dedup.of
    return Measurement(
        "minhash",
        2,
        params,
        lambda batch: Measured(signatures(_compared(batch, dedup.of), minhash)),
        by_turns=dedup.of != TEXT,
    )
