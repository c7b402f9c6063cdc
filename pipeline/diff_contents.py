"""Which documents of a part are not the same in two versions: by content hash, and of conversations by their turns."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.chat.turns import differing
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table


def compare_contents(
    storages: Sequence[Storage], tables: Sequence[Mapping[str, Output]]
) -> tuple[tuple[int, int], npt.NDArray[np.bool_]]:
    """Rows of a part in two versions, and of those in both which are changed.

    Args:
        storages: of each version.
        tables: the part's, in each.
    """
    one, two = (_hashes(storage, some) for storage, some in zip(storages, tables, strict=True))
    common = min(len(one), len(two))
    # gated in one of them, it has no hash there; that is told by what became of it
    unequal = pc.not_equal(one[:common], two[:common])
    changed: npt.NDArray[np.bool_] = pc.fill_null(unequal, False).to_numpy(zero_copy_only=False).copy()
    written = [some["turns"].hash if "turns" in some else None for some in tables]
    if None not in written and written[0] != written[1]:
        turns = [_turns(storage, some)[:common] for storage, some in zip(storages, tables, strict=True)]
        changed |= differing(*turns) & unequal.is_valid().to_numpy(zero_copy_only=False)
    return (len(one), len(two)), changed


def _hashes(storage: Storage, tables: Mapping[str, Output]) -> pa.Array:
    return read_table(storage, tables["signals/hashes"].path, ["content_hash"]).column(0).combine_chunks()


def _turns(storage: Storage, tables: Mapping[str, Output]) -> pa.RecordBatch:
    table = read_table(storage, tables["turns"].path).combine_chunks()
    return table.to_batches()[0] if table.num_rows else pa.RecordBatch.from_pylist([], schema=table.schema)
