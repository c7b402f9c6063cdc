"""Examples that a classifier is trained on or held against: texts of files, as lines of fastText's format.

A file is JSONL, Parquet (also a run's `documents`) or, by its name, plain text with one document a line (`.txt`);
JSONL and text may lie in gzip, zstd or lz4, told by their first bytes. A text goes through what *ingest* does to one,
then through `training_line`. Texts without a token are counted and left out; a record that cannot be read is an error,
for examples are chosen by hand.
"""

import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import xxhash

from tokenmill.filters.classifier import training_line
from tokenmill.manifests.keyed import key64, mix64
from tokenmill.pipeline.extraction.encoding import clean
from tokenmill.pipeline.progress import Reporter
from tokenmill.pipeline.readers.inflate import CorruptStreamError, chunks, detect_codec
from tokenmill.pipeline.readers.jsonl import read_jsonl
from tokenmill.pipeline.readers.parquet import read_parquet
from tokenmill.pipeline.readers.records import Piece, RawFile, ReadOptions
from tokenmill.pipeline.storage import Storage, content_hash, open_url

_PLAIN_TEXT = re.compile(r".*\.txt(\.(gz|zst|zstd|lz4))?")
_PARQUET = (".parquet", ".pq")
_SECONDS_BETWEEN_LINES = 2.0
#: What a record is that has no text, rather than one that cannot be read: a gated row of `documents`, say.
_WITHOUT_TEXT = ("missing_text", "empty_file")
U64 = npt.NDArray[np.uint64]
Bools = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class ExampleFile:
    """A file of examples: where it is, its size, and xxh3-128 (hex) of its content."""

    url: str
    bytes: int
    hash: str


def find_examples(patterns: Sequence[str]) -> tuple[ExampleFile, ...]:
    """The files that paths or patterns (`*`, `?`, `**/`) name, each once, sorted.

    Raises:
        ValueError: a path that is no file, a pattern that matches none.
    """
    urls = sorted({url for pattern in patterns for url in _matching(pattern)})
    return tuple(_example_file(url) for url in urls)


def _matching(pattern: str) -> list[str]:
    parts = pattern.split("/")
    fixed = next((index for index, part in enumerate(parts) if "*" in part or "?" in part), None)
    if fixed is None:
        return [pattern]
    folder = "/".join(parts[:fixed]) or "."
    wanted = re.escape("/".join(parts[fixed:])).replace(r"\*\*/", "(.*/)?").replace(r"\*", "[^/]*")
    names = [name for name in Storage(folder).sizes() if re.fullmatch(wanted.replace(r"\?", "[^/]"), name)]
    if not names:
        raise ValueError(f"{pattern!r} matches no file; check the path (quote a pattern, or the shell takes it)")
    return ["/".join([*parts[:fixed], name]) for name in names]


def _example_file(url: str) -> ExampleFile:
    try:
        with open_url(url) as file:
            return ExampleFile(url, *content_hash(file))
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(f"no file {url!r}: give a file of examples, or a pattern such as 'folder/*.jsonl'") from None


def example_lines(
    files: Sequence[ExampleFile], text_column: str, what: str, show: Reporter, skipped: Counter[str]
) -> Iterator[str]:
    """Every example as a line, in order of file and place.

    Args:
        files: from `find_examples`.
        text_column: key or column of the text; of no matter to plain text.
        what: kind of the examples, for progress and for `skipped`.
        show: told now and then how many there were.
        skipped: counts, by `what`, records without a text.

    Raises:
        ValueError: a record that cannot be read, naming file and place; no such column.
    """
    count, said = 0, time.monotonic()
    for file in files:
        for text in _texts(file, text_column):
            line = "" if text is None else training_line(clean(text))
            if not line:
                skipped[what] += 1
                continue
            yield line
            count += 1
            if time.monotonic() - said > _SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                show.say(f"{count:,} {what} examples read, at {file.url}")


def on_both_sides(keys: U64, positive: Bools) -> Bools:
    """Which texts, by their hashes, stand among the positive and among the negative examples."""
    both: Bools = np.isin(keys, np.intersect1d(keys[positive], keys[~positive]))
    return both


def drawn(keys: U64, seed: int, fraction: float) -> Bools:
    """Which texts are held out, by their hashes: the same text always falls on the same side."""
    found: Bools = mix64(keys, key64("held out", seed)) >> np.uint64(11) < np.uint64(int(fraction * 2**53))
    return found


def line_key(line: bytes) -> int:
    """Hash of an example's line, by which its copies are known."""
    return xxhash.xxh3_64_intdigest(line)


def _texts(file: ExampleFile, text_column: str) -> Iterator[str | None]:
    name = file.url.lower()
    if _PLAIN_TEXT.fullmatch(name):
        yield from _text_lines(file)
        return
    read = read_parquet if name.endswith(_PARQUET) else read_jsonl
    piece = Piece(RawFile(file.url, file.url, file.bytes, file.hash))
    for record in read(piece, ReadOptions(max_record_bytes=None, text_column=text_column)):
        if record.failure is not None and record.failure not in _WITHOUT_TEXT:
            raise _unreadable(file, record.offset, record.failure)
        if record.other is None:
            yield str(record.content) if record.content is not None else None


def _text_lines(file: ExampleFile) -> Iterator[str]:
    """Lines of plain text that are not blank."""
    offset = 0
    for line in _split_lines(file):
        try:
            if line.strip():
                yield line.decode()
        except UnicodeDecodeError:
            raise _unreadable(file, offset, "invalid_utf8") from None
        offset += len(line) + 1


def _split_lines(file: ExampleFile) -> Iterator[bytes]:
    held: list[bytes] = []
    with open_url(file.url) as raw:
        try:
            for block in chunks(raw, detect_codec(raw), 0):
                first, *others = block.split(b"\n") if isinstance(block, bytes) else (b"",)
                held.append(first)
                for piece in others:
                    yield b"".join(held)
                    held = [piece]
        except CorruptStreamError as error:
            raise _unreadable(file, error.member, error.reason) from error
    yield b"".join(held)


def _unreadable(file: ExampleFile, offset: int, reason: str) -> ValueError:
    return ValueError(
        f"{file.url}: the record at {offset} cannot be read ({reason}); mend the file or take the record out: JSONL is "
        "one object a line, Parquet ends in .parquet, text with one document a line in .txt"
    )
