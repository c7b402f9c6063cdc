"""Plain conversations as rows of DOCUMENTS and TURNS: Arrow's arrays are the kernel's."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from tokenmill.filters.scan import I64
from tokenmill.filters.turns import ROLES
from tokenmill.manifests.schemas import DOCUMENTS, TURN, TURNS
from tokenmill.pipeline.chat.plain_lines import PlainLines
from tokenmill.pipeline.extraction.encoding import clean


@dataclass(frozen=True, eq=False, slots=True)
class PlainRows:
    """Rows `first` … `end` of a block's n plain conversations.

    Attributes:
        documents: all n, rows of DOCUMENTS: no one is gated, failed, or without text.
        turns: of TURNS.
        texts: int64[n + 1], bytes of the texts before each row, and of all.
        named: int64[k], ascending: which of the n rows the data has a name for.
        names: k of them.
        first: of the n.
        end: exclusive.
    """

    documents: pa.RecordBatch
    turns: pa.RecordBatch
    texts: I64
    named: I64
    names: tuple[str, ...]
    first: int
    end: int

    def part(self, first: int, end: int) -> "PlainRows":
        """Rows `first` … `end` of the n."""
        return PlainRows(self.documents, self.turns, self.texts, self.named, self.names, first, end)

    @property
    def ids(self) -> tuple[str, ...]:
        """What the data calls its rows, as far as it does."""
        first, end = np.searchsorted(self.named, (self.first, self.end)).tolist()
        return self.names[first:end]


def plain_rows(lines: PlainLines, block: bytes, offset: int, raw_file: str, licence: str | None) -> PlainRows:
    """All plain lines of a block as rows.

    Args:
        lines: what was found in the block.
        block: its bytes.
        offset: of its first byte in the file's uncompressed stream.
        raw_file: path under the source's root.
        licence: of all rows.
    """
    count = len(lines.sizes)
    columns = {
        "text": pa.LargeStringArray.from_buffers(count, pa.py_buffer(lines.texts), pa.py_buffer(lines.text)),
        "raw_file": pa.repeat(raw_file, count),
        "raw_offset": pa.array(lines.starts + offset),
        "raw_bytes": pa.array(lines.sizes),
        "encoding": pa.repeat("utf-8", count),
        "licence": pa.repeat(pa.scalar(None if licence is None else clean(licence), pa.string()), count),
    }
    named = np.flatnonzero(lines.ids[:, 0] >= 0)
    names = tuple([block[start:end].decode() for start, end in lines.ids[named].tolist()])
    return PlainRows(_batch(columns, count, DOCUMENTS), _turns(lines), lines.texts, named, names, 0, count)


def _turns(lines: PlainLines) -> pa.RecordBatch:
    fields = {
        "role": pa.array(ROLES).take(pa.array(lines.turn_roles)),
        "start": pa.array(lines.turn_starts),
        "end": pa.array(lines.turn_ends),
    }
    count = len(lines.turn_roles)
    items = [fields.get(field.name, pa.nulls(count, field.type)) for field in TURN]
    lists = pa.ListArray.from_arrays(
        pa.array(lines.turns), pa.StructArray.from_arrays(items, fields=list(TURN)), type=pa.list_(TURN)
    )
    count = len(lines.sizes)
    return _batch({"turns": lists, "kind": pa.repeat("conversation", count)}, count, TURNS)


def _batch(columns: dict[str, pa.Array], count: int, schema: pa.Schema) -> pa.RecordBatch:
    """The columns, and nulls for others."""
    arrays = [columns[field.name] if field.name in columns else pa.nulls(count, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)
