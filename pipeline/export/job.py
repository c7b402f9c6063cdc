"""What the tasks of an export share, and what each says that it wrote."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from tokenmill.pipeline.export.formats import Format
from tokenmill.pipeline.export.rows import Rows
from tokenmill.pipeline.storage import Storage, Stored


@dataclass(frozen=True)
class Job:
    """What all tasks of an export share."""

    format: Format
    split: str
    rows: Rows
    output: Storage


@dataclass(frozen=True)
class Written:
    """What one task wrote: its files, and what is in them.

    Attributes:
        files: as they are stored.
        rows: packed rows it read.
        documents: in these.
        tokens: of these.
        padding_tokens: that it wrote.
        left_out: documents that the format has no place for, by reason.
    """

    files: tuple[Stored, ...]
    rows: int
    documents: int
    tokens: int
    padding_tokens: int
    left_out: Mapping[str, int] = field(default_factory=dict)
