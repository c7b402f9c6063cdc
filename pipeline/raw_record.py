"""The raw record of a document, read again from the source's raw file by the source's own reader.

A raw file is read from its start, or its slice's, up to the record: readers know no other way that holds for every
format and compression. Before that the file must be the one that the plan names, byte for byte.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tokenmill.pipeline.ingestion import READERS
from tokenmill.pipeline.plan import Part, find_file
from tokenmill.pipeline.readers.records import Piece
from tokenmill.pipeline.recipe import Source
from tokenmill.pipeline.steps.ingest import read_options
from tokenmill.pipeline.storage import content_hash, open_url


@dataclass(frozen=True)
class RawRecord:
    """A raw record.

    Attributes:
        url: of its raw file.
        offset: where it starts there; see each reader for the unit.
        content: its payload as text: of a page its HTML, what is not in its encoding escaped; what of a broken line can
            be shown, "" of any other record that cannot be read.
        failure: why it cannot be read.
        detail: what of it is wrong, where the reader says so: of a conversation, which turn.
    """

    url: str
    offset: int
    content: str
    failure: str | None
    detail: str | None = None


def raw_record(source: Source, parts: Sequence[Part], key: str, path: str, offset: int) -> RawRecord:
    """Read a raw record again.

    Args:
        source: of the document.
        parts: of the plan.
        key: the document's part.
        path: its `raw_file`.
        offset: its `raw_offset`.

    Raises:
        ValueError: the raw file is gone or is another one by now, or has no such record; says which.
    """
    part = next(part for part in parts if part.key == key)
    planned = next(piece for piece in part.pieces if piece.file.path == path)
    file = find_file(source, path, lambda url, size, modified: _hash_of(url))
    if file is None:
        raise ValueError(f"the raw file {path} of source {source.name} is gone: it was under the root when it was read")
    if (file.bytes, file.version) != (planned.file.bytes, planned.file.version):
        raise ValueError(
            f"the raw file {file.url} of source {source.name} has changed since it was read: it has {file.bytes:,} "
            f"bytes, version {file.version}; the plan has {planned.file.bytes:,}, version {planned.file.version}"
        )
    options = replace(read_options(source), max_record_bytes=None, mime=None, http_status=None, extensions=None)
    options = replace(options, keep_raw=True)
    for record in READERS[source.reader](Piece(file, planned.index, planned.count), options):
        if record.offset == offset and record.other is None:
            told = record.content if record.content is not None and record.conversation is None else record.raw
            content = _text(told, record.encoding)
            return RawRecord(file.url, offset, content, record.failure, record.detail)
    raise ValueError(f"{file.url} has no record at {offset}")


def _hash_of(url: str) -> str:
    with open_url(url) as file:
        return content_hash(file)[1]


def _text(content: str | bytes | None, encoding: str | None) -> str:
    if not isinstance(content, bytes):
        return content or ""
    try:
        return content.decode(encoding or "utf-8", "backslashreplace")
    except LookupError:  # the charset of an HTTP header may be any word
        return content.decode("utf-8", "backslashreplace")
