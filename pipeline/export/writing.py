"""Export: one task a file of rows, or a unit's documents; then the files that name them; the marker last.

Which rows a file holds follows from the run and the options alone, and so do its bytes: the same with any number of
workers. A task reads what it needs and returns counts and hashes, which are added up and held against the shard table.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tokenmill.manifests.lengths import in_words, length_of
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.plan import Plan, compile_plan
from tokenmill.manifests.receipts import hash_json
from tokenmill.manifests.shards import CONCAT, DIALOGUE
from tokenmill.pipeline.export import chat_files, folder, hugging_face, mds, megatron, smdm
from tokenmill.pipeline.export.chat_files import ChatUnit
from tokenmill.pipeline.export.formats import CHAT_FORMATS, ROW_FORMATS, Format
from tokenmill.pipeline.export.job import Job, Written
from tokenmill.pipeline.export.megatron import UnitShards
from tokenmill.pipeline.export.rows import Rows, gather
from tokenmill.pipeline.export.selection import Selection
from tokenmill.pipeline.scan import Opening, scan_soon
from tokenmill.pipeline.storage import Storage, Stored
from tokenmill.pipeline.tokens.rows import pad_id

FORMAT = "tokenmill-export/1"
#: Token ids that a file of rows holds.
FILE_BYTES = 64 << 20
#: Formats of which a file holds what a unit does.
_OF_UNITS = ("megatron", *CHAT_FORMATS)
_COUNTS = ("rows", "documents", "tokens", "padding_tokens")


@dataclass(frozen=True)
class FileRows:
    """A file of rows: which it is, of how many, and its places in the order; `size` rows, but for the last."""

    index: int
    files: int
    places: range
    size: int


def export(
    selection: Selection,
    format: Format,
    output: Storage,
    opening: Opening,
    num_rows: int | None = None,
    file_bytes: int | None = None,
) -> dict[str, Any]:
    """Write an export, unless it is there already.

    Args:
        selection: what of the run.
        format: for whom.
        output: an empty folder, or one that holds this export, finished or not.
        opening: opens what tasks run on, once that takes longer than two seconds.
        num_rows: the first so many rows of the mixture's global order; by default all, once, in stored order.
        file_bytes: token ids a file of rows holds, at most; at least one row.

    Returns:
        What `export.json` says.

    Raises:
        ValueError: the options do not fit each other, the run or what is in the folder; or a shard is damaged.
    """
    rows = _ordered(selection, format, num_rows, file_bytes)
    asked = _asked(selection, format, num_rows, None if format in _OF_UNITS else file_bytes or FILE_BYTES)
    done = folder.finished(output, asked)
    if done is not None:
        return done
    folder.begin(output, asked)
    job = Job(format, selection.split, rows, output)
    total = selection.count("rows") if num_rows is None else num_rows
    items: list[Any] = _items(selection, rows, format, total, asked["file_bytes"])
    written: list[Written] = scan_soon(opening, "export", write_task, job, items)
    files = [file for one in written for file in one.files] + _naming_files(job, selection, items, written, asked)
    value = {
        **asked,
        **_counts(selection, written, num_rows),
        **({"left_out": _left_out(written)} if format in CHAT_FORMATS else {}),
        "files": [vars(file) for file in files],
        "bytes": sum(file.bytes for file in files),
    }
    folder.finish(output, value)
    return value


def _items(selection: Selection, rows: Rows, format: Format, total: int, file_bytes: int | None) -> list[Any]:
    """What the tasks are of."""
    if format in CHAT_FORMATS:
        return list(chat_files.chat_units(selection, format))
    if file_bytes is None:
        return list(megatron.unit_shards(rows.shards))
    return list(_file_rows(rows, total, file_bytes))


def _left_out(written: Sequence[Written]) -> dict[str, int]:
    """Conversations left out, by reason."""
    return dict(sum((Counter(one.left_out) for one in written), Counter[str]()))


def _counts(selection: Selection, written: Sequence[Written], num_rows: int | None) -> dict[str, int]:
    """What was written, added up. Raises ValueError when it is not what the shard table says."""
    counted = {name: sum(getattr(one, name) for one in written) for name in _COUNTS}
    if num_rows is None:
        stated = {name: selection.count(name) for name in ("rows", "documents", "tokens")}
        if any(counted[name] != count for name, count in stated.items()):
            raise ValueError(f"the shards hold {counted}, but the shard table says {stated}: publish the run again")
    return counted


def write_task(job: Job, item: FileRows | UnitShards | ChatUnit) -> Written:
    """Write what one item names."""
    if isinstance(item, ChatUnit):
        return chat_files.write_unit(job, item)
    return _write_documents(job, item) if isinstance(item, UnitShards) else _write_rows(job, item)


def _ordered(selection: Selection, format: Format, num_rows: int | None, file_bytes: int | None) -> Rows:
    """The rows in the order that is asked for."""
    if format not in _OF_UNITS and len(selection.lengths) > 1:
        raise ValueError(
            f"{format} has rows of one length, and {selection.storage.root!r} has rows of "
            f"{in_words(selection.lengths)} tokens: give --length, and each a folder of its own"
        )
    sequences = replace(selection.sequences, length=selection.lengths[-1])
    rows = Rows(selection.storage, selection.shards, sequences)
    if format in _OF_UNITS and (num_rows is not None or file_bytes is not None):
        raise ValueError(
            f"--rows and --file-bytes are for files of rows, and {format} takes whole documents: leave out"
        )
    if format in CHAT_FORMATS and selection.sequences.layout not in (CONCAT, DIALOGUE):
        raise ValueError(
            f"{format} is for conversations, and {selection.storage.root!r} has rows of layout "
            f"{selection.sequences.layout!r}: give {', '.join(ROW_FORMATS)}"
        )
    if num_rows is None:
        return rows
    mixture = selection.mixture
    if (
        mixture is None
        or selection.split != "train"
        or len(selection.sources) < len(selection.published.value["sources"])
    ):
        raise ValueError("--rows takes rows in the mixture's order, which is of the train split of all sources")
    return replace(rows, plan=_plan(mixture, sequences.length, num_rows))


def _plan(mixture: Mixture, length: int, num_rows: int) -> Plan:
    """The order of training; of rows of one of several lengths, as they come there among the others."""
    if mixture.batch_size is None:
        return compile_plan(mixture, num_rows)
    stages = {stage.mixture.sequence_length: stage for stage in compile_plan(mixture).stages}
    most = stages[length].rows if length in stages else 0
    if num_rows > most:
        raise ValueError(f"--rows {num_rows} is more than the {most} rows of {length} tokens that training takes")
    return compile_plan(stages[length].mixture, most, stages[length].window_bytes)


def _asked(selection: Selection, format: Format, num_rows: int | None, file_bytes: int | None) -> dict[str, Any]:
    """What settles every byte of an export, and what its readers must know."""
    sequences = selection.sequences
    template = {"chat_template": selection.published.value.get("template")} if format in CHAT_FORMATS else {}
    return {
        **template,
        "format": FORMAT,
        "kind": format,
        "version": selection.published.path,
        "split": selection.split,
        "sources": list(selection.sources),
        "order": "stored" if num_rows is None else f"first {num_rows} rows of the mixture",
        "file_bytes": file_bytes,
        "sequence_length": selection.lengths[-1],
        **({"lengths": list(selection.lengths)} if length_of(selection.shards["component"][0].as_py()) else {}),
        "sequence_align": sequences.align,
        "vocab_size": sequences.vocab_size,
        "tokenizer": selection.published.value["tokenizer"],
        "tokenizer_hash": sequences.tokenizer_hash,
        "special_ids": sequences.special_ids,
    }


def _file_rows(rows: Rows, total: int, file_bytes: int) -> list[FileRows]:
    """Rows of each file: as many in each but the last, which has no more."""
    most = max(1, file_bytes // (rows.sequences.length * rows.dtype.itemsize))
    size = -(-total // -(-total // most))
    files = -(-total // size)
    return [FileRows(i, files, range(i * size, min(total, (i + 1) * size)), size) for i in range(files)]


def _write_rows(job: Job, item: FileRows) -> Written:
    gathered = gather(job.rows, item.places)
    with job.output.temporary() as draft:
        if job.format == "smdm":
            smdm.write(draft.file, gathered.tokens, item.size, pad_id(job.rows.sequences.special_ids))
            stored = draft.commit(smdm.path(job.split, item.index))
        elif job.format == "mds":
            mds.write(draft.file, gathered, aligned=job.rows.sequences.align > 1)
            stored = draft.commit(mds.path(item.index))
        else:
            hugging_face.write(draft.file, gathered)
            stored = draft.commit(hugging_face.path(item.index, item.files))
    tokens = int(gathered.valid.sum(dtype="int64"))
    cells = job.rows.sequences.length * (item.size if job.format == "smdm" else len(item.places))
    return Written((stored,), len(item.places), gathered.documents, tokens, cells - tokens)


def _write_documents(job: Job, unit: UnitShards) -> Written:
    documents = megatron.read_documents(job.rows, unit)
    with job.output.temporary() as draft:
        draft.file.write(documents.tokens.data)
        tokens = draft.commit(f"{unit.prefix}.bin")
    with job.output.temporary() as draft:
        megatron.write_index(draft.file, documents)
        index = draft.commit(f"{unit.prefix}.idx")
    return Written((tokens, index), unit.rows, len(documents.lengths), len(documents.tokens), 0)


def _naming_files(
    job: Job, selection: Selection, items: Sequence[Any], written: Sequence[Written], asked: dict[str, Any]
) -> list[Stored]:
    """Write the files that name the others."""
    length, dtype, output = job.rows.sequences.length, job.rows.dtype, job.output
    if job.format in CHAT_FORMATS:
        return chat_files.naming_files(job, written, asked)
    if job.format == "megatron":
        return [output.write(megatron.BLEND, megatron.blend(_weights(selection, items)))]
    if job.format == "smdm":
        return []
    files = [(one.files[0].path, one.files[0].bytes, one.files[0].hash, one.rows) for one in written]
    if job.format == "mds":
        return [output.write(mds.INDEX, mds.index(length, dtype, files, aligned=job.rows.sequences.align > 1))]
    names = [name for name, *_ in files]
    return [
        output.write(hugging_face.INFO, hugging_face.info(hugging_face.row_schema(length, dtype))),
        output.write(hugging_face.STATE, hugging_face.state(job.split, hash_json([asked, files])[:16], names)),
    ]


def _weights(selection: Selection, units: Sequence[UnitShards]) -> list[tuple[float, str]]:
    """Token share of each unit: in training its component's in the mixture, else its tokens."""
    if selection.split != "train" or selection.mixture is None:
        return [(float(unit.tokens), unit.prefix) for unit in units]
    share = {component.name: component.weight / component.tokens for component in selection.mixture.components}
    return [(share[unit.component] * unit.tokens, unit.prefix) for unit in units]
