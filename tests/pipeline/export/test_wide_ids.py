"""Files of rows whose ids pass 65,535."""

import json
from pathlib import Path

import datasets
import numpy as np
import pytest

from tests.pipeline.export.small_export import read_mds, read_smdm
from tokenmill.pipeline.export import hugging_face, mds, smdm
from tokenmill.pipeline.export.rows import Gathered

TOKENS = np.array([[0, 65535, 65536, 100_000], [5, 0, 0, 0]], np.uint32)
ROWS = Gathered(TOKENS, np.array([[1, 1, 1, 1], [1, 0, 0, 0]], bool), 2)


def test_smdm(tmp_path: Path):
    with (tmp_path / "a.bin").open("wb") as file:
        smdm.write(file, TOKENS, 3, 7)
    tokens = read_smdm(tmp_path / "a.bin")
    assert tokens.dtype == np.int32
    assert tokens.reshape(3, 4).tolist() == [*TOKENS.tolist(), [7] * 4]


def test_mds(tmp_path: Path):
    with (tmp_path / mds.path(0)).open("wb") as file:
        mds.write(file, ROWS)
    size = (tmp_path / mds.path(0)).stat().st_size
    (tmp_path / mds.INDEX).write_bytes(mds.index(4, TOKENS.dtype, [(mds.path(0), size, "0" * 32, 2)]))
    assert [sample["tokens"].tolist() for sample in read_mds(tmp_path)] == TOKENS.tolist()
    assert [sample["valid"] for sample in read_mds(tmp_path)] == [4, 1]


def test_a_shard_of_mds_stays_below_4_gib(tmp_path: Path):
    shape = (1 << 15, 1 << 16)
    rows = Gathered(np.broadcast_to(np.uint16(0), shape), np.broadcast_to(np.False_, shape), 0)
    with (tmp_path / "a").open("wb") as file, pytest.raises(ValueError, match="smaller --file-bytes"):
        mds.write(file, rows)


def test_datasets(tmp_path: Path):
    with (tmp_path / hugging_face.path(0, 1)).open("wb") as file:
        hugging_face.write(file, ROWS)
    (tmp_path / hugging_face.INFO).write_bytes(hugging_face.info(hugging_face.row_schema(4, TOKENS.dtype)))
    (tmp_path / hugging_face.STATE).write_bytes(hugging_face.state("train", "0" * 16, [hugging_face.path(0, 1)]))
    opened = datasets.load_from_disk(str(tmp_path))
    assert opened["input_ids"][:] == TOKENS.tolist()
    assert opened["attention_mask"][:] == [[1, 1, 1, 1], [1, 0, 0, 0]]
    assert (
        json.loads((tmp_path / hugging_face.INFO).read_text())["features"]["input_ids"]["feature"]["dtype"] == "uint32"
    )
