"""Batches a second, against other loaders, and memory: `python -m tests.bench.loader [--quick]`.

Rows of 2,048 and 4,096 tokens of 32,768 kinds, drawn by Zipf's law, in documents of some 500 tokens; our shards take
about 1.6 bytes a token (prose takes 1.3). Each run is one process that opens its data and goes through all of it once,
in a shuffled order, by batches of 64 rows, int64; what must be compiled has been. Runs take turns; a figure is a median
of seconds on the clock, the table has those of all the process's threads too.

- `rows alone`: reading, shuffling, gathering, with no objective. This is what the peers do.
- `llada`, `illada`, `autoregressive`: all that their batches carry.
- MosaicML streaming, from MDS with zstd 3: a row a sample, shuffled, stacked to batches. It unpacks each shard when it
  first meets it and keeps that on disk; `second epoch` reads what is unpacked. Ours unpacks in every epoch.
- litdata, from its own uncompressed chunks of tokens (`TokensLoader`), shuffled, stacked to batches.
- Memory: a hundred thousand batches of 8 rows of 256 tokens, many epochs with windows of 32 MiB; resident memory when
  a tenth is done and its peak, above what was resident before the mixture was opened.

The peers are left out, which is said, where they cannot be imported. MosaicML streaming asks for torchvision, and both
for more than they need here: a CPU build of torch will do, then
`pip install --no-deps mosaicml-streaming torchvision litdata lightning-utilities tifffile obstore`, and what a missing
import names.
"""

import importlib.util
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from tests.bench.shared.figures import AT_MOST, Figure, arguments, figures_line
from tests.loader.small_run import SPECIAL_IDS, publish
from tokenmill.manifests.mixture import Component
from tokenmill.manifests.shards import PRETRAINING, SequenceFormat, rows_per_batch, write_batches
from tokenmill.pipeline.loader import Batch, open_mixture
from tokenmill.pipeline.loader.batch import Gathered, NoiseKey
from tokenmill.pipeline.storage import Storage

VOCABULARY = 32_768
BATCH_ROWS = 64
MEGA = 1e6


def main() -> None:
    """Time all, watch the memory, print the tables and the figures."""
    quick = arguments(__doc__, "few rows and batches, one round").parse_args().quick
    tokens, rounds, batches = (1 << 22, 1, 5_000) if quick else (1 << 25, 3, 100_000)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        figures = [*_speeds(folder, tokens, rounds), *_memory(folder, batches)]
    print(figures_line("loader", figures))


@dataclass(frozen=True, kw_only=True)
class RowsBatch(Batch):
    """Rows alone: clean, int64 [B, L]."""

    clean: np.ndarray


@dataclass(frozen=True)
class RowsAlone:
    """No objective: what reading alone costs."""

    batch_type: ClassVar[type[Batch]] = RowsBatch
    needs_mask: ClassVar[bool] = False
    needs_pieces: ClassVar[bool] = False
    layouts: ClassVar[tuple[str, ...]] = (PRETRAINING,)

    def hash(self, mask_token_id: int) -> str:
        return "rows"

    def arrays(self, gathered: Gathered, noise_key: NoiseKey) -> dict[str, Any]:
        size, length = gathered.clean.shape
        return {
            "clean": gathered.clean,
            "cu_seqlens": np.arange(0, size * length + 1, length, dtype=np.int32),
            "max_seqlen": length,
            "position_ids": np.broadcast_to(np.arange(length), gathered.clean.shape),
            "denominator": size * length,
        }


