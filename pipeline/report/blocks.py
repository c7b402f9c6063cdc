"""What a page is made of: sections of tables, charts, notes and documents. How they look is the template's."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from markupsafe import Markup

from tokenmill.pipeline.report.samples import Member, Shown

#: Rows of a table at most; the least of them are summed up before, or said to be left out.
ROWS = 200


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        caption: what it is of.
        columns: titles; the first cell of each row is its name.
        rows: cells in words.
        texts: so many columns from the left are words, the others numbers.
    """

    kind: ClassVar[str] = "table"
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: int = 1


@dataclass(frozen=True)
class Chart:
    """A picture, and its numbers.

    Attributes:
        title: of the chart.
        svg: from `inline_svg`.
        table: its numbers, folded away below it.
        notes: what to know of it, a line each.
    """

    kind: ClassVar[str] = "chart"
    title: str
    svg: str
    table: Table
    notes: Sequence[str] = ()

    @property
    def picture(self) -> Markup:
        """The `svg` element, to stand in the page as it is: it was serialised from a tree, which escapes all text."""
        return Markup(self.svg)


@dataclass(frozen=True)
class Note:
    """A paragraph."""

    kind: ClassVar[str] = "note"
    text: str


@dataclass(frozen=True)
class Code:
    """Text as it stands in a file."""

    kind: ClassVar[str] = "code"
    title: str
    text: str


@dataclass(frozen=True)
class Charts:
    """Charts side by side, of one thing."""

    kind: ClassVar[str] = "charts"
    title: str
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Pair:
    """A chart beside a table, or above it where that is wide."""

    kind: ClassVar[str] = "pair"
    chart: Chart
    table: Table
    wide: bool = False


@dataclass(frozen=True)
class Members:
    """A cluster, its documents to be read."""

    kind: ClassVar[str] = "members"
    title: str
    documents: Sequence[Member]


@dataclass(frozen=True)
class Documents:
    """Sampled documents, to be searched.

    Attributes:
        shown: the documents.
        sources: to filter by.
        reasons: to filter by, and how many documents of the run have each, in words.
    """

    kind: ClassVar[str] = "documents"
    shown: Sequence[Shown]
    sources: Sequence[str]
    reasons: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Group:
    """Blocks of one thing, such as a source, under a title of their own."""

    kind: ClassVar[str] = "group"
    title: str
    blocks: Sequence[Table | Chart | Note | Charts | Pair]


Block = Table | Chart | Note | Code | Charts | Pair | Members | Documents | Group


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Attributes:
        name: its id.
        title: for people.
        lead: what it shows, in a sentence or two.
        blocks: what it holds.
    """

    name: str
    title: str
    lead: str
    blocks: list[Block] = field(default_factory=list)


def percent(part: float, whole: float) -> str:
    """A share in words; a dash where there is nothing to have a share of."""
    return f"{100 * part / whole:.1f} %" if whole else "–"


def size(number_of_bytes: float) -> str:
    """Bytes in words."""
    for unit, scale in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number_of_bytes >= scale:
            return f"{number_of_bytes / scale:.3g} {unit}" if number_of_bytes < 1e15 else f"{number_of_bytes:.3g} B"
    return f"{int(number_of_bytes)} B"
