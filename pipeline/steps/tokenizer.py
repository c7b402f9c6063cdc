"""tokenizer: a `tokenizer.json` put into the run, by path or trained on a sample of kept text.

Two tasks: one draws the documents (see `tokenizer_sample`), one reads and trains on them. A changed bound draws anew,
which reads no text; only another draw, or another text in it, trains again. What is taken down is not drawn, but a
takedown trains nothing again: a tokenizer that was trained before it stays, and with it all that is packed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import xxhash

from tokenmill.manifests.receipts import Output, Task
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.progress import Quiet
from tokenmill.pipeline.recipe import Recipe, Tokenizer, TrainTokenizer
from tokenmill.pipeline.removals import request_paths
from tokenmill.pipeline.storage import Storage, open_url
from tokenmill.pipeline.tables import read_table, write_table
from tokenmill.pipeline.tokenizer_sample import (
    SamplePart,
    component_shares,
    draw,
    drawn_documents,
    drawn_shares,
    sample_parts,
)
from tokenmill.pipeline.tokens.train import train_tokenizer

VERSION = 2
SAMPLE_VERSION = 1


def run_tokenizer(
    run: TaskRun,
    recipe: Recipe,
    parts: Sequence[Part],
    tables: Mapping[str, Mapping[str, Output]],
    ledgers: Mapping[str, Output],
    kept_bytes: Mapping[str, int],
) -> Output:
    """Put the run's tokenizer in place.

    Args:
        run: the run.
        recipe: the recipe.
        parts: all parts.
        tables: outputs of each part, by part key and name.
        ledgers: the ledger of each part's unit, by part key.
        kept_bytes: text kept by *select*, by part key.
    """
    train = recipe.tokenizer.train
    if train is None:
        data = read_tokenizer(recipe)
        inputs = {"tokenizer": xxhash.xxh3_128_hexdigest(data)}
        task = Task("tokenizer", VERSION, "", "all", {}, inputs)
        return run.once(task, lambda key: _store(run.storage, data, key)).outputs[0]
    candidates = sample_parts(recipe, parts, tables, ledgers)
    shares = component_shares(recipe, candidates, kept_bytes, int(train.sample_bytes))
    removals = request_paths(run.storage)
    inputs = {f"parts of {source}": _hash_of_source(candidates, source) for source in {p.source for p in candidates}}
    for count in range(len(removals) + 1):
        params = {"shares": shares, "removals": removals[:count]}
        sampling = Task("tokenizer_sample", SAMPLE_VERSION, "", "all", params, inputs)
        known = run.find(sampling)
        if known is not None and run.find(_training(recipe.tokenizer, train, candidates, known.outputs[0])) is not None:
            break  # trained before what came on the list since
    sample = run.once(sampling, lambda key: _draw(run.storage, candidates, shares, removals, key)).outputs[0]

    def work(key: str) -> Work:
        drawn = read_table(run.storage, sample.path)
        texts = (batch.texts.to_pylist() for _, batch in drawn_documents(run.storage, candidates, drawn))
        special = recipe.tokenizer.special_tokens
        return _store(run.storage, train_tokenizer(texts, train.vocab_size, special, train.pattern), key)

    return run.once(_training(recipe.tokenizer, train, candidates, sample), work).outputs[0]


def _draw(
    storage: Storage, parts: Sequence[SamplePart], shares: Mapping[str, int], removals: Sequence[str], key: str
) -> Work:
    drawn = draw(storage, parts, shares, removals, Quiet())
    output = write_table(storage, "tokenizer_sample", f"tokenizer/sample.{key}.parquet", drawn)
    detail = {"parts": drawn.column("part").unique().to_pylist()}
    return Work((replace(output, detail=detail),), notes={"components": drawn_shares(drawn, shares)})


def _training(tokenizer: Tokenizer, train: TrainTokenizer, parts: Sequence[SamplePart], sample: Output) -> Task:
    """The task that trains on a sample."""
    drawn_from = set(sample.detail["parts"])
    inputs = {"sample": sample.hash}
    for part in parts:
        if part.key in drawn_from:
            inputs |= {f"{part.key}/{table.name}": table.hash for table in (part.tables["documents"], *part.edits)}
    params = {
        **train.model_dump(mode="json", exclude={"sample_bytes", "control_tokens"}),
        "special_tokens": tokenizer.special_tokens,
    }
    return Task("tokenizer", VERSION, "", "all", params, inputs, ("pyarrow", "tokenizers"))


def _hash_of_source(parts: Sequence[SamplePart], source: str) -> str:
    """Hash of all that a draw from a source depends on."""
    hasher = xxhash.xxh3_128()
    for part in parts:
        if part.source == source:
            tables = [part.tables[name] for name in ("documents", "decisions", "signals/hashes")]
            hasher.update(" ".join([part.key, *(table.hash for table in (*tables, part.ledger))]).encode() + b"\n")
    return hasher.hexdigest()


def read_tokenizer(recipe: Recipe) -> bytes:
    """Bytes of the recipe's `tokenizer.json`. Raises FileNotFoundError when it is not there."""
    assert recipe.tokenizer.path is not None
    with open_url(recipe.tokenizer.path) as file:
        return file.read()


def _store(storage: Storage, data: bytes, key: str) -> Work:
    stored = storage.write(f"tokenizer/tokenizer.{key}.json", data)
    return Work((Output("tokenizer", stored.path, stored.bytes, stored.hash),))
