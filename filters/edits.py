"""Apply byte-span edits to texts: the one way in which any text changes."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.filters.eight_bytes import copy_bytes
from tokenmill.kernels import kernel

VERSION = 1

U8 = npt.NDArray[np.uint8]
I64 = npt.NDArray[np.int64]


def apply_edits(texts: pa.LargeStringArray, edits: pa.RecordBatch | pa.Table, first_row: int) -> pa.LargeStringArray:
    """Texts with each span replaced.

    Args:
        texts: n texts; text i is row `first_row + i` of its part.
        edits: of schema EDITS, sorted by (row, start), none overlapping, all in rows of `texts`.
        first_row: row of the first text.

    Returns:
        n texts; null where the text was.

    Raises:
        AssertionError: the edits are not sorted, overlap, or lie outside their text or inside a character.
    """
    if edits.num_rows == 0:
        return texts
    if isinstance(edits, pa.Table):
        (edits,) = edits.combine_chunks().to_batches()
    offsets, data = text_buffers(texts)
    rows = edits.column("row").to_numpy().astype(np.int64) - first_row
    starts, ends = edits.column("start").to_numpy(), edits.column("end").to_numpy()
    _check(texts, offsets, data, rows, starts, ends)
    places, marks = text_buffers(edits.column("replacement").cast(pa.large_string()))
    starts.flags.writeable = ends.flags.writeable = False  # to Numba a writable array is another type
    size = offsets[-1] - offsets[0] - (ends - starts).sum() + places[-1] - places[0]
    edited, edited_offsets = np.empty(size, np.uint8), np.empty(len(offsets), np.int64)
    _apply(data, offsets, rows, starts, ends, marks, places, edited, edited_offsets)
    return texts_from_buffers(edited_offsets, edited, texts)


@kernel
def _apply(
    data: U8, offsets: I64, rows: I64, starts: I64, ends: I64, marks: U8, places: I64, out: U8, out_offsets: I64
) -> None:
    """Fill `out`, uint8, and `out_offsets`, int64[n + 1]; replacement k is at `places` int64[m + 1] in `marks`."""
    size = edit = 0
    for row in range(len(offsets) - 1):
        out_offsets[row] = size
        position = offsets[row]
        while edit < len(rows) and rows[edit] == row:
            size = copy_bytes(data, position, offsets[row] + starts[edit], out, size)
            size = copy_bytes(marks, places[edit], places[edit + 1], out, size)
            position = offsets[row] + ends[edit]
            edit += 1
        size = copy_bytes(data, position, offsets[row + 1], out, size)
    out_offsets[len(offsets) - 1] = size


def text_buffers(texts: pa.LargeStringArray) -> tuple[I64, U8]:
    """Arrow's own buffers, read-only: n + 1 int64 offsets into the uint8 bytes (the first need not be 0)."""
    _, offset_buffer, data_buffer = texts.buffers()
    offsets, data = np.zeros(1, np.int64), np.zeros(0, np.uint8)
    if len(texts) > 0:
        offsets = np.frombuffer(offset_buffer, np.int64)[texts.offset : texts.offset + len(texts) + 1]
    if len(texts) > 0 and data_buffer is not None and data_buffer.size > 0:
        data = np.frombuffer(data_buffer, np.uint8)
    offsets.flags.writeable = data.flags.writeable = False  # to Numba a writable array is another type
    return offsets, data


def _check(texts: pa.LargeStringArray, offsets: I64, data: U8, rows: I64, starts: I64, ends: I64) -> None:
    assert rows.min() >= 0, "an edit's row is before the first text"
    assert rows.max() < len(texts), "an edit's row is after the last text"
    valid = texts.is_valid().to_numpy(zero_copy_only=False)
    assert bool(valid[rows].all()), "an edit's row has no text"
    lengths = np.diff(offsets)[rows]
    assert bool(((starts >= 0) & (starts <= ends) & (ends <= lengths)).all()), "an edit's span is outside its text"
    later = rows[1:] > rows[:-1]
    assert bool((later | ((rows[1:] == rows[:-1]) & (starts[1:] >= ends[:-1]))).all()), (
        "edits overlap or are not sorted"
    )
    for spot in (starts, ends):
        inside = spot < lengths
        byte = data[(offsets[rows] + spot)[inside]]
        assert bool(((byte & 0xC0) != 0x80).all()), "an edit's span begins or ends inside a character"


def texts_from_buffers(offsets: I64, data: U8, like: pa.LargeStringArray) -> pa.LargeStringArray:
    """The texts at `offsets` int64[n + 1] in `data`, which are not copied; null where `like` is."""
    valid = None
    if like.null_count:
        valid = pa.py_buffer(np.packbits(like.is_valid().to_numpy(zero_copy_only=False), bitorder="little"))
    buffers = (pa.py_buffer(offsets), pa.py_buffer(data), valid)
    return pa.LargeStringArray.from_buffers(len(like), *buffers, like.null_count)
