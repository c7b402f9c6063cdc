"""MosaicML's MDS: shards `shard.%05d.mds`, a sample a row, and `index.json`.

    u32 samples  u32 offsets [samples + 1]  columns as JSON  samples

Columns are `tokens`, an array of L ids, and `valid`, how many of them come before the padding. Where documents are
aligned, padding stands between them too, and `attention_mask`, an array of L, is 1 where none is. Each has one size, so
a sample is those bytes and nothing else. Offsets are 32 bits: a shard is less than 4 GiB.

Source: mosaicml/streaming, base/format/mds/writer.py, version 2.
"""

import json
from collections.abc import Sequence
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from tokenmill.pipeline.export.rows import Gathered

INDEX = "index.json"
_VERSION = 2


def path(index: int) -> str:
    """Name of a shard."""
    return f"shard.{index:05d}.mds"


def write(file: IO[bytes], rows: Gathered, aligned: bool = False) -> None:
    """Write one shard. Raises ValueError when it would be 4 GiB or more."""
    count, length = rows.tokens.shape
    values: dict[str, npt.NDArray[Any]] = {"attention_mask": rows.real.view(np.uint8)} if aligned else {}
    values |= {"tokens": rows.tokens, "valid": rows.valid}
    sample = np.dtype([(name, value.dtype, value.shape[1:]) for name, value in values.items()])
    columns = json.dumps(_columns(length, rows.tokens.dtype, aligned), sort_keys=True).encode()
    first = 4 + 4 * (count + 1) + len(columns)
    if first + count * sample.itemsize >= 1 << 32:
        raise ValueError(
            f"an MDS shard of {count} rows is {first + count * sample.itemsize} bytes, and the format holds less than "
            "4 GiB: give a smaller --file-bytes"
        )
    samples = np.empty(count, sample)
    for name, value in values.items():
        samples[name] = value
    file.write(np.uint32(count).tobytes())
    file.write((first + np.arange(count + 1) * sample.itemsize).astype(np.uint32).data)
    file.write(columns)
    file.write(samples.view(np.uint8).data)


def index(
    length: int, dtype: np.dtype[Any], shards: Sequence[tuple[str, int, str, int]], aligned: bool = False
) -> bytes:
    """`index.json`.

    Args:
        length: tokens a row (L).
        dtype: of token ids.
        shards: (name, bytes, xxh3-128 in hex, rows) of each shard, in order.
        aligned: as they were written.
    """
    listed = [
        {
            **_columns(length, dtype, aligned),
            "raw_data": {"basename": name, "bytes": size, "hashes": {"xxh3_128": digest}},
            "samples": rows,
            "zip_data": None,
        }
        for name, size, digest, rows in shards
    ]
    return json.dumps({"version": _VERSION, "shards": listed}, sort_keys=True).encode()


def _columns(length: int, dtype: np.dtype[Any], aligned: bool) -> dict[str, Any]:
    columns = [("attention_mask", f"ndarray:uint8:{length}", length)] if aligned else []
    columns += [("tokens", f"ndarray:{dtype.name}:{length}", length * dtype.itemsize), ("valid", "int32", 4)]
    names, encodings, sizes = zip(*columns, strict=True)
    return {
        "column_encodings": encodings,
        "column_names": names,
        "column_sizes": sizes,
        "compression": None,
        "format": "mds",
        "hashes": ["xxh3_128"],
        "size_limit": None,
        "version": _VERSION,
    }
