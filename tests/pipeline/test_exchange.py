"""The exchange: records come back by partition, whatever merges on the way."""

import tempfile
from collections.abc import Sequence
from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.dedup_tables import local, recipe_of
from tokenmill.manifests.receipts import Output
from tokenmill.pipeline import exchange
from tokenmill.pipeline.dedup_rounds.edges import Context
from tokenmill.pipeline.dedup_rounds.merge import merged, of_partition, send
from tokenmill.pipeline.exchange import num_partitions, read_partition, read_records
from tokenmill.pipeline.recipe import Dedup
from tokenmill.pipeline.storage import Storage


def write(storage: Storage, files: Sequence[Sequence[int]], partitions: int) -> list[Output]:
    """A file for each list of partitions: a record is its file and place."""
    outputs = []
    for index, targets in enumerate(files):
        key = np.arange(len(targets), dtype=np.uint64) + np.uint64(1000 * index)
        wide = np.repeat(key.astype(np.uint32)[:, None], 3, axis=1)
        partition = np.array(targets, np.int64)
        outputs.append(send(storage, "file", f"f{index}", {"key": key, "wide": wide}, partition, partitions))
    return outputs


@settings(max_examples=40)
@given(st.integers(1, 11), st.data())
def test_merged_files_hold_what_the_files_held(partitions: int, data: st.DataObject) -> None:
    files = data.draw(st.lists(st.lists(st.integers(0, partitions - 1), max_size=8), min_size=1, max_size=7))
    fan_out = data.draw(st.integers(1, 12))
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(exchange, "FAN_OUT", fan_out):
        storage = Storage(folder)
        outputs = write(storage, files, partitions)
        runner = local(storage, recipe_of(Dedup()))
        found = merged(Context(runner.recipe, (), runner.submit, {}), "test", outputs, partitions)
        groups = -(-len(files) // fan_out) if partitions > fan_out else len(files)
        for index in range(partitions):
            mine = of_partition(found, index)
            assert len(mine) == groups
            expected = [
                1000 * f + row for f, targets in enumerate(files) for row, to in enumerate(targets) if to == index
            ]
            arrays = read_partition(storage, mine, index)
            assert arrays["key"].tolist() == expected
            assert arrays["wide"].tolist() == [[number] * 3 for number in expected]
            assert sum(exchange.rows_in(output, index) for output in mine) == len(expected)
            for array in (read_partition(storage, outputs, index)["key"], read_partition(storage, found, index)["key"]):
                assert array.tolist() == expected
            assert list(read_partition(storage, mine, index, ["wide"])) == ["wide"]


def test_no_file_is_no_record(tmp_path: object) -> None:
    found = read_records(Storage(str(tmp_path)), [], 3, {"number": "uint64", "equal": "int32"})
    assert [(name, str(array.dtype), len(array)) for name, array in found.items()] == [
        ("number", "uint64", 0),
        ("equal", "int32", 0),
    ]


@pytest.mark.parametrize(("size", "partitions"), [(0, 1), (1, 1), (256 << 20, 1), ((256 << 20) + 1, 2)])
def test_partitions_follow_the_bytes_alone(size: int, partitions: int) -> None:
    assert num_partitions(size) == partitions
