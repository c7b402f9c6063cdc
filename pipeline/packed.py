"""What a unit's shards hold, counted anew: the proof of what *pack* booked and noted.

Text is not read for it: that so many bytes went into these tokens stays the word of the task, and so does what a
takedown kept out.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from tokenmill.manifests.audit import shards_of
from tokenmill.manifests.balance import Balance, Tally, sum_tallies
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.manifests.schemas import LEFT_OUT
from tokenmill.manifests.shards import SequenceFormat, blocks_of, check_batch, decode_batch, read_schema
from tokenmill.pipeline.steps.pack import left_out_tallies
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table

_PIECES = ("document_parts", "document_rows", "document_starts", "document_lengths")
_COUNTED = ("rows", "tokens", "documents")


def read_batches(storage: Storage, output: Output) -> Iterator[pa.RecordBatch]:
    """Record batches of a shard, each checked before it is decoded."""
    detail: Mapping[str, Any] = output.detail
    schema = read_schema(storage.read_range(output.path, 0, detail["schema_bytes"]))
    for index, digest in enumerate(detail["batch_hashes"]):
        data = storage.read_range(output.path, detail["batch_offsets"][index], detail["batch_lengths"][index])
        check_batch(data, bytes.fromhex(digest), shard=output.path, batch=index)
        yield decode_batch(data, schema)


def count_packed(storage: Storage, receipt: Receipt) -> tuple[Balance, list[str]]:
    """The books of one task of *pack* as its files tell them, and what else differs from its receipt."""
    pieces: list[np.ndarray[Any, np.dtype[np.int64]]] = [np.zeros((4, 0), np.int64)]
    notes = {"padding_tokens": 0, "align_tokens": 0, "cut_documents": 0, "cut_tokens": 0}
    problems: list[str] = []
    for output in shards_of(receipt):
        schema = read_schema(storage.read_range(output.path, 0, output.detail["schema_bytes"]))
        form = SequenceFormat.of(schema)
        counted = dict.fromkeys(_COUNTED, 0)
        for batch in read_batches(storage, output):
            found = np.stack([batch.column(name).flatten().to_numpy().astype(np.int64) for name in _PIECES])
            tokens = int(found[3].sum())
            if tokens != (valid := int(batch.column("valid").to_numpy().sum(dtype=np.int64))):
                problems.append(f"{output.path}: document_lengths sum to {tokens}, valid to {valid}")
            counted["rows"] += batch.num_rows
            counted["tokens"] += tokens
            counted["documents"] += int(np.count_nonzero(found[2] == 0))
            notes["padding_tokens"] += batch.num_rows * form.length - tokens
            notes["align_tokens"] += int(blocks_of(found[3], form.align).sum()) * form.align - tokens
            pieces.append(found)
        problems += _told_otherwise(output.path, output.detail, counted)
    documents, cut, lost = _documents(np.concatenate(pieces, axis=1))
    notes["cut_documents"], notes["cut_tokens"] = cut
    if lost:
        problems.append(f"of {lost} documents pieces are missing or there twice")
    problems += _told_otherwise("notes", receipt.notes, notes)
    return _books(storage, receipt, documents), problems


def _books(storage: Storage, receipt: Receipt, documents: Tally) -> Balance:
    tables = [output for output in receipt.outputs if output.name == "left_out"]
    left_out = read_table(storage, tables[0].path) if tables else LEFT_OUT.empty_table()
    elsewhere = {reason: tally for reason, tally in receipt.balance.dropped.items() if not reason.startswith("pack.")}
    dropped = elsewhere | left_out_tallies(left_out)
    out = documents + Tally(bytes=receipt.balance.out.bytes)
    return Balance(sum_tallies([out, *dropped.values()]), out, dropped)


def _documents(pieces: np.ndarray[Any, np.dtype[np.int64]]) -> tuple[Tally, tuple[int, int], int]:
    """All documents; how many have several pieces, and their tokens; of how many the pieces do not follow each other.

    Args:
        pieces: int64 [4, n], as _PIECES has them.
    """
    part, row, start, length = pieces[:, np.lexsort(pieces[2::-1])]
    is_first = np.ones(len(start), np.bool_)
    is_first[1:] = (part[1:] != part[:-1]) | (row[1:] != row[:-1])
    due = np.zeros(len(start), np.int64)  # where each piece begins, if it follows the one before
    due[1:] = np.where(is_first[1:], 0, start[:-1] + length[:-1])
    document = np.cumsum(is_first) - 1
    is_cut = np.bincount(document) > 1
    lost = len(np.unique(document[start != due]))
    cut = (int(np.count_nonzero(is_cut)), int(length[is_cut[document]].sum()))
    return Tally(int(np.count_nonzero(is_first)), 0, int(length.sum())), cut, lost


def _told_otherwise(where: str, told: Mapping[str, Any], counted: Mapping[str, int]) -> list[str]:
    return [
        f"{where}: {name}: the receipt says {told.get(name)}, the files hold {value}"
        for name, value in counted.items()
        if told.get(name) != value
    ]
