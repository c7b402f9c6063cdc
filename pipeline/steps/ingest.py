"""ingest: the raw files of a part → `documents`: text and where it came from. Every raw record keeps its place.

Gates are decided here, before anything dearer: status, type and size before parsing, length and language right after. A
record that kills or hangs the parser is written to the part's skip list, an input of the task, and the part runs again.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.filters.labels import names_language
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.keyed import key64
from tokenmill.manifests.receipts import Receipt, Task, canonical_json, hash_json
from tokenmill.manifests.schemas import DOCUMENTS, LANGUAGE_SIGNALS, TURNS
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.chat.shapes import VERSION as SHAPES_VERSION
from tokenmill.pipeline.chat.turns import without
from tokenmill.pipeline.extraction import ExtractionOptions, RecordKilled
from tokenmill.pipeline.ingestion import WITH_TURNS, DocumentGates, ingest, keeps_sample
from tokenmill.pipeline.language_model import SIGNALS_VERSION, load_language_model
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.readers.records import ReadOptions
from tokenmill.pipeline.recipe import Source
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import new_table
from tokenmill.pipeline.url_lists import source_url_rules

VERSION = 1

#: (path under the source's root, offset) → reason, for records that killed the parser
Skips = Mapping[tuple[str, int], str]

_LIBRARIES = {"warc": ("fastwarc", "resiliparse", "trafilatura"), "wet": ("fastwarc", "resiliparse")}


def run_ingest(run: TaskRun, source: Source, part: Part, skips: Skips) -> Receipt:
    """Ingest one part; again, with one more record on its skip list, whenever a record kills the parser."""
    while True:
        task = _task(source, part, skips)
        try:
            return run.once(task, lambda key, skips=skips: _ingest(run.storage, source, part, skips, key))  # type: ignore[misc]
        except RecordKilled as killed:
            skips = {**skips, (killed.raw_file, killed.offset): killed.reason}
            write_skip(run.storage, part, killed)


def gates_language(source: Source) -> bool:
    """Whether language decides already in *ingest*, so that its signals are written there."""
    return source.gates.languages is not None or source.gates.min_language_score is not None


def _task(source: Source, part: Part, skips: Skips) -> Task:
    settings = {"reader", "extractor", "columns", "extensions", "licence", "gates"}
    if source.reader in WITH_TURNS:  # tasks of other readers keep their keys
        settings.add("chat")
    params: dict[str, Any] = {
        # of the lists of URLs, what is in them counts (`url_rules`, below), not where they lie
        "source": source.model_dump(
            mode="json", include=settings, exclude={"gates": {"url_blocklist": True, "url_words": True}}
        ),
        "skips": sorted([path, offset, reason] for (path, offset), reason in skips.items()),
    }
    if source.reader in WITH_TURNS:
        params["shapes_version"] = SHAPES_VERSION
    inputs = {"raw": part.raw_hash}
    if gates_language(source):
        model = load_language_model(source.language_model)
        inputs[f"language_model/{model.name}"] = model.model_hash
        params["language_version"] = SIGNALS_VERSION
        params["language_prefix_bytes"] = source.language.prefix_bytes if source.language else 4096
    rules = source_url_rules(source.gates)
    if rules is not None:
        inputs["url_rules"] = rules.content_hash
    libraries = ("pyarrow", *_LIBRARIES.get(source.reader, ("resiliparse",)))
    return Task("ingest", VERSION, source.name, part.key, params, inputs, libraries)


def _ingest(storage: Storage, source: Source, part: Part, skips: Skips, key: str) -> Work:
    balance = Balance()
    other: Counter[str] = Counter()
    ids: set[int] = set()
    ids_again = 0
    with ExitStack() as stack:
        tables = {name: stack.enter_context(new_table(storage, schema)) for name, schema in _schemas(source).items()}
        for batch in ingest(
            part.pieces,
            source.reader,
            read_options(source),
            ExtractionOptions(extractor=source.extractor, record_timeout_s=source.record_timeout_s),
            DocumentGates(
                min_characters=source.gates.min_characters,
                max_characters=source.gates.max_characters,
                sample_fraction=source.gates.sample_fraction,
                urls=source_url_rules(source.gates),
            ),
            skips,
        ):
            rows = batch.documents
            if gates_language(source):
                rows, measured = _gate_languages(rows, source)
                tables["signals/language"].write_group(measured)
            tables["documents"].write_group(rows)
            if batch.turns is not None:
                gone = rows.column("text").is_null().to_numpy(zero_copy_only=False)
                tables["turns"].write_group(without(batch.turns, gone))
            for name in batch.ids:
                before = len(ids)
                ids.add(key64("conversation", name))
                ids_again += before == len(ids)
            other.update(batch.other)
            balance += ingest_balance(rows)
        path = f"{source.name}/{part.key}.{key}.parquet"
        outputs = tuple(table.commit(name, f"{name}/{path}") for name, table in tables.items())
    notes = {"other_records": dict(sorted(other.items())), "rows": tables["documents"].rows}
    if "turns" in tables:
        notes["repeated_ids"] = ids_again
    return Work(outputs, balance, notes)


def _schemas(source: Source) -> dict[str, pa.Schema]:
    """The tables that the step writes."""
    schemas = {"documents": DOCUMENTS}
    if gates_language(source):
        schemas["signals/language"] = LANGUAGE_SIGNALS
    if source.reader in WITH_TURNS:
        schemas["turns"] = TURNS
    return schemas


def read_options(source: Source) -> ReadOptions:
    """What a source's reader is told."""
    gates, columns = source.gates, source.columns
    return ReadOptions(
        max_record_bytes=gates.max_record_bytes,
        mime=gates.mime,
        http_status=gates.http_status,
        text_column=columns.text or "text",
        content_column=columns.text or "content",
        url_column=columns.url,
        date_column=columns.date,
        licence_column=columns.licence,
        repository_column=columns.repository,
        path_column=columns.path,
        extensions=source.extensions,
        licence=source.licence,
        chat=source.chat.told,
    )


