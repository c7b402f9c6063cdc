"""Receipts: a task is done when its receipt says so, and the receipt is written last.

A task's key hashes the step's version, its parameters, the content hashes of its inputs and the versions of the
libraries it names, so the same key means the same bytes. Output names carry the key.
"""

import gc
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from sys import intern
from typing import Any
from unicodedata import unidata_version

import pyarrow as pa
import xxhash

from tokenmill.manifests.balance import Balance

_ROWS_AT_ONCE = 1 << 14
RECEIPTS = pa.schema(
    [
        pa.field("step", pa.string(), nullable=False),
        pa.field("source", pa.string(), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("key", pa.string(), nullable=False),
        pa.field("inputs", pa.string(), nullable=False),  # JSON: name → content hash
        pa.field("outputs", pa.string(), nullable=False),  # JSON: list of {name, path, bytes, hash, …}
        pa.field("balance", pa.string(), nullable=False),  # JSON, see manifests.balance
        pa.field("notes", pa.string(), nullable=False),  # JSON: what the step has to say besides
    ]
)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces: the same value is always the same text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_json(value: Any) -> str:
    """xxh3-128 (hex) of the canonical JSON of a value."""
    return xxhash.xxh3_128_hexdigest(canonical_json(value).encode())


def library_versions(names: Sequence[str]) -> dict[str, str]:
    """Installed versions of the named distributions, and of the Unicode tables that this Python has."""
    return {"unicode": unidata_version, **{name: _version(name) for name in sorted(names)}}


_version = cache(version)


@dataclass(frozen=True, slots=True)
class Output:
    """A file that a task wrote: its name within the task, its path under the run, and what must be in it."""

    name: str
    path: str
    bytes: int
    hash: str
    detail: Mapping[str, Any] = field(default_factory=dict)  # such as a shard's row of the shard table

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        value = {"name": self.name, "path": self.path, "bytes": self.bytes, "hash": self.hash}
        return {**value, "detail": dict(self.detail)}


@dataclass(frozen=True)
class Task:
    """What identifies a task: equal keys promise equal bytes.

    Attributes:
        step: the step's name.
        version: the step's own version; raised when its code changes what it writes.
        source: the source it works for ("" for a global step).
        name: the part, the unit, or "all".
        params: parameters as plain JSON values.
        inputs: content hashes of what it reads, by name.
        libraries: distributions whose version its output depends on.
    """

    step: str
    version: int
    source: str
    name: str
    params: Mapping[str, Any]
    inputs: Mapping[str, str]
    libraries: tuple[str, ...] = ("pyarrow",)

    @property
    def key(self) -> str:
        """80 bits of hash, in hex: at 10^9 tasks the chance of one collision is under 10^-6."""
        return self.key_with(library_versions(self.libraries))

    def key_with(self, libraries: Mapping[str, str]) -> str:
        """The key where the libraries have these versions: all of `library_versions(self.libraries)`."""
        return hash_json([self.step, self.version, self.name, self.params, self.inputs, libraries])[:20]


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a task is done."""

    step: str
    source: str
    task: str
    key: str
    inputs: Mapping[str, str]
    outputs: tuple[Output, ...]
    balance: Balance = field(default_factory=Balance)
    notes: Mapping[str, Any] = field(default_factory=dict)

    def output(self, name: str) -> Output:
        """The output of that name. Raises KeyError naming what there is."""
        for output in self.outputs:
            if output.name == name:
                return output
        raise KeyError(f"{self.step} of {self.task} wrote no {name!r}; it wrote {[o.name for o in self.outputs]}")

    @property
    def path(self) -> str:
        """Where the receipt lies under the run."""
        return f"receipts/{self.step}/{self.task}.{self.key}.json"

    def to_row(self) -> dict[str, str]:
        """A row of RECEIPTS."""
        return {
            "step": self.step,
            "source": self.source,
            "task": self.task,
            "key": self.key,
            "inputs": canonical_json(dict(self.inputs)),
            "outputs": canonical_json([output.to_json() for output in self.outputs]),
            "balance": _NO_BALANCE_JSON if self.balance is _NO_BALANCE else canonical_json(self.balance.to_json()),
            "notes": canonical_json(dict(self.notes)) if self.notes else "{}",
        }

    @classmethod
    def from_row(cls, row: Mapping[str, str]) -> "Receipt":
        """Read a row of RECEIPTS back."""
        return cls(
            intern(row["step"]),
            intern(row["source"]),
            row["task"],
            row["key"],
            {intern(name): digest for name, digest in json.loads(row["inputs"]).items()},
            tuple(_output(value) for value in json.loads(row["outputs"])),
            _NO_BALANCE if row["balance"] == _NO_BALANCE_JSON else Balance.from_json(json.loads(row["balance"])),
            _NOTHING if row["notes"] == "{}" else json.loads(row["notes"]),
        )


# A run of 100,000 parts has 800,000 receipts: what most of them have alike, they share.
_NOTHING: Mapping[str, Any] = {}
_NO_BALANCE = Balance()
_NO_BALANCE_JSON = canonical_json(_NO_BALANCE.to_json())


def _output(value: dict[str, Any]) -> Output:
    return Output(intern(value["name"]), value["path"], value["bytes"], value["hash"], value["detail"] or _NOTHING)


def receipt_table(receipts: Sequence[Receipt]) -> pa.Table:
    """Receipts as one table, sorted by (step, source, task, key)."""
    ordered = sorted(receipts, key=lambda receipt: (receipt.step, receipt.source, receipt.task, receipt.key))
    batches = [
        pa.RecordBatch.from_pylist([receipt.to_row() for receipt in ordered[start : start + _ROWS_AT_ONCE]], RECEIPTS)
        for start in range(0, len(ordered), _ROWS_AT_ONCE)
    ]
    return pa.Table.from_batches(batches, RECEIPTS)


def receipts_of(table: pa.Table) -> list[Receipt]:
    """The receipts in a table."""
    names = RECEIPTS.names
    found: list[Receipt] = []
    with _no_garbage():
        for batch in table.select(names).to_batches(max_chunksize=_ROWS_AT_ONCE):
            for row in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                found.append(Receipt.from_row(dict(zip(names, row, strict=True))))
    return found


@contextmanager
def _no_garbage() -> Iterator[None]:
    """Look for no cycles meanwhile: among a million new objects that takes longer than making them."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
