"""The benchmarks that a recipe's `contamination` names: their items, read once a process, as an index of n-grams.

A file is JSONL (plain, gzip, zstd or lz4), Parquet, or, by its name `.json`, one value: a list of objects, or an object
with one such list in it. An item is an object; its texts are all strings in its columns, also those in lists and
objects there. Other columns are not looked at: names of subjects, numbers of answers, tests, canaries.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import xxhash

from tokenmill.dedup.contamination import Answers
from tokenmill.dedup.ngram_index import Benchmark, ContaminationParams, NgramIndex, build_index
from tokenmill.filters.turns import ASSISTANT, turn_spans, turn_texts
from tokenmill.pipeline.classifier.examples import ExampleFile, find_examples
from tokenmill.pipeline.readers.jsonl import json_lines
from tokenmill.pipeline.readers.records import Piece, RawFile, ReadOptions
from tokenmill.pipeline.storage import open_url

#: Columns of questions and of answers, as benchmarks call them.
COLUMNS = (
    *("question", "prompt", "problem", "query", "input", "instruction", "text", "context", "passage", "premise", "ctx"),
    *("hypothesis", "sentence", "goal", "choices", "options", "endings", "answer", "answers", "solution", "solutions"),
    *("canonical_solution", "output", "response", "target", "completion", "code", "sol1", "sol2"),
)
_PARQUET = b"PAR1"


@dataclass(frozen=True, eq=False)
class OpenedBenchmarks:
    """Benchmarks, ready to be looked for.

    Attributes:
        index: their n-grams.
        hashes: of each one's items, by its name.
    """

    index: NgramIndex
    hashes: Mapping[str, str]


def open_benchmarks(params: Mapping[str, Any]) -> OpenedBenchmarks:
    """The benchmarks of a filter's params, read once a process.

    Raises:
        ValueError: a file that is not there or cannot be read, a column that no item has, a benchmark of which no item
            can be looked for.
    """
    columns = params["columns"]
    asked = tuple(
        (name, tuple(paths), tuple(columns[name]) if name in columns else None)
        for name, paths in params["benchmarks"].items()
    )
    return _open(asked, ContaminationParams(params["ngram"], params["max_items"]))


@cache
def _open(
    asked: tuple[tuple[str, tuple[str, ...], tuple[str, ...] | None], ...], params: ContaminationParams
) -> OpenedBenchmarks:
    benchmarks = [read_benchmark(name, paths, columns) for name, paths, columns in asked]
    index = build_index(benchmarks, params)
    for name, indexed in zip(index.names, index.indexed_items, strict=True):
        if not indexed:
            raise ValueError(
                f"benchmark {name}: none of its items can be looked for: no text in its columns has "
                f"{params.least_words} words, or its n-grams are numbers, or more than {params.max_items} items share "
                "them; name other columns, or leave it out"
            )
    return OpenedBenchmarks(index, {benchmark.name: _hash(benchmark) for benchmark in benchmarks})


def _hash(benchmark: Benchmark) -> str:
    """Of what is looked for: the texts of each item."""
    return xxhash.xxh3_128_hexdigest(json.dumps(benchmark.items).encode())


def read_benchmark(name: str, paths: Sequence[str], columns: Sequence[str] | None = None) -> Benchmark:
    """A benchmark's items, in order of file and place.

    Args:
        name: of the benchmark.
        paths: its files, or patterns that name them.
        columns: whose texts are its items'; those of COLUMNS that are there, by default.

    Raises:
        ValueError: a file that is not there or cannot be read, a column that no item has.
    """
    records = [record for file in find_examples(paths) for record in _records(file)]
    there = set().union(*records) if records else set()
    missing = [column for column in columns or () if column not in there]
    if missing or there.isdisjoint(COLUMNS if columns is None else columns):
        raise ValueError(
            f"benchmark {name}: no item has {repr(missing[0]) if missing else 'a column that is known'}; items have "
            f"{', '.join(map(repr, sorted(there)))}: name those of questions and answers, `columns: {{{name}: […]}}`"
        )
    used = COLUMNS if columns is None else columns
    return Benchmark(name, [[text for column in used for text in _texts(record.get(column))] for record in records])


def _texts(value: Any) -> Iterator[str]:
    """Every string in a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, Sequence) and not isinstance(value, bytes):
        for item in value:
            yield from _texts(item)


def _records(file: ExampleFile) -> Iterator[dict[str, Any]]:
    with open_url(file.url) as raw:
        if raw.read(len(_PARQUET)) == _PARQUET:
            yield from pq.ParquetFile(raw).read(use_threads=False).to_pylist()
            return
        if file.url.lower().endswith(".json"):
            raw.seek(0)
            yield from _objects(file, raw.read())
            return
    piece = Piece(RawFile(file.url, file.url, file.bytes, file.hash))
    for record, value in json_lines(piece, ReadOptions(max_record_bytes=None)):
        if value is not None:
            yield value
        elif record.failure is not None:
            raise ValueError(f"{file.url}: the line at byte {record.offset} is no item ({record.failure}): mend it")


def _objects(file: ExampleFile, data: bytes) -> list[dict[str, Any]]:
    """The objects of a whole JSON file."""
    try:
        value = json.loads(data)
    except ValueError as error:
        raise ValueError(f"{file.url} is no JSON ({error}); of lines of JSON the name ends in .jsonl") from error
    lists = [value] if isinstance(value, list) else list(value.values()) if isinstance(value, dict) else []
    lists = [each for each in lists if isinstance(each, list) and each and all(isinstance(one, dict) for one in each)]
    if len(lists) != 1:
        raise ValueError(f"{file.url} holds {len(lists)} lists of objects, where one is wanted: its items")
    found: list[dict[str, Any]] = lists[0]
    return found


def answers_of(texts: pa.LargeStringArray, turns: pa.RecordBatch) -> Answers:
    """The assistant's turns of conversations."""
    spans = turn_spans(turns.column("turns"))
    of_answers = np.flatnonzero(spans.roles == ASSISTANT)
    documents = np.searchsorted(of_answers, spans.documents).astype(np.int64)
    return Answers(turn_texts(texts, spans).take(pa.array(of_answers)), documents)
