"""What a unit's shards hold: whose tokens lie where, and all of it counted anew, the proof of what *pack* booked.

Text is not read for that: that so many bytes went into these tokens stays the word of the task, and so does what a
takedown kept out.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.audit import ROLE_NOTES, shards_of
from tokenmill.manifests.balance import Balance, Tally, sum_tallies
from tokenmill.manifests.lengths import without_length
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.manifests.schemas import LEFT_OUT
from tokenmill.manifests.shards import (
    PREFERENCE,
    PRETRAINING,
    SequenceFormat,
    blocks_of,
    check_batch,
    decode_batch,
    decode_columns,
    read_schema,
)
from tokenmill.pipeline.steps.pack import left_out_tallies
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table

_PIECES = ("document_parts", "document_rows", "document_starts", "document_lengths")
_COUNTED = ("rows", "tokens", "documents")


def read_batches(storage: Storage, output: Output, only: Sequence[int] | None = None) -> Iterator[pa.RecordBatch]:
    """Record batches of a shard (`only` some, by their number in it), each checked before it is decoded."""
    schema = read_schema(_head(storage, output))
    for data in _checked(storage, output, only):
        yield decode_batch(data, schema)


def _head(storage: Storage, output: Output) -> bytes:
    return storage.read_range(output.path, 0, output.detail["schema_bytes"])


def _checked(storage: Storage, output: Output, only: Sequence[int] | None = None) -> Iterator[bytes]:
    """Bytes of record batches that are what the receipt says."""
    detail: Mapping[str, Any] = output.detail
    hashes = detail["batch_hashes"]
    for index in range(len(hashes)) if only is None else only:
        data = storage.read_range(output.path, detail["batch_offsets"][index], detail["batch_lengths"][index])
        check_batch(data, bytes.fromhex(hashes[index]), shard=storage.url(output.path), batch=index)
        yield data


class PackedPieces(NamedTuple):
    """The pieces of documents in one record batch of a shard, one after another.

    Attributes:
        parts: keys of the parts that `part` indexes.
        part: the document's part.
        document: its row there.
        start: the piece's first token within the document.
        tokens: of the piece.
        row: that it is packed in, counted through the shard.
    """

    parts: tuple[str, ...]
    part: npt.NDArray[np.int32]
    document: npt.NDArray[np.int32]
    start: npt.NDArray[np.int32]
    tokens: npt.NDArray[np.int32]
    row: npt.NDArray[np.int64]


def packed_pieces(storage: Storage, shard: Output) -> Iterator[PackedPieces]:
    """Whose tokens lie where in a shard, a record batch at a time; each is checked, its tokens are not decoded."""
    head = _head(storage, shard)
    return _pieces(read_schema(head), (decode_columns(head, data, _PIECES) for data in _checked(storage, shard)))


def glanced_pieces(storage: Storage, path: str) -> Iterator[PackedPieces]:
    """As `packed_pieces`, unchecked: of the shard hardly more than these columns is read, a hundredth of it."""
    with storage.open(path) as file:
        schema = pa.ipc.open_file(pa.PythonFile(file, mode="r")).schema
        fields = sorted(schema.get_field_index(name) for name in _PIECES)
        options = pa.ipc.IpcReadOptions(included_fields=fields, use_threads=False)
        reader = pa.ipc.open_file(pa.PythonFile(file, mode="r"), options=options)
        yield from _pieces(schema, map(reader.get_batch, range(reader.num_record_batches)))


def _pieces(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> Iterator[PackedPieces]:
    parts, first_row = SequenceFormat.of(schema).parts, 0
    for batch in batches:
        part, document, start, tokens = (batch.column(name).flatten().to_numpy() for name in _PIECES)
        row = np.repeat(np.arange(batch.num_rows), pc.list_value_length(batch.column(_PIECES[0])).to_numpy())
        yield PackedPieces(parts, part, document, start, tokens, first_row + row)
        first_row += batch.num_rows


def shards_in(packed: Receipt, stratum: str) -> list[Output]:
    """Shards of one stratum that a task of *pack* wrote; of rows of every length, where it says none."""
    named = f"sequences/{stratum}"
    return [output for output in packed.outputs if named in (output.name, without_length(output.name))]


def count_packed(storage: Storage, receipt: Receipt) -> tuple[Balance, list[str]]:
    """The books of one task of *pack* as its files tell them, and what else differs from its receipt."""
    pieces: list[np.ndarray[Any, np.dtype[np.int64]]] = [np.zeros((4, 0), np.int64)]
    notes = {"padding_tokens": 0, "align_tokens": 0, "cut_documents": 0, "cut_tokens": 0}
    problems: list[str] = []
    in_pairs = False
    for output in shards_of(receipt):
        head = _head(storage, output)
        form = SequenceFormat.of(read_schema(head))
        in_pairs = form.layout == PREFERENCE
        counted = dict.fromkeys(_COUNTED, 0)
        for data in _checked(storage, output):
            answers = ("maskable",) if form.layout != PRETRAINING else ()
            batch = decode_columns(head, data, (*_PIECES, "valid", *answers))
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
            if in_pairs:
                problems += _no_pairs(output.path, batch, found)
            if answers:
                answered, marked = _answers(batch.column("maskable"))
                notes["answer_tokens"] = notes.get("answer_tokens", 0) + answered
                if wrong := int(np.count_nonzero(marked != batch.column("valid").to_numpy())):
                    problems.append(f"{output.path}: in {wrong} rows runs of answers do not sum to valid")
        problems += _told_otherwise(output.path, output.detail, counted)
    documents, cut, lost = _documents(np.concatenate(pieces, axis=1))
    notes["cut_documents"], notes["cut_tokens"] = (0, 0) if in_pairs else cut
    if lost:
        problems.append(f"of {lost} documents pieces are missing or there twice")
    problems += _told_otherwise("notes", receipt.notes, notes)
    if "answer_tokens" in notes:
        by_role = sum(receipt.notes[name] for name in ROLE_NOTES if not name.startswith("answer_"))
        if by_role != documents.tokens:
            problems.append(f"tokens by role are {by_role} in the receipt, the files hold {documents.tokens}")
    return _books(storage, receipt, documents), problems


def _no_pairs(path: str, batch: pa.RecordBatch, pieces: np.ndarray[Any, np.dtype[np.int64]]) -> list[str]:
    """What is wrong with rows that should each hold the two pieces of one document."""
    counts = pc.list_value_length(batch.column(_PIECES[0])).to_numpy()
    if (counts != 2).any():
        return [f"{path}: {np.count_nonzero(counts != 2)} rows have not the two pieces of a pair"]
    part, row, start, length = (values.reshape(-1, 2) for values in pieces)
    whole = (part[:, 0] == part[:, 1]) & (row[:, 0] == row[:, 1]) & (start[:, 0] == 0) & (start[:, 1] == length[:, 0])
    return [] if whole.all() else [f"{path}: {np.count_nonzero(~whole)} rows hold pieces that are no pair"]


def _answers(runs: pa.ListArray) -> tuple[int, npt.NDArray[np.int64]]:
    """Tokens of answers in the rows of a column `maskable`, and the tokens that each row's runs have in all."""
    counts = pc.list_value_length(runs).to_numpy()
    sizes = runs.flatten().to_numpy().astype(np.int64)
    before = np.cumsum(counts) - counts
    is_answer = (np.arange(len(sizes)) - np.repeat(before, counts)) % 2 == 1
    sums = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    return int(sizes[is_answer].sum()), sums[before + counts] - sums[before]


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
