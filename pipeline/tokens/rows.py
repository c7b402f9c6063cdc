"""Packed rows as record batches of a sequence shard.

Batches hold `rows_per_batch(L)` rows, about 2^19 tokens; one is built at a time, so memory beyond the inputs is that of
one batch (2 MiB of uint32 tokens, or one row of a longer L).
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.manifests.shards import SequenceFormat, rows_per_batch
from tokenmill.pipeline.tokens.encode import EncodedBatch, Tokens
from tokenmill.pipeline.tokens.packing import Packing

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

#: A shard has about so many tokens, padding included, and less than about twice as many (a smaller unit is one shard):
#: 64 to 256 MiB at the 1 to 2 bytes a token that zstd leaves (1.3 measured for uint16).
SHARD_TOKENS = 1 << 26


def pad_id(special_ids: Mapping[str, int]) -> int:
    """Id that fills rows: pad, else eos, else 0."""
    return next((special_ids[name] for name in ("pad", "eos") if special_ids[name] >= 0), 0)


def sequence_batches(
    encoded: EncodedBatch,
    packing: Packing,
    part_index: I32,
    part_row: I32,
    format: SequenceFormat,
    pad_id: int,
    rows: range | None = None,
) -> Iterator[pa.RecordBatch]:
    """Record batches of `format.schema`, rows in the packing's order.

    Args:
        encoded: token ids of n documents, of the format's dtype.
        packing: of the same documents' lengths.
        part_index: int32[n], which of `format.parts` each document is in.
        part_row: int32[n], its row there.
        format: L, vocabulary, parts and the rest of the metadata.
        pad_id: fills rows; not the mask.
        rows: consecutive rows of the packing to take; all by default.

    Raises:
        ValueError: the arguments do not belong together; raised by the call, before the first batch.
    """
    _check(encoded, packing, part_index, part_row, format, pad_id)
    chosen = range(packing.num_rows) if rows is None else rows
    step, schema = rows_per_batch(format.length), format.schema
    return (
        _batch(encoded, packing, (part_index, part_row), schema, pad_id, range(first, min(first + step, chosen.stop)))
        for first in range(chosen.start, chosen.stop, step)
    )


def shard_rows(num_rows: int, length: int) -> list[range]:
    """Rows of each shard of a unit and stratum: whole record batches, shared out evenly; empty for no rows."""
    step = rows_per_batch(length)
    batches = -(-num_rows // step)
    shards = max(1, num_rows * length // SHARD_TOKENS)
    edges = [min(num_rows, batches * i // shards * step) for i in range(shards + 1)]
    return [range(start, stop) for start, stop in pairwise(edges) if start < stop]


def shard_batches(
    encoded: EncodedBatch,
    packing: Packing,
    part_index: I32,
    part_row: I32,
    format: SequenceFormat,
    pad_id: int,
) -> list[Iterator[pa.RecordBatch]]:
    """`sequence_batches` of each shard in turn; nothing is gathered before an iterator is read."""
    return [
        sequence_batches(encoded, packing, part_index, part_row, format, pad_id, rows)
        for rows in shard_rows(packing.num_rows, format.length)
    ]


def _check(
    encoded: EncodedBatch, packing: Packing, part_index: I32, part_row: I32, format: SequenceFormat, pad_id: int
) -> None:
    dtype = format.schema.field("tokens").type.value_type.to_pandas_dtype()
    documents = len(encoded.offsets) - 1
    if encoded.tokens.dtype != dtype:
        raise ValueError(
            f"tokens are {encoded.tokens.dtype}, but a vocabulary of {format.vocab_size} is stored as "
            f"{dtype.__name__}: encode and store with the same tokenizer"
        )
    if packing.length != format.length:
        raise ValueError(f"packed into rows of {packing.length} tokens, but the format says L = {format.length}")
    if not len(part_index) == len(part_row) == documents:
        raise ValueError(f"{documents} documents, but {len(part_index)} part indices and {len(part_row)} rows")
    if int(packing.piece_length.sum(dtype=np.int64)) != len(encoded.tokens):
        raise ValueError(
            f"the packing holds {packing.piece_length.sum(dtype=np.int64)} tokens, the documents "
            f"{len(encoded.tokens)}: pack the lengths of these very documents"
        )
    if documents and not 0 <= part_index.min() <= part_index.max() < len(format.parts):
        raise ValueError(f"part indices run to {part_index.max()}, but the format names {len(format.parts)} parts")
    if len(packing.piece_start) and packing.piece_start.max() >= 1 << 31:
        raise ValueError("a piece starts beyond 2^31 tokens of its document, more than `document_starts` can say")
    if pad_id == format.special_ids["mask"] or not 0 <= pad_id < format.vocab_size:
        raise ValueError(
            f"pad id {pad_id} is the mask or outside the vocabulary: name a pad or eos token in the policy"
        )


def _batch(
    encoded: EncodedBatch,
    packing: Packing,
    place: tuple[I32, I32],
    schema: pa.Schema,
    pad_id: int,
    rows: range,
) -> pa.RecordBatch:
    offsets = packing.row_offsets[rows.start : rows.stop + 1]
    pieces = slice(int(offsets[0]), int(offsets[-1]))
    document, start = packing.piece_document[pieces], packing.piece_start[pieces]
    size = packing.piece_length[pieces]
    list_offsets = pa.array((offsets - offsets[0]).astype(np.int32))
    tokens = _gather(encoded, document, start, size, offsets - offsets[0], packing.length, pad_id)
    valid = np.add.reduceat(size, offsets[:-1] - offsets[0], dtype=np.int32)
    values: dict[str, I32 | I64] = {
        "document_lengths": size,
        "document_parts": place[0][document],
        "document_rows": place[1][document],
        "document_starts": start,
    }
    columns = [pa.FixedSizeListArray.from_arrays(pa.array(tokens), type=schema.field("tokens").type)]
    for name, value in values.items():
        items = pa.array(value.astype(np.int32, copy=False))
        columns.append(pa.ListArray.from_arrays(list_offsets, items, type=schema.field(name).type))
    columns.append(pa.array(valid))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _gather(
    encoded: EncodedBatch, document: I64, start: I64, size: I32, row_offsets: I64, length: int, pad_id: int
) -> Tokens:
    """Flat tokens of rows: pieces in order, then padding. `row_offsets`, int64[rows+1], count the given pieces."""
    out = np.full((len(row_offsets) - 1) * length, pad_id, dtype=encoded.tokens.dtype)
    _gather_kernel(encoded.tokens, encoded.offsets[document] + start, size, row_offsets, length, out)
    return out


@njit(nogil=True, cache=True)
def _gather_kernel(tokens, begin, size, row_offsets, length, out):  # type: ignore[no-untyped-def]
    for row in range(len(row_offsets) - 1):
        at = row * length
        for piece in range(row_offsets[row], row_offsets[row + 1]):
            source, target = tokens[begin[piece] :], out[at : at + size[piece]]
            for k in range(len(target)):  # an assignment of slices takes seconds to compile
                target[k] = source[k]
            at += size[piece]
