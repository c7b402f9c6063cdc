"""Proofs from the files: `verify` (every byte is what the manifest says), `recount` (every number is), `gc`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from tokenmill.manifests.audit import STEPS, balance_sheet, differences, shards_of
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.receipts import Output, Receipt, receipts_of
from tokenmill.manifests.shards import BATCH_COLUMNS, CorruptShardError, check_batch
from tokenmill.pipeline.chat.turns import misplaced
from tokenmill.pipeline.packed import count_packed
from tokenmill.pipeline.steps.ingest import ingest_balance
from tokenmill.pipeline.steps.publish import Published, manifest_table, read_version, versions
from tokenmill.pipeline.steps.select import select_balance
from tokenmill.pipeline.storage import Storage, content_hash
from tokenmill.pipeline.tables import open_groups, read_table

#: Folders whose files must each be named by a published manifest (or wait for the next one).
DATA_FOLDERS = tuple(
    [
        *("documents", "lines", "signals", "edits", "decisions", "ledger", "clusters", "takedown", "sequences"),
        *("left_out", "tokenizer", "manifests", "turns"),
    ]
)

#: Files of the rounds of *deduplicate*: no manifest names them, and a run that needs them makes them again.
ROUNDS_FOLDER = "dedup"


@dataclass(frozen=True)
class Finding:
    """Something that is not as the manifest says."""

    path: str
    problem: str


def receipts_in(storage: Storage, published: Published, *steps: str) -> list[Receipt]:
    """The receipts that a published version is made of; of some `steps` alone, if any are named."""
    table = manifest_table(storage, published, "tasks")
    receipts = receipts_of(table.filter(pc.is_in(table.column("step"), pa.array(steps))) if steps else table)
    if any(BATCH_COLUMNS[0] not in output.detail for receipt in receipts for output in _shards(receipt)):
        shards = manifest_table(storage, published, "shards").select(["path", *BATCH_COLUMNS])
        batches = {shard.pop("path"): shard for shard in shards.to_pylist()}
        return [_with_batches(receipt, batches) if receipt.step == "pack" else receipt for receipt in receipts]
    return receipts


def _shards(receipt: Receipt) -> list[Output]:
    return shards_of(receipt) if receipt.step == "pack" else []


def _with_batches(receipt: Receipt, batches: Mapping[str, Mapping[str, Any]]) -> Receipt:
    """The receipt of *pack* as it was written: with what the shard table says of each record batch."""
    outputs = []
    for output in receipt.outputs:
        if output.path in batches:
            found = dict(batches[output.path])
            found["batch_hashes"] = [digest.hex() for digest in found["batch_hashes"]]
            output = replace(output, detail={**output.detail, **found})
        outputs.append(output)
    return replace(receipt, outputs=tuple(outputs))


def named_files(storage: Storage, published: Published, receipts: Sequence[Receipt]) -> dict[str, Output | None]:
    """Every file that a version names, with what must be in it (None: its name holds its hash)."""
    named: dict[str, Output | None] = {output.path: output for receipt in receipts for output in receipt.outputs}
    value = published.value
    removals = value.get("removals", [])
    for path in (published.path, value["plan"], value["tasks"], value["shards"], value["mixture"], *removals):
        if path is not None:
            named[path] = None
    return named


def verify(storage: Storage, published: Published, quick: bool = False) -> Iterator[tuple[str, Finding | None]]:
    """Check every file of a version; yields (path, what is wrong or None), then the foreign files.

    A file is foreign if it lies in a folder of the run's data and no version names it; what people keep beside these
    folders, recipe and raw files of the demo for instance, is theirs: nothing reads it.
    Every byte is read, and hashed. `quick` reads what is cheap: sizes, manifests, the footers of Parquet files, which
    must be readable and fit the file, and all of a shard that follows its record batches, which has a hash of its own.

    Args:
        storage: the run's folder.
        published: the version.
        quick: read no data.
    """
    sizes = storage.sizes()
    for path in (published.value["tasks"], published.value["shards"]):
        if damaged := _check_file(storage, path, None, sizes.get(path), quick=False):
            yield path, Finding(path, f"{damaged.problem}; nothing else can be checked without it")
            return
    receipts = receipts_in(storage, published)
    named = named_files(storage, published, receipts)
    for path, output in sorted(named.items()):
        yield path, _check_file(storage, path, output, sizes.get(path), quick)
    others = set(versions(storage)) - {published.path}
    for version in sorted(others):
        earlier = read_version(storage, version)
        named |= named_files(storage, earlier, receipts_in(storage, earlier))
    for path in sorted(path for path in set(sizes) - set(named) if path.split("/")[0] in DATA_FOLDERS):
        yield path, Finding(path, "foreign: no published manifest names it (`tokenmill gc` removes what a rerun left)")


def _check_file(storage: Storage, path: str, output: Output | None, size: int | None, quick: bool) -> Finding | None:
    if size is None:
        return Finding(path, "missing")
    if output is not None and size != output.bytes:
        return Finding(path, f"is {size} bytes; its receipt says {output.bytes}")
    if quick and (output is not None or path.endswith(".parquet")):
        return _check_footer(storage, path, output, size)
    with storage.open(path) as file:
        digest = content_hash(file)[1]
    if output is None:
        wrong = digest not in path
        return Finding(path, f"its bytes hash to {digest}, which is not the hash in its name") if wrong else None
    # of a table that lost erased texts, `hash` is what its tasks were keyed with
    expected = output.detail.get("erased", {}).get("hash", output.hash)
    if digest == expected:
        return None
    return Finding(path, f"its bytes hash to {digest}; its receipt says {expected}{_bad_batches(storage, output)}")


def _check_footer(storage: Storage, path: str, output: Output | None, size: int) -> Finding | None:
    detail = output.detail if output is not None else {}
    if "footer_hash" in detail:
        ends = [at + length for at, length in zip(detail["batch_offsets"], detail["batch_lengths"], strict=True)]
        begin = max([detail["schema_bytes"], *ends])
        found = xxhash.xxh3_128_hexdigest(storage.read_range(path, begin, size - begin))
        if found != detail["footer_hash"]:
            return Finding(path, f"its footer hashes to {found}; its receipt says {detail['footer_hash']}")
    elif path.endswith(".parquet"):
        try:
            with open_groups(storage, path) as groups:
                groups.check_places(size)
        except ValueError as error:
            return Finding(path, f"its footer is damaged: {error}")
    return None


def _bad_batches(storage: Storage, output: Output) -> str:
    """Which record batches of a changed shard are bad."""
    if "batch_hashes" not in output.detail:
        return ""
    detail, bad = output.detail, []
    for index, digest in enumerate(detail["batch_hashes"]):
        data = storage.read_range(output.path, detail["batch_offsets"][index], detail["batch_lengths"][index])
        try:
            check_batch(data, bytes.fromhex(digest), shard=output.path, batch=index)
        except CorruptShardError:
            bad.append(index)
    return f"; bad record batches: {bad}" if bad else "; its record batches are whole, its header or footer is not"


def recount(storage: Storage, published: Published) -> Iterator[tuple[str, list[str]]]:
    """Count every part anew from what was written; yields (task, what differs from its receipt)."""
    receipts = receipts_in(storage, published)
    by_part: dict[str, dict[str, Output]] = {}
    for receipt in receipts:
        if receipt.step in ("ingest", "annotate", "select"):
            part = by_part.setdefault(receipt.task.split(".")[0], {})
            part |= {output.name: output for output in receipt.outputs}
    for receipt in receipts:
        counted, problems = count_packed(storage, receipt) if receipt.step == "pack" else (None, [])
        problems = problems + _misplaced_turns(storage, receipt)
        counted = counted or _count(storage, receipt, by_part)
        if counted is not None:
            empty = {step: Balance() for step in STEPS}
            stated = {**empty, receipt.step: receipt.balance}
            found = differences(stated, {**empty, receipt.step: counted})
            yield f"{receipt.step} of {receipt.task}", found + problems
    sheets = balance_sheet(published.value["sources"], receipts)
    stated_sheet = {source: sheet.to_json() for source, sheet in sheets.items()}
    wrong = [] if stated_sheet == published.value["balance"] else ["the sheet is not the sum of its receipts"]
    yield "balance sheet", wrong


def _count(storage: Storage, receipt: Receipt, by_part: Mapping[str, Mapping[str, Output]]) -> Balance | None:
    if receipt.step == "ingest":
        return _count_ingest(storage, receipt.output("documents"))
    if receipt.step == "select":
        return _count_select(storage, receipt.output("decisions"), by_part[receipt.task]["signals/hashes"])
    if receipt.step == "deduplicate":
        return _count_ledger(storage, receipt, by_part)
    return None


def _misplaced_turns(storage: Storage, receipt: Receipt) -> list[str]:
    """What differs between `documents` and `turns`, where *ingest* wrote both."""
    tables = {output.name: output.path for output in receipt.outputs}
    if "turns" not in tables:
        return []
    with open_groups(storage, tables["documents"]) as documents, open_groups(storage, tables["turns"]) as turns:
        if documents.group_rows != turns.group_rows:
            return [f"{tables['turns']} has other rows than {tables['documents']}"]
        wrong = sum(
            misplaced(documents.read(index, ["text"]).column(0), turns.read(index)) for index in range(len(turns))
        )
    return [f"the turns of {wrong} conversations are not their text"] if wrong else []


def _count_ingest(storage: Storage, documents: Output) -> Balance:
    balance = Balance()
    with open_groups(storage, documents.path) as groups:
        for index in range(len(groups)):
            balance += ingest_balance(groups.read(index, ["gate", "failure", "raw_bytes"]))
    return balance


def _count_select(storage: Storage, decisions: Output, hashes: Output) -> Balance:
    balance = Balance()
    with open_groups(storage, decisions.path) as rows, open_groups(storage, hashes.path) as content:
        for index in range(len(rows)):
            text_bytes = content.read(index, ["text_bytes"]).column(0)
            balance += select_balance(rows.read(index), text_bytes)
    return balance


def _count_ledger(storage: Storage, receipt: Receipt, by_part: Mapping[str, Mapping[str, Output]]) -> Balance:
    """Kept rows of the unit's parts less the ledger's; a removed row that was not kept shows as a difference."""
    names = [output.path for output in receipt.outputs if output.name.startswith("ledger/")]
    columns = ["removed_part", "removed_row", "kind"]
    ledger = pa.concat_tables([read_table(storage, path, columns) for path in names])
    balance = Balance()
    own = {name.removeprefix("decisions/") for name in receipt.inputs if name.startswith("decisions/")}
    for part, tables in sorted((part, by_part[part]) for part in own):
        kept = read_table(storage, tables["decisions"].path, ["kept"]).column(0).to_numpy()
        sizes = read_table(storage, tables["signals/hashes"].path, ["text_bytes"]).column(0)
        sizes = pc.fill_null(sizes, 0).to_numpy()
        stays = kept.copy()
        for kind, rows in _by_kind(ledger.filter(pc.equal(ledger.column("removed_part"), part))).items():
            gone = rows[kept[rows]]
            stays[gone] = False
            balance.drop(f"dedup.{kind.replace(' ', '_')}", Tally(len(gone), int(sizes[gone].sum())))
        balance.taken += Tally(int(np.count_nonzero(kept)), int(sizes[kept].sum()))
        balance.out += Tally(int(np.count_nonzero(stays)), int(sizes[stays].sum()))
    return balance


def _by_kind(removals: pa.Table) -> dict[str, npt.NDArray[np.int32]]:
    """Removed rows of a part, by kind."""
    kinds = removals.column("kind").to_numpy()
    rows = removals.column("removed_row").to_numpy()
    return {str(kind): rows[kinds == kind] for kind in np.unique(kinds)}


def garbage(storage: Storage, keep: Sequence[str]) -> dict[str, int]:
    """Files, with sizes, that no manifest in `keep` names: outputs, receipts, drafts of killed tasks."""
    named: set[str] = set(keep)
    receipts: set[str] = set()
    for path in keep:
        published = read_version(storage, path)
        found = receipts_in(storage, published)
        named |= set(named_files(storage, published, found))
        receipts |= {receipt.path for receipt in found}
    folders = (*DATA_FOLDERS, ROUNDS_FOLDER, "tmp")
    listed = {path: size for folder in folders for path, size in storage.sizes(folder).items()}
    loose = {path: size for path, size in storage.sizes("receipts").items() if path.endswith(".json")}
    return {path: size for path, size in listed.items() if path not in named} | {
        path: size for path, size in loose.items() if path not in receipts
    }
