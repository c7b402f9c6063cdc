"""pack: kept text with its edits, by stratum → `sequences`: token ids in packed rows, zstd Arrow.

Strata are those that *select* decided on; with `strata: {by: [copies]}` times how often a document was seen (`copies`),
and then a unit is packed again when one of its documents came into another range.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.keyed import key64
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.manifests.shards import SequenceFormat, write_batches
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.copies import NO_CLUSTERS, sizes_by_part, with_copies
from tokenmill.pipeline.kept import NONE_REMOVED, edit_outputs, kept_documents, removed_rows
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.steps.copies import run_copies
from tokenmill.pipeline.steps.takedown import REASON, run_takedown, standing_hash, standing_rows
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder, TokenizerPolicy, join
from tokenmill.pipeline.tokens.packing import PackingPolicy, pack
from tokenmill.pipeline.tokens.rows import pad_id, shard_batches
from tokenmill.pipeline.units import Unit

VERSION = 1


@dataclass
class _Stream:
    """Encoded documents of one stratum, in the order of identity."""

    encoded: list[EncodedBatch]
    part_index: list[npt.NDArray[np.int32]]
    part_row: list[npt.NDArray[np.int32]]


def run_pack(run: TaskRun, recipe: Recipe, unit: Unit) -> Receipt:
    """Tokenize and pack one unit, without what is taken down."""
    takedown = run_takedown(run, recipe, unit).output("takedown") if unit.removals else None
    order = [entry.group for entry in recipe.source(unit.source).filters]
    inputs = {"tokenizer": unit.tokenizer.hash, "ledger": unit.ledger.hash}
    for part in unit.parts:
        tables = unit.tables[part.key]
        for output in (tables["documents"], tables["decisions"], *edit_outputs(tables, order)):
            inputs[f"{part.key}/{output.name}"] = output.hash
    if takedown is not None and (left_out := standing_hash(takedown)) is not None:
        inputs["takedown"] = left_out
    policy = PackingPolicy(method=recipe.sequences.packing)
    params = {
        "length": recipe.sequences.length,
        "packing": policy.name,
        "seed": recipe.seed,
        "tokens": recipe.tokenizer.model_dump(mode="json", exclude={"path", "train", "cache_bytes"}),
        "edits": order,
    }
    if recipe.strata.copies_bounds is not None:
        inputs["copies"] = run_copies(run, recipe, unit).notes["hash"]
        params["copies"] = recipe.strata.copies_bounds
    task = Task("pack", VERSION, unit.source, unit.name, params, inputs, ("pyarrow", "tokenizers"))
    return run.once(task, lambda key: _pack(run.storage, recipe, unit, takedown, policy, key))


def _pack(
    storage: Storage, recipe: Recipe, unit: Unit, takedown: Output | None, policy: PackingPolicy, key: str
) -> Work:
    encoder = Encoder(storage.read(unit.tokenizer.path), token_policy(recipe), int(recipe.tokenizer.cache_bytes))
    outputs: list[Output] = []
    gone = standing_rows(read_table(storage, takedown.path)) if takedown is not None else {}
    balance = _taken_down(sum(map(len, gone.values())))
    notes = {"padding_tokens": 0, "cut_documents": 0, "text_bytes": 0}
    streams, notes["text_bytes"] = _encode(storage, recipe, unit, gone, encoder)
    for stratum, stream in sorted(streams.items()):
        encoded = join(stream.encoded)
        stream.encoded.clear()
        packing = pack(encoded.lengths, recipe.sequences.length, key64("pack", recipe.seed, unit.name, stratum), policy)
        sequences = SequenceFormat(
            recipe.sequences.length,
            encoder.vocab_size,
            encoder.hash,
            encoder.special_ids,
            policy.name,
            stratum,
            unit.name,
            tuple(part.key for part in unit.parts),
        )
        shards = shard_batches(
            encoded,
            packing,
            np.concatenate(stream.part_index),
            np.concatenate(stream.part_row),
            sequences,
            pad_id(encoder.special_ids),
        )
        for index, batches in enumerate(shards):
            path = f"sequences/{unit.source}/{_folder(stratum)}/{unit.name}.{key}-{index:05d}.arrow"
            outputs.append(_write_shard(storage, unit, stratum, path, sequences.schema, batches))
        taken = Tally(documents=len(encoded.lengths), tokens=len(encoded.tokens))
        written = Tally(
            documents=sum(out.detail["documents"] for out in outputs if out.name == f"sequences/{stratum}"),
            tokens=sum(out.detail["tokens"] for out in outputs if out.name == f"sequences/{stratum}"),
        )
        # without BOS and EOS an empty text has no token, and so no place in a row
        empty = {"pack.empty": Tally(documents=packing.empty_documents)} if packing.empty_documents else {}
        balance += Balance(taken, written, empty)
        notes["padding_tokens"] += packing.padding_tokens
        notes["cut_documents"] += packing.cut_documents
    return Work(tuple(outputs), balance, {**notes, "encoded_by": encoder.encoded_by})


def _folder(stratum: str) -> str:
    """A stratum as one folder's name; S3 over plain HTTP takes a "+" (of "copies=10+") for a space."""
    return stratum.replace("/", ",").replace("+", "-")


