"""annotate: the text of a part → signals and edits, one file and one receipt a group.

Groups run in the recipe's order: language, the filters, then the hashes and the signature of the text as it stands
after every edit rule. A group after an edit rule reads the edited text. All groups that have no receipt yet are
measured in one pass over the text, a slice at a time, so that they share its words and lines.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cache, partial

import numpy as np
import pyarrow as pa

from tokenmill.filters.edits import apply_edits, text_buffers
from tokenmill.filters.splitter import SplitTexts
from tokenmill.filters.turns import moved_turns
from tokenmill.manifests.receipts import Output, Receipt, Task
from tokenmill.manifests.schemas import DOCUMENTS, TURNS
from tokenmill.pipeline.book import TaskRun, Work
from tokenmill.pipeline.edited import EditReader, edits_of_rows
from tokenmill.pipeline.groups import Measured
from tokenmill.pipeline.ingestion import WITH_TURNS
from tokenmill.pipeline.measurements import Batch, Measurement, measurements
from tokenmill.pipeline.plan import Part
from tokenmill.pipeline.recipe import Recipe, Source
from tokenmill.pipeline.steps.ingest import gates_language
from tokenmill.pipeline.steps.repeated_lines import Gathered
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import GroupReader, TableWriter, new_table, open_groups

#: Text measured at once: its words, lines and signals stay in the processor's cache, and take 50 MiB at most.
SLICE_BYTES = 1 << 20


@dataclass
class _Read:
    """What the groups of a part read, as far as it is there."""

    documents: Output
    turns: Output | None
    languages: Output | None
    edits: dict[str, Output] = field(default_factory=dict)  # of each group that edits, in order

    def add(self, item: Measurement, receipt: Receipt) -> None:
        """Take note of what later groups read of a group."""
        if item.edits:
            self.edits[item.name] = receipt.output(f"edits/{item.name}")
        if item.name == "language":
            self.languages = receipt.output("signals/language")

    def task(self, source: Source, part: Part, item: Measurement) -> Task:
        """The task that measures a group on all of this."""
        read = [self.documents, *self.edits.values()]
        if item.by_language:
            assert self.languages is not None, "the recipe wants `language` beside `per_language`"
            read.append(self.languages)
        if item.by_turns:
            assert self.turns is not None, "the recipe wants reader `chat`"
            read.append(self.turns)
        inputs = {**{output.name: output.hash for output in read}, **item.inputs}
        name = f"{part.key}.{item.name}"
        return Task("annotate", item.version, source.name, name, item.params, inputs, item.libraries)


def run_annotate(
    run: TaskRun,
    recipe: Recipe,
    source: Source,
    part: Part,
    ingested: Receipt,
    gathered: Gathered | None = None,
) -> list[Receipt]:
    """Measure the groups of the source on one part; receipts in the recipe's order.

    All of them, but where lines have to be counted first (`gathered` is None and there is a filter `repeated_lines`):
    then those before it.
    """
    items = measurements(recipe, source, gathered)
    languages = ingested.output("signals/language") if gates_language(source) else None
    turns = ingested.output("turns") if source.reader in WITH_TURNS else None
    found, read = (_Read(ingested.output("documents"), turns, languages) for _ in range(2))
    missing = _missing(run, source, part, items, found)
    receipts: list[Receipt] = []
    with ExitStack() as stack:
        # all that are missing are measured in one pass, begun by the first of them
        tables = cache(partial(_measure, stack, run.storage, items, missing, found))
        for item in items:

            def work(key: str, item: Measurement = item) -> Work:
                return Work(tuple(_commit(tables(), source, part, item, key)))

            receipts.append(run.once(read.task(source, part, item), work))
            read.add(item, receipts[-1])
    return receipts


def _missing(run: TaskRun, source: Source, part: Part, items: list[Measurement], found: _Read) -> set[str]:
    """Names of the groups to measure: those without a receipt, and those that read what they are going to write.

    What the others read goes into `found`.
    """
    missing: set[str] = set()
    text_will_change = languages_will_change = False
    for item in items:
        known = not (text_will_change or (item.by_language and languages_will_change))
        receipt = run.find(found.task(source, part, item)) if known else None
        if receipt is not None:
            found.add(item, receipt)
            continue
        missing.add(item.name)
        text_will_change |= item.edits
        languages_will_change |= item.name == "language"
    return missing


def _commit(
    tables: Mapping[str, TableWriter], source: Source, part: Part, item: Measurement, key: str
) -> Iterator[Output]:
    for name in (f"signals/{item.name}", f"edits/{item.name}"):
        if name in tables:
            yield tables[name].commit(name, f"{name}/{source.name}/{part.key}.{key}.parquet")


def _measure(
    stack: ExitStack, storage: Storage, items: list[Measurement], missing: set[str], found: _Read
) -> dict[str, TableWriter]:
    """Tables of all missing groups, by name, not committed yet; `stack` closes them."""
    documents = stack.enter_context(open_groups(storage, found.documents.path))
    rules = {
        name: EditReader(stack.enter_context(open_groups(storage, output.path))) for name, output in found.edits.items()
    }
    languages = stack.enter_context(open_groups(storage, found.languages.path)) if found.languages else None
    of_turns = any(item.by_turns and item.name in missing for item in items)
    turns = stack.enter_context(open_groups(storage, found.turns.path)) if found.turns and of_turns else None
    writers: dict[str, TableWriter] = {}
    first_row = 0
    for index in range(max(1, len(documents))):  # a part of empty files still has tables, of no rows
        group = _read_group(documents, index, items)
        end = first_row + group.num_rows
        edits = {name: rule.before(end) for name, rule in rules.items()}
        labels = languages.read(index, ["language"]).column(0) if languages and index < len(languages) else None
        said = None if turns is None else _read_turns(turns, index)
        for name, batch in _measure_group(items, missing, group, first_row, edits, labels, said).items():
            if name not in writers:
                writers[name] = stack.enter_context(new_table(storage, batch.schema))
            writers[name].write_group(batch)
        first_row = end
    return writers


def _read_group(documents: GroupReader, index: int, items: list[Measurement]) -> pa.RecordBatch:
    """Texts of a row group, and the columns that groups look at beside them."""
    columns = sorted({"text", *(column for item in items for column in item.columns)})
    if index < len(documents):
        return documents.read(index, columns)
    return pa.RecordBatch.from_pylist([], schema=pa.schema([DOCUMENTS.field(name) for name in columns]))


def _read_turns(turns: GroupReader, index: int) -> pa.RecordBatch:
    return turns.read(index) if index < len(turns) else pa.RecordBatch.from_pylist([], schema=TURNS)


def _measure_group(
    items: list[Measurement],
    missing: set[str],
    group: pa.RecordBatch,
    first_row: int,
    edits: Mapping[str, pa.RecordBatch],
    labels: pa.Array | None,
    turns: pa.RecordBatch | None,
) -> dict[str, pa.Table]:
    """Tables of one row group, "signals/<group>" and "edits/<group>", from its slices."""
    tables: dict[str, list[pa.RecordBatch]] = {}
    for start, stop in _slices(group.column("text")):
        rows = group.slice(start, stop - start)
        split = SplitTexts(rows.column("text"))
        languages = labels.slice(start, stop - start) if labels is not None else None
        said = turns.slice(start, stop - start) if turns is not None else None
        for item in items:
            if item.name in missing:
                found = item.measure(Batch(split, first_row + start, rows, languages, said))
                tables.setdefault(f"signals/{item.name}", []).append(found.signals)
                if item.edits:
                    tables.setdefault(f"edits/{item.name}", []).append(found.edits)
                    split = _edited(split, found, first_row + start)
                    said = _moved(said, found.edits, first_row + start)
                if item.name == "language":
                    languages = found.signals.column("language")
            elif item.edits:
                known = edits_of_rows(edits[item.name], first_row + start, first_row + stop)
                split = SplitTexts(apply_edits(split.texts, known, first_row + start))
                said = _moved(said, known, first_row + start)
    return {name: pa.Table.from_batches(batches) for name, batches in tables.items()}


def _edited(split: SplitTexts, found: Measured, first_row: int) -> SplitTexts:
    """The texts as the next group reads them."""
    assert found.edits is not None, "a group that edits returns its edits"
    return found.edited or SplitTexts(apply_edits(split.texts, found.edits, first_row))


def _moved(turns: pa.RecordBatch | None, edits: pa.RecordBatch, first_row: int) -> pa.RecordBatch | None:
    """The turns as they lie in the edited texts, where anyone reads them."""
    return None if turns is None else moved_turns(turns, edits, first_row)


def _slices(texts: pa.LargeStringArray) -> Iterator[tuple[int, int]]:
    """Rows of slices of SLICE_BYTES of text, or of one text that is longer; of no rows where there are none."""
    offsets, _ = text_buffers(texts)
    start = 0
    while start < len(texts) or start == 0:
        stop = max(start + 1, int(np.searchsorted(offsets, offsets[start] + SLICE_BYTES, side="right")) - 1)
        yield start, min(stop, len(texts))
        start = stop
