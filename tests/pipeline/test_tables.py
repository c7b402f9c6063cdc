"""Tables at rest: what is damaged is named, never read over."""

import re
from pathlib import Path

import pyarrow as pa
import pytest

from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import open_groups, read_table, write_table


def test_no_flipped_or_missing_byte_of_a_page_is_read_over(tmp_path: Path) -> None:
    """Numbers that do not compress, such as signatures, are what zstd would hand out with any bit flipped."""
    storage = Storage(str(tmp_path))
    numbers = pa.array([key * 0x9E3779B97F4A7C15 % (1 << 64) for key in range(60)], pa.uint64())
    table = pa.table({"number": numbers})
    output = write_table(storage, "t", "t.parquet", table)
    path = tmp_path / "t.parquet"
    written = path.read_bytes()
    footer = len(written) - 8 - int.from_bytes(written[-8:-4], "little")
    named = "(?s)" + re.escape(f"cannot read {path}: ") + ".*delete it and run that run's recipe again"
    told = []
    for place in range(footer):
        flipped = bytearray(written)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        try:
            assert read_table(storage, output.path).equals(table)
        except ValueError as error:
            told.append(str(error))
    assert len(told) > footer // 2
    assert all(re.match(named, one) for one in told)
    for length in (0, 10, footer, len(written) - 1):
        path.write_bytes(written[:length])
        with pytest.raises(ValueError, match=named), open_groups(storage, output.path) as groups:
            groups.read(0)
