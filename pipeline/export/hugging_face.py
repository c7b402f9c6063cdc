"""Hugging Face `datasets`, as `save_to_disk` leaves it: mdlm and bd3lms open it with `load_from_disk`.

`data-%05d-of-%05d.arrow` (Arrow IPC streams, not compressed: they are mapped into memory), `dataset_info.json` and
`state.json`. Columns are `input_ids`, L ids of the width they are stored in (the `torch` format makes int64 of it), and
`attention_mask`, int8, 1 where no padding is.

Source: huggingface/datasets, arrow_dataset.py.
"""

import json
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import pyarrow as pa

from tokenmill.pipeline.export.rows import Gathered

INFO = "dataset_info.json"
STATE = "state.json"


def path(index: int, files: int) -> str:
    """Name of a data file."""
    return f"data-{index:05d}-of-{files:05d}.arrow"


def write(file: IO[bytes], rows: Gathered) -> None:
    """Write one data file."""
    length = rows.tokens.shape[1]
    mask = rows.real.view(np.int8)
    values = {"input_ids": pa.array(rows.tokens.reshape(-1)), "attention_mask": pa.array(mask.reshape(-1))}
    columns = [pa.FixedSizeListArray.from_arrays(value, length) for value in values.values()]
    features = {"info": {"features": _features(length, rows.tokens.dtype)}}
    schema = pa.schema(
        [pa.field(name, column.type) for name, column in zip(values, columns, strict=True)],
        metadata={"huggingface": json.dumps(features, sort_keys=True)},
    )
    with pa.ipc.new_stream(file, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))


def info(length: int, dtype: np.dtype[Any]) -> bytes:
    """`dataset_info.json`."""
    value = {"citation": "", "description": "", "features": _features(length, dtype), "homepage": "", "license": ""}
    return json.dumps(value, sort_keys=True, indent=2).encode()


def state(split: str, fingerprint: str, names: Sequence[str]) -> bytes:
    """`state.json`; the fingerprint names the content, 16 hex digits."""
    value: dict[str, Any] = {
        "_data_files": [{"filename": name} for name in names],
        "_fingerprint": fingerprint,
        "_format_columns": None,
        "_format_kwargs": {},
        "_format_type": None,
        "_output_all_columns": False,
        "_split": split,
    }
    return json.dumps(value, sort_keys=True, indent=2).encode()


def _features(length: int, dtype: np.dtype[Any]) -> dict[str, Any]:
    """Every version of the library reads `Sequence`; newer ones call it `List`."""
    return {
        name: {"_type": "Sequence", "feature": {"_type": "Value", "dtype": kind}, "length": length}
        for name, kind in (("input_ids", dtype.name), ("attention_mask", "int8"))
    }
