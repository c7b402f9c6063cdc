"""The tables that the rounds of *deduplicate* read, made from arrays, and a way to run the rounds on them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.minhash import signature_column
from tokenmill.manifests.receipts import Output, Receipt
from tokenmill.manifests.schemas import CONTENT, DECISIONS, signature_schema
from tokenmill.pipeline.book import TaskRun
from tokenmill.pipeline.dedup_rounds.driver import tables_read
from tokenmill.pipeline.dedup_rounds.edges import Context, RoundTask
from tokenmill.pipeline.dedup_rounds.groups import make_groups
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Dedup, Recipe, Sequences, Source, Tokenizer
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import new_table


@dataclass(frozen=True, eq=False)
class Documents:
    """Rows of one part, kept or not.

    Attributes:
        content: int64[n], what stands for its text: equal numbers are exact copies.
        text_bytes: int64[n].
        signature: uint32[n, num_permutations].
        kept: bool[n].
    """

    content: npt.NDArray[np.int64]
    text_bytes: npt.NDArray[np.int64]
    signature: npt.NDArray[np.uint32]
    kept: npt.NDArray[np.bool_]


def recipe_of(dedup: Dedup, priorities: Sequence[int] = (0,)) -> Recipe:
    """A recipe with one source a priority: "s0", "s1", …"""
    sources = tuple(
        Source(name=f"s{index}", reader="warc", paths=("none",), priority=priority)
        for index, priority in enumerate(priorities)
    )
    return Recipe(
        name="rounds",
        tokenizer=Tokenizer(train={"vocab_size": 1000}),
        sources=sources,
        dedup=dedup,
        sequences=Sequences(length=128),
    )


def content_hashes(content: npt.NDArray[np.int64]) -> npt.NDArray[np.uint8]:
    """Hashes that are equal where the contents are: uint8[n, 16], spread as real ones are."""
    halves = np.stack((content, content + 1), axis=1).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    halves ^= halves >> np.uint64(29)
    return (halves * np.uint64(0xBF58476D1CE4E5B9)).view(np.uint8).reshape(-1, 16)


def write_part(storage: Storage, key: str, documents: Documents, group_rows: int = 1024) -> dict[str, Output]:
    """Write what the rounds read of a part."""
    width = documents.signature.shape[1]
    hashes = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(16), len(documents.content), [None, pa.py_buffer(content_hashes(documents.content).tobytes())]
    )
    nothing = pa.nulls(len(documents.kept), pa.string())
    batches = {
        "decisions": pa.record_batch([pa.array(documents.kept), nothing, nothing], schema=DECISIONS),
        "signals/hashes": pa.record_batch([hashes, pa.array(documents.text_bytes)], schema=CONTENT),
        "signals/minhash": pa.record_batch([signature_column(documents.signature)], schema=signature_schema(width)),
    }
    outputs = {}
    for name, batch in batches.items():
        with new_table(storage, batch.schema) as writer:
            for start in range(0, batch.num_rows, group_rows):
                writer.write_group(batch.slice(start, group_rows))
            outputs[name] = writer.commit(name, f"{name}/{key}.parquet")
    return outputs


@dataclass
class Local:
    """Runs rounds in this process, each task only when its receipt is not known; a test counts and stops them."""

    storage: Storage
    recipe: Recipe
    known: dict[str, Receipt]
    ran: list[str]
    stop_at: int | None = None

    def submit(self, step: str, tasks: Sequence[RoundTask]) -> list[Receipt]:
        """See `edges.Submit`."""
        receipts = []
        for task in tasks:
            run = TaskRun(self.storage, self.known)
            receipt = task.function(run, self.recipe, *task.arguments)
            assert (receipt.step, receipt.task) == (step, task.name)
            if receipt.path not in self.known:
                self.ran.append(receipt.path)
                self.known[receipt.path] = receipt
                if self.stop_at is not None and len(self.ran) >= self.stop_at:
                    raise KeyboardInterrupt
            receipts.append(receipt)
        return receipts


def local(storage: Storage, recipe: Recipe) -> Local:
    """A fresh runner that knows no receipt."""
    return Local(storage, recipe, {}, [])


def context_of(
    runner: Local, parts: Sequence[Part], documents: dict[str, Documents], tables: dict[str, dict[str, Output]]
) -> Context:
    """What the driver of the rounds knows about parts that `write_part` wrote; every part is a unit."""
    groups = make_groups(
        parts,
        tables,
        {key: len(found.kept) for key, found in documents.items()},
        {key: int(found.kept.sum()) for key, found in documents.items()},
        tables_read(runner.recipe),
    )
    return Context(runner.recipe, groups, runner.submit, {part.key: f"unit-{part.key[:2]}" for part in parts})


def shuffled(documents: Documents, order: npt.NDArray[np.int64]) -> Documents:
    """The same rows in another order."""
    return replace(
        documents,
        content=documents.content[order],
        text_bytes=documents.text_bytes[order],
        signature=documents.signature[order],
        kept=documents.kept[order],
    )
