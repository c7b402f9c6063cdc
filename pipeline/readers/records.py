"""What every reader yields: one `Record` a raw record, in raw order, whatever became of it."""

from dataclasses import dataclass

from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.chat.shapes import ANY_SHAPE, Shape


@dataclass(frozen=True, slots=True)
class RawFile:
    """A raw file as the plan found it.

    Attributes:
        url: where it is (a path or any fsspec URL).
        path: the same under the source's root; part of a document's identity, so a moved bucket changes nothing.
        bytes: its size.
        version: xxh3-128 of its content (local) or its ETag (object store).
    """

    url: str
    path: str
    bytes: int
    version: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A raw file, or slice `index` of `count` of it. Slices of a file cover each record exactly once."""

    file: RawFile
    index: int = 0
    count: int = 1

    @property
    def byte_range(self) -> tuple[int, int]:
        """First byte and end (exclusive) of the slice; a record belongs to the slice in which it starts."""
        size = self.file.bytes
        return size * self.index // self.count, size * (self.index + 1) // self.count


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """What the readers are told: gates that are decided before anything is parsed, and names of columns.

    Each reader reads the fields that concern it. None turns a gate off, and says that there is no such column.

    Attributes:
        max_record_bytes: the largest record read; larger ones are never held in memory ("gates.max_record_bytes").
        mime: WARC: MIME types that are read ("gates.mime").
        http_status: WARC: HTTP status codes that are read ("gates.http_status").
        extensions: code: file name endings that are read, such as ".py" ("gates.extension").
        text_column: JSONL, Parquet: key or column of the text.
        content_column: code in Parquet: column of the file's content, text or binary.
        url_column: JSONL, Parquet.
        date_column: JSONL, Parquet.
        repository_column: JSONL, Parquet, code in Parquet.
        path_column: JSONL, Parquet, code in Parquet.
        licence_column: JSONL, Parquet, code in Parquet.
        licence: code: licence of files whose table names none, and of folders and archives.
        chat: chat: the shape of the records.
        keep_raw: JSONL, chat: records keep what was read (`Record.raw`).
    """

    max_record_bytes: int | None = 16 << 20
    mime: tuple[str, ...] | None = ("text/html", "application/xhtml+xml", "text/plain")
    http_status: tuple[int, ...] | None = (200,)
    extensions: tuple[str, ...] | None = None
    text_column: str = "text"
    content_column: str = "content"
    url_column: str | None = None
    date_column: str | None = None
    repository_column: str | None = None
    path_column: str | None = None
    licence_column: str | None = None
    licence: str | None = None
    chat: Shape = ANY_SHAPE
    keep_raw: bool = False


@dataclass(slots=True)
class Record:
    """One raw record.

    Exactly one of these is set: `content` (a document to be), `failure`, `gate`, or `other` (not a
    document at all, such as a WARC request: counted, given no row).

    Attributes:
        offset: where it starts in the raw file; each reader's docstring says in which unit.
        raw_bytes: bytes of its payload.
        content: HTML as raw bytes when `is_html`, else text: `str`, or bytes whose encoding is to be detected.
        is_html: whether `content` goes through the extractor.
        failure: a short reason without spaces.
        gate: name of the bound that dropped it before its content was read, such as "gates.mime".
        other: kind of a record that is no document ("warcinfo", "request", …).
        conversation: chat: whose turns make up `content`.
        detail: chat: what of the record made it fail, for people.
        id: chat: what the data calls it.
        raw: JSONL, chat: the record's JSON, or what should be, if asked for.
        encoding: what the transport says it is (the charset of an HTTP header); a hint for detection, no more.
    """

    offset: int
    raw_bytes: int = 0
    content: str | bytes | None = None
    is_html: bool = False
    failure: str | None = None
    gate: str | None = None
    other: str | None = None
    url: str | None = None
    mime: str | None = None
    http_status: int | None = None
    date: str | None = None
    encoding: str | None = None
    repository: str | None = None
    path: str | None = None
    licence: str | None = None
    conversation: Conversation | None = None
    detail: str | None = None
    id: str | None = None
    raw: str | None = None
