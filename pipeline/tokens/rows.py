"""Packed rows as record batches of a sequence shard.

Batches hold `rows_per_batch(L)` rows, about 2^19 tokens; one is built at a time, so memory beyond the inputs is that of
one batch (2 MiB of uint32 tokens, or one row of a longer L).
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from numba import njit

from tokenmill.manifests.shards import PRETRAINING, SequenceFormat, places_in_rows, rows_per_batch
from tokenmill.pipeline.tokens.encode import EncodedBatch, TokenizerPolicy, Tokens
from tokenmill.pipeline.tokens.packing import Packing

I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

#: A shard has about so many tokens, padding included, and less than about twice as many (a smaller unit is one shard):
#: 64 to 256 MiB at the 1 to 2 bytes a token that zstd leaves (1.3 measured for uint16).
SHARD_TOKENS = 1 << 26


class Fill(NamedTuple):
    """What rows hold beside text: ids of padding, and of what every document begins and ends with; -1 for nothing."""

    pad: int
    bos: int = -1
    eos: int = -1


def pad_id(special_ids: Mapping[str, int]) -> int:
    """Id that fills rows: pad, else eos, else 0."""
    return next((special_ids[name] for name in ("pad", "eos") if special_ids[name] >= 0), 0)


def fill_of(special_ids: Mapping[str, int], policy: TokenizerPolicy) -> Fill:
    """What rows hold under a tokenizer's policy."""
    return Fill(
        pad_id(special_ids),
        special_ids["bos"] if policy.prepend_bos else -1,
        special_ids["eos"] if policy.append_eos else -1,
    )


def sequence_batches(
    encoded: EncodedBatch,
    packing: Packing,
    part_index: I32,
    part_row: I32,
    format: SequenceFormat,
    fill: Fill,
    rows: range | None = None,
) -> Iterator[pa.RecordBatch]:
    """Record batches of `format.schema`, rows in the packing's order; what each row holds is checked.

    Args:
        encoded: token ids of n documents, of the format's dtype.
        packing: of the same documents' lengths.
        part_index: int32[n], which of `format.parts` each document is in.
        part_row: int32[n], its row there.
        format: L, vocabulary, parts and the rest of the metadata.
        fill: padding, not the mask; bos and eos as the tokenizer's policy puts them around documents.
        rows: consecutive rows of the packing to take; all by default.

    Raises:
        ValueError: the arguments do not belong together; raised by the call, before the first batch. Or a row holds
            bos, eos, pad or mask where none is due, or lacks one; raised with its batch.
    """
    _check(encoded, packing, part_index, part_row, format, fill)
    chosen = range(packing.num_rows) if rows is None else rows
    step = rows_per_batch(format.length)
    return (
        _batch(encoded, packing, (part_index, part_row), format, fill, range(first, last))
        for first in range(chosen.start, chosen.stop, step)
        for last in (min(first + step, chosen.stop),)
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
    fill: Fill,
) -> list[Iterator[pa.RecordBatch]]:
    """`sequence_batches` of each shard in turn; nothing is gathered before an iterator is read."""
    return [
        sequence_batches(encoded, packing, part_index, part_row, format, fill, rows)
        for rows in shard_rows(packing.num_rows, format.length)
    ]


