"""Dream's Parquet: `prompt`, the messages before the last answer, and `response`, that answer.

Its reader renders `prompt` by the tokenizer's own template, with the generation prompt, and adds the EOS token to
`response`: so neither is rendered here. A conversation of n answers gives one sample, that of the last one; its
messages have a role and a content, and nothing else.

Source: DreamLM/Dream, src/trainer/sft_dataset.py (verl's SFTDataset), which reads a list of files, each whole.
"""

from collections.abc import Sequence
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.export.dfactory import TOOLS

MESSAGE_FIELDS = "message_fields"
_MESSAGE = pa.struct([pa.field("role", pa.string()), pa.field("content", pa.string())])
_SCHEMA = pa.schema([pa.field("prompt", pa.list_(_MESSAGE)), pa.field("response", pa.string())])
_ROWS_PER_GROUP = 1024


class Pair(NamedTuple):
    """A sample: messages, and the answer to them."""

    prompt: list[dict[str, str]]
    response: str


def pair_of(conversation: Conversation) -> Pair | str:
    """The sample of a conversation; or why there is none: it has tools, or messages with other fields."""
    if conversation.tools is not None:
        return TOOLS
    if any(turn.fields for turn in conversation.turns):
        return MESSAGE_FIELDS
    *before, last = conversation.turns
    return Pair([{"role": turn.role, "content": turn.content} for turn in before], last.content)


def write(file: IO[bytes], pairs: Sequence[Pair]) -> None:
    """Write one file."""
    with pq.ParquetWriter(file, _SCHEMA, compression="zstd", write_page_checksum=True) as writer:
        for start in range(0, len(pairs), _ROWS_PER_GROUP):
            some = pairs[start : start + _ROWS_PER_GROUP]
            columns: list[Any] = [[pair.prompt for pair in some], [pair.response for pair in some]]
            arrays = [pa.array(column, field.type) for column, field in zip(columns, _SCHEMA, strict=True)]
            writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=_SCHEMA))
