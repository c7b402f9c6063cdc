"""Plans and the order of rows: `python -m tests.bench.order [--quick]`.

order(k) is timed in bulk, as the loader calls it, over a million rows of a plan of 1T tokens (L = 4096, 1.9 million
record batches) from 200 sources of uneven weights, and of one source. That plan is opened from its Parquet shard table,
first row included, in a process of its own, whose greatest resident set /proc gives. The first batch is that of 64 rows
from a compiled plan of 100,000 shards with 200 record batches each, 20 million in 200 sources; all of them are the same
record batch of one file, which is read and checked as any other. Rows are timed in CPU seconds, plans and first batches
in wall-clock seconds, since those are waited for, the median of three processes. Kernels are compiled, and the files in
the page cache.
"""

import io
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tokenmill.manifests.mixture import Component, Mixture
from tokenmill.manifests.schemas import SHARDS
from tokenmill.manifests.shards import SequenceFormat, rows_per_batch, write_batches
from tokenmill.pipeline.loader.compiled import compile_table
from tokenmill.pipeline.storage import Storage

LENGTH, VOCABULARY, ROWS_PER_BATCH = 4096, 50_000, rows_per_batch(4096)
BATCHES_PER_SHARD = 200
SPECIAL_IDS = {"bos": -1, "eos": 1, "pad": 0, "mask": 2}

_PEAK = """
def peak():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
"""
_OPEN = (
    _PEAK
    + """
import json, sys, time
from tokenmill.pipeline.loader import open_mixture
folder, tables_dir, batch_size, read = sys.argv[1], sys.argv[2] or None, int(sys.argv[3]), sys.argv[4] == "read"
started = time.perf_counter()
loader = open_mixture(folder, batch_size=batch_size, tables_dir=tables_dir)
opened = time.perf_counter() - started
if read:
    next(iter(loader))
else:
    loader.order.order(0)
took = time.perf_counter() - started
print(json.dumps({"opened": opened, "seconds": took, "cpu": time.process_time(), "peak": peak()}))
"""
)
_ORDER = """
import json, sys, time
import numpy as np
from tokenmill.pipeline.loader import open_mixture
loader = open_mixture(sys.argv[1], batch_size=1024)
rows, at_once = int(sys.argv[2]), 8192
loader.order.order(np.arange(at_once))
started = time.process_time()
for first in range(at_once, at_once + rows, at_once):
    loader.order.places(loader.order.order(np.arange(first, first + at_once)))
print(json.dumps({"seconds": time.process_time() - started}))
"""


