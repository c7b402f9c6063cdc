"""A small corpus made by the tests: pages, notes and code, with duplicates, failures and things to drop."""

import gzip
import json
import random
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path

from tokenmill.pipeline.storage import Storage

_WORDS = [
    "river",
    "mountain",
    "village",
    "winter",
    "garden",
    "letter",
    "music",
    "window",
    "market",
    "station",
    "kitchen",
    "island",
    "bridge",
    "forest",
    "journey",
    "harbour",
    "school",
    "morning",
    "evening",
    "summer",
    "teacher",
    "doctor",
    "farmer",
    "sailor",
    "painter",
    "writer",
    "builder",
    "traveller",
    "story",
    "picture",
    "machine",
    "engine",
    "paper",
    "water",
    "stone",
    "light",
    "shadow",
    "road",
    "field",
    "house",
    "family",
    "friend",
    "history",
    "science",
    "language",
    "number",
]
_GLUE = ("the", "of", "and", "to", "that", "with", "have", "be", "a", "in", "on", "for", "was", "is", "by", "from")
_ADVERTS = "cheap click here free shipping cart login cookie policy terms menu home about offer sale best price now"

RECIPE = """
name: small
output: unused
seed: 3
part_bytes: 24KiB
tokenizer:
  train: {vocab_size: 512, sample_bytes: 1MiB}
sources:
  - name: web
    reader: warc
    paths: ["{folder}/web/*.warc.gz"]
    root: "{folder}/web"
    priority: 1
    language: {keep: [en], min_score: 0.2}
    filters:
      - gopher_repetition: {}
      - gopher_quality: {min_words: 40}
      - c4: {terminal_punctuation: false}
  - name: notes
    reader: jsonl
    paths: ["{folder}/notes/*.jsonl"]
    root: "{folder}/notes"
    filters:
      - gopher_quality: {min_words: {percentile: 5}, min_stop_words: null}
  - name: code
    reader: code
    paths: ["{folder}/code/**/*.py"]
    root: "{folder}/code"
strata: {validation_fraction: 0.05, by: [language]}
sequences: {length: 64, unit_bytes: 32KiB}
mixture: {weights: {web: 0.5, notes: 0.3, code: 0.2}, max_epochs: 3}
"""


def sentence(rng: random.Random) -> str:
    """A sentence of ordinary English words."""
    words = []
    for _ in range(rng.randint(4, 9)):
        words += [rng.choice(_GLUE), rng.choice(_WORDS)]
    return " ".join(words).capitalize() + "."


def prose(seed: int | str, sentences: int) -> str:
    """Paragraphs of prose, the same for the same seed."""
    rng = random.Random(seed)
    lines = [sentence(rng) for _ in range(sentences)]
    return "\n\n".join(" ".join(lines[start : start + 4]) for start in range(0, len(lines), 4))


def advert(number: int) -> str:
    """Words that pages sell with, no sentences; another text for each number."""
    words = _ADVERTS.split()
    return " ".join(words[(number * 7 + place * place) % len(words)] for place in range(25)) + "\n" + prose(number, 1)


def html(title: str, text: str) -> bytes:
    """A page with the text as its main content."""
    paragraphs = "".join(f"<p>{paragraph}</p>\n" for paragraph in text.split("\n\n"))
    page = (
        f"<!doctype html><html><head><meta charset=utf-8><title>{title}</title></head><body><main>{paragraphs}</main>"
    )
    return f"{page}</body></html>".encode()


def warc_record(url: str, body: bytes, status: int = 200, mime: str = "text/html", kind: str = "response") -> bytes:
    """One record as a gzip member."""
    head = f"HTTP/1.1 {status} OK\r\nContent-Type: {mime}; charset=utf-8\r\nContent-Length: {len(body)}\r\n\r\n"
    block = head.encode() + body if kind == "response" else body
    identity = blake2b(url.encode(), digest_size=16).hexdigest()
    fields = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{identity}>\r\nWARC-Date: 2026-01-01T00:00:00Z\r\n"
        f"WARC-Target-URI: {url}\r\nContent-Type: application/http; msgtype={kind}\r\n"
        f"Content-Length: {len(block)}\r\n\r\n"
    )
    return gzip.compress(fields.encode() + block + b"\r\n\r\n", mtime=0)


def write_warc(path: Path, first: int, pages: int) -> None:
    """A WARC shard: prose of varying length, an exact copy, a near copy, a short page, a 404, an image, a request."""
    records = [warc_record(f"http://a.example/{path.name}", b"x", kind="request")]
    for number in range(first, first + pages):
        text = prose(number, 12 + number % 9)
        records.append(warc_record(f"http://a.example/{number}", html(f"page {number}", text)))
        if number % 10 == 3:
            records.append(warc_record(f"http://mirror.example/{number}", html(f"page {number}", text)))
        if number % 10 == 5:
            near = text + " " + sentence(random.Random(f"near {number}"))
            records.append(warc_record(f"http://near.example/{number}", html(f"page {number}", near)))
    records.append(
        warc_record(f"http://a.example/short{first}", html("short", f"Page {first}: " + ", ".join(_WORDS[:24])))
    )
    records.append(warc_record(f"http://a.example/gone{first}", b"gone", status=404))
    records.append(warc_record(f"http://a.example/image{first}", b"\x89PNG", mime="image/png"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"".join(records))


def write_corpus(folder: Path, pages: int = 30) -> Path:
    """The raw shards; returns `folder`."""
    write_warc(folder / "web" / "a.warc.gz", 0, pages)
    write_warc(folder / "web" / "b.warc.gz", pages, pages)
    notes = folder / "notes"
    notes.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"text": prose(f"note {number}", 3 + number % 7)}) for number in range(60)]
    lines[10] = "{not json"
    lines[20] = json.dumps({"title": "no text"})
    lines[30] = lines[29]
    (notes / "notes.jsonl").write_text("\n".join(lines) + "\n")
    for number in range(24):
        source = folder / "code" / f"repository{number % 4}" / f"module{number}.py"
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(f'"""{prose(f"code {number}", 3)}"""\n\n\ndef f{number}(x):\n    return x + {number}\n')
    return folder


def write_texts(path: Path, texts: Iterable[str]) -> Path:
    """A JSONL file of texts."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """The recipe for a corpus in `folder`, beside it."""
    path = folder / "recipe.yaml"
    path.write_text(text.replace("{folder}", str(folder)))
    return path


def fingerprint(run: Path) -> dict[str, str]:
    """Hash of every file of a run but for its logs, by path."""
    storage = Storage(str(run))
    return {
        path: blake2b(storage.read(path), digest_size=16).hexdigest()
        for path in storage.sizes()
        if not path.startswith(("logs/", "tmp/"))
    }
