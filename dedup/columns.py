"""Arrow columns as NumPy arrays, without a copy."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa

U8 = npt.NDArray[np.uint8]


def fixed_bytes(column: pa.FixedSizeBinaryArray, what: str) -> U8:
    """Values of w bytes each as uint8[n, w], a view of the column. Raises ValueError, with `what`, if one is null."""
    if column.null_count:
        raise ValueError(f"{column.null_count} of {len(column)} {what} are null: pass rows with text only")
    data, width = column.buffers()[1], column.type.byte_width
    start = column.offset * width
    flat = np.frombuffer(data, np.uint8)[start : start + len(column) * width] if data else np.empty(0, np.uint8)
    return flat.reshape(-1, width)