def _gate_languages(rows: pa.RecordBatch, source: Source) -> tuple[pa.RecordBatch, pa.RecordBatch]:
    """Gate documents on language; the signals are kept for every row that had a text."""
    prefix_bytes = source.language.prefix_bytes if source.language else 4096
    model = load_language_model(source.language_model)
    measured = model.signals(rows.column("text"), prefix_bytes)
    gate, text = rows.column("gate").to_pylist(), rows.column("text").to_pylist()
    languages = measured.column("language").to_pylist()
    scores = measured.column("language_score").to_pylist()
    places = zip(rows.column("raw_file").to_pylist(), rows.column("raw_offset").to_pylist(), strict=True)
    for index, place in enumerate(places):
        if text[index] is None or gate[index] is not None:
            continue
        gate[index] = _language_gate(source, languages[index], scores[index])
        if gate[index] is not None and not keeps_sample(*place, source.gates.sample_fraction):
            text[index] = None
    rows = rows.set_column(0, DOCUMENTS.field("text"), pa.array(text, pa.large_string()))
    return rows.set_column(1, DOCUMENTS.field("gate"), pa.array(gate, pa.string())), measured


def _language_gate(source: Source, language: str | None, score: float | None) -> str | None:
    gates = source.gates
    if gates.languages is not None and not _is_asked_for(language, gates.languages):
        return "gates.languages"
    if gates.min_language_score is not None and (score or 0.0) < gates.min_language_score:
        return "gates.min_language_score"
    return None


def _is_asked_for(language: str | None, languages: tuple[str, ...]) -> bool:
    return language is not None and any(names_language(asked, language) for asked in languages)


def ingest_balance(rows: pa.RecordBatch) -> Balance:
    """The books of a stretch of `documents`: what was taken in, gated and failed, in bytes of raw payload."""
    status = pc.if_else(
        pc.is_valid(rows.column("failure")),
        pc.binary_join_element_wise("failed", rows.column("failure"), "\t"),
        pc.if_else(
            pc.is_valid(rows.column("gate")), pc.binary_join_element_wise("gated", rows.column("gate"), "\t"), "out\t"
        ),
    )
    table = pa.table({"status": status, "bytes": rows.column("raw_bytes")})
    balance = Balance()
    for row in table.group_by("status").aggregate([("bytes", "sum"), ([], "count_all")]).to_pylist():
        tally = Tally(documents=row["count_all"], bytes=row["bytes_sum"] or 0)
        kind, reason = row["status"].split("\t", 1)
        balance.taken += tally
        if kind == "out":
            balance.out += tally
        elif kind == "gated":
            balance.drop(reason, tally)
        else:
            balance.fail(reason, tally)
    return balance


def write_skip(storage: Storage, part: Part, killed: RecordKilled) -> None:
    """Put a record on the part's skip list; each entry is a file of its own, so two writers can't lose one."""
    entry = {"raw_file": killed.raw_file, "offset": killed.offset, "reason": killed.reason}
    storage.write(f"skips/{part.key}/{hash_json(entry)[:20]}.json", canonical_json(entry).encode())


def read_skips(storage: Storage) -> dict[str, Skips]:
    """Skip lists by part key."""
    skips: dict[str, dict[tuple[str, int], str]] = defaultdict(dict)
    for path in storage.sizes("skips"):
        entry = json.loads(storage.read(path))
        skips[path.split("/")[1]][entry["raw_file"], entry["offset"]] = entry["reason"]
    return dict(skips)
