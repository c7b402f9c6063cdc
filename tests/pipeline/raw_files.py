"""Raw files made for tests, slow readers to hold ours against, and extractors that misbehave."""

import ctypes
import gzip
import io
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from fastwarc.stream_io import Lz4Reader

from tokenmill.pipeline.readers.records import Piece, RawFile, ReadOptions, Record

#: Every gate off.
OPEN = ReadOptions(max_record_bytes=None, mime=None, http_status=None)


def piece_of(path: Path, index: int = 0, count: int = 1, *, name: str | None = None) -> Piece:
    """A slice of a local file, as the plan would name it."""
    return Piece(RawFile(str(path), name or path.name, path.stat().st_size, ""), index, count)


def write(folder: Path, name: str, data: bytes) -> Piece:
    """Write a file; the piece that is all of it."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return piece_of(path, name=name)


def sliced(piece: Piece, count: int) -> list[Piece]:
    return [Piece(piece.file, index, count) for index in range(count)]


def warc_record(
    block: bytes,
    *,
    kind: str = "response",
    url: str = "http://example.com/",
    content_type: str = "application/http; msgtype=response",
    length: int | None = None,
    extra: str = "",
) -> bytes:
    """One WARC record; `length` instead of the true one."""
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: {url}\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"Content-Type: {content_type}\r\n{extra}Content-Length: {len(block) if length is None else length}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def http(body: bytes, *, status: str = "200 OK", mime: str = "text/html; charset=utf-8", extra: str = "") -> bytes:
    """An HTTP response."""
    return f"HTTP/1.1 {status}\r\nContent-Type: {mime}\r\n{extra}\r\n".encode() + body


def page(number: int, padding: int = 0) -> bytes:
    """A response whose page names its number; padding is text that gzip cannot make small."""
    noise = "".join(f"{zlib.crc32(b'%d/%d' % (number, i)):08x} " for i in range(padding))
    body = f"<html><body><p>Page number {number} says a few plain words. {noise}</p></body></html>".encode()
    return warc_record(http(body), url=f"http://example.com/{number}")


def gzipped(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def facts(records: Iterable[Record]) -> list[tuple[object, ...]]:
    """What of records must not depend on slices."""
    return [(r.offset, r.raw_bytes, r.failure, r.gate, r.other, r.url, r.content) for r in records]


def outcomes(records: Iterable[Record]) -> Counter[str]:
    """How many records became what."""
    return Counter(r.failure or r.gate or r.other or "document" for r in records)


def inflate(data: bytes) -> bytes:
    """A whole file's bytes, by other means than the readers'."""
    if data.startswith(b"\x1f\x8b"):
        return gzip.decompress(data)
    if data.startswith(b"\x04\x22\x4d\x18"):
        out, reader = bytearray(), Lz4Reader(io.BytesIO(data))
        while part := reader.read(1 << 16):
            out += part
        return bytes(out)
    return data


def slow_walk(data: bytes) -> list[tuple[str, str | None, bytes]]:
    """(type, URL, block) of every record of a sound, inflated WARC or ARC file: header after header, nothing clever."""
    found, position = [], 0
    while data[position:].strip(b"\r\n"):
        if data[position : position + 5] == b"WARC/":
            end = data.index(b"\r\n\r\n", position) + 4
            fields = re.findall(rb"(?m)^([\w-]+):[ \t]*(.*?)\r?$", data[position:end])
            header = {name.lower(): value.decode() for name, value in fields}
            kind, url, length = header[b"warc-type"], header.get(b"warc-target-uri"), int(header[b"content-length"])
        else:
            end = data.index(b"\n", position) + 1
            words = data[position:end].decode().split()
            url, length = words[0], int(words[-1])
            kind = "warcinfo" if url.startswith("filedesc") else "response" if url.startswith("http") else "resource"
        found.append((kind, url, data[end : end + length]))
        position = end + length
        while data[position : position + 1] in (b"\r", b"\n"):
            position += 1
    return found


def hang(html: bytes) -> str:
    """An extractor that never returns where the page says so; it holds the interpreter, as a parser does."""
    if b"HANG" in html:
        ctypes.PyDLL(None).sleep(600)
    return html.decode()


def crash(html: bytes) -> str:
    """An extractor that takes the interpreter down where the page says so."""
    if b"CRASH" in html:
        ctypes.string_at(0)
    return html.decode()


def fail(html: bytes) -> str:
    """An extractor that raises where the page says so."""
    if b"RAISE" in html:
        raise KeyError("no such element")
    return html.decode()


def dawdle(html: bytes) -> str:
    """An extractor that takes its time, never long."""
    time.sleep(0.2)
    return html.decode()


def names_of(records: Iterable[Record]) -> list[object]:
    """What each record became: its content, or the reason why it has none."""
    return [r.content if r.content is not None else r.failure or r.gate or r.other for r in records]
