"""pack: kept text with its edits, by stratum → `sequences`: token ids in packed rows, zstd Arrow.

Strata are those that *select* decided on; with `strata: {by: [copies]}` times how often a document was seen (`copies`),
and then a unit is packed again when one of its documents came into another range. With `sequences: {buckets: …}` the
row length that holds a conversation is part of its stratum, too.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.audit import PACK_NOTES
from tokenmill.manifests.balance import Balance, Tally, sum_tallies
from tokenmill.manifests.keyed import key64
from tokenmill.manifests.lengths import by_length
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.manifests.schemas import LEFT_OUT
from tokenmill.manifests.shards import SequenceFormat, write_batches
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.chat.coder import VERSION as CHAT_VERSION
from tokenmill.pipeline.chat.coder import tokens_of_roles
from tokenmill.pipeline.coders import Coder, coder_of
from tokenmill.pipeline.copies import NO_CLUSTERS, sizes_by_part, with_copies
from tokenmill.pipeline.kept import NONE_REMOVED, KeptBatch, edit_outputs, kept_documents, removed_rows
from tokenmill.pipeline.recipe import Recipe
from tokenmill.pipeline.recipe.tokens import Sequences
from tokenmill.pipeline.steps.copies import run_copies
from tokenmill.pipeline.steps.takedown import REASON, run_takedown, standing_hash, standing_rows
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table, write_table
from tokenmill.pipeline.tokens.encode import EncodedBatch, Encoder, TokenizerPolicy, chosen, join
from tokenmill.pipeline.tokens.packing import Packing, PackingPolicy, in_pairs, pack
from tokenmill.pipeline.tokens.rows import fill_of, shard_batches
from tokenmill.pipeline.units import Unit

VERSION = 2
I32 = npt.NDArray[np.int32]


@dataclass
class _Stream:
    """Encoded documents of one stratum and row length, in the order of identity."""

    encoded: list[EncodedBatch] = field(default_factory=list)
    part_index: list[I32] = field(default_factory=list)
    part_row: list[I32] = field(default_factory=list)


@dataclass
class _Encoded:
    """The kept documents of a unit as token ids.

    Attributes:
        streams: by stratum and row length (L), which the stratum says where there are several.
        taken: all of them.
        left_out: batches of LEFT_OUT: those that are in no stream.
        spelled_controls: see `manifests.audit`.
        roles: of conversations, see `manifests.audit.ROLE_NOTES`.
    """

    streams: dict[tuple[str, int], _Stream] = field(default_factory=lambda: defaultdict(_Stream))
    taken: Tally = field(default_factory=Tally)
    left_out: list[pa.RecordBatch] = field(default_factory=list)
    spelled_controls: int = 0
    roles: dict[str, int] = field(default_factory=dict)


def run_pack(run: TaskRun, recipe: Recipe, unit: Unit) -> Receipt:
    """Tokenize and pack one unit, without what is taken down."""
    takedown = run_takedown(run, recipe, unit).output("takedown") if unit.removals else None
    order = [entry.group for entry in recipe.source(unit.source).filters]
    inputs = {"tokenizer": unit.tokenizer.hash, "ledger": unit.ledger.hash}
    if unit.template is not None:
        inputs["template"] = unit.template.hash
    for part in unit.parts:
        tables = unit.tables[part.key]
        read = [tables[name] for name in ("documents", "decisions", "turns") if name in tables]
        for output in (*read, *edit_outputs(tables, order)):
            inputs[f"{part.key}/{output.name}"] = output.hash
    if takedown is not None and (left_out := standing_hash(takedown)) is not None:
        inputs["takedown"] = left_out
    policy = _policy(recipe)
    params = {
        "length": recipe.sequences.length,
        "packing": policy.name,
        "align": policy.align,
        "whole_documents": recipe.sequences.leaves_out_long,
        "seed": recipe.seed,
        "tokens": recipe.tokenizer.model_dump(mode="json", exclude={"path", "train", "cache_bytes"}),
        "edits": order,
    }
    if recipe.sequences.of_conversations:
        params["layout"], params["chat"] = recipe.sequences.layout, CHAT_VERSION
    if recipe.sequences.buckets:
        params["buckets"] = recipe.sequences.buckets
    if recipe.strata.copies_bounds is not None:
        inputs["copies"] = run_copies(run, recipe, unit).notes["hash"]
        params["copies"] = recipe.strata.copies_bounds
    task = Task("pack", VERSION, unit.source, unit.name, params, inputs, ("pyarrow", "tokenizers"))
    return run.once(task, lambda key: _pack(run.storage, recipe, unit, takedown, key))


def _policy(recipe: Recipe) -> PackingPolicy:
    """How rows are filled."""
    return PackingPolicy(recipe.sequences.method, recipe.sequences.align)


def _pack(storage: Storage, recipe: Recipe, unit: Unit, takedown: Output | None, key: str) -> Work:
    tokenizer_json = storage.read(unit.tokenizer.path)
    room = int(recipe.tokenizer.cache_bytes)
    coder = coder_of(storage, unit, tokenizer_json, token_policy(recipe), room, recipe.sequences.layout)
    encoder = coder.encoder
    gone = standing_rows(read_table(storage, takedown.path)) if takedown is not None else {}
    found = _encode(storage, recipe, unit, gone, coder, encoder.special_ids["eos"])
    outputs: list[Output] = []
    written = Tally()
    notes = dict.fromkeys(PACK_NOTES, 0)
    for (stratum, length), stream in sorted(found.streams.items()):
        form = SequenceFormat(
            length,
            encoder.vocab_size,
            encoder.hash,
            encoder.special_ids,
            _policy(recipe).name,
            stratum,
            unit.name,
            tuple(part.key for part in unit.parts),
            recipe.sequences.align,
            recipe.sequences.layout,
        )
        shards, packing = _pack_stratum(storage, recipe, unit, encoder, stream, form, key)
        outputs += shards
        written += sum_tallies(Tally(out.detail["documents"], 0, out.detail["tokens"]) for out in shards)
        for name in ("padding_tokens", "align_tokens", "cut_documents", "cut_tokens"):
            notes[name] += getattr(packing, name)
    left_out = pa.Table.from_batches(found.left_out, LEFT_OUT)
    if left_out.num_rows:
        path = f"left_out/{unit.source}/{unit.name}.{key}.parquet"
        outputs.append(
            write_table(storage, "left_out", path, left_out.sort_by([("part", "ascending"), ("row", "ascending")]))
        )
    dropped = left_out_tallies(left_out)
    text_bytes = found.taken.bytes - sum_tallies(dropped.values()).bytes
    notes["text_bytes"] = text_bytes
    notes |= coder.notes()
    notes["spelled_controls"] = found.spelled_controls
    balance = _taken_down(sum(map(len, gone.values())))
    balance += Balance(found.taken, written + Tally(bytes=text_bytes), dropped)
    return Work(tuple(outputs), balance, {**notes, **found.roles, "encoded_by": encoder.encoded_by})


def _pack_stratum(
    storage: Storage,
    recipe: Recipe,
    unit: Unit,
    encoder: Encoder,
    stream: _Stream,
    form: SequenceFormat,
    key: str,
) -> tuple[list[Output], Packing]:
    """Pack one stratum's documents and write their shards; the stream is used up."""
    encoded = join(stream.encoded)
    stream.encoded.clear()
    seed = key64("pack", recipe.seed, unit.name, form.stratum)
    packing = pack(encoded.lengths, form.length, seed, _policy(recipe))
    if encoded.chosen_lengths is not None:
        packing = in_pairs(packing, encoded.chosen_lengths)
    shards = shard_batches(
        encoded,
        packing,
        np.concatenate(stream.part_index),
        np.concatenate(stream.part_row),
        form,
        fill_of(encoder.special_ids, encoder.policy),
    )
    paths = [
        f"sequences/{unit.source}/{_folder(form.stratum)}/{unit.name}.{key}-{index:05d}.arrow"
        for index in range(len(shards))
    ]
    written = [
        _write_shard(storage, unit, form.stratum, path, form.schema, batches)
        for path, batches in zip(paths, shards, strict=True)
    ]
    return written, packing


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


