"""Conversations for trainers that open Hugging Face `datasets`: one a row, as long as it is, without padding.

    dllm       input_ids int32, labels int64 (-100 where no answer is), attention_mask int8, prompt_len int64
    automodel  input_ids int64, loss_mask float32 (1 where an answer is), attention_mask int64

Every answer is marked, not the last one alone. `prompt_len` is how many tokens come before the first answer: dllm takes
no row whose prompt alone is longer than its `max_length`. dllm opens a DatasetDict (`load_preprocessed_data`), of which
this writes one split; Automodel's DLLMCollator takes the rows of what `datasets.load_from_disk` opens.

Source: ZHZisZZ/dllm, dllm/utils/data.py; NVIDIA-NeMo/Automodel, components/datasets/dllm/collate.py.
"""

import json

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.pipeline.export.conversations import Conversations

#: Names the splits of a DatasetDict.
DICT = "dataset_dict.json"
ROWS_PER_BATCH = 1024
IGNORED = -100
SCHEMAS = {
    "dllm": pa.schema(
        [
            pa.field("input_ids", pa.list_(pa.int32())),
            pa.field("labels", pa.list_(pa.int64())),
            pa.field("attention_mask", pa.list_(pa.int8())),
            pa.field("prompt_len", pa.int64()),
        ]
    ),
    "automodel": pa.schema(
        [
            pa.field("input_ids", pa.list_(pa.int64())),
            pa.field("loss_mask", pa.list_(pa.float32())),
            pa.field("attention_mask", pa.list_(pa.int64())),
        ]
    ),
}


def batch_of(kind: str, some: Conversations) -> pa.RecordBatch:
    """Some conversations as rows of SCHEMAS[kind]."""
    ones = np.ones(len(some.tokens), np.int64)
    marked = np.where(some.answers, some.tokens.astype(np.int64), IGNORED) if kind == "dllm" else some.answers
    flat: list[npt.NDArray[np.generic]] = [some.tokens, marked, ones]
    offsets = pa.array(some.offsets.astype(np.int32))
    schema = SCHEMAS[kind]
    columns: list[pa.Array] = [
        pa.ListArray.from_arrays(offsets, pa.array(values.astype(field.type.value_type.to_pandas_dtype())))
        for values, field in zip(flat, schema, strict=False)
    ]
    if kind == "dllm":
        columns.append(pa.array(some.prompt_lengths()))
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def splits(split: str) -> bytes:
    """`dataset_dict.json`."""
    return json.dumps({"splits": [split]}).encode()
