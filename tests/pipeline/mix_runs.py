"""Small runs to mix, of one tokenizer, with many texts in common; each of two sources, its own and "shared"."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipeline.corpus import prose, write_texts
from tests.pipeline.runs import newest, run_inline
from tokenmill.manifests.shards import SequenceFormat
from tokenmill.pipeline.mixing.runs import MixRun
from tokenmill.pipeline.storage import Storage

RECIPE = """
name: {name}
seed: 3
part_bytes: 64KiB
tokenizer: {tokenizer}
sources:
  - {{name: {name}, reader: jsonl, paths: ["{folder}/{name}/*.jsonl"], root: "{folder}/{name}"}}
  - {{name: shared, reader: jsonl, paths: ["{folder}/{name}-shared/*.jsonl"], root: "{folder}/{name}-shared"}}
dedup: {{near: false}}
strata: {{validation_fraction: {held_out}, by: [copies]}}
sequences: {{length: {length}, unit_bytes: 64KiB}}
"""


@dataclass(frozen=True)
class Two:
    """Folders of two runs: the second holds out more."""

    notes: Path
    news: Path


def write_run(folder: Path, name: str, *, tokenizer: str | None, held_out: float, length: int = 64) -> Path:
    """A run whose shared texts all have, in other files and in another order; `tokenizer`: a file, or trained."""
    own = [prose(f"{name} {number}", 6) for number in range(40)]
    write_texts(folder / name / "0.jsonl", [*own, *own[:8]])
    common = [prose(f"common {number}", 6) for number in range(80)]
    write_texts(folder / f"{name}-shared" / f"{name}.jsonl", sorted(common, key=lambda text: hash_of(name + text)))
    recipe = folder / f"{name}.yaml"
    trained = "{train: {vocab_size: 300, sample_bytes: 64KiB}}"
    tokenizer = trained if tokenizer is None else f"{{path: {tokenizer}}}"
    recipe.write_text(RECIPE.format(name=name, folder=folder, held_out=held_out, length=length, tokenizer=tokenizer))
    run_inline(recipe, folder / f"{name}-run")
    return folder / f"{name}-run"


def hash_of(text: str) -> int:
    """The same in every process, as `hash` is not."""
    return sum(ord(letter) * (index % 97 + 1) for index, letter in enumerate(text)) % 10_007


def tokenizer_of(run: Path) -> str:
    """Path of a run's tokenizer."""
    return Storage(str(run)).url(newest(run).value["tokenizer"])


def write_two(folder: Path) -> Two:
    """The two runs, in a folder."""
    notes = write_run(folder, "notes", tokenizer=None, held_out=0.1)
    return Two(notes, write_run(folder, "news", tokenizer=tokenizer_of(notes), held_out=0.25))


def changed(run: MixRun, recipe: tuple[str, str] = ("", ""), **mixture: Any) -> MixRun:
    """The run as if its mixture had other values, or its recipe another text."""
    value = {**run.published.value, "recipe": run.published.value["recipe"].replace(*recipe)}
    published = replace(run.published, value=value)
    return replace(run, published=published, mixture=replace(run.mixture, **mixture))


def stored_rows(run: Path) -> dict[str, list[dict]]:
    """Every component's rows in stored order, with its documents' identities."""
    found: dict[str, list[dict]] = defaultdict(list)
    for shard in pq.read_table(run / newest(run).value["shards"]).to_pylist():
        reader = pa.ipc.open_file(run / shard["path"])
        parts = SequenceFormat.of(reader.schema).parts
        for number in range(reader.num_record_batches):
            for row in reader.get_batch(number).to_pylist():
                names = zip(row["document_parts"], row["document_rows"], strict=True)
                found[shard["component"]].append({**row, "documents": {(parts[i], number) for i, number in names}})
    return found


def content_hashes(run: Path) -> dict[tuple[str, int], bytes]:
    """Content hash of every document of a run, by identity."""
    return dict(_content_hashes(run))


def _content_hashes(run: Path) -> Iterator[tuple[tuple[str, int], bytes]]:
    for path in run.glob("signals/hashes/*/*.parquet"):
        for row, digest in enumerate(pq.read_table(path).column("content_hash").to_pylist()):
            yield (path.name.split(".")[0], row), digest
