"""Texts to verified shards on disk, ours and datatrove's, one thread: `python -m tests.bench.shards [--quick]`.

The documents of `tokens` (English pages, pages in other languages, code), all kinds together, half to train and warm
with, the rest measured, with a 32k vocabulary and EOS behind each document. Ours: texts as an Arrow array → `Encoder`,
its checks included → best-fit rows of 4,096 → Arrow with zstd in a file, hashed batch by batch, moved to its place →
read again, every batch checked against its hash and decoded. datatrove's DocumentTokenizer with its defaults gets
`Document`s from memory and writes a .ds file, then the same documents shuffled, with index and metadata; it verifies
nothing. Both are made and warmed anew before each round, in turns; medians of CPU seconds: machines are shared.
"""

import itertools
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ |= {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}

import numpy as np
import pyarrow as pa

from tests.bench.shared.figures import Figure, arguments, figures_line
from tests.bench.shared.pages import bytes_of
from tests.bench.shared.timing import in_turns_prepared
from tests.bench.shared.trained import EOS, at_most, documents, halves, trained
from tokenmill.manifests.shards import SequenceFormat, check_batch, decode_batch, write_batches
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tokens.encode import Encoder, TokenizerPolicy
from tokenmill.pipeline.tokens.packing import PackingPolicy, pack
from tokenmill.pipeline.tokens.rows import fill_of, shard_batches

LENGTH = 4096


def main() -> None:
    """Train or read the tokenizer, time both, print the table and the figures."""
    quick = arguments(__doc__, "few documents, one round").parse_args().quick
    kinds = halves(documents(250, 4 << 20) if quick else documents())
    most, rounds = (300_000, 1) if quick else (3_000_000, 3)
    tokenizer_json = trained([text for warm, _ in kinds.values() for text in warm], 32_768)
    warm = [text for first, _ in kinds.values() for text in at_most(first, most)]
    measured = [text for _, second in kinds.values() for text in at_most(second, most)]
    with tempfile.TemporaryDirectory() as folder:
        runs = [_ours(tokenizer_json, warm, measured, folder), _datatrove(tokenizer_json, warm, measured, folder)]
        ours, theirs = in_turns_prepared(runs, rounds)
    size = bytes_of(measured) / 1e6
    print(f"  {len(measured):,} documents, {size:.2f} MB: ours {size / ours:.2f}, datatrove {size / theirs:.2f} MB/s")
    figures = [
        Figure("text to verified shard", size / ours, "MB/s"),
        Figure("times datatrove's DocumentTokenizer", theirs / ours, "times", 10),
    ]
    print(figures_line("shards", figures))


def _ours(
    tokenizer_json: bytes, warm: list[str], measured: list[str], folder: str
) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    storage, texts, others = Storage(f"{folder}/ours"), pa.array(measured, pa.large_string()), pa.array(warm[:50])
    number = itertools.count()

    def prepare() -> Encoder:
        made = Encoder(tokenizer_json, TokenizerPolicy(None, EOS, None, None))
        assert made.slow_because is None, made.slow_because
        _write(made, others.cast(pa.large_string()), storage, next(number))
        made.encode(pa.array(warm, pa.large_string()))
        return made

    return prepare, lambda made: _write(made, texts, storage, next(number))


def _write(encoder: Encoder, texts: pa.LargeStringArray, storage: Storage, number: int) -> None:
    """What the pack step does with a stratum, then what `verify` does with its shards."""
    encoded, policy = encoder.encode(texts), PackingPolicy()
    packing = pack(encoded.lengths, LENGTH, 1, policy)
    written = SequenceFormat(
        LENGTH, encoder.vocab_size, encoder.hash, encoder.special_ids, policy.name, "all", "unit", ("part",)
    )
    index, rows = np.zeros(len(texts), np.int32), np.arange(len(texts), dtype=np.int32)
    shards = shard_batches(encoded, packing, index, rows, written, fill_of(encoder.special_ids, encoder.policy))
    for shard, batches in enumerate(shards):
        with storage.temporary() as draft:
            inside = write_batches(draft.file, written.schema, batches)
            stored = draft.commit(f"{number}-{shard}.arrow")
        places = zip(inside["batch_offsets"], inside["batch_lengths"], inside["batch_hashes"], strict=True)
        for batch, (offset, length, digest) in enumerate(places):
            data = storage.read_range(stored.path, offset, length)
            check_batch(data, digest, shard=stored.path, batch=batch)
            decode_batch(data, written.schema)


def _datatrove(
    tokenizer_json: bytes, warm: list[str], measured: list[str], folder: str
) -> tuple[Callable[[], Any], Callable[[Any], object]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from datatrove.data import Document
        from datatrove.pipeline.tokens import DocumentTokenizer
    path = Path(folder) / "tokenizer.json"
    path.write_bytes(tokenizer_json)
    first, second = ([Document(text=text, id=str(i)) for i, text in enumerate(texts)] for texts in (warm, measured))
    number = itertools.count()

    def prepare() -> Any:
        made = DocumentTokenizer(f"{folder}/theirs-{next(number)}", str(path), eos_token=EOS, seed=1)
        made.run(iter(first), rank=0)
        return made

    return prepare, lambda made: made.run(iter(second), rank=1)


if __name__ == "__main__":
    main()
