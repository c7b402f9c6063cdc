"""Train a tokenizer on a finished run's kept text, as the run's own step does, and measure it on what is held out.

The same run, recipe and options give the same bytes, those that the step would write. Everything is read from what the
run's newest version names; nothing is written into it.
"""

import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tokenmill.pipeline.opened_units import open_units
from tokenmill.pipeline.progress import Quiet, Reporter
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.recipe.file import load_recipe
from tokenmill.pipeline.removals import request_paths
from tokenmill.pipeline.sheet import published_or_error
from tokenmill.pipeline.storage import Storage, open_url
from tokenmill.pipeline.tokenizer_figures import Measured, longest_tokens, measure
from tokenmill.pipeline.tokenizer_sample import (
    SamplePart,
    component_shares,
    draw,
    drawn_documents,
    drawn_shares,
    sample_parts,
)
from tokenmill.pipeline.tokens.train import check_arguments, train_tokenizer

#: Text that tokenizers are measured on, an equal share a component, so that a small one counts as much.
MEASURED_BYTES = 32 << 20


@dataclass(frozen=True)
class Asked:
    """What to train.

    Attributes:
        vocab_size: ids in all.
        sample_bytes: text to train on.
        pattern: a name of `byte_level.NAMED_PATTERNS`.
        output: path or URL of the tokenizer.json; the report goes beside it.
        compare: paths or URLs of others to measure on the same documents.
    """

    vocab_size: int
    sample_bytes: int
    pattern: str
    output: str
    compare: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Source:
    """A run's documents to draw from."""

    storage: Storage
    recipe: Recipe
    parts: list[SamplePart]
    kept_bytes: dict[str, int]
    tokenizer: bytes


def train(recipe: Recipe, storage: Storage, asked: Asked, show: Reporter, verbose: bool = False) -> dict[str, Any]:
    """Train a tokenizer, write it and its report.

    Args:
        recipe: its weights and special tokens count; filters and sources are those that the run was made with.
        storage: the run's folder.
        asked: what to train.
        show: told how far it is.
        verbose: `tokenizers` draws its own bars on standard error.

    Returns:
        The report.

    Raises:
        ValueError: no published run; other sources than the recipe's; nothing kept; no room in the vocabulary; a file
            to compare with that is no tokenizer; an output that the recipe packs with.
    """
    check_arguments(asked.vocab_size, recipe.tokenizer.special_tokens)
    if recipe.tokenizer.path is not None and _same_place(asked.output, recipe.tokenizer.path):
        raise ValueError(
            f"{asked.output!r} is the tokenizer that the recipe packs with: training would replace it, and the next "
            "run would pack everything again; give another --output, look at its report, then let the recipe name it"
        )
    others = {path: _read(path) for path in asked.compare}
    run = _open(recipe, storage)
    shares = component_shares(recipe, run.parts, run.kept_bytes, asked.sample_bytes)
    removals = request_paths(storage)
    sample = draw(storage, run.parts, shares, removals, show)
    if not sample.num_rows:
        raise ValueError(
            f"nothing is kept for training in {storage.root!r} (asked for {', '.join(shares) or 'no source'}): "
            f"`tokenmill audit {storage.root}` says why documents were dropped"
        )
    size = pc.sum(sample.column("text_bytes")).as_py()
    show.say(f"training on {sample.num_rows:,} documents, {size / 1e6:,.1f} MB of text, {asked.vocab_size:,} tokens")
    texts = _texts(run, sample, show)
    data = train_tokenizer(texts, asked.vocab_size, recipe.tokenizer.special_tokens, asked.pattern, verbose)
    tokenizers = {asked.output: data, **_unless_equal(storage, run.tokenizer, data), **others}
    held_out = draw(storage, run.parts, dict.fromkeys(shares, MEASURED_BYTES // len(shares)), removals, Quiet(), True)
    measured = measure(storage, run.parts, held_out, tokenizers, show)
    report = _report(recipe, asked, data, drawn_shares(sample, shares), measured)
    folder, slash, name = asked.output.rpartition("/")
    target = Storage(folder if slash else ".")
    target.write(name, data)
    target.write(report_name(name), (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode())
    return report


def report_name(name: str) -> str:
    """Where the report of a tokenizer goes."""
    return f"{name.removesuffix('.json')}.report.json"


def _same_place(one: str, other: str) -> bool:
    return one == other or ("://" not in one + other and os.path.realpath(one) == os.path.realpath(other))


def _read(path: str) -> bytes:
    try:
        with open_url(path) as file:
            return file.read()
    except (FileNotFoundError, IsADirectoryError):
        raise ValueError(f"no file {path!r} to compare with; give a tokenizer.json") from None


def _open(recipe: Recipe, storage: Storage) -> _Source:
    published = published_or_error(storage)
    made_by = load_recipe(published.value["recipe"], f"the recipe in {published.path}").recipe
    if lacking := sorted({source.name for source in recipe.sources} - {source.name for source in made_by.sources}):
        raise ValueError(
            f"the run in {storage.root!r} has the sources {', '.join(published.value['sources'])}; the recipe also has "
            f"{', '.join(lacking)}: `tokenmill run` it first, or name its own run with --run"
        )
    units = open_units(storage, published, made_by)
    tables = {key: table for unit in units.units.values() for key, table in unit.tables.items()}
    ledgers = {key: units.units[name].ledger for key, name in units.unit_of.items()}
    wanted = {source.name for source in recipe.sources}
    parts = [part for part in sample_parts(made_by, units.parts, tables, ledgers) if part.source in wanted]
    kept = {receipt.task: receipt.balance.out.bytes for receipt in units.receipts if receipt.step == "select"}
    return _Source(storage, recipe, parts, kept, storage.read(published.value["tokenizer"]))


def _texts(run: _Source, sample: pa.Table, show: Reporter) -> Iterator[Sequence[str]]:
    done = 0
    for _, batch in drawn_documents(run.storage, run.parts, sample):
        yield batch.texts.to_pylist()
        done += len(batch.texts)
        show.step("read", done, sample.num_rows)
    show.say("all is read; counting pairs and merging them")


def _unless_equal(storage: Storage, tokenizer: bytes, data: bytes) -> dict[str, bytes]:
    """The run's own tokenizer, to compare with."""
    return {} if tokenizer == data else {f"{storage.root} (its own)": tokenizer}


def _report(
    recipe: Recipe, asked: Asked, data: bytes, sample: dict[str, dict[str, int]], measured: Measured
) -> dict[str, Any]:
    return {
        "tokenizer": {
            "path": asked.output,
            "hash": xxhash.xxh3_128_hexdigest(data),
            "vocab_size": measured.figures[0]["vocab_size"],
            "asked_vocab_size": asked.vocab_size,
            "pattern": asked.pattern,
            "special_tokens": list(recipe.tokenizer.special_tokens),
            "longest_tokens": longest_tokens(data),
        },
        "sample": sample,
        "held_out": {"documents": measured.documents, "bytes": measured.bytes},
        "measured": measured.figures,
    }