def left_out_tallies(left_out: pa.Table) -> dict[str, Tally]:
    """Documents, bytes and tokens of a LEFT_OUT table, by reason."""
    sums = left_out.group_by("reason").aggregate([([], "count_all"), ("text_bytes", "sum"), ("tokens", "sum")])
    return {
        row["reason"]: Tally(row["count_all"], row["text_bytes_sum"], row["tokens_sum"]) for row in sums.to_pylist()
    }


def _encode(
    storage: Storage, recipe: Recipe, unit: Unit, taken: Mapping[str, I32], coder: Coder, eos_id: int
) -> _Encoded:
    """Token ids by stratum. Text is read once and not kept."""
    found = _Encoded()
    removed = removed_rows(read_table(storage, unit.ledger.path))
    order = [entry.group for entry in recipe.source(unit.source).filters]
    bounds = recipe.strata.copies_bounds
    clusters = sizes_by_part(read_table(storage, unit.clusters.path)) if bounds and unit.clusters else {}
    for index, part in enumerate(unit.parts):
        tables = unit.tables[part.key]
        gone = np.union1d(removed.get(part.key, NONE_REMOVED), taken.get(part.key, NONE_REMOVED))
        for batch in kept_documents(storage, tables, edit_outputs(tables, order), gone):
            strata = batch.strata
            if bounds is not None:
                strata = with_copies(strata, clusters.get(part.key, NO_CLUSTERS).of_rows(batch.rows), bounds)
            codes = strata.dictionary_encode()
            for code, stratum in enumerate(codes.dictionary.to_pylist()):
                mine = batch.take(np.flatnonzero(codes.indices.to_numpy() == code))
                _enter(found, recipe.sequences, stratum, (index, part.key), mine, coder.encode(part.key, mine), eos_id)
    return found


