"""Groups of parts, and the numbers of their documents.

A *group* is consecutive parts, in order of key, with at most GROUP_DOCUMENTS kept documents together; it depends on the
data alone. A document's *number* is its place when all parts lie behind one another in order of key: base of the part +
row, all rows counted, so numbers sort as identities do and a group's numbers follow one another.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tokenmill.manifests.receipts import Output
from tokenmill.pipeline.plan import Part

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

#: Kept documents of a group, at most; a single larger part is a group of its own.
GROUP_DOCUMENTS = 1 << 20
#: Rows of a group for each kept document it may have: where little is kept, rows bound a group.
ROWS_PER_DOCUMENT = 8


@dataclass(frozen=True)
class Elsewhere:
    """Where a part of an earlier run lies.

    Attributes:
        run: as `dedup.against` gives it.
        version: path of the manifest that names the part.
        root: the run's folder.
        edits: groups whose edits make the text, in the order in which they apply.
    """

    run: str
    version: str
    root: str
    edits: tuple[str, ...]


@dataclass(frozen=True)
class GroupPart:
    """A part as the rounds see it.

    Attributes:
        source: its source's name.
        key: 16 hex digits.
        generation: 0 for the first build; in survivor order all earlier runs come before it.
        base: number of its row 0.
        rows: rows of its tables, kept or not.
        documents: rows that *select* kept.
        tables: outputs by name: "decisions", "signals/hashes", "signals/minhash" where signatures are compared, and
            what the survivor policy reads; of an earlier run "ledger" and, after a takedown, "takedown", the unit's.
        elsewhere: of a part of an earlier run.
    """

    source: str
    key: str
    generation: int
    base: int
    rows: int
    documents: int
    tables: Mapping[str, Output]
    elsewhere: Elsewhere | None = None


@dataclass(frozen=True)
class Group:
    """Consecutive parts that one task takes.

    Attributes:
        index: its place among the groups, which is its partition in exchanges by group.
        parts: in order of key.
    """

    index: int
    parts: tuple[GroupPart, ...]

    @property
    def name(self) -> str:
        """Name of its tasks."""
        return f"group-{self.index:05d}"

    @property
    def base(self) -> int:
        """Number of its first row."""
        return self.parts[0].base

    @property
    def rows(self) -> int:
        """Rows of its parts, kept or not."""
        return sum(part.rows for part in self.parts)

    @property
    def is_own(self) -> bool:
        """Whether its parts are the run's own; a group is of one run."""
        return self.parts[0].elsewhere is None

    @property
    def documents(self) -> int:
        """Kept rows of its parts."""
        return sum(part.documents for part in self.parts)


def make_groups(
    parts: Sequence[Part],
    tables: Mapping[str, Mapping[str, Output]],
    rows: Mapping[str, int],
    documents: Mapping[str, int],
    names: Sequence[str],
) -> tuple[Group, ...]:
    """Number the rows of all parts and group them; parts come in any order.

    Args:
        parts: all parts.
        tables: outputs of each part, by part key and name.
        rows: rows of each part, by part key.
        documents: rows that were kept, by part key.
        names: of the tables that the rounds read, as far as a part has them.
    """
    found = []
    for part in parts:
        read = {name: tables[part.key][name] for name in names if name in tables[part.key]}
        found.append(GroupPart(part.source, part.key, part.generation, 0, rows[part.key], documents[part.key], read))
    return with_parts((), found)


def with_parts(before: Sequence[Group], parts: Sequence[GroupPart]) -> tuple[Group, ...]:
    """Groups, and after them those of more parts, numbered on; parts come in any order, their `base` is set here."""
    groups = list(before)
    members: list[GroupPart] = []
    base = groups[-1].base + groups[-1].rows if groups else 0
    for part in sorted(parts, key=lambda part: int(part.key, 16)):
        one = replace(part, base=base)
        base += one.rows
        if members and _too_large([*members, one]):
            groups.append(Group(len(groups), tuple(members)))
            members = []
        members.append(one)
    return (*groups, Group(len(groups), tuple(members))) if members else tuple(groups)


def _too_large(members: Sequence[GroupPart]) -> bool:
    documents, rows = (sum(getattr(part, name) for part in members) for name in ("documents", "rows"))
    return bool(documents > GROUP_DOCUMENTS or rows > GROUP_DOCUMENTS * ROWS_PER_DOCUMENT)


def group_bases(groups: Sequence[Group]) -> U64:
    """Number of each group's first row, ascending: uint64[groups]."""
    return np.array([group.base for group in groups], np.uint64)


def end_of_own(groups: Sequence[Group]) -> int | None:
    """From which number on documents are those of earlier runs; None where there are none."""
    return next((group.base for group in groups if not group.is_own), None)


def group_of(numbers: U64, bases: U64) -> I64:
    """Index of the group that each number belongs to: int64[n]."""
    return np.searchsorted(bases, numbers, side="right") - 1