def _check(
    encoded: EncodedBatch, packing: Packing, part_index: I32, part_row: I32, format: SequenceFormat, fill: Fill
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
    if packing.align != format.align:
        raise ValueError(f"packed with align {packing.align}, but the format says {format.align}")
    if (encoded.answers is None) != (format.layout == PRETRAINING):
        told = "say" if encoded.answers is not None else "do not say"
        raise ValueError(f"documents {told} which tokens are answers, and rows are laid out as {format.layout!r}")
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
    if fill.pad == format.special_ids["mask"] or not 0 <= fill.pad < format.vocab_size:
        raise ValueError(
            f"pad id {fill.pad} is the mask or outside the vocabulary: name a pad or eos token in the policy"
        )


def _batch(
    encoded: EncodedBatch,
    packing: Packing,
    place: tuple[I32, I32],
    format: SequenceFormat,
    fill: Fill,
    rows: range,
) -> pa.RecordBatch:
    offsets = packing.row_offsets[rows.start : rows.stop + 1]
    pieces = slice(int(offsets[0]), int(offsets[-1]))
    document, start = packing.piece_document[pieces], packing.piece_start[pieces]
    size = packing.piece_length[pieces]
    list_offsets = pa.array((offsets - offsets[0]).astype(np.int32))
    at = places_in_rows(size, offsets - offsets[0], packing.align)
    at += np.repeat(np.arange(len(rows)) * packing.length, np.diff(offsets))
    tokens = np.full(len(rows) * packing.length, fill.pad, dtype=encoded.tokens.dtype)
    _gather_kernel(encoded.tokens, encoded.offsets[document] + start, size, at, tokens)
    is_last = encoded.offsets[document] + start + size == encoded.offsets[document + 1]
    padding = len(tokens) - int(size.sum(dtype=np.int64))
    if encoded.answers is None:
        _check_control(tokens, at[start == 0], (at + size - 1)[is_last], padding, format, fill)
    else:
        _check_no_mask(tokens, format)
    valid = np.add.reduceat(size, offsets[:-1] - offsets[0], dtype=np.int32)
    values: dict[str, I32 | I64] = {
        "document_lengths": size,
        "document_parts": place[0][document],
        "document_rows": place[1][document],
        "document_starts": start,
    }
    schema = format.schema
    columns = [pa.FixedSizeListArray.from_arrays(pa.array(tokens), type=schema.field("tokens").type)]
    for name, value in values.items():
        items = pa.array(value.astype(np.int32, copy=False))
        columns.append(pa.ListArray.from_arrays(list_offsets, items, type=schema.field(name).type))
    columns.append(pa.array(valid))
    if encoded.answers is not None:
        begins = encoded.offsets[document] + start
        sizes, ends = _runs_kernel(encoded.answers, begins, size, offsets - offsets[0])
        type = schema.field("maskable").type
        columns.append(pa.ListArray.from_arrays(pa.array(ends.astype(np.int32)), pa.array(sizes), type=type))
    if encoded.checks is not None:  # a document a row
        columns += encoded.checks.take(pa.array(document)).columns
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _check_control(tokens: Tokens, first: I64, last: I64, padding: int, format: SequenceFormat, fill: Fill) -> None:
    """Raise unless bos and eos stand where documents begin and end, `first` and `last`, and no control id elsewhere.

    Every place due is looked at and every id counted: when there are as many as are due, no other is left.
    """
    for name, token, places in (("bos", fill.bos, first), ("eos", fill.eos, last)):
        if token >= 0 and np.any(tokens[places] != token):
            wrong = int(places[np.flatnonzero(tokens[places] != token)[0]])
            raise ValueError(f"{_where(wrong, format)}: token {tokens[wrong]} stands where {name} {token} is due")
    for name, token in format.special_ids.items():
        due = len(first) * (token == fill.bos) + len(last) * (token == fill.eos) + padding * (token == fill.pad)
        found = int(np.count_nonzero(tokens == token)) if token >= 0 else due
        if found != due:
            raise ValueError(
                f"{_where(int(np.flatnonzero(tokens == token)[0]) if found else 0, format)} and after: {name} {token} "
                f"stands {found} times in the rows of a record batch, {due} are due; a text produced it, or was changed"
            )


def _check_no_mask(tokens: Tokens, format: SequenceFormat) -> None:
    """Raise where the mask stands in rows of conversations, whose other control tokens are the template's affair."""
    mask = format.special_ids["mask"]
    if mask >= 0 and np.any(tokens == mask):
        where = _where(int(np.flatnonzero(tokens == mask)[0]), format)
        raise ValueError(f"{where}: mask {mask} stands there; the template prints it: mend the template")


def _where(place: int, format: SequenceFormat) -> str:
    """A place in the flat tokens of a batch, for people."""
    return f"unit {format.unit}, stratum {format.stratum}, row {place // format.length} of a batch"


@njit(nogil=True, cache=True)
def _gather_kernel(tokens, begin, size, target, out):  # type: ignore[no-untyped-def]
    for piece in range(len(size)):
        source, place = tokens[begin[piece] :], out[target[piece] : target[piece] + size[piece]]
        for k in range(len(place)):  # an assignment of slices takes seconds to compile
            place[k] = source[k]


@njit(nogil=True, cache=True)
def _runs_kernel(answers, begin, size, row_offsets):  # type: ignore[no-untyped-def]
    """Lengths of each row's runs, alternately given and answered, and where each row's begin: int32, int64 [rows+1]."""
    ends = np.zeros(len(row_offsets), np.int64)
    sizes = np.empty(0, np.int32)
    for fills in range(2):  # counted, then written
        count = 0
        for row in range(len(row_offsets) - 1):
            length, is_answer = 0, False
            for piece in range(row_offsets[row], row_offsets[row + 1]):
                for token in range(begin[piece], begin[piece] + size[piece]):
                    if answers[token] != is_answer:
                        if fills:
                            sizes[count] = length
                        count += 1
                        length, is_answer = 0, not is_answer
                    length += 1
            if length > 0:
                if fills:
                    sizes[count] = length
                count += 1
            ends[row + 1] = count
        if not fills:
            sizes = np.empty(count, np.int32)
    return sizes, ends
