"""MinHash signatures of real pages, ours and the peers', one thread: `python -m tests.bench.signatures [--quick]`.

The texts are the main content of the HTML pages in TOKENMILL_REAL_DATA; every signature has 112 permutations over word
5-grams, from text to signature. Ours is `signatures`. rensa (R-MinHash, all texts in one call) and datasketch get
5-grams that a regular expression and Python's `lower` make of the text, which is less than ours normalises; datatrove
is the code of its MinhashDedupSignature as it comes: `simplify_text`, spaCy's English splitter, xxh64 (of UTF-8, since
xxhash 4 refuses the strings that datatrove 0.10 gives it), writing left out. Rates of ours are of all pages, ratios are
of the times for the same few, which ours takes ten times over; ours and theirs in turns, medians of CPU seconds:
machines are shared. Compilation and the loading of spaCy are not timed.
"""

import re
import tempfile
import warnings
from collections.abc import Callable

import pyarrow as pa
import xxhash

from tests.bench.shared.figures import Figure, arguments, figures_line
from tests.bench.shared.pages import batches_of, bytes_of, crawl_pages
from tests.bench.shared.timing import in_turns
from tokenmill.dedup.jaccard import shingle_sets
from tokenmill.dedup.minhash import MinHashParams, signatures

PARAMS = MinHashParams()
CHARACTERS = MinHashParams(ngram_characters=24)
REPEATS = 10  # of the few pages, by us: once takes a millisecond or two, most of it waiting for memory
BARS = {"rensa": 6, "datasketch": 40, "datatrove": 300}
_WORD = re.compile(r"\w+")
Run = Callable[[], object]


def main() -> None:
    """Extract the pages, time all, print the table and the figures."""
    quick = arguments(__doc__, "400 pages instead of all, and fewer of them for the peers").parse_args().quick
    pages = crawl_pages(400 if quick else 1_000_000)
    few = pages[:: max(1, len(pages) // (30 if quick else 150))]
    batches, few_batches = batches_of(pages), batches_of(few)
    num_bytes, few_bytes = bytes_of(pages), bytes_of(few)
    print(f"{len(pages):,} pages, {num_bytes / 1e6:.1f} MB of text; for the peers {len(few)}, {few_bytes / 1e6:.2f} MB")

    runs: dict[str, Run] = {
        "signatures": lambda: _signatures(batches, PARAMS),
        "signatures, 24-grams of characters": lambda: _signatures(batches, CHARACTERS),
        "shingle sets, for exact Jaccard": lambda: [shingle_sets(texts, PARAMS.shingling) for texts in batches],
    }
    rates = dict(zip(runs, (num_bytes / seconds / 1e6 for seconds in in_turns(list(runs.values()), 5)), strict=True))
    peers = {"rensa": _rensa(few), "datasketch": _datasketch(few), "datatrove": _datatrove(few)}
    there = {name: run for name, run in peers.items() if run is not None}
    ours, *theirs = in_turns([lambda: _signatures(few_batches * REPEATS, PARAMS), *there.values()], rounds=3)
    ours /= REPEATS
    rates |= {name: few_bytes / seconds / 1e6 for name, seconds in zip(there, theirs, strict=True)}
    for name, rate in rates.items():
        print(f"  {name:40s} {rate:9.2f} MB/s")
    figures = [
        Figure("signatures", rates["signatures"], "MB/s", 100),
        *(Figure(f"times {n}", s / ours, "times", BARS[n]) for n, s in zip(there, theirs, strict=True)),
    ]
    print(figures_line("signatures", figures))


def _signatures(batches: list[pa.LargeStringArray], params: MinHashParams) -> None:
    for texts in batches:
        signatures(texts, params)


def _shingles(text: str) -> list[str]:
    words = _WORD.findall(text.lower())
    return [" ".join(words[at : at + PARAMS.ngram_words]) for at in range(max(1, len(words) - PARAMS.ngram_words + 1))]


def _rensa(texts: list[str]) -> Run | None:
    try:
        from rensa import RMinHash
    except ModuleNotFoundError:
        print("rensa is not installed and left out: pip install -e '.[bench]'")
        return None
    size = PARAMS.num_permutations
    return lambda: RMinHash.digest_matrix_from_token_sets([_shingles(text) for text in texts], size, PARAMS.seed)


def _datasketch(texts: list[str]) -> Run:
    from datasketch import MinHash

    def run() -> None:
        for text in texts:
            sketch = MinHash(num_perm=PARAMS.num_permutations, seed=PARAMS.seed)
            sketch.update_batch([shingle.encode() for shingle in _shingles(text)])

    return run


def _datatrove(texts: list[str]) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
    config = MinhashConfig(PARAMS.ngram_words, PARAMS.bands, PARAMS.rows, PARAMS.seed)
    with tempfile.TemporaryDirectory() as folder:  # it asks for one, and gets nothing to write
        step = MinhashDedupSignature(folder, config)
    step._hash_func = lambda shingle: xxhash.xxh64_intdigest(shingle.encode())

    def run() -> None:
        for text in texts:
            shingles = step.get_shingles(text)
            if shingles.size:
                step.get_signature(shingles)

    return run


if __name__ == "__main__":
    main()
