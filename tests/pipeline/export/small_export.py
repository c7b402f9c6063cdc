"""A small run to export, what its shards hold by the slow obvious reading, and readers written from the formats."""

import json
import struct
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from tests.pipeline.corpus import prose, write_texts
from tests.pipeline.runs import newest, run_inline
from tokenmill.pipeline.export.selection import select_shards
from tokenmill.pipeline.export.writing import export
from tokenmill.pipeline.scan import opening
from tokenmill.pipeline.storage import Storage

LENGTH = 64
RECIPE = """
name: small
output: unused
seed: 5
part_bytes: 8KiB
tokenizer: {train: {vocab_size: 400, sample_bytes: 1MiB}}
sources:
  - {name: notes, reader: jsonl, paths: ["FOLDER/notes/*.jsonl"]}
  - {name: stories, reader: jsonl, paths: ["FOLDER/stories/*.jsonl"]}
strata: {validation_fraction: 0.2}
sequences: {length: 64, align: ALIGN, unit_bytes: 16KiB}
mixture: {weights: {notes: 3, stories: 1}, max_epochs: 40}
"""


def write_run(folder: Path, align: int = 1) -> Path:
    """A published run of two sources and several units; some documents are longer than a row. Returns its folder."""
    for source, sentences in (("notes", 2), ("stories", 30)):
        for number in range(4):
            texts = [prose(f"{source} {number} {i}", 1 + i % sentences) for i in range(30)]
            write_texts(folder / source / f"{number}.jsonl", texts)
    recipe = folder / "recipe.yaml"
    recipe.write_text(RECIPE.replace("FOLDER", str(folder)).replace("ALIGN", str(align)))
    run_inline(recipe, folder / "run")
    return folder / "run"


@dataclass
class Held:
    """What a run's shards hold, read as ordinary Arrow files.

    Attributes:
        tokens: [rows, L].
        real: bool [rows, L], tokens of documents.
        documents: by component and unit, tokens of each document, in the order of their first pieces.
    """

    tokens: np.ndarray
    real: np.ndarray
    documents: dict[tuple[str, str], list[list[int]]]


def held(run: Path, split: str = "train", sources: tuple[str, ...] = ("notes", "stories")) -> Held:
    """Read a run's shards."""
    shards = pq.read_table(run / newest(run).value["shards"]).to_pylist()
    align = yaml.safe_load(newest(run).value["recipe"])["sequences"]["align"]
    tokens, real = [], []
    pieces: dict[tuple[str, str], dict[tuple[int, int], list[tuple[int, list[int]]]]] = defaultdict(dict)
    first: dict[tuple[str, str], list[tuple[int, int]]] = defaultdict(list)
    for shard in shards:
        source, found = shard["component"].split("/")[:2]
        if found != split or source not in sources:
            continue
        unit = (shard["component"], shard["unit"])
        for row in pa.ipc.open_file(run / shard["path"]).read_all().to_pylist():
            tokens.append(row["tokens"])
            real.append([False] * LENGTH)
            at = 0
            listed = (row["document_parts"], row["document_rows"], row["document_starts"], row["document_lengths"])
            for part, number, start, length in zip(*listed, strict=True):
                while at % align:
                    at += 1
                real[-1][at : at + length] = [True] * length
                pieces[unit].setdefault((part, number), []).append((start, row["tokens"][at : at + length]))
                at += length
                if start == 0:
                    first[unit].append((part, number))
    documents = {
        unit: [[token for _, piece in sorted(pieces[unit][one]) for token in piece] for one in ones]
        for unit, ones in first.items()
    }
    return Held(np.array(tokens), np.array(real), documents)


def exported(
    run: Path,
    kind: Any,
    output: Path,
    split: str = "train",
    sources: tuple[str, ...] = (),
    length: int | None = None,
    **more: Any,
) -> dict[str, Any]:
    """Export in this process; what the marker says."""
    selection = select_shards(Storage(str(run)), sources, split, length)
    return export(selection, kind, Storage(str(output)), opening("inline", None, None, True), **more)


def read_smdm(path: Path) -> np.ndarray:
    """Tokens of one chunk, by its header."""
    data = path.read_bytes()
    magic, version, code, size = struct.unpack("<7sQBQ", data[:24])
    assert (magic, version) == (b"LITPKDS", 1)
    tokens = np.frombuffer(data, {8: "<u2", 4: "<i4"}[code], offset=24)
    assert len(tokens) == size
    return tokens


def read_mds(folder: Path) -> list[dict[str, Any]]:
    """Samples of all shards, each found by its offset."""
    found = []
    index = json.loads((folder / "index.json").read_text())
    assert index["version"] == 2
    for shard in index["shards"]:
        data = (folder / shard["raw_data"]["basename"]).read_bytes()
        assert len(data) == shard["raw_data"]["bytes"]
        *masks, tokens_kind, valid_kind = shard["column_encodings"]
        assert shard["column_names"] == ["attention_mask"] * len(masks) + ["tokens", "valid"]
        kind, dtype, length = tokens_kind.split(":")
        assert (kind, valid_kind, shard["column_sizes"][-1]) == ("ndarray", "int32", 4)
        assert masks in ([], [f"ndarray:uint8:{length}"])
        before = int(length) * len(masks)
        count = struct.unpack_from("<I", data)[0]
        assert count == shard["samples"]
        offsets = struct.unpack_from(f"<{count + 1}I", data, 4)
        stated = json.loads(data[4 + 4 * (count + 1) : offsets[0]])
        assert stated == {name: shard[name] for name in stated}
        assert offsets[-1] == len(data)
        for begin, end in pairwise(offsets):
            assert end - begin == sum(shard["column_sizes"])
            tokens = np.frombuffer(data[begin + before : end - 4], dtype)
            assert len(tokens) == int(length)
            sample = {"tokens": tokens, "valid": struct.unpack("<i", data[end - 4 : end])[0]}
            found.append(sample | ({"attention_mask": np.frombuffer(data[begin:][:before], "u1")} if masks else {}))
    return found


def read_megatron(prefix: Path) -> list[np.ndarray]:
    """Documents of one pair of files, each found by its pointer."""
    index, data = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    magic, version, code, count, ends = struct.unpack("<9sQBQQ", index[:34])
    assert (magic, version, ends) == (b"MMIDIDX\0\0", 1, count + 1)
    lengths = np.frombuffer(index, "<i4", count, 34)
    pointers = np.frombuffer(index, "<i8", count, 34 + 4 * count)
    documents = np.frombuffer(index, "<i8", count + 1, 34 + 12 * count)
    assert len(index) == 34 + 12 * count + 8 * (count + 1)
    assert documents.tolist() == list(range(count + 1))
    dtype = np.dtype({8: "<u2", 4: "<i4"}[code])
    assert len(data) == lengths.sum() * dtype.itemsize
    return [np.frombuffer(data, dtype, n, at) for n, at in zip(lengths, pointers, strict=True)]
