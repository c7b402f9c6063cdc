"""Files of conversations: one a unit and stratum, in a folder of the split's name that has nothing else in it."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from tokenmill.manifests.receipts import hash_json
from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.export import chat_datasets, dfactory, dream, hugging_face
from tokenmill.pipeline.export.conversations import Conversations, read_conversations
from tokenmill.pipeline.export.formats import MESSAGE_FORMATS
from tokenmill.pipeline.export.job import Job, Written
from tokenmill.pipeline.export.megatron import UnitShards, unit_shards
from tokenmill.pipeline.export.messages import PartTables, read_messages
from tokenmill.pipeline.export.selection import Selection
from tokenmill.pipeline.kept import edit_outputs
from tokenmill.pipeline.opened import open_run
from tokenmill.pipeline.opened_units import open_units
from tokenmill.pipeline.storage import Draft, Stored
from tokenmill.pipeline.tokens.rows import pad_id


@dataclass(frozen=True)
class ChatUnit:
    """What one task writes.

    Attributes:
        index: of its file.
        files: in all.
        shards: of the unit and stratum.
        tables: of the unit's parts, where the format is of messages.
    """

    index: int
    files: int
    shards: UnitShards
    tables: tuple[PartTables, ...]


def chat_units(selection: Selection, kind: str) -> list[ChatUnit]:
    """The tasks of an export, in the order of the shard table."""
    shards = unit_shards(selection.shards)
    tables = _tables(selection) if kind in MESSAGE_FORMATS else {}
    return [
        ChatUnit(index, len(shards), one, tables.get(one.prefix.rpartition("/")[2], ()))
        for index, one in enumerate(shards)
    ]


def _tables(selection: Selection) -> dict[str, tuple[PartTables, ...]]:
    """Tables of the parts of each unit, as `document_parts` counts them."""
    run = open_run(selection.storage, selection.published)
    recipe = run.recipe_file.recipe
    units = open_units(selection.storage, selection.published, recipe).units
    order = {source.name: [entry.group for entry in source.filters] for source in recipe.sources}
    found = {}
    for name, unit in units.items():
        found[name] = tuple(
            PartTables(
                part.key,
                unit.tables[part.key]["documents"].path,
                unit.tables[part.key]["turns"].path,
                tuple(output.path for output in edit_outputs(unit.tables[part.key], order[unit.source])),
            )
            for part in unit.parts
        )
    return found


def write_unit(job: Job, item: ChatUnit) -> Written:
    """Write one file."""
    found = read_conversations(job.rows, item.shards)
    padding, left_out = 0, Counter[str]()
    with job.output.temporary() as draft:
        if job.format in MESSAGE_FORMATS:
            left_out = _write_messages(job, item, found, draft)
        elif job.format == "dfactory-tokens":
            for some in found.slices(chat_datasets.ROWS_PER_BATCH):
                more, out = dfactory.write_tokens(
                    draft.file, some, job.rows.sequences.length, pad_id(job.rows.sequences.special_ids)
                )
                padding += more
                left_out += out
        else:
            batches = (chat_datasets.batch_of(job.format, some) for some in found.slices(chat_datasets.ROWS_PER_BATCH))
            hugging_face.write_stream(draft.file, chat_datasets.SCHEMAS[job.format], batches)
        stored = draft.commit(_path(job, item))
    counts = (item.shards.rows, len(found.rows), len(found.tokens))
    return Written((stored,), *counts, padding, dict(left_out))


def _write_messages(job: Job, item: ChatUnit, found: Conversations, draft: Draft) -> Counter[str]:
    """Write conversations as messages; how many are left out, by reason."""

    def made(conversation: Conversation) -> object:
        return dfactory.line_of(conversation) if job.format == "dfactory" else dream.pair_of(conversation)

    all_made = read_messages(job.rows.storage, item.tables, found.parts, found.rows, made)
    if job.format == "dfactory":
        draft.file.writelines(line for line in all_made if isinstance(line, bytes))
    else:
        dream.write(draft.file, [pair for pair in all_made if isinstance(pair, dream.Pair)])
    return Counter(reason for reason in all_made if isinstance(reason, str))


_ENDS = {"dfactory": "jsonl", "dfactory-tokens": "jsonl", "dream": "parquet"}


def _folder(job: Job) -> str:
    """Where the data files are; a `datasets` folder of one dataset, as Automodel's, is the export's own."""
    return "" if job.format == "automodel" else f"{job.split}/"


def _path(job: Job, item: ChatUnit) -> str:
    end = _ENDS.get(job.format)
    name = f"{item.index:05d}-of-{item.files:05d}.{end}" if end else hugging_face.path(item.index, item.files)
    return _folder(job) + name


def naming_files(job: Job, written: Sequence[Written], asked: object) -> list[Stored]:
    """Write the files that name those of a `datasets` folder; others need none."""
    schema = chat_datasets.SCHEMAS.get(job.format)
    if schema is None:
        return []
    files = [file for one in written for file in one.files]
    names = [file.path.removeprefix(_folder(job)) for file in files]
    fingerprint = hash_json([asked, [vars(file) for file in files]])[:16]
    value = {
        _folder(job) + hugging_face.INFO: hugging_face.info(schema),
        _folder(job) + hugging_face.STATE: hugging_face.state(job.split, fingerprint, names),
    }
    if job.format == "dllm":
        value[chat_datasets.DICT] = chat_datasets.splits(job.split)
    return [job.output.write(path, data) for path, data in value.items()]
