"""TinyLlama's packed dataset, which SMDM trains on: chunks of tokens, `<split>_%010d.bin`.

    "LITPKDS"  u64 version 1  u8 dtype  u64 chunk size (tokens)  tokens

Its reader takes the chunk size of the first file for all, so every file has the same number of rows: the last one is
filled up with rows of padding. A chunk is a whole number of rows: a reader whose blocks have L tokens gets our rows.
Both trainers read blocks of their `block_size` + 1 tokens, so pack with `length: block_size + 1`.

Source: jzhang38/TinyLlama, lit_gpt/packed_dataset.py.
"""

from typing import IO

import numpy as np

from tokenmill.pipeline.export.rows import Tokens

_MAGIC = b"LITPKDS"
_VERSION = 1
#: Codes of NumPy's types; the format has no uint32, but ids stay below 2^31.
_CODES = {np.dtype(np.uint16): 8, np.dtype(np.int32): 4}


def path(split: str, index: int) -> str:
    """Name of a chunk."""
    return f"{split}_{index:010d}.bin"


def write(file: IO[bytes], tokens: Tokens, rows: int, pad_id: int) -> None:
    """Write one chunk of `rows` rows; what `tokens` does not fill is padding."""
    values = tokens if tokens.dtype == np.uint16 else tokens.view(np.int32)
    length = tokens.shape[1]
    size = rows * length
    header = _VERSION.to_bytes(8, "little") + bytes([_CODES[values.dtype]]) + size.to_bytes(8, "little")
    file.write(_MAGIC + header)
    file.write(values.data)
    file.write(np.full(size - values.size, pad_id, values.dtype).data)
