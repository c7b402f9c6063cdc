"""Megatron-LM's indexed dataset: `<source>/<stratum>/<unit>.bin` and `.idx`, documents as they were packed.

    .idx  "MMIDIDX", 0, 0  u64 version 1  u8 dtype  u64 documents  u64 documents + 1
          i32 lengths (tokens)  i64 first byte of each in the .bin  i64 0, 1, … documents
    .bin  token ids

One sequence of Megatron's is one document of ours, with the BOS and EOS it was packed with and no padding: its pieces,
which all lie in its unit, are joined again. Documents stand in the order in which their first pieces are stored, which
a seed has permuted. `blend.txt` has the weight and prefix of each, for `--data-args-path`, from within the folder.

Source: NVIDIA/Megatron-LM, megatron/core/datasets/indexed_dataset.py.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import groupby
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.kernels import kernel
from tokenmill.pipeline.export.rows import I32, I64, Rows, Tokens, read_batches, real_tokens

BLEND = "blend.txt"
_MAGIC = b"MMIDIDX\x00\x00"
_VERSION = 1
_CODES = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}
_COLUMNS = ("document_lengths", "document_parts", "document_rows", "document_starts")


@dataclass(frozen=True)
class UnitShards:
    """The shards of one unit and stratum.

    Attributes:
        prefix: of the two files, under the export's folder.
        component: "source/stratum".
        first: its first record batch in the shard table.
        end: the one after its last.
        rows: in them.
        tokens: in them.
    """

    prefix: str
    component: str
    first: int
    end: int
    rows: int
    tokens: int


@dataclass(frozen=True)
class Documents:
    """Whole documents.

    Attributes:
        tokens: uint16 or int32, one document after another.
        lengths: int32 [documents], tokens of each.
    """

    tokens: npt.NDArray[np.uint16] | npt.NDArray[np.int32]
    lengths: I32


def unit_shards(shards: pa.Table) -> list[UnitShards]:
    """The units and strata of a shard table, in its order."""
    found: list[UnitShards] = []
    batch = 0
    columns = ("component", "unit", "path", "rows", "tokens", "batch_rows")
    listed = shards.select(columns).to_pylist()
    for (component, unit), members in groupby(listed, key=lambda shard: (shard["component"], shard["unit"])):
        group = list(members)
        folder = group[0]["path"].rpartition("/")[0].removeprefix("sequences/")
        end = batch + sum(len(shard["batch_rows"]) for shard in group)
        rows, tokens = (sum(shard[name] for shard in group) for name in ("rows", "tokens"))
        found.append(UnitShards(f"{folder}/{unit}", component, batch, end, rows, tokens))
        batch = end
    return found


def read_documents(rows: Rows, unit: UnitShards) -> Documents:
    """The documents of a unit's shards, held in memory twice: once as rows have them, once joined.

    Raises:
        CorruptShardError: a record batch is not what the shard table says.
        ValueError: a document's pieces are not all there.
    """
    tokens = np.empty(unit.tokens, rows.dtype)
    pieces: dict[str, list[I32]] = {name: [] for name in _COLUMNS}
    done = 0
    for stored in read_batches(rows.of(unit.component), np.arange(unit.first, unit.end)):
        real = stored.tokens[real_tokens(stored, np.arange(len(stored.tokens)))]
        tokens[done : done + len(real)] = real
        done += len(real)
        for name, values in pieces.items():
            values.append(stored.table.column(name).flatten().to_numpy())
    return join_pieces(tokens, *(np.concatenate(pieces[name]) for name in _COLUMNS), unit=unit.prefix)


def join_pieces(tokens: Tokens, lengths: I32, parts: I32, rows: I32, starts: I32, *, unit: str) -> Documents:
    """Pieces, as they are stored one after another, made whole documents.

    Args:
        tokens: of all pieces.
        lengths: tokens of each piece.
        parts: part of the document that each piece is of.
        rows: its row in that part.
        starts: first token of each piece within its document.
        unit: for the message.

    Raises:
        ValueError: pieces are missing, or there twice.
    """
    target, whole_lengths = places_of_pieces(lengths, parts, rows, starts, len(tokens), unit=unit)
    joined = moved_pieces(tokens, lengths, target)
    return Documents(joined if tokens.dtype == np.uint16 else joined.view(np.int32), whole_lengths)


def places_of_pieces(lengths: I32, parts: I32, rows: I32, starts: I32, total: int, *, unit: str) -> tuple[I64, I32]:
    """Where each piece goes, int64, so that documents are whole, and the tokens of each of these, int32.

    Args and errors are those of `join_pieces`; `total` is how many tokens there are.
    """
    identity = parts.astype(np.int64) << 32 | rows
    begun = identity[starts == 0]
    by_identity = np.argsort(begun, kind="stable")
    found = np.searchsorted(begun[by_identity], identity)
    document = np.append(by_identity, -1)[found]
    order = np.lexsort((starts, document))
    first = starts[order] == 0
    ends = (starts + lengths.astype(np.int64))[order]
    follows = np.concatenate([[0], ends[:-1]]) == starts[order]
    once = len(np.unique(begun)) == len(begun) and np.array_equal(np.append(begun, -1)[document], identity)
    if not once or not (first | follows).all() or int(lengths.sum(dtype=np.int64)) != total:
        raise ValueError(f"the shards of {unit} do not hold every piece of every document once: rerun its pack task")
    whole_lengths = np.add.reduceat(lengths[order], np.flatnonzero(first), dtype=np.int64)
    target = np.empty(len(lengths), np.int64)
    target[order] = np.cumsum(lengths[order], dtype=np.int64) - lengths[order]
    return target, whole_lengths.astype(np.int32)


def moved_pieces(values: npt.NDArray[Any], lengths: I32, target: I64) -> npt.NDArray[Any]:
    """What the tokens of pieces have, one after another, with each piece at its place of `target`."""
    moved = np.empty_like(values)
    _place(values, lengths, target, moved)
    return moved


@kernel
def _place(tokens: Tokens, lengths: I32, target: I64, joined: Tokens) -> None:
    """Copy each piece of `tokens`, which stand one after another, to its place in `joined`."""
    at = 0
    for piece in range(len(lengths)):
        for token in range(lengths[piece]):
            joined[target[piece] + token] = tokens[at + token]
        at += lengths[piece]


def write_index(file: IO[bytes], documents: Documents) -> None:
    """Write the `.idx`."""
    count, size = len(documents.lengths), documents.tokens.dtype
    file.write(_MAGIC + _VERSION.to_bytes(8, "little") + bytes([_CODES[size]]))
    file.write(count.to_bytes(8, "little") + (count + 1).to_bytes(8, "little"))
    ends = np.cumsum(documents.lengths, dtype=np.int64) * size.itemsize
    file.write(documents.lengths.data)
    file.write(np.concatenate([[0], ends[:-1]]).astype(np.int64).data)
    file.write(np.arange(count + 1, dtype=np.int64).data)


def blend(weighted: Iterable[tuple[float, str]]) -> bytes:
    """`blend.txt`: a weight and a prefix a line."""
    return "".join(f"{weight!r} {prefix}\n" for weight, prefix in weighted).encode()