def main() -> None:
    """Make the runs, time each in a process of its own, print the table and the figures."""
    quick = arguments(__doc__, "100,000 rows; a compiled plan of 5,000 shards").parse_args().quick
    times = 1 if quick else 3
    shards, compiled_shards, rows = 9_600, 5_000 if quick else 100_000, 98_304 if quick else 983_040
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made = {count: made_run(folder / f"{count}", count, shards // count) for count in (200, 1)}
        tokens = shards * BATCHES_PER_SHARD * ROWS_PER_BATCH * LENGTH
        print(f"{tokens / 1e12:.2f}T tokens in {shards * BATCHES_PER_SHARD:,} record batches, L = {LENGTH}\n")
        per_row = {}
        for count, root in made.items():
            (found,) = children(1, _ORDER, root, rows)
            per_row[count] = 1e6 * found["seconds"] / rows
            print(f"order(k) and places, {count:3} source(s)    {per_row[count]:8.2f} µs a row")
        opened = {count: middle(children(times, _OPEN, root, "", 64, "order")) for count, root in made.items()}
        for count, found in opened.items():
            print(f"plan of {count:3} source(s)    {line(found)}")
        first = {}
        for count in (200, 1):
            root, tables = folder / f"compiled-{count}", folder / f"tables-{count}"
            took = made_compiled(root, tables, count, compiled_shards // count)
            first[count] = middle(children(times, _OPEN, root, tables, 64, "read"))
            print(
                f"first batch of {compiled_shards:,} shards, {count:3} source(s)    {line(first[count])}\n"
                f"    {first[count]['opened']:.2f} s of these to open; {took:.1f} s to compile the table from memory"
            )
    figures = [
        Figure("order(k) in bulk, 200 sources", per_row[200], "µs a row", 10, AT_MOST),
        Figure("order(k) in bulk, one source", per_row[1], "µs a row", 10, AT_MOST),
        Figure("plan for 1T tokens and 200 sources", opened[200]["seconds"], "s", 5, AT_MOST),
        Figure("the same, peak resident set", opened[200]["peak"], "bytes", 2 << 30, AT_MOST),
        Figure("first batch, 200 sources", first[200]["seconds"], "s", 2, AT_MOST),
        Figure("first batch, one source", first[1]["seconds"], "s", 2, AT_MOST),
    ]
    print(figures_line("order", figures))


def children(times: int, code: str, *arguments: object) -> list[dict[str, float]]:
    """What a script prints, each time in a process of its own; after a time that is not counted."""
    command = [sys.executable, "-c", code, *map(str, arguments)]
    outputs = [subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout for _ in range(times + 1)]
    return [json.loads(output.splitlines()[-1]) for output in outputs[1:]]


def middle(found: list[dict[str, float]]) -> dict[str, float]:
    """The one of median wall-clock seconds."""
    return sorted(found, key=lambda one: one["seconds"])[len(found) // 2]


def line(found: dict[str, float]) -> str:
    """Of the table: seconds, CPU seconds of the process with its imports, and greatest resident set."""
    return f"{found['seconds']:8.2f} s {found['cpu']:8.2f} s CPU {found['peak'] / (1 << 30):8.2f} GiB"


def made_run(root: Path, sources: int, shards: int) -> Path:
    """A run's manifests, with a Parquet shard table; its shards are not there."""
    storage = Storage(str(root))
    hashes = np.random.default_rng(0).bytes(16 * sources * shards * BATCHES_PER_SHARD)
    sink = io.BytesIO()
    pq.write_table(made_table(sources, shards, ("sequences/made.arrow", 512, 1 << 20), hashes), sink)
    stored = storage.write("manifests/shards.{hash}.parquet", sink.getvalue())
    publish(storage, sources, shards, stored.path, stored.hash)
    return root


def made_compiled(root: Path, tables: Path, sources: int, shards: int) -> float:
    """A run's mixture, its one record batch, and the compiled shard table alone; gives the seconds of compiling."""
    storage, found = Storage(str(root)), {}
    sequences = SequenceFormat(LENGTH, VOCABULARY, "0" * 32, SPECIAL_IDS, "best_fit/1", "train", "unit", ("part",))
    with storage.temporary() as draft:
        found = write_batches(draft.file, sequences.schema, [one_batch(sequences.schema)])
        draft.commit("sequences/made.arrow")
    place = ("sequences/made.arrow", found["batch_offsets"][0], found["batch_lengths"][0])
    table = made_table(sources, shards, place, found["batch_hashes"][0] * (sources * shards * BATCHES_PER_SHARD))
    publish(storage, sources, shards, "manifests/shards.none.parquet", "0" * 32)
    started = time.perf_counter()
    compile_table(Storage(str(tables)), "0" * 32, table)
    return time.perf_counter() - started


def one_batch(schema: pa.Schema) -> pa.RecordBatch:
    """Full rows of random tokens, a document each."""
    tokens = np.random.default_rng(1).integers(3, VOCABULARY, ROWS_PER_BATCH * LENGTH).astype(np.uint16)
    ones, zeros = ([[value]] * ROWS_PER_BATCH for value in (LENGTH, 0))
    columns = [
        pa.FixedSizeListArray.from_arrays(pa.array(tokens), type=schema.field("tokens").type),
        *(pa.array(value, schema.field(1).type) for value in (ones, zeros, zeros, zeros)),
        pa.array([LENGTH] * ROWS_PER_BATCH, pa.int32()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def made_table(sources: int, shards: int, place: tuple[str, int, int], hashes: bytes) -> pa.Table:
    """A shard table of so many shards a source, four a unit, all of whose record batches lie at one place."""
    count = sources * shards
    batches = count * BATCHES_PER_SHARD
    borders = pa.array(np.arange(0, batches + 1, BATCHES_PER_SHARD, dtype=np.int32))
    per_shard = BATCHES_PER_SHARD * ROWS_PER_BATCH

    def lists(values: npt.NDArray[np.generic] | pa.Array, name: str) -> pa.Array:
        return pa.ListArray.from_arrays(borders, pa.array(values), type=SHARDS.field(name).type)

    columns = {
        "component": pa.array([f"source-{i // shards:03}/train" for i in range(count)]),
        "unit": pa.array([f"unit-{i % shards // 4:06}" for i in range(count)]),
        "path": pa.array([place[0]] * count),
        "hash": pa.array(["0" * 32] * count),
        "rows": pa.array(np.full(count, per_shard)),
        "tokens": pa.array(np.full(count, per_shard * LENGTH)),
        "batch_offsets": lists(np.full(batches, place[1]), "batch_offsets"),
        "batch_lengths": lists(np.full(batches, place[2], np.int32), "batch_lengths"),
        "batch_rows": lists(np.full(batches, ROWS_PER_BATCH, np.int32), "batch_rows"),
        "batch_hashes": lists(
            pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), batches, [None, pa.py_buffer(hashes)]), "batch_hashes"
        ),
    }
    for name in ("bytes", "documents", "schema_bytes"):
        columns[name] = pa.array(np.full(count, 1 << 20))
    return pa.table(columns).select(SHARDS.names)


def publish(storage: Storage, sources: int, shards: int, table_path: str, table_hash: str) -> None:
    """Write the mixture, of uneven weights, and a run manifest that names it."""
    rows = shards * BATCHES_PER_SHARD * ROWS_PER_BATCH
    weights = np.random.default_rng(2).lognormal(0, 1.5, sources)
    mixture = Mixture.of(
        seed=7,
        sequence_length=LENGTH,
        vocab_size=VOCABULARY,
        tokenizer_path="tokenizer/tokenizer.json",
        tokenizer_hash="0" * 32,
        special_ids=SPECIAL_IDS,
        shard_table_path=table_path,
        shard_table_hash=table_hash,
        components=[
            Component(f"source-{i:03}/train", float(weights[i]), rows, rows * LENGTH, 1000.0) for i in range(sources)
        ],
    )
    storage.write(mixture.path, mixture.to_json().encode())
    storage.write("manifests/run-00000.0123abcd.json", json.dumps({"mixture": mixture.path}).encode())


if __name__ == "__main__":
    main()
