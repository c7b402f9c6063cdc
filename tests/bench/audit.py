"""The books of a run of 100,000 parts, from synthetic receipts: `python -m tests.bench.audit [--quick]`.

100,000 parts (2,000 with --quick) of one source, each with receipts of ingest, six signal groups and select, and
the units they make, each with receipts of *deduplicate* and *pack* and its shards. The files they name are not made,
but for the tokenizer. The receipts are compacted as a run does it; then three processes of their own, whose maximum
resident sets the kernel reports, publish them (read every receipt, balance the books, write shard table, plan, tasks,
mixture and manifest), and run `tokenmill status` and `tokenmill audit`. What a shard and a record batch add to the
shard table and to the receipts is told from two smaller publications, of which one has twice the record batches.
"""

import json
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.keyed import key64
from tokenmill.manifests.receipts import Output, Receipt, receipt_table
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.readers.records import Piece, RawFile
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table, write_table
from tokenmill.pipeline.tokens.train import train_tokenizer
from tokenmill.pipeline.units import assign_units

PARTS = 100_000
LIMIT_SECONDS, LIMIT_BYTES = 30.0, 2 << 30
SHARD_BYTES, BATCH_BYTES = 1000, 40
GROUPS = ("language", "gopher_repetition", "gopher_quality", "c4", "hashes", "minhash")
REASONS = [
    *(f"gopher_repetition.max_duplicate_{n}_gram_character_fraction" for n in range(5, 11)),
    *("gopher_quality.min_words", "gopher_quality.min_alphabetic_word_fraction", "c4.min_sentences", "language.keep"),
]
RECIPE = """
name: audit
output: unused
tokenizer: {path: unused.json, eos: <|endoftext|>, mask: null, pad: null}
sources: [{name: web, reader: warc, paths: [none]}]
sequences: {length: 4096}
"""
BATCHES = 190  # of a shard
KEPT_BYTES = 30_000_000  # of a part of 64 MiB
BATCH_ROWS, BATCH_ROW_TOKENS = 128, 4090
_CHILD = """
import json, resource, sys, time
started = time.perf_counter()
{work}
took = time.perf_counter() - started
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
print(json.dumps({{"seconds": took, "bytes": peak}}), file=sys.stderr)
"""
_PUBLISH = """
from tests.bench import audit
audit.publish_all(sys.argv[1], int(sys.argv[2]))
"""
_COMMAND = """
from tokenmill.pipeline.cli import cli
cli([{name!r}, sys.argv[1]], standalone_mode=False)
"""


def main() -> None:
    """Make the receipts, publish, look, print what it took."""
    count = PARTS // 50 if arguments(__doc__, "2,000 parts").parse_args().quick else PARTS
    with tempfile.TemporaryDirectory() as folder:
        _made(folder, count, BATCHES)
        seconds = {"publish": _timed(folder, count, _PUBLISH)}
        seconds |= {name: _timed(folder, count, _COMMAND.format(name=name)) for name in ("status", "audit")}
        sizes = {name: _manifest_bytes(name, folder) for name in ("shards", "tasks", "plan")}
    a_shard, a_batch = shard_sizes(min(count, 5000))
    print(f"{count:,} parts")
    for name, size in sizes.items():
        print(f"  {name:<7} {size / 1e6:9,.1f} MB")
    print(f"  a shard of {BATCHES} record batches adds {a_shard:.0f} bytes to manifests, each of them {a_batch:.1f}")
    figures = [
        Figure("manifests, a shard without its record batches", round(a_shard, 1), "bytes", SHARD_BYTES, AT_MOST),
        Figure("manifests, a record batch", round(a_batch, 2), "bytes", BATCH_BYTES, AT_MOST),
    ]
    for name, (took, peak) in seconds.items():
        print(f"  {name:<7} {took:6.1f} s, maximum resident set {peak >> 20:,} MiB")
        bars = (LIMIT_SECONDS, LIMIT_BYTES) if name != "publish" else (None, None)
        figures += [
            Figure(f"{name}, {count:,} parts", round(took, 1), "s", bars[0], AT_MOST),
            Figure(f"{name}, {count:,} parts, peak resident set", peak, "bytes", bars[1], AT_MOST),
        ]
    print(figures_line("audit", figures))