def _speeds(folder: Path, tokens: int, rounds: int) -> list[Figure]:
    """The table of speeds, and its figures."""
    runs: dict[str, Callable[[], int]] = {}
    rows_2048 = _rows(tokens, 2048)
    for length, rows in ((2048, rows_2048), (4096, rows_2048.reshape(-1, 4096))):
        path = _publish(folder / f"run-{length}", rows)
        for objective in ("rows alone", "llada", "illada", "autoregressive"):
            runs[f"{objective}, L={length}"] = _ours(path, objective)
    for name, module, make in (("MosaicML streaming", "streaming", _mosaic), ("litdata", "litdata", _litdata)):
        if _is_importable(name, module):
            runs |= make(folder, rows_2048)
    seconds = _in_turns(runs, rounds)
    rates = {}
    print(f"{'million tokens a second':40} {'on the clock':>14} {'of the processor':>18}")
    for name, (wall, cpu) in seconds.items():
        rates[name] = tokens / wall / MEGA
        print(f"{name:40} {rates[name]:14.1f} {tokens / cpu / MEGA:18.1f}")
    unit = "million tokens/s"
    bars = {"llada, L=2048": 60, "llada, L=4096": 60}
    figures = [Figure(name, rates[name], unit, bars.get(name)) for name in rates if ", L=" in name]
    ours = rates["rows alone, L=2048"]
    for peer, bar in (("MosaicML streaming", 10), ("MosaicML streaming, second epoch", None), ("litdata", 1)):
        if peer in rates:
            figures.append(Figure(f"rows alone, times {peer}", ours / rates[peer], "times", bar))
    return figures


