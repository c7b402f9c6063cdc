"""The exchange: records come back by partition, whatever merges on the way."""

import random
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
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


def test_no_flipped_or_missing_byte_is_read_over(tmp_path: Path) -> None:
    """Each byte of a file, changed: the records come back as written, or the file is named and what to do."""
    storage = Storage(str(tmp_path))
    (output,) = write(storage, [[0, 2, 2, 0]], 3)
    written = (tmp_path / output.path).read_bytes()

    def read(at: int) -> dict[str, list[object]]:
        return {name: array.tolist() for name, array in read_partition(storage, [output], at).items()}

    as_written = [read(at) for at in range(3)]
    rng, told = random.Random(1), []
    for place in range(len(written)):
        flipped = bytearray(written)
        flipped[place] ^= 1 << rng.randrange(8)
        (tmp_path / output.path).write_bytes(flipped)
        for at in range(3):
            try:
                assert read(at) == as_written[at]
            except ValueError as error:
                told.append(str(error))
    assert len(told) > len(written) // 2
    assert all(one.startswith(f"cannot read {tmp_path}/{output.path}, which a round") for one in told)
    for length in (0, 7, len(written) // 2, len(written) - 1):
        (tmp_path / output.path).write_bytes(written[:length])
        message = rf"it has {length} of the {len(written)} bytes in its receipt\); .*delete it and run again"
        with pytest.raises(ValueError, match=message):
            read_partition(storage, [output], 0)
    (tmp_path / output.path).unlink()
    with pytest.raises(ValueError, match=re.escape("(it is not there)")):
        read_partition(storage, [output], 1)


def test_a_file_that_is_merged_is_checked(tmp_path: Path) -> None:
    storage = Storage(str(tmp_path))
    outputs = write(storage, [[0, 1, 2], [2, 1, 0]], 3)
    whole = exchange.merge_stretch(storage, "whole", outputs, 1, 2)
    assert read_partition(storage, [whole], 2)["key"].tolist() == [2, 1000]
    written, told = (tmp_path / outputs[1].path).read_bytes(), []
    for place in range(0, len(written), 7):
        flipped = bytearray(written)
        flipped[place] ^= 16
        (tmp_path / outputs[1].path).write_bytes(flipped)
        try:
            assert exchange.merge_stretch(storage, "whole", outputs, 1, 2) == whole
        except ValueError as error:
            told.append(str(error))
    assert len(told) > len(written) // 21
    assert all(one.startswith(f"cannot read {tmp_path}/f1, which a round") for one in told)


def test_no_file_is_no_record(tmp_path: object) -> None:
    found = read_records(Storage(str(tmp_path)), [], 3, {"number": "uint64", "equal": "int32"})
    assert [(name, str(array.dtype), len(array)) for name, array in found.items()] == [
        ("number", "uint64", 0),
        ("equal", "int32", 0),
    ]


@pytest.mark.parametrize(("size", "partitions"), [(0, 1), (1, 1), (256 << 20, 1), ((256 << 20) + 1, 2)])
def test_partitions_follow_the_bytes_alone(size: int, partitions: int) -> None:
    assert num_partitions(size) == partitions