def _enter(
    found: _Encoded,
    sequences: Sequences,
    stratum: str,
    part: tuple[int, str],
    batch: KeptBatch,
    coded: tuple[EncodedBatch, Sequence[str | None]],
    eos_id: int,
) -> None:
    """Add documents of one part to their stratum's stream, or to what is left out."""
    encoded, told = coded
    lengths, sizes = encoded.lengths, np.asarray(pc.binary_length(batch.texts)).astype(np.int64)
    found.taken += Tally(len(batch.rows), int(sizes.sum()), int(lengths.sum()))
    found.spelled_controls += encoded.spelled_controls
    reasons = np.array(["" if reason is None else f"pack.{reason}" for reason in told], object)
    # without BOS and EOS an empty text has no token, and so no place in a row
    reasons[(lengths == 0) & (reasons == "")] = "pack.empty"
    if sequences.leaves_out_long:
        reasons[(lengths > sequences.length) & (reasons == "")] = "pack.longer_than_row"
    out = reasons != ""
    if out.any():
        columns = [[part[1]] * int(out.sum()), batch.rows[out], reasons[out].tolist(), sizes[out], lengths[out]]
        arrays = [pa.array(column, field.type) for column, field in zip(columns, LEFT_OUT, strict=True)]
        found.left_out.append(pa.RecordBatch.from_arrays(arrays, schema=LEFT_OUT))
    encoded, rows = chosen(encoded, ~out), batch.rows[~out]
    if encoded.roles is not None:
        for name, count in tokens_of_roles(encoded, eos_id).items():
            found.roles[name] = found.roles.get(name, 0) + count
    for name, length, those in by_length(stratum, sequences.lengths, encoded.lengths):
        if those.any():
            stream = found.streams[name, length]
            stream.encoded.append(chosen(encoded, those))
            stream.part_index.append(np.full(np.count_nonzero(those), part[0], np.int32))
            stream.part_row.append(rows[those])


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