def _rows(tokens: int, length: int) -> np.ndarray:
    """uint16 [rows, length]: ids from 3 on, the frequent ones first."""
    weight = 1 / (np.arange(VOCABULARY - 3) + 2.7)
    drawn = np.random.default_rng(0).choice(VOCABULARY - 3, size=(tokens // length, length), p=weight / weight.sum())
    return (drawn + 3).astype(np.uint16)


def _publish(root: Path, rows: np.ndarray, max_epochs: float = 1.0) -> str:
    """Two sources, two shards each, and a mixture of them; its path."""
    storage, table, components = Storage(str(root)), [], []
    for name, half in (("first/train", rows[: len(rows) // 2]), ("second/train", rows[len(rows) // 2 :])):
        for number, part in enumerate(np.array_split(half, 2)):
            path = f"sequences/{name}/{number}.arrow"
            with storage.temporary() as draft:
                inside = write_batches(draft.file, _format(rows.shape[1]).schema, _record_batches(part))
                stored = draft.commit(path)
            places = {"component": name, "unit": f"unit-{number}", "path": path, "hash": stored.hash}
            table.append({**places, "bytes": stored.bytes, **inside})
        components.append(Component(name, 1.0, len(half), half.size, max_epochs))
    mixture, _ = publish(storage, table, components, length=rows.shape[1], vocab_size=VOCABULARY, seed=7)
    return str(root / mixture.path)


def _format(length: int) -> SequenceFormat:
    return SequenceFormat(length, VOCABULARY, "0" * 32, SPECIAL_IDS, "best_fit/1", "train", "unit", ("part",))


def _record_batches(rows: np.ndarray) -> list[pa.RecordBatch]:
    """Record batches of the usual size; documents end wherever a token of 500 kinds stands."""
    length = rows.shape[1]
    schema, made = _format(length).schema, []
    for start in range(0, len(rows), rows_per_batch(length)):
        part = rows[start : start + rows_per_batch(length)]
        ends = [np.append(np.flatnonzero(row[:-1] % 500 == 7) + 1, length) for row in part]
        lengths = [np.diff(end, prepend=0).astype(np.int32) for end in ends]
        zeros = [np.zeros_like(some) for some in lengths]
        columns = [
            pa.FixedSizeListArray.from_arrays(pa.array(part.reshape(-1)), type=schema.field("tokens").type),
            *(pa.array(values, schema.field(1).type) for values in (lengths, zeros, zeros, zeros)),
            pa.array(np.full(len(part), length, np.int32)),
        ]
        made.append(pa.RecordBatch.from_arrays(columns, schema=schema))
    return made


def _ours(path: str, objective: str) -> Callable[[], int]:
    def run() -> int:
        loader = open_mixture(
            path, batch_size=BATCH_ROWS, objective="llada" if objective == "rows alone" else objective
        )
        if objective == "rows alone":
            loader.objective = RowsAlone()
        return sum(batch.position_ids.size for batch in loader)

    return run


def _is_importable(name: str, module: str) -> bool:
    """Whether the peer can be compared with; says why not."""
    if importlib.util.find_spec(module) is None:
        print(f"{name} is left out: there is no module {module!r}; see the head of this file")
        return False
    try:
        importlib.import_module(module)
    except ImportError as error:
        print(f"{name} is left out: {error}; see the head of this file")
        return False
    return True


def _mosaic(folder: Path, rows: np.ndarray) -> dict[str, Callable[[], int]]:
    from streaming import MDSWriter, StreamingDataset

    columns = {"tokens": f"ndarray:uint16:{rows.shape[1]}"}
    with MDSWriter(out=str(folder / "mds"), columns=columns, compression="zstd:3") as writer:
        for row in rows:
            writer.write({"tokens": row})
    unpacked: list[Any] = []

    def first() -> int:
        dataset = StreamingDataset(local=str(folder / "unpacked"), shuffle=True, batch_size=BATCH_ROWS)
        unpacked[:] = [dataset]
        return sum(batch.size for batch in _batches(sample["tokens"] for sample in dataset))

    def second() -> int:
        return sum(batch.size for batch in _batches(sample["tokens"] for sample in unpacked[0]))

    def fresh() -> None:
        shutil.rmtree(folder / "unpacked", ignore_errors=True)
        shutil.copytree(folder / "mds", folder / "unpacked")

    first.prepare = fresh  # type: ignore[attr-defined]
    return {"MosaicML streaming": first, "MosaicML streaming, second epoch": second}


def _batches(rows: Any) -> Any:
    """int64 [B, L] arrays of an iterator of rows."""
    held = []
    for row in rows:
        held.append(row)
        if len(held) == BATCH_ROWS:
            yield np.stack(held).astype(np.int64)
            held = []


def _litdata(folder: Path, rows: np.ndarray) -> dict[str, Callable[[], int]]:
    import torch
    from litdata import StreamingDataset, TokensLoader
    from litdata.streaming.cache import Cache

    length = rows.shape[1]
    cache = Cache(str(folder / "litdata"), chunk_bytes=64 << 20, item_loader=TokensLoader(block_size=length))
    for index, row in enumerate(rows):
        cache[index] = torch.from_numpy(row)
    cache.done()
    cache.merge()

    def run() -> int:
        dataset = StreamingDataset(str(folder / "litdata"), shuffle=True, item_loader=TokensLoader(block_size=length))
        held, count = [], 0
        for row in dataset:
            held.append(row)
            if len(held) == BATCH_ROWS:
                count += torch.stack(held).to(torch.int64).numel()
                held = []
        return count

    return {"litdata": run}


def _in_turns(runs: dict[str, Callable[[], int]], rounds: int) -> dict[str, tuple[float, float]]:
    """Median seconds on the clock and of the processor, each run once a round, after a round that is not timed."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for turn in range(rounds + 1):
        for name, run in runs.items():
            getattr(run, "prepare", lambda: None)()
            wall, cpu = time.perf_counter(), time.process_time()
            assert run() > 0
            if turn:
                seconds[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {
        name: (statistics.median(wall for wall, _ in found), statistics.median(cpu for _, cpu in found))
        for name, found in seconds.items()
    }


def _memory(folder: Path, batches: int) -> list[Figure]:
    """Resident memory over many small batches."""
    window, size, length = 32 << 20, 8, 256
    path = _publish(folder / "small", _rows(1 << 25, 2048).reshape(-1, length), max_epochs=1000)
    before = _resident()
    with open_mixture(path, batch_size=size, total_rows=batches * size, window_bytes=window) as loader:
        warm = peak = 0.0
        for number, _ in enumerate(loader, 1):
            if number % 100 == 0:
                peak = max(peak, _resident())
                warm = peak if number * 10 <= batches else warm
    above, grown = (peak - before - window) / 2**20, (peak - warm) / 2**20
    print(
        f"{batches:,} batches, windows of {window >> 20} MiB: resident {(warm - before) / 2**20:.0f} MiB more after a "
        f"tenth of them, {(peak - before) / 2**20:.0f} MiB at most"
    )
    return [
        Figure("resident above the windows' budget", above, "MiB", 1024, AT_MOST),
        Figure("resident, grown after the first tenth", grown, "MiB", 32, AT_MOST),
    ]


def _resident() -> float:
    """Bytes of this process in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return float(pages * 4096)


if __name__ == "__main__":
    main()
