"""Token ids, ours and the packages', one thread: `python -m tests.bench.tokens [--quick]`.

Documents: the main content of all pages in TOKENMILL_REAL_DATA, of the English ones alone, of those in other languages
alone, and files of this Python's library and packages. Every other one trains the tokenizers (byte-level BPE with Llama
3's pattern; kept in out/bench) and warms; the rest is measured, so no document that is timed was seen before. After so
little text far more pieces are new than in a run, which warms with a hundred times that; most of all where 0.7 MB are
in 40 languages. So the same documents are measured once more, when nothing is new: a run lies between the two.

All get the same documents: ours as an Arrow array in one call of `Encoder.encode`, its checks included;
`tokenizers.encode_batch_fast` a list, its result not turned into ids; tiktoken's `encode_ordinary` one text after
another, from the same merges as bytes and ids. Each is made anew and warmed before each round, in turns; medians of
CPU seconds: machines are shared. Ids are compared on every document, warming ones too. A first document is one of 5 to
50 KB in an encoder just made, which knows its vocabulary alone; kernels are compiled and tables built, and so is the
package's tokenizer.
"""

import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.bench.shared.pages import bytes_of
from tests.bench.shared.timing import in_turns_prepared
from tests.bench.shared.trained import at_most, documents, halves, mixed, trained
from tokenmill.pipeline.tokens.byte_level import NAMED_PATTERNS, byte_letters
from tokenmill.pipeline.tokens.encode import Encoder, TokenizerPolicy

VOCABULARIES = {"32k": 32_768, "128k": 131_072}
BARS = {"tokenizers": 20, "tiktoken": 4}
POLICY = TokenizerPolicy(None, None, None, None, append_eos=False)
Prepared = tuple[Callable[[], Any], Callable[[Any], object]]


