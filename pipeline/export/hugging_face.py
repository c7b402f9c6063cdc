"""Hugging Face `datasets`, as `save_to_disk` leaves it: mdlm and bd3lms open it with `load_from_disk`.

`data-%05d-of-%05d.arrow` (Arrow IPC streams, not compressed: they are mapped into memory), `dataset_info.json` and
`state.json`. Columns are `input_ids`, L ids of the width they are stored in (the `torch` format makes int64 of it), and
`attention_mask`, int8, 1 where no padding is.

Source: huggingface/datasets, arrow_dataset.py.
"""

import json
from collections.abc import Iterable, Sequence
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
    schema = row_schema(length, rows.tokens.dtype)
    values = (pa.array(rows.tokens.reshape(-1)), pa.array(mask.reshape(-1)))
    columns = [pa.FixedSizeListArray.from_arrays(value, length) for value in values]
    write_stream(file, schema, [pa.RecordBatch.from_arrays(columns, schema=schema)])


def row_schema(length: int, dtype: np.dtype[Any]) -> pa.Schema:
    """Of rows of `length` tokens."""
    ids, mask = pa.list_(pa.from_numpy_dtype(dtype), length), pa.list_(pa.int8(), length)
    return pa.schema([pa.field("input_ids", ids), pa.field("attention_mask", mask)])


def write_stream(file: IO[bytes], schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write one data file of the columns of `schema`."""
    features = {"info": {"features": _features(schema)}}
    told = schema.with_metadata({"huggingface": json.dumps(features, sort_keys=True)})
    with pa.ipc.new_stream(file, told) as writer:
        for batch in batches:
            writer.write_batch(pa.RecordBatch.from_arrays(batch.columns, schema=told))


def info(schema: pa.Schema) -> bytes:
    """`dataset_info.json`."""
    value = {"citation": "", "description": "", "features": _features(schema), "homepage": "", "license": ""}
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


def _features(schema: pa.Schema) -> dict[str, Any]:
    return {field.name: _feature(field.type) for field in schema}


def _feature(kind: pa.DataType) -> dict[str, Any]:
    """Every version of the library reads `Sequence`; newer ones call it `List`."""
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        length = kind.list_size if pa.types.is_fixed_size_list(kind) else -1
        return {"_type": "Sequence", "feature": _feature(kind.value_type), "length": length}
    return {"_type": "Value", "dtype": np.dtype(kind.to_pandas_dtype()).name}
