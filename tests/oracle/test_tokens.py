"""Ids of our kernels against `tokenizers` on every real page and on code, for each kind of pattern."""

import sysconfig
from functools import cache
from pathlib import Path

import pytest
from fastwarc.warc import ArchiveIterator, WarcRecordType

from tests.oracle.fuzz_tokens import differences
from tests.pipeline.tokens.byte_level_tokenizers import PRE_TOKENIZERS, TEXTS, fast_encoder, ids_of, oracle_ids, train
from tokenmill.pipeline.extraction.by_resiliparse import resiliparse_text
from tokenmill.pipeline.extraction.encoding import to_utf8
from tokenmill.pipeline.tokens import byte_level, encode


@cache
def pages(crawl: Path) -> list[str]:
    """Main content of every page of the crawl."""
    found = []
    for shard in sorted(crawl.glob("*.warc.gz")):
        with shard.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                html, _ = to_utf8(record.reader.read(), record.http_charset, is_html=True)
                found.append(resiliparse_text(html))
    return found


@cache
def code() -> list[str]:
    """Every 30th file of the standard library, up to 64 KiB of each."""
    library = Path(sysconfig.get_path("stdlib"))
    files = sorted(library.glob("*.py")) + sorted(library.glob("[a-l]*/*.py"))
    return [file.read_bytes()[: 1 << 16].decode(errors="replace") for file in files[::30]]


@pytest.mark.real_data
@pytest.mark.parametrize("name", ["ByteLevel", "llama3", "o200k"])
def test_the_same_ids_on_every_document(real_data: Path, name: str) -> None:
    texts = [*pages(real_data / "crawl"), *code()]
    assert len(texts) > 1000
    value = train(PRE_TOKENIZERS[name], [*TEXTS, *texts[::25]], 5000)
    assert len(value["model"]["vocab"]) == 5000
    made = fast_encoder(value)
    differing = [
        place
        for start in range(0, len(texts), 64)
        for place, ours, theirs in zip(
            range(start, start + 64),
            ids_of(made, texts[start : start + 64]),
            oracle_ids(value, texts[start : start + 64]),
            strict=False,
        )
        if ours != theirs
    ]
    assert differing == []


def test_fuzz() -> None:
    """The command's comparison, on strings of its own; `make fuzz-tokens` draws 200,000."""
    found = differences(300, seed=77)
    assert len(found) == len(PRE_TOKENIZERS) + 1
    assert {name: texts for name, texts in found.items() if texts} == {}


def test_fuzz_finds_a_pattern_made_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the check on loading off, whose probes would find it first."""
    wrong = {regex: pattern._replace(digits=2) for regex, pattern in byte_level.PATTERNS.items()}
    monkeypatch.setattr(byte_level, "PATTERNS", wrong)
    monkeypatch.setattr(encode, "PROBES", ("",))
    found = differences(60, seed=78)
    assert found["ByteLevel"] == []
    assert found["llama3"]
    assert found["qwen2"]
