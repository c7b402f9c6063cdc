"""Texts held against benchmarks, one thread: `python -m tests.bench.contamination [--quick]`.

The texts are the main content of the HTML pages in TOKENMILL_REAL_DATA, the benchmarks those in its folder `bench`. The
peer is datatrove's NGramsDecontFilter, 13-grams of its own words, with an index of the same texts, each page until its
first hit; rates are medians of CPU seconds, in turns on the same few pages. Then one item of each ten of the benchmarks
that are prose is set into a page of its own, in capitals, other punctuation and other lines: found are those that the
default bound drops. And of the pages as they are, how many it drops, which people have to look at.
"""

import random
import re
import warnings
from typing import Any

import pyarrow as pa
import xxhash

from tests.bench.shared.figures import Figure, arguments, figures_line
from tests.bench.shared.pages import batches_of, bytes_of, crawl_pages, data_folder
from tests.bench.shared.timing import in_turns
from tokenmill.dedup.contamination import contamination_signals
from tokenmill.dedup.ngram_index import Benchmark, NgramIndex
from tokenmill.pipeline.benchmarks import open_benchmarks, read_benchmark

BENCHMARKS = {
    "arc": "arc_challenge.jsonl",
    "bbh": "bbh/*.json",
    "gsm8k": "gsm8k_test.jsonl",
    "humaneval": "humaneval.jsonl.gz",
    "math": "math500.jsonl",
    "mbpp": "mbpp.jsonl",
    "mmlu": "mmlu_stem_test.jsonl",
}
PROSE = ("arc", "gsm8k", "math", "mbpp", "mmlu")


def main() -> None:
    """Time both, plant items, print the table and the figures."""
    quick = arguments(__doc__, "400 pages instead of all, and fewer of them for datatrove").parse_args().quick
    pages = crawl_pages(400 if quick else 1_000_000)
    few = pages[:: max(1, len(pages) // (40 if quick else 200))]
    paths = {name: [str(data_folder() / "bench" / path)] for name, path in BENCHMARKS.items()}
    index = open_benchmarks({"benchmarks": paths, "columns": {}, "ngram": 13, "max_items": 4}).index
    benchmarks = [read_benchmark(name, tuple(path)) for name, path in paths.items()]
    print(f"{len(pages):,} pages, {bytes_of(pages) / 1e6:.1f} MB; for datatrove {len(few)}, {bytes_of(few) / 1e6:.2f}")
    for benchmark, indexed in zip(benchmarks, index.indexed_items, strict=True):
        print(f"  {benchmark.name:12s} {indexed:6,} of {len(benchmark.items):6,} items can be found")
    print(f"  {len(index.hashes):,} n-grams, {(index.hashes.nbytes + index.bloom.nbytes) / 1e6:.1f} MB")

    peer, batches, few_batches = _datatrove(benchmarks), batches_of(pages), batches_of(few)
    ours_few, theirs_few = in_turns([lambda: _ours(few_batches, index), lambda: _theirs(peer, few)], rounds=3)
    (total,) = in_turns([lambda: _ours(batches, index)], rounds=5)
    print(f"  {'signals':40s} {bytes_of(pages) / total / 1e6:9.2f} MB/s")
    print(f"  {'datatrove, NGramsDecontFilter':40s} {bytes_of(few) / theirs_few / 1e6:9.2f} MB/s")

    planted = _planted(benchmarks, pages)
    found = sum(hit > 0 for hit in _ours(batches_of(planted), index))
    dropped = sum(hit > 0 for hit in _ours(batches, index))
    print(f"  {found:,} of {len(planted):,} planted items found; {dropped} of {len(pages):,} pages dropped as they are")
    figures = [
        Figure("signals", bytes_of(pages) / total / 1e6, "MB/s"),
        Figure("times datatrove's filter", theirs_few / ours_few, "times"),
        Figure("planted items found", found / len(planted), "of them"),
        Figure("pages of the crawl dropped", dropped / len(pages), "of them"),
    ]
    print(figures_line("contamination", figures))


def _ours(batches: list[pa.LargeStringArray], index: NgramIndex) -> list[int]:
    """Hits of every text."""
    return [hit for texts in batches for hit in contamination_signals(texts, index).column("hits").to_pylist()]


def _planted(benchmarks: list[Benchmark], pages: list[str]) -> list[str]:
    """Of every tenth item with a text of 15 words, that text as others write it, in a page."""
    rng, found = random.Random(0), []
    texts = [item[0] for each in benchmarks if each.name in PROSE for item in each.items if item]
    for text in [text for text in texts if len(re.findall(r"[^\W\d_]{2,}", text)) >= 15][::10]:
        words = [word.upper() if rng.random() < 0.3 else word for word in text.split()]
        said = "".join(f"{word}{rng.choice([' ', ' ', ', ', chr(10), '  '])}" for word in words)
        page = rng.choice(pages)
        cut = page.find(" ", len(page) // 2)
        found.append(f"{page[:cut]} {said} {page[cut:]}")
    return found


def _datatrove(benchmarks: list[Benchmark]) -> Any:
    """Its filter, with the 13-grams of the same texts for index: as its indexer makes them of a label."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datatrove.pipeline.decont.n_grams import NGramsDecontConfig, NGramsDecontFilter
        from datatrove.utils.text import ngrams, simplify_text
    peer = NGramsDecontFilter("unused", NGramsDecontConfig(n_grams=13))
    peer.hash_func = lambda text: xxhash.xxh64_intdigest(text.encode())  # its own gives text, which xxhash refuses
    hashes: dict[int, str] = {}
    for benchmark in benchmarks:
        for text in (text for item in benchmark.items for text in item):
            words = peer.tokenizer.word_tokenize(simplify_text(text, peer.config.norm_config))
            hashes |= {peer.hash_func(" ".join(gram)): benchmark.name for gram in ngrams(words, 13)}
    peer._index_hashes = hashes
    return peer


def _theirs(peer: Any, texts: list[str]) -> None:
    from datatrove.data import Document

    for text in texts:
        peer.filter(Document(text=text, id=""))


if __name__ == "__main__":
    main()
