"""What the benchmarks of tokens read: documents of three kinds, and tokenizers trained on half of these."""

import json
import sysconfig
import time
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path

import pyarrow as pa
import xxhash

from tests.bench.shared.pages import bytes_of, crawl_pages
from tokenmill.manifests.keyed import key64
from tokenmill.pipeline.language_model import load_language_model
from tokenmill.pipeline.tokens.train import train_tokenizer

#: Trained tokenizers are kept here; `make clean` removes them.
KEPT = Path("out/bench/tokenizers")
EOS = "<|endoftext|>"


def documents(most_pages: int = 1_000_000, code_bytes: int = 60 << 20) -> dict[str, list[str]]:
    """English pages, pages in other languages, and the source files of this Python's library and packages."""
    pages = crawl_pages(most_pages)
    found = load_language_model("py3langid").languages(pa.array(pages, pa.large_string()), 4096)
    languages = found.column(0).to_pylist()
    return {
        "English pages": [page for page, language in zip(pages, languages, strict=True) if language == "en"],
        "pages in other languages": [page for page, language in zip(pages, languages, strict=True) if language != "en"],
        "code": _sources(code_bytes),
    }


def _sources(most_bytes: int) -> list[str]:
    """Python files spread over all packages, in an order that mixes these."""
    folders = [Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib")]
    files = sorted({file for folder in folders for file in folder.rglob("*.py")})
    files.sort(key=lambda file: (key64(*file.parts[-3:]), file))
    texts, size = [], 0
    for file in files:
        data = file.read_bytes()
        if size > most_bytes:
            break
        if 0 < len(data) <= 1 << 20:
            texts.append(data.decode(errors="replace"))
            size += len(data)
    return texts


def trained(texts: Sequence[str], vocab_size: int) -> bytes:
    """The tokenizer.json that these texts give, from disk where they gave it before."""
    digest = xxhash.xxh3_64_hexdigest("\0".join(texts).encode(errors="surrogatepass"))
    path = KEPT / f"{vocab_size}-{digest}.json"
    if not path.exists():
        started = time.monotonic()
        print(f"training {vocab_size:,} tokens on {bytes_of(list(texts)) / 1e6:.1f} MB …", end=" ", flush=True)
        made = train_tokenizer(texts, vocab_size, [EOS])
        print(f"{len(json.loads(made)['model']['vocab']):,} in {time.monotonic() - started:.0f} s", flush=True)
        KEPT.mkdir(parents=True, exist_ok=True)
        draft = path.with_suffix(".draft")
        draft.write_bytes(made)
        draft.rename(path)
    return path.read_bytes()


def halves(kinds: Mapping[str, list[str]]) -> dict[str, tuple[list[str], list[str]]]:
    """Every other document of each kind, to train on and warm with, and the rest, to measure."""
    return {kind: (texts[::2], texts[1::2]) for kind, texts in kinds.items()}


def mixed(first: tuple[list[str], list[str]], second: tuple[list[str], list[str]]) -> tuple[list[str], list[str]]:
    """Two kinds as one, halved alike, each text's place by its share, so that any stretch has both."""
    halves_of_both = []
    for texts, others in zip(first, second, strict=True):
        placed = [((i + 0.5) / len(one), text) for one in (texts, others) for i, text in enumerate(one)]
        halves_of_both.append([text for _, text in sorted(placed)])
    return halves_of_both[0], halves_of_both[1]


def at_most(texts: Sequence[str], num_bytes: int) -> list[str]:
    """The first texts that are so many bytes together."""
    ends = accumulate(len(text.encode()) for text in texts)
    return [text for text, end in zip(texts, ends, strict=True) if end <= num_bytes]
