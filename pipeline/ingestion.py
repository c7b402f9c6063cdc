"""Raw records → rows of `documents`: extraction, decoding, and the gates that need the text.

A row is a document, gated or failed, and always keeps its place. Rows come in raw order; pages wait for one another in
small batches, since their text is made in a process of its own.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from tokenmill.filters.urls import UrlRules, url_violations
from tokenmill.manifests.keyed import key64
from tokenmill.pipeline.chat.plain import plain_of
from tokenmill.pipeline.chat.plain_rows import PlainRows
from tokenmill.pipeline.extraction import ExtractionOptions
from tokenmill.pipeline.extraction.encoding import clean, to_utf8
from tokenmill.pipeline.extraction.host import BATCH_BYTES, BATCH_PAGES, Extracted, ExtractionHost, Page
from tokenmill.pipeline.extraction.limits import over_limit
from tokenmill.pipeline.extraction.named import extractor_named
from tokenmill.pipeline.readers.chat import read_chat, read_chat_rows
from tokenmill.pipeline.readers.code import read_code
from tokenmill.pipeline.readers.jsonl import read_jsonl
from tokenmill.pipeline.readers.parquet import named_columns, read_parquet
from tokenmill.pipeline.readers.records import Piece, ReadOptions, Record
from tokenmill.pipeline.readers.warc import read_warc, read_wet
from tokenmill.pipeline.row_groups import IngestBatch, Row, RowGroup

Reader = Callable[[Piece, ReadOptions], Iterator[Record]]
Read = Callable[[Piece], Iterator[Record | PlainRows]]
READERS: dict[str, Reader] = {
    "warc": read_warc,
    "wet": read_wet,
    "jsonl": read_jsonl,
    "parquet": read_parquet,
    "code": read_code,
    "chat": read_chat,
}
#: Readers whose documents have turns.
WITH_TURNS = ("chat",)


@dataclass(frozen=True, slots=True)
class DocumentGates:
    """Bounds on the text and the URL, and what is kept of gated rows to look at; None is off.

    Attributes:
        min_characters: Unicode code points ("gates.min_characters").
        max_characters: ("gates.max_characters").
        sample_fraction: share of gated rows that keep their text; those gated by their URL never had one.
        urls: ("gates.url_blocklist", "gates.url_words"), decided before anything is parsed.
    """

    min_characters: int | None = None
    max_characters: int | None = None
    sample_fraction: float = 0.001
    urls: UrlRules | None = None


def ingest(
    pieces: Sequence[Piece],
    reader: str,
    options: ReadOptions,
    extraction: ExtractionOptions,
    gates: DocumentGates,
    skips: Mapping[tuple[str, int], str],
) -> Iterator[IngestBatch]:
    """Rows of `documents` for the pieces of a part, in batches that end by the records alone.

    Args:
        pieces: raw files or slices, in the part's order.
        reader: key of READERS.
        options: gates before parsing, columns.
        extraction: how pages become text.
        gates: bounds on the text.
        skips: reason by (path under the source's root, offset), for records that did not survive an earlier try.

    Raises:
        RecordKilled: the extractor hung on or crashed at a record; run again with the record among the skips.
        ValueError: a column is missing; no such reader or extractor.
        FileNotFoundError: a raw file is gone.
    """
    if reader not in READERS:
        raise ValueError(f"no reader {reader!r}: known are {', '.join(READERS)}")
    gathered = RowGroup(has_turns=reader in WITH_TURNS)
    read = _reading(reader, options, gates, skips)
    with ExtractionHost(extractor_named(extraction.extractor), extraction.record_timeout_s) as host:
        for found in _groups(pieces, read, skips, gathered):
            if isinstance(found, PlainRows):
                yield from _gather_plain(found, gathered)
                continue
            _gate_urls(found, gates.urls)
            _extract(found, host, extraction)
            for row in found:
                _settle(row, gates)
                gathered.add(row)
                if gathered.is_full:
                    yield gathered.take()
    if not gathered.is_empty:
        yield gathered.take()


def _gather_plain(rows: PlainRows | None, gathered: RowGroup) -> Iterator[IngestBatch]:
    while rows is not None:
        rows = gathered.add_plain(rows)
        if gathered.is_full:
            yield gathered.take()


def _reading(reader: str, options: ReadOptions, gates: DocumentGates, skips: Mapping[tuple[str, int], str]) -> Read:
    """How pieces are read: of chat so that plain conversations come as rows, unless more is asked than those tell."""
    if reader == "chat" and gates.urls is None and not (named_columns(options) or options.keep_raw or skips):
        plain = plain_of(options.chat, options.max_record_bytes, gates.min_characters, gates.max_characters)
        if plain is not None:
            return lambda piece: read_chat_rows(piece, options, plain)
    return lambda piece: READERS[reader](piece, options)


def keeps_sample(raw_file: str, raw_offset: int, fraction: float) -> bool:
    """Whether a gated row is among those whose text is kept to look at: drawn by its place, so always the same."""
    return key64("gate sample", raw_file, raw_offset) < int(fraction * (1 << 64))


def _groups(
    pieces: Sequence[Piece],
    read: Read,
    skips: Mapping[tuple[str, int], str],
    gathered: RowGroup,
) -> Iterator[list[Row] | PlainRows]:
    """Rows in order, as many at a time as go to the extractor together; plain ones, which do not, as they come."""
    group: list[Row] = []
    size = 0
    for piece in pieces:
        for record in read(piece):
            if isinstance(record, PlainRows):
                if group:
                    yield group
                yield record
                group, size = [], 0
                continue
            if record.other is not None:
                gathered.other[record.other] += 1
                continue
            row = Row(piece.file.path, record)
            reason = skips.get((piece.file.path, record.offset))
            if reason is not None and record.content is not None:
                record.content, record.failure = None, reason
            group.append(row)
            size += 0 if record.content is None else len(record.content)
            if len(group) >= BATCH_PAGES or size >= BATCH_BYTES:
                yield group
                group, size = [], 0
    yield group


def _gate_urls(group: Sequence[Row], rules: UrlRules | None) -> None:
    """Gate rows whose URL a rule blocks, and free their content, which nothing will read."""
    if rules is None:
        return
    reasons = url_violations([row.record.url for row in group], rules)
    for row, reason in zip(group, reasons, strict=True):
        if reason is not None and row.record.content is not None:
            row.record.gate, row.record.content = reason, None


def _extract(group: Sequence[Row], host: ExtractionHost, extraction: ExtractionOptions) -> None:
    """Fill in text or failure of every row that has content, and free the content."""
    pages: list[Page] = []
    waiting: list[Row] = []
    for row in group:
        record = row.record
        if isinstance(record.content, str):
            # the contents of turns are clean already: their bytes are counted
            row.text = clean(record.content) if record.conversation is None else record.content
            row.encoding = "utf-8"
        elif record.content is not None:
            content, row.encoding = to_utf8(record.content, record.encoding, is_html=record.is_html)
            if record.is_html:
                record.failure = over_limit(content, extraction.max_tags, extraction.max_depth)
                if record.failure is None:
                    pages.append(Page(row.raw_file, record.offset, content))
                    waiting.append(row)
            elif b"\0" in content:
                record.failure = "binary"
            else:
                row.text = clean(content.decode())
        record.content = None
    for row, found in zip(waiting, host.extract(pages), strict=True):
        _fill(row, found)


def _fill(row: Row, found: Extracted) -> None:
    row.record.failure = found.failure
    row.text = clean(found.text) if found.failure is None else None


def _settle(row: Row, gates: DocumentGates) -> None:
    """Fail a row without text, gate one whose text is too short or long."""
    record, text = row.record, row.text
    if text is None:
        return
    if not text or text.isspace():
        record.failure, row.text = "no_text" if record.is_html else "empty", None
        return
    if gates.min_characters is not None and len(text) < gates.min_characters:
        record.gate = "gates.min_characters"
    elif gates.max_characters is not None and len(text) > gates.max_characters:
        record.gate = "gates.max_characters"
    if record.gate is not None and not keeps_sample(row.raw_file, record.offset, gates.sample_fraction):
        row.text = None
