"""The real data that benchmarks read: where it lies, and its pages as texts."""

import os
import sys
from pathlib import Path

import pyarrow as pa
from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding

BATCH_BYTES = 1 << 20


def data_folder() -> Path:
    """The folder that TOKENMILL_REAL_DATA names."""
    return Path(os.environ.get("TOKENMILL_REAL_DATA") or "../shared/data")


def crawl_shards() -> list[Path]:
    """The WARC shards of the real crawl; ends the benchmark where there are none."""
    folder = data_folder() / "crawl"
    shards = sorted(folder.glob("*.warc.gz"))
    if not shards:
        sys.exit(f"no WARC shards in {folder}: set TOKENMILL_REAL_DATA")
    return shards


def crawl_pages(most: int) -> list[str]:
    """Main content of up to `most` HTML pages of the crawl, those without any left out."""
    found: list[str] = []
    for shard in crawl_shards():
        with shard.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                if len(found) >= most:
                    return found
                body = record.reader.read()
                text = extract_plain_text(bytes_to_str(body, detect_encoding(body) or "utf-8"), main_content=True)
                found += [text] if text.strip() else []
    return found


def batches_of(texts: list[str]) -> list[pa.LargeStringArray]:
    """The texts in batches of about BATCH_BYTES."""
    batches: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size > BATCH_BYTES:
            batches.append([])
            size = 0
        batches[-1].append(text)
        size += len(text.encode())
    return [pa.array(batch, pa.large_string()) for batch in batches]


def bytes_of(texts: list[str]) -> int:
    """Bytes of all texts in UTF-8."""
    return sum(len(text.encode()) for text in texts)
