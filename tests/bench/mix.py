"""A mixture of two runs of 12T tokens: `python -m tests.bench.mix [--quick]`.

Two runs of 50,000 shards with 230 record batches each (1,000 shards with --quick), 23 million in all, in 20 strata a
run. Only their manifests are made. `tokenmill mix` by a budget and weights of strata, in two stages, and `open_mixture`
of what it wrote, up to the place of the first row, are each timed in a process of their own, whose maximum resident set
the kernel reports. The files are in the page cache.
"""

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.bench.shared.figures import Figure, arguments, figures_line
from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.receipts import canonical_json, hash_json
from tokenmill.manifests.schemas import SHARDS
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import write_table

STRATA, BATCHES, BATCH_ROWS, LENGTH, ROW_TOKENS = 20, 230, 128, 4096, 4090
RECIPE = """
name: bench
validation: false
max_epochs: 4
batch_size: 1024
stages:
- {tokens: FIRST, sources: {web: BUDGET, code: {weight: 1, strata: {l00: 0.5, l01: 2}}}}
- {tokens: SECOND, sources: {web: {weight: 1}, code: {weight: 3}}}
"""
_CHILD = """
import json, resource, sys, time
folder, work = sys.argv[1:]
started = time.perf_counter()
if work == "mix":
    from tokenmill.pipeline.cli import cli
    runs = [f"{folder}/web", f"{folder}/code"]
    options = ["--recipe", f"{folder}/mix.yaml", "--output", f"{folder}/mix", "--quiet"]
    cli(["mix", *runs, *options], standalone_mode=False)
else:
    from tokenmill.pipeline.loader import open_mixture
    open_mixture(f"{folder}/mix", batch_size=1024).order.order(0)
took = time.perf_counter() - started
print(json.dumps({"seconds": took, "bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10}))
"""


def main() -> None:
    """Make the runs, mix them, open the mixture, print what it took."""
    shards = 1_000 if arguments(__doc__, "two runs of 1,000 shards").parse_args().quick else 50_000
    tokens = shards * BATCHES * BATCH_ROWS * ROW_TOKENS
    parts = {"FIRST": tokens, "BUDGET": tokens * 6 // 10, "SECOND": tokens}
    recipe = RECIPE
    for name, value in parts.items():
        recipe = recipe.replace(name, str(value))
    figures = []
    with tempfile.TemporaryDirectory() as folder:
        for seed, name in enumerate(("web", "code")):
            code = f"from tests.bench import mix; mix.make({f'{folder}/{name}'!r}, {name!r}, {shards}, {seed})"
            subprocess.run([sys.executable, "-c", code], check=True)
        (Path(folder) / "mix.yaml").write_text(recipe)
        print(f"{2 * shards:,} shards, {2 * shards * BATCHES:,} record batches, {2 * tokens / 1e12:.2f}T tokens")
        for work, what in (("mix", "tokenmill mix"), ("open", "open_mixture and the first row's place")):
            done = subprocess.run(
                [sys.executable, "-c", _CHILD, folder, work], stdout=subprocess.PIPE, text=True, check=True
            )
            found = json.loads(done.stdout.splitlines()[-1])
            print(f"  {what:<40} {found['seconds']:6.1f} s, maximum resident set {found['bytes'] >> 20:,} MiB")
            name = f"{what}, {2 * shards:,} shards"
            figures += [
                Figure(name, round(found["seconds"], 1), "s"),
                Figure(f"{name}, peak resident set", found["bytes"], "bytes"),
            ]
    print(figures_line("mix", figures))


def make(folder: str, name: str, shards: int, seed: int) -> None:
    """Write the manifests of a run of one source."""
    storage = Storage(folder)
    table = write_table(storage, "shards", "manifests/shards.{hash}.parquet", table_of(name, shards, seed))
    tokenizer = storage.write("tokenizer/tokenizer.json", b"{}")
    rows = shards // STRATA * BATCHES * BATCH_ROWS
    mixture = Mixture.of(
        seed=0,
        sequence_length=LENGTH,
        vocab_size=50_000,
        tokenizer_path=tokenizer.path,
        tokenizer_hash=tokenizer.hash,
        special_ids={"bos": -1, "eos": 1, "pad": 0, "mask": 2},
        shard_table_path=table.path,
        shard_table_hash=table.hash,
        components=[Component(f"{name}/train/l{i:02}", 1.0, rows, rows * ROW_TOKENS) for i in range(STRATA)],
    )
    storage.write(mixture.path, mixture.to_json().encode())
    value = {"sources": [name], "shards": table.path, "mixture": mixture.path, "balance": {}}
    storage.write(f"manifests/run-00000.{hash_json(value)}.json", canonical_json(value).encode())


def table_of(name: str, shards: int, seed: int) -> pa.Table:
    """A shard table of shards that are not there; offsets, lengths and hashes are as hard to compress as real ones."""
    rng = np.random.default_rng(seed)
    count = shards * BATCHES
    borders = pa.array(np.arange(0, count + 1, BATCHES, dtype=np.int32))
    lengths = rng.integers(1_200_000, 1_300_000, count).astype(np.int32)
    offsets = np.cumsum(lengths.reshape(shards, BATCHES), axis=1, dtype=np.int64) - lengths.reshape(shards, BATCHES)
    lists = {
        "batch_offsets": pa.array(offsets.reshape(-1) + 992),
        "batch_lengths": pa.array(lengths),
        "batch_rows": pa.array(np.full(count, BATCH_ROWS, np.int32)),
        "batch_hashes": pa.Array.from_buffers(pa.binary(16), count, [None, pa.py_buffer(rng.bytes(16 * count))]),
    }
    components = [f"{name}/train/l{i * STRATA // shards:02}" for i in range(shards)]
    units = [f"{name}-u{i:06}" for i in range(shards)]
    rows = BATCHES * BATCH_ROWS
    columns = {
        "component": components,
        "unit": units,
        "path": [
            f"sequences/{c}/{u}.{i:020x}-00000.arrow" for i, (c, u) in enumerate(zip(components, units, strict=True))
        ],
        "hash": [rng.bytes(16).hex() for _ in range(shards)],
        "bytes": np.full(shards, 290_000_000),
        "rows": np.full(shards, rows),
        "tokens": np.full(shards, rows * ROW_TOKENS),
        "documents": np.full(shards, 100_000),
        "schema_bytes": np.full(shards, 992),
    }
    made = {name: pa.array(values, SHARDS.field(name).type) for name, values in columns.items()}
    made |= {
        name: pa.ListArray.from_arrays(borders, flat, type=SHARDS.field(name).type) for name, flat in lists.items()
    }
    return pa.table([made[field.name] for field in SHARDS], schema=SHARDS)


if __name__ == "__main__":
    main()
