"""What is exported is what the shards hold: by readers written from the formats, and by their own where installed."""

import json
import warnings
from pathlib import Path
from types import ModuleType

import datasets
import numpy as np
import pytest

from tests.pipeline.export.small_export import LENGTH, exported, held, read_mds, read_megatron, read_smdm
from tests.pipeline.runs import newest
from tokenmill.pipeline.loader import open_mixture

SPLITS = ("train", "validation")


def library(name: str) -> ModuleType:
    """A trainer's own library, which warns of much while it is imported; the test is skipped where it is not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def packed(run: Path, split: str) -> int:
    """Tokens of a split, as the balance sheet has them."""
    sheets = newest(run).value["balance"].values()
    return sum(tokens for sheet in sheets for name, tokens in sheet["tokens"].items() if name.split("/")[0] == split)


def is_aligned(real: np.ndarray) -> bool:
    """Whether there is padding before a token."""
    return bool((real[:, 1:] > real[:, :-1]).any())


def test_the_runs_are_not_too_simple(run: Path):
    for split in SPLITS:
        found = held(run, split)
        assert len(found.documents) >= 3
        assert not found.real.all()
        documents = [document for unit in found.documents.values() for document in unit]
        assert max(map(len, documents)) > 3 * LENGTH
        assert min(map(len, documents)) < LENGTH


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("kind", ["smdm", "datasets", "mds", "megatron"])
def test_the_counts_are_the_balance_sheets(run: Path, tmp_path: Path, split: str, kind: str):
    done = exported(run, kind, tmp_path, split)
    found = held(run, split)
    assert done["rows"] == len(found.tokens)
    assert done["tokens"] == packed(run, split) == found.real.sum()
    assert done["documents"] == sum(map(len, found.documents.values()))
    assert done["padding_tokens"] == (0 if kind == "megatron" else found.tokens.size - found.real.sum())
    there = {str(path.relative_to(tmp_path)): path for path in tmp_path.rglob("*") if not path.is_dir()}
    assert {file["path"]: file["bytes"] for file in done["files"]} | {"export.json": done["bytes"]} == {
        name: done["bytes"] if name == "export.json" else path.stat().st_size for name, path in there.items()
    }
    assert done["bytes"] == sum(file["bytes"] for file in done["files"])
    assert not (tmp_path / "tmp").exists()


@pytest.mark.parametrize("split", SPLITS)
def test_smdm(run: Path, tmp_path: Path, split: str):
    exported(run, "smdm", tmp_path, split)
    tokens = read_smdm(tmp_path / f"{split}_0000000000.bin")
    assert np.array_equal(tokens.reshape(-1, LENGTH), held(run, split).tokens)


def test_smdm_files_have_one_size(small_run: Path, tmp_path: Path):
    rows = held(small_run).tokens
    size = next(size for size in range(7, len(rows)) if len(rows) % size)
    done = exported(small_run, "smdm", tmp_path, file_bytes=size * LENGTH * 2 + 1)
    files = sorted(tmp_path.glob("train_*.bin"))
    assert [file["path"] for file in done["files"]] == [file.name for file in files]
    assert len(files) == -(-len(rows) // size)
    tokens = np.concatenate([read_smdm(file) for file in files]).reshape(-1, LENGTH)
    assert len({file.stat().st_size for file in files}) == 1
    assert np.array_equal(tokens[: len(rows)], rows)
    filled = tokens[len(rows) :]
    assert len(filled) > 0
    assert (filled == done["special_ids"]["eos"]).all()
    assert done["padding_tokens"] == tokens.size - done["tokens"]


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("file_bytes", [None, 1, 5000])
def test_datasets(run: Path, tmp_path: Path, split: str, file_bytes: int | None):
    exported(run, "datasets", tmp_path, split, file_bytes=file_bytes)
    opened = datasets.load_from_disk(str(tmp_path))
    found = held(run, split)
    assert opened.column_names == ["input_ids", "attention_mask"]
    assert opened.split == split
    arrays = opened.with_format("numpy")[:]
    assert np.array_equal(arrays["input_ids"], found.tokens)
    assert np.array_equal(arrays["attention_mask"], found.real)


def test_datasets_as_torch_takes_them(small_run: Path, tmp_path: Path):
    torch = pytest.importorskip("torch")
    exported(small_run, "datasets", tmp_path)
    row = datasets.load_from_disk(str(tmp_path)).with_format("torch")[3]
    found = held(small_run)
    assert (row["input_ids"].dtype, row["attention_mask"].dtype) == (torch.int64, torch.int64)
    assert row["input_ids"].tolist() == found.tokens[3].tolist()
    assert row["attention_mask"].sum() == found.real[3].sum()


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("file_bytes", [None, 5000])
def test_mds(run: Path, tmp_path: Path, split: str, file_bytes: int | None):
    exported(run, "mds", tmp_path, split, file_bytes=file_bytes)
    samples = read_mds(tmp_path)
    found = held(run, split)
    assert np.array_equal([sample["tokens"] for sample in samples], found.tokens)
    assert [sample["valid"] for sample in samples] == found.real.sum(axis=1).tolist()
    if is_aligned(found.real):
        assert np.array_equal([sample["attention_mask"] for sample in samples], found.real)


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_mds_by_mosaicml(run: Path, tmp_path: Path):
    streaming = library("streaming")  # it leaves files open
    exported(run, "mds", tmp_path, file_bytes=5000)
    found = held(run)
    samples = list(streaming.LocalDataset(str(tmp_path)))
    assert np.array_equal([sample["tokens"] for sample in samples], found.tokens)
    assert [sample["valid"] for sample in samples] == found.real.sum(axis=1).tolist()
    if is_aligned(found.real):
        assert np.array_equal([sample["attention_mask"] for sample in samples], found.real)
    hashing = library("streaming.base.hashing")
    for shard in json.loads((tmp_path / "index.json").read_text())["shards"]:
        file = shard["raw_data"]
        assert hashing.get_hash("xxh3_128", (tmp_path / file["basename"]).read_bytes()) == file["hashes"]["xxh3_128"]


@pytest.mark.parametrize("split", SPLITS)
def test_megatron(run: Path, tmp_path: Path, split: str):
    exported(run, "megatron", tmp_path, split)
    found = held(run, split).documents
    assert len(list(tmp_path.rglob("*.bin"))) == len(found)
    for (component, unit), documents in found.items():
        read = read_megatron(tmp_path / component / unit)
        assert [document.tolist() for document in read] == documents


def test_megatron_by_megatron(run: Path, tmp_path: Path):
    megatron = library("megatron.core.datasets.indexed_dataset")
    exported(run, "megatron", tmp_path)
    for (component, unit), documents in held(run).documents.items():
        read = megatron.IndexedDataset(str(tmp_path / component / unit), mmap=True)
        assert [document.tolist() for document in read] == documents
        assert read.document_indices.tolist() == list(range(len(documents) + 1))


def test_megatrons_blend_is_the_mixture(small_run: Path, tmp_path: Path):
    exported(small_run, "megatron", tmp_path)
    lines = [line.split() for line in (tmp_path / "blend.txt").read_text().splitlines()]
    tokens = {prefix: sum(map(len, read_megatron(tmp_path / prefix))) for _, prefix in lines}
    assert len(tokens) == len(list(tmp_path.rglob("*.bin"))) > 2
    for source, weight in (("notes", 3), ("stories", 1)):
        whole = sum(count for prefix, count in tokens.items() if prefix.startswith(source))
        for share, prefix in lines:
            if prefix.startswith(source):
                assert float(share) == pytest.approx(weight * tokens[prefix] / whole)


def test_one_source(small_run: Path, tmp_path: Path):
    done = exported(small_run, "smdm", tmp_path, sources=("stories",))
    tokens = read_smdm(tmp_path / "train_0000000000.bin").reshape(-1, LENGTH)
    assert np.array_equal(tokens, held(small_run, sources=("stories",)).tokens)
    assert done["sources"] == ["stories"]


@pytest.mark.parametrize("kind", ["smdm", "mds"])
def test_the_first_rows_are_those_of_the_loader(small_run: Path, tmp_path: Path, kind: str):
    """More of them than the run has: its mixture repeats."""
    count = 2 * len(held(small_run).tokens) // 16 * 16
    done = exported(small_run, kind, tmp_path, num_rows=count, file_bytes=9000)
    if kind == "smdm":
        chunks = [read_smdm(file) for file in sorted(tmp_path.glob("*.bin"))]
        rows = np.concatenate(chunks).reshape(-1, LENGTH)[:count]
    else:
        rows = np.array([sample["tokens"] for sample in read_mds(tmp_path)])
    clean = [batch.clean for batch in open_mixture(str(small_run), batch_size=16, total_rows=count, mask_token_id=1)]
    assert np.array_equal(rows, np.concatenate(clean))
    assert done["rows"] == count
    assert done["order"] == f"first {count} rows of the mixture"
