"""Counting a unit's shards anew, as `tokenmill audit --recount` does: `python -m tests.bench.recount [--quick]`.

One unit of four shards of about 64 MiB (one of 8 MiB with --quick): rows of 4,096 tokens, ids as skewed as words are,
documents of 100 to 3,000 tokens, those that are cut included. All bytes are read and hashed, boundaries are decoded and
every document is put together again from its pieces; what differs from the receipt would be told, and nothing does.
Beside it, the same counts from record batches decoded whole, as a reader of Arrow files would. CPU seconds of one
thread, medians; MB are bytes of the shards.
"""

import tempfile
from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tests.bench.shared.figures import Figure, arguments, figures_line
from tests.bench.shared.timing import in_turns
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.manifests.shards import SequenceFormat, rows_per_batch, write_batches
from tokenmill.pipeline.packed import count_packed, read_batches
from tokenmill.pipeline.storage import Storage

LENGTH, VOCABULARY = 4096, 32_768
FORMAT = SequenceFormat(LENGTH, VOCABULARY, "none", {"pad": 0}, "best_fit/1", "train", "web-g0", ("0" * 16,))
SHARD_BATCHES = 96
#: What the issue asks for, of a core.
BAR = 300.0


def main() -> None:
    """Write the shards, count them, print the rate."""
    quick = arguments(__doc__, "one shard of 8 MiB, one round").parse_args().quick
    with tempfile.TemporaryDirectory() as folder:
        storage = Storage(folder)
        receipt = made(storage, 1 if quick else 4, 12 if quick else SHARD_BATCHES)
        size = sum(output.bytes for output in receipt.outputs) / 1e6
        balance, problems = count_packed(storage, receipt)
        assert not problems, problems
        assert balance == receipt.balance
        counted, whole = in_turns(
            [lambda: count_packed(storage, receipt), lambda: decoded_whole(storage, receipt)], 1 if quick else 5
        )
    documents = receipt.balance.out.documents
    print(f"{size:,.1f} MB in {len(receipt.outputs)} shards, {documents:,} documents")
    print(f"  recounted {size / counted:7,.0f} MB/s, {documents / counted:12,.0f} documents/s")
    print(f"  decoded   {size / whole:7,.0f} MB/s")
    print(figures_line("recount", [Figure("shards recounted, one core", round(size / counted, 1), "MB/s", BAR)]))


def decoded_whole(storage: Storage, receipt: Receipt) -> int:
    """Rows of every record batch, decoded with its tokens."""
    return sum(batch.num_rows for output in receipt.outputs for batch in read_batches(storage, output))


def made(storage: Storage, shards: int, batches: int) -> Receipt:
    """Write shards; the receipt that *pack* would have left."""
    rng = np.random.default_rng(7)
    pieces = _Pieces(rng)
    outputs = []
    for index in range(shards):
        with storage.temporary() as draft:
            inside = write_batches(draft.file, FORMAT.schema, (pieces.batch() for _ in range(batches)))
            stored = draft.commit(f"sequences/{index:05d}.arrow")
        inside["batch_hashes"] = [digest.hex() for digest in inside["batch_hashes"]]
        outputs.append(Output("sequences/train", stored.path, stored.bytes, stored.hash, inside))
    tally = Tally(pieces.documents, 0, sum(output.detail["tokens"] for output in outputs))
    notes = {"padding_tokens": 0, "align_tokens": 0, "cut_documents": pieces.cut, "cut_tokens": pieces.cut_tokens}
    return Receipt("pack", "web", "web-g0", "0" * 20, {}, tuple(outputs), Balance(tally, tally), notes)


class _Pieces:
    """Documents one after another into rows; a row's last document is cut where the row ends, and ends in the next."""

    def __init__(self, rng: np.random.Generator) -> None:
        self._rng = rng
        self._left = self._start = 0
        self.documents = self.cut = self.cut_tokens = 0

    def batch(self) -> pa.RecordBatch:
        """A record batch of full rows; the last document ends with the last row."""
        rows = rows_per_batch(LENGTH)
        found = [list(self._row(is_last=row == rows - 1)) for row in range(rows)]
        offsets = np.concatenate([[0], np.cumsum([len(row) for row in found])]).astype(np.int32)
        flat = np.array([piece for row in found for piece in row], np.int32).T
        ids = (self._rng.zipf(1.25, rows * LENGTH) % VOCABULARY).astype(np.uint16)
        arrays = [
            pa.FixedSizeListArray.from_arrays(pa.array(ids), type=FORMAT.schema.field("tokens").type),
            *(_lists(offsets, column) for column in (flat[2], np.zeros_like(flat[0]), flat[0], flat[1])),
            pa.array(np.full(rows, LENGTH, np.int32)),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=FORMAT.schema)

    def _row(self, is_last: bool) -> Iterator[tuple[int, int, int]]:
        """Document, start and length of the pieces of a row."""
        room = LENGTH
        while room:
            if not self._left:
                self._left, self._start = int(self._rng.integers(100, 3000)), 0
                self.documents += 1
            if is_last and self._left > room:
                self._left = room
            size = min(room, self._left)
            if size < self._left or self._start:
                self.cut += self._start == 0
                self.cut_tokens += size
            yield self.documents - 1, self._start, size
            room, self._left, self._start = room - size, self._left - size, self._start + size


def _lists(offsets: npt.NDArray[np.int32], values: npt.NDArray[np.int32]) -> pa.ListArray:
    type_ = FORMAT.schema.field("document_rows").type
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.ascontiguousarray(values)), type=type_)


if __name__ == "__main__":
    main()
