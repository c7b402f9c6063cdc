"""A small published run: shards, shard table, tokenizer, mixture and run manifest in a temporary folder."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tokenmill.manifests.lengths import length_of
from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.shards import PRETRAINING, SequenceFormat, shard_table, write_batches
from tokenmill.pipeline.storage import Storage

SPECIAL_IDS = {"bos": -1, "eos": 1, "pad": 0, "mask": 2}


@dataclass(frozen=True)
class Stored:
    """One component to be: `units` lists, for each unit, its shards; a shard is the row counts of its batches."""

    name: str
    weight: float
    units: Sequence[Sequence[Sequence[int]]]
    max_epochs: float = 1.0
    valid: Callable[[int], int] | None = None  # tokens of the component's i-th row; all by default
    tokens: np.ndarray | None = None  # [rows, L]; by default every row spells its number
    runs: Callable[[int], list[int]] | None = None  # of SFT: run lengths of the i-th row, prompt and answer in turn


@dataclass
class Run:
    """What was written: `rows[name]` are the component's rows, `valid[name]` how many tokens of each count."""

    root: Path
    mixture: Mixture
    shards: pa.Table
    rows: dict[str, np.ndarray] = field(default_factory=dict)
    valid: dict[str, np.ndarray] = field(default_factory=dict)

    @property
    def path(self) -> str:
        return str(self.root / self.mixture.path)


def spelled(component: int, rows: int, length: int, vocab_size: int) -> np.ndarray:
    """Rows that can be told apart: component and row number in base `vocab_size - 3`, then a run of the last digit."""
    base = vocab_size - 3
    numbers = np.arange(rows)
    found = np.empty((rows, length), np.int64)
    found[:, 0] = component
    for place in range(1, length):
        found[:, place] = numbers // base ** min(place - 1, 3) % base
    return found + 3


def write_run(
    root: Path,
    stored: Sequence[Stored],
    *,
    length: int,
    vocab_size: int,
    seed: int = 7,
    layout: str = PRETRAINING,
    in_mixture: Sequence[str] | None = None,
    batch_size: int | None = None,
) -> Run:
    """Write shards, table, mixture and run manifest below `root`; the mixture has all components, or those named.

    A component `…/length=8` has rows of 8 tokens, others of `length`.
    """
    storage, table_rows, components = Storage(str(root)), [], []
    all_rows, all_valid = {}, {}
    for index, component in enumerate(stored):
        count = sum(sum(shard) for unit in component.units for shard in unit)
        own = length_of(component.name) or length
        tokens = spelled(index, count, own, vocab_size) if component.tokens is None else component.tokens.copy()
        valid = np.array([own if component.valid is None else component.valid(i) for i in range(count)], np.int32)
        tokens[np.arange(own) >= valid[:, None]] = SPECIAL_IDS["pad"]
        all_rows[component.name], all_valid[component.name] = tokens, valid
        done = 0
        for u, unit in enumerate(component.units):
            for s, batches in enumerate(unit):
                path = f"sequences/{component.name}/unit-{u:03}.{s:03}.arrow"
                unit_name = {"component": component.name, "unit": f"unit-{u:03}", "path": path}
                part = slice(done, done + sum(batches))
                runs = None if component.runs is None else [component.runs(i) for i in range(count)][part]
                table_rows.append(
                    unit_name
                    | _write_shard(storage, path, tokens[part], valid[part], batches, vocab_size, layout, runs)
                )
                done += sum(batches)
        entry = Component(component.name, component.weight, count, int(valid.sum()), component.max_epochs)
        if in_mixture is None or component.name in in_mixture:
            components.append(entry)
    form = {"length": length, "vocab_size": vocab_size, "seed": seed, "layout": layout, "batch_size": batch_size}
    mixture, table = publish(storage, table_rows, components, **form)
    return Run(root, mixture, table, all_rows, all_valid)


def publish(
    storage: Storage,
    table_rows: Sequence[dict],
    components: Sequence[Component],
    *,
    length: int,
    vocab_size: int,
    seed: int,
    layout: str = PRETRAINING,
    batch_size: int | None = None,
) -> tuple[Mixture, pa.Table]:
    """Write shard table, tokenizer, mixture and run manifest for shards that are there."""
    table = shard_table(table_rows)
    sink = io.BytesIO()
    pq.write_table(table, sink)
    shards = storage.write("manifests/shards/table.parquet", sink.getvalue())
    tokenizer = storage.write("tokenizer/tokenizer.json", b"{}")
    mixture = Mixture.of(
        seed=seed,
        sequence_length=length,
        vocab_size=vocab_size,
        tokenizer_path=tokenizer.path,
        tokenizer_hash=tokenizer.hash,
        special_ids=SPECIAL_IDS,
        shard_table_path=shards.path,
        shard_table_hash=shards.hash,
        components=components,
        layout=layout,
        batch_size=batch_size,
    )
    storage.write(mixture.path, mixture.to_json().encode())
    storage.write("manifests/run-00000.0123abcd.json", f'{{"mixture": "{mixture.path}"}}'.encode())
    return mixture, table


def _write_shard(storage, path, tokens, valid, batches, vocab_size, layout, runs):
    """Write one shard of the given record batches; returns its columns of the shard table."""
    length = tokens.shape[1]
    form = SequenceFormat(
        length, vocab_size, "0" * 32, SPECIAL_IDS, "best_fit/1", "train", "unit", ("part",), 1, layout
    )
    schema = form.schema
    made, first = [], 0
    for size in batches:
        part = slice(first, first + size)
        pieces = [[int(n)] if n else [] for n in valid[part]]
        zeros = [[0] * len(piece) for piece in pieces]
        values = pa.array(tokens[part].reshape(-1), schema.field("tokens").type.value_type)
        columns = [
            pa.FixedSizeListArray.from_arrays(values, type=schema.field("tokens").type),
            *(pa.array(value, schema.field(1).type) for value in (pieces, zeros, zeros, zeros)),
            pa.array(valid[part], pa.int32()),
        ]
        if runs is not None:
            columns.append(pa.array(runs[part], schema.field("maskable").type))
        made.append(pa.RecordBatch.from_arrays(columns, schema=schema))
        first += size
    with storage.temporary() as draft:
        inside = write_batches(draft.file, schema, made)
        file = draft.commit(path)
    return {"hash": file.hash, "bytes": file.bytes, **inside}