def _taken_down(documents: int) -> Balance:
    """Books of what is taken down: it comes in and goes no further; its tokens are not counted."""
    tally = Tally(documents=documents)
    return Balance(tally, Tally(), {REASON: tally} if documents else {})


def token_policy(recipe: Recipe) -> TokenizerPolicy:
    """The special tokens and what stands around each document."""
    tokens = recipe.tokenizer
    return TokenizerPolicy(tokens.bos, tokens.eos, tokens.pad, tokens.mask, tokens.prepend_bos, tokens.append_eos)


def _encode(
    storage: Storage, recipe: Recipe, unit: Unit, taken: Mapping[str, npt.NDArray[np.int32]], encoder: Encoder
) -> tuple[dict[str, _Stream], int]:
    """Token ids by stratum, and the bytes of text they came from. Text is read once and not kept."""
    streams: dict[str, _Stream] = defaultdict(lambda: _Stream([], [], []))
    removed = removed_rows(read_table(storage, unit.ledger.path))
    order = [entry.group for entry in recipe.source(unit.source).filters]
    bounds = recipe.strata.copies_bounds
    clusters = sizes_by_part(read_table(storage, unit.clusters.path)) if bounds and unit.clusters else {}
    text_bytes = 0
    for index, part in enumerate(unit.parts):
        tables = unit.tables[part.key]
        gone = np.union1d(removed.get(part.key, NONE_REMOVED), taken.get(part.key, NONE_REMOVED))
        for batch in kept_documents(storage, tables, edit_outputs(tables, order), gone):
            text_bytes += pc.sum(pc.binary_length(batch.texts)).as_py()
            strata = batch.strata
            if bounds is not None:
                strata = with_copies(strata, clusters.get(part.key, NO_CLUSTERS).of_rows(batch.rows), bounds)
            names = np.array(strata.to_pylist(), object)
            for stratum in sorted(set(names)):
                inside = np.flatnonzero(names == stratum)
                stream = streams[stratum]
                stream.encoded.append(encoder.encode(batch.texts.take(pa.array(inside))))
                stream.part_index.append(np.full(len(inside), index, np.int32))
                stream.part_row.append(batch.rows[inside])
    return dict(streams), text_bytes


def _write_shard(
    storage: Storage, unit: Unit, stratum: str, path: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> Output:
    with storage.temporary() as draft:
        inside = write_batches(draft.file, schema, batches)
        stored = draft.commit(path)
    detail = {
        "component": f"{unit.source}/{stratum}",
        "unit": unit.name,
        **inside,
        "batch_hashes": [digest.hex() for digest in inside["batch_hashes"]],
    }
    return Output(f"sequences/{stratum}", stored.path, stored.bytes, stored.hash, detail)