def main() -> None:
    """Train or read the tokenizers, compare ids, time, print the table and the figures."""
    quick = arguments(__doc__, "few documents, so fewer tokens than asked for, one round").parse_args().quick
    kinds = halves(documents(250, 4 << 20) if quick else documents())
    learned = [text for warm, _ in kinds.values() for text in warm]
    kinds = {"all pages": mixed(kinds["English pages"], kinds["pages in other languages"])} | kinds
    most, rounds = (300_000, 1) if quick else (3_000_000, 3)
    figures: list[Figure] = []
    for label, vocab_size in VOCABULARIES.items():
        tokenizer_json = trained(learned, vocab_size)
        for kind, (warm, measured) in kinds.items():
            few = at_most(warm, most), at_most(measured, most)
            _compare(tokenizer_json, [*few[0], *few[1]])
            figures += _rates(f"{kind}, {label}", tokenizer_json, *few, rounds)
            figures += _rates(f"{kind} again, {label}", tokenizer_json, [*few[0], *few[1]], few[1], rounds)
        first = [text for _, measured in kinds.values() for text in measured if 5_000 <= len(text.encode()) <= 50_000]
        figures.append(_first_document(label, tokenizer_json, first[:: max(1, len(first) // (5 if quick else 15))]))
    print(figures_line("tokens", figures))


def _rates(name: str, tokenizer_json: bytes, warm: list[str], measured: list[str], rounds: int) -> list[Figure]:
    peers = {"tokenizers": _tokenizers(tokenizer_json, warm, measured)}
    try:
        peers["tiktoken"] = _tiktoken(tokenizer_json, warm, measured)
    except ModuleNotFoundError:
        print("tiktoken is not installed and left out: pip install -e '.[bench]'")
    ours, *theirs = in_turns_prepared([_ours(tokenizer_json, warm, measured), *peers.values()], rounds)
    size = bytes_of(measured) / 1e6
    rates = ", ".join(f"{peer} {size / seconds:.2f}" for peer, seconds in zip(peers, theirs, strict=True))
    print(f"  {name:40s} {len(measured):5,} documents, {size:5.2f} MB: {size / ours:7.2f} MB/s, {rates}", flush=True)
    times = [Figure(f"{name}: times {p}", s / ours, "times", BARS[p]) for p, s in zip(peers, theirs, strict=True)]
    return [Figure(f"{name}: rate", size / ours, "MB/s"), *times]


def _ours(tokenizer_json: bytes, warm: list[str], measured: list[str]) -> Prepared:
    texts, array = pa.array(warm, pa.large_string()), pa.array(measured, pa.large_string())

    def prepare() -> Encoder:
        made = Encoder(tokenizer_json, POLICY)
        assert made.slow_because is None, made.slow_because
        made.encode(texts)
        return made

    return prepare, lambda made: made.encode(array)


def _tokenizers(tokenizer_json: bytes, warm: list[str], measured: list[str]) -> Prepared:
    def prepare() -> Tokenizer:
        made = _package(tokenizer_json)
        made.encode_batch_fast(warm, add_special_tokens=False)
        return made

    return prepare, lambda made: made.encode_batch_fast(measured, add_special_tokens=False)


def _package(tokenizer_json: bytes) -> Tokenizer:
    """The tokenizer in `tokenizers`, without its control tokens: documents that show one are encoded as text."""
    return Tokenizer.from_str(json.dumps(json.loads(tokenizer_json) | {"added_tokens": []}))


def _tiktoken(tokenizer_json: bytes, warm: list[str], measured: list[str]) -> Prepared:
    encoding = _encoding(tokenizer_json)
    for text in warm:
        encoding.encode_ordinary(text)
    return lambda: encoding, lambda made: [made.encode_ordinary(text) for text in measured]


def _encoding(tokenizer_json: bytes) -> Any:
    import tiktoken

    value = json.loads(tokenizer_json)
    control = {token["content"] for token in value["added_tokens"]}
    letters = dict(zip(byte_letters(), range(256), strict=True))
    ranks = {
        bytes(letters[c] for c in piece): i for piece, i in value["model"]["vocab"].items() if piece not in control
    }
    return tiktoken.Encoding("trained", pat_str=NAMED_PATTERNS["llama3"], mergeable_ranks=ranks, special_tokens={})


def _compare(tokenizer_json: bytes, texts: list[str]) -> None:
    """Raise unless all give the same ids on every document."""
    batch = Encoder(tokenizer_json, POLICY).encode(pa.array(texts, pa.large_string()))
    ours = [part.tolist() for part in np.split(batch.tokens, batch.offsets[1:-1])]
    theirs = [encoding.ids for encoding in _package(tokenizer_json).encode_batch_fast(texts, add_special_tokens=False)]
    assert ours == theirs, "other ids than those of tokenizers"
    try:
        encoding = _encoding(tokenizer_json)
    except ModuleNotFoundError:
        return
    assert ours == [encoding.encode_ordinary(text) for text in texts], "other ids than those of tiktoken"


def _first_document(label: str, tokenizer_json: bytes, texts: Sequence[str]) -> Figure:
    """Median over documents of ours to theirs, each in what was just made."""
    ratios, ours_ms = [], []
    for text in texts:
        array, made, package = (
            pa.array([text], pa.large_string()),
            Encoder(tokenizer_json, POLICY),
            _package(tokenizer_json),
        )
        started = time.process_time()
        made.encode(array)
        between = time.process_time()
        package.encode_batch_fast([text], add_special_tokens=False)
        ended = time.process_time()
        ratios.append((between - started) / (ended - between))
        ours_ms.append((between - started) * 1000)
    ratio = statistics.median(ratios)
    print(
        f"  first document, {label}: {len(texts)} of {min(map(len, texts)):,} to {max(map(len, texts)):,} characters, "
        f"median {statistics.median(ours_ms):.2f} ms, {ratio:.2f} times tokenizers, at worst {max(ratios):.2f}"
    )
    return Figure(f"first document, {label}: times tokenizers", ratio, "times", 2, AT_MOST)


if __name__ == "__main__":
    main()