def shard_sizes(count: int) -> tuple[float, float]:
    """Bytes that a shard without its record batches, and each of these, adds to the manifests of a run.

    Of the shard table, and of what the receipts of a unit add to the tasks.
    """
    size: dict[int, int] = {}
    for batches in (BATCHES, 2 * BATCHES):
        with tempfile.TemporaryDirectory() as folder:
            shards = _made(folder, count, batches)
            _timed(folder, count, _PUBLISH)
            size[batches] = _manifest_bytes("shards", folder) + _receipt_bytes(folder)
    a_batch = (size[2 * BATCHES] - size[BATCHES]) / (shards * BATCHES)
    return size[BATCHES] / shards - a_batch * BATCHES, a_batch


def _receipt_bytes(folder: str) -> int:
    """Bytes of the receipts of *pack* in the tasks table, as a table of their own."""
    storage = Storage(folder)
    (path,) = (path for path in storage.sizes("manifests") if "/tasks." in path)
    tasks = read_table(storage, path)
    sink = pa.BufferOutputStream()
    packed = tasks.filter(pc.equal(tasks.column("step"), "pack"))
    pq.write_table(packed, sink, compression="zstd", use_dictionary=False)
    return int(sink.getvalue().size)


def _made(folder: str, count: int, batches: int) -> int:
    """Make a run in a process of its own: the resident set of one that makes others counts in theirs."""
    code = f"from tests.bench import audit; print(audit.make(audit.Storage({folder!r}), {count}, {batches}))"
    return int(subprocess.run([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, check=True).stdout)


def _timed(folder: str, count: int, work: str) -> tuple[float, int]:
    """Seconds and peak bytes of a process that does the work."""
    code = _CHILD.format(work=work)
    done = subprocess.run([sys.executable, "-c", code, folder, str(count)], capture_output=True, text=True, check=True)
    found = json.loads(done.stderr.splitlines()[-1])
    return found["seconds"], found["bytes"]


def _manifest_bytes(name: str, folder: str) -> int:
    return sum(size for path, size in Storage(folder).sizes("manifests").items() if f"/{name}." in path)


def parts_of(count: int) -> list[Part]:
    """The plan: a raw file a part."""
    files = [RawFile("", f"crawl/CC-{index:06d}.warc.gz", 64 << 20, f"{index:032x}") for index in range(count)]
    return [Part("web", f"{key64('part', index):016x}", 0, (Piece(file),)) for index, file in enumerate(files)]


def make(storage: Storage, count: int, batches: int) -> int:
    """Write compacted receipts of a run; returns the number of its shards."""
    parts = parts_of(count)
    units: dict[str, list[Part]] = defaultdict(list)
    unit_of = assign_units(parts, {part.key: KEPT_BYTES for part in parts}, 384 << 20)
    for part in parts:
        units[unit_of[part.key]].append(part)
    _write(storage, "ingest", [_ingest(part) for part in parts])
    _write(storage, "annotate", [_annotate(part, group) for part in parts for group in GROUPS])
    _write(storage, "select", [_select(part) for part in parts])
    _write(storage, "deduplicate", [_deduplicate(unit, members) for unit, members in units.items()])
    _write(storage, "pack", [_pack(unit, members, batches) for unit, members in units.items()])
    tokenizer = train_tokenizer(["a few words to train on"], 300, ["<|endoftext|>"])
    stored = storage.write("tokenizer/tokenizer.json", tokenizer)
    _write(storage, "tokenizer", [_receipt("tokenizer", "", "all", [Output("tokenizer", *vars(stored).values())])])
    return len(units)


def _write(storage: Storage, step: str, receipts: Sequence[Receipt]) -> None:
    write_table(storage, step, f"receipts/{step}@{{hash}}.parquet", receipt_table(receipts))


def _receipt(
    step: str, source: str, task: str, outputs: Sequence[Output], balance: Balance | None = None, **notes: object
) -> Receipt:
    inputs = {name: _hash(step, task, name) for name in ("documents", "signals/hashes")}
    return Receipt(step, source, task, _hash(step, task)[:20], inputs, tuple(outputs), balance or Balance(), notes)


def _hash(*parts: object) -> str:
    return f"{key64('a', *map(str, parts)):016x}{key64('b', *map(str, parts)):016x}"


def _output(step: str, task: str, name: str) -> Output:
    part = task.split(".")[0]
    return Output(name, f"{name}/web/{part}.{_hash(step, task)[:20]}.parquet", 1 << 20, _hash(step, task, name))


def _ingest(part: Part) -> Receipt:
    balance = Balance(Tally(22_000, 66 << 20), Tally(20_000, 60 << 20))
    balance.drop("gates.http_status", Tally(1_500, 5 << 20))
    balance.fail("no_text", Tally(500, 1 << 20))
    outputs = [_output("ingest", part.key, "documents")]
    return _receipt("ingest", "web", part.key, outputs, balance, other_records={"warcinfo": 1}, rows=22_000)


def _annotate(part: Part, group: str) -> Receipt:
    return _receipt("annotate", "web", f"{part.key}.{group}", [_output("annotate", part.key, f"signals/{group}")])


def _select(part: Part) -> Receipt:
    balance = Balance(Tally(20_000, KEPT_BYTES + len(REASONS) * 100_000), Tally(10_000, KEPT_BYTES))
    for reason in REASONS:
        balance.drop(reason, Tally(1_000, 100_000))
    return _receipt("select", "web", part.key, [_output("select", part.key, "decisions")], balance)


def _deduplicate(unit: str, members: Sequence[Part]) -> Receipt:
    size = len(members)
    balance = Balance(Tally(10_000 * size, KEPT_BYTES * size), Tally(8_000 * size, (KEPT_BYTES - 1_000) * size))
    balance.drop("dedup.near", Tally(2_000 * size, 1_000 * size))
    outputs = [_output("deduplicate", unit, f"{name}/{unit}") for name in ("ledger", "clusters")]
    return _receipt("deduplicate", "web", unit, outputs, balance)


def _pack(unit: str, members: Sequence[Part], batches: int) -> Receipt:
    tokens = batches * BATCH_ROWS * BATCH_ROW_TOKENS
    tally = Tally(8_000 * len(members), KEPT_BYTES * len(members), tokens)
    lengths = [650_000 + key64(unit, index) % 20_000 for index in range(batches)]
    detail = {
        **{"component": "web/train", "unit": unit, "rows": batches * BATCH_ROWS, "tokens": tokens},
        **{"documents": tally.documents, "schema_bytes": 1000, "batch_rows": [BATCH_ROWS] * batches},
        **{"batch_lengths": lengths, "batch_offsets": [1000 + sum(lengths[:at]) for at in range(batches)]},
        **{"batch_hashes": [_hash(unit, index) for index in range(batches)], "footer_hash": _hash(unit)},
    }
    path = f"sequences/web/train/{unit}.{_hash('pack', unit)[:20]}-00000.arrow"
    output = Output("sequences/train", path, sum(lengths), _hash(unit, "shard"), detail)
    notes = {"text_bytes": tally.bytes, "padding_tokens": batches * BATCH_ROWS * 6, "encoded_by": "our kernels"}
    return _receipt("pack", "web", unit, [output], Balance(tally, tally), **notes)


def publish_all(folder: str, count: int) -> None:
    """Publish what the receipts say, as the end of a run does."""
    from tokenmill.pipeline.recipe.file import load_recipe
    from tokenmill.pipeline.steps.publish import publish

    storage = Storage(folder)
    publish(storage, load_recipe(RECIPE, "audit").recipe, RECIPE, parts_of(count), list(_read(storage)))


def _read(storage: Storage) -> Iterator[Receipt]:
    from tokenmill.manifests.receipts import receipts_of

    for path in storage.sizes("receipts"):
        yield from receipts_of(read_table(storage, path))


if __name__ == "__main__":
    main()
