"""Sections told from a run's books alone: overview, funnel, languages, packing."""

from collections.abc import Mapping, Sequence
from typing import Any

from tokenmill.manifests.audit import STEPS
from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.lengths import in_words, length_of
from tokenmill.pipeline.report.blocks import (
    ROWS,
    Chart,
    Group,
    Note,
    Pair,
    Section,
    Table,
    percent,
    size,
)
from tokenmill.pipeline.report.charts import Bar, bar_chart
from tokenmill.pipeline.report.measure import UNTOLD
from tokenmill.pipeline.sheet import ROLES

Sheets = Mapping[str, Mapping[str, Any]]
#: Languages of a source on the page; the others are summed up.
_LANGUAGES = 20
#: Bars of a chart; the table beside it has more.
BARS = 12
_COMPONENTS = 40
_STEP_WORDS = {
    "ingest": "documents",
    "select": "kept by filters",
    "deduplicate": "no duplicates",
    "pack": "in rows",
}


def balances(sheet: Mapping[str, Any]) -> dict[str, Balance]:
    """The books of one source, by step."""
    return {step: Balance.from_json(sheet["steps"][step]) for step in STEPS}


def tokens_of(sheet: Mapping[str, Any]) -> int:
    """Tokens of a source that are packed."""
    return sum(sheet["tokens"].values())


def key_figures(sheets: Sheets) -> list[tuple[str, str, str]]:
    """The figures that head the page: name, value, what it is of."""
    books = {source: balances(sheet) for source, sheet in sheets.items()}
    taken = sum(book["ingest"].taken.documents for book in books.values())
    packed = sum(book["pack"].out.documents for book in books.values())
    tokens = sum(tokens_of(sheet) for sheet in sheets.values())
    padding = sum(sheet["padding_tokens"] for sheet in sheets.values())
    rows = sum(sheet["rows"] for sheet in sheets.values())
    return [
        ("Records read", f"{taken:,}", f"from {len(sheets)} source{'s' if len(sheets) != 1 else ''}"),
        ("Documents packed", f"{packed:,}", f"{percent(packed, taken)} of the records"),
        ("Tokens", f"{tokens:,}", f"in {rows:,} rows"),
        ("Padding", percent(padding, tokens + padding), f"{padding:,} tokens"),
    ]


def overview(sheets: Sheets) -> Section:
    """A row a source."""
    tokens = sum(tokens_of(sheet) for sheet in sheets.values())
    rows = []
    for source, sheet in sheets.items():
        book, own = balances(sheet), tokens_of(sheet)
        taken, packed = book["ingest"].taken, book["pack"].out
        failed = sum(tally.documents for balance in book.values() for tally in balance.failed.values())
        per_token = f"{sheet['text_bytes'] / own:.2f}" if own else "–"
        counts = (f"{taken.documents:,}", f"{failed:,}", f"{packed.documents:,}")
        share = percent(packed.documents, taken.documents)
        rows.append((source, *counts, share, f"{own:,}", percent(own, tokens), per_token))
    columns = ("source", "records", "failed", "packed", "of records", "tokens", "of tokens", "bytes a token")
    blocks: list[Any] = [Table("Sources", columns, rows)]
    if any(sheet.get("roles") for sheet in sheets.values()):
        blocks.append(_roles(sheets))
    if not tokens:
        blocks.insert(0, Note("Nothing was kept: no document is in a row. The funnel below says where each one went."))
    lead = "Every record read is a packed document, or was dropped or failed for a reason that is counted."
    return Section("overview", "Overview", lead, blocks)


def _roles(sheets: Sheets) -> Table:
    """Tokens of conversations by whose they are; a row a source that has some."""
    rows = []
    for source, sheet in sheets.items():
        if roles := sheet.get("roles"):
            tokens, answers = tokens_of(sheet), roles["answer_tokens"]
            by_role = tuple(f"{roles[f'{name}_tokens']:,}" for name in ROLES)
            ends = percent(roles["answer_eos_tokens"], answers)
            rows.append((source, *by_role, f"{answers:,}", percent(answers, tokens), ends))
    columns = ("source", *ROLES, "answers", "of tokens", "EOS of answers")
    return Table("Tokens of conversations by role", columns, rows)


def funnel(sheets: Sheets) -> Section:
    """Per source what each step let through, and why it took out the rest."""
    lead = (
        "What came in and what each step let through. Blue is what went on, orange what the step took out; the table "
        "gives every reason."
    )
    return Section("funnel", "Funnel", lead, [_source_funnel(source, sheet) for source, sheet in sheets.items()])


def _source_funnel(source: str, sheet: Mapping[str, Any]) -> Group:
    book = balances(sheet)
    taken = book["ingest"].taken.documents
    steps = [Bar("records read", taken, f"{taken:,}")]
    numbers = []
    for step, balance in book.items():
        out, lost = balance.out.documents, balance.taken.documents - balance.out.documents
        steps.append(Bar(f"{step}: {_STEP_WORDS[step]}", out, f"{out:,}, {percent(out, taken)}", lost))
        numbers.append((step, f"{balance.taken.documents:,}", f"{lost:,}", f"{out:,}", percent(out, taken)))
    label = f"Funnel of source {source}: " + ", ".join(f"{bar.label} {bar.shown}" for bar in steps)
    table = Table(f"Funnel of source {source}", ("step", "in", "out of it", "went on", "of records"), numbers)
    chart = Chart("Documents by step", bar_chart(steps, label), table, _other_records(sheet))
    return Group(source, [Pair(chart, _reasons(source, book))])


def _other_records(sheet: Mapping[str, Any]) -> Sequence[str]:
    if not sheet["other_records"]:
        return ()
    others = ", ".join(f"{count:,} {kind}" for kind, count in sheet["other_records"].items())
    return (f"Records that are no documents, such as requests: {others}.",)


def _reasons(source: str, book: Mapping[str, Balance]) -> Table:
    rows: list[tuple[str, ...]] = []
    for step, balance in book.items():
        found = [*balance.dropped.items(), *((f"failed.{name}", tally) for name, tally in balance.failed.items())]
        for reason, tally in sorted(found, key=lambda item: (-item[1].documents, item[0])):
            taken = percent(tally.documents, balance.taken.documents)
            rows.append((reason, f"{tally.documents:,}", taken, _measured(tally, STEPS[step]), step))
    caption = f"Why documents of source {source} went no further"
    if not rows:
        rows = [("(nothing was dropped, nothing failed)", "", "", "", "")]
    left_out = len(rows) - ROWS
    if left_out > 0:
        caption += f"; {left_out:,} rarer reasons are left out here, `tokenmill audit` has them"
    return Table(caption, ("reason", "documents", "of the step", "size", "step"), rows[:ROWS])


def _measured(tally: Tally, measure: str) -> str:
    return f"{tally.tokens:,} tokens" if measure == "tokens" else size(tally.bytes)


def languages(sheets: Sheets, counted: Mapping[tuple[str, str], Sequence[int]], strata_tell: bool) -> Section:
    """Tokens by source and language.

    Args:
        sheets: by source.
        counted: documents and text bytes left after deduplication and takedowns, by source and language.
        strata_tell: whether the strata are by language, and so packed tokens are known of each.
    """
    blocks: list[Any] = []
    whole = {source: tokens_of(sheet) for source, sheet in sheets.items()}
    if len(sheets) > 1:
        shown = [Bar(source, tokens, f"{tokens:,}") for source, tokens in _largest(whole)]
        rows = [(bar.label, bar.shown, percent(bar.value, sum(whole.values()))) for bar in shown]
        table = Table("Tokens by source", ("source", "tokens", "of all"), rows)
        blocks.append(Pair(_bars_chart("Tokens by source", shown, table), table))
    for source, sheet in sheets.items():
        own = {label: values for (name, label), values in counted.items() if name == source and values[0]}
        blocks.append(Group(source, [_source_languages(source, sheet, own, strata_tell)]))
    lead = "Valid tokens in packed rows, without padding. Documents and bytes are those that were left to be packed."
    if not strata_tell:
        lead += (
            " Strata of this run are not by language, so tokens of a language are told by its share of the source's "
            "text (≈)."
        )
    return Section("tokens", "Tokens and languages", lead, blocks)


def _source_languages(
    source: str, sheet: Mapping[str, Any], counted: Mapping[str, Sequence[int]], strata_tell: bool
) -> Any:
    total, text_bytes = tokens_of(sheet), sum(values[1] for values in counted.values())
    if strata_tell:
        tokens: dict[str, float] = {}
        for stratum, number in sheet["tokens"].items():
            label = stratum.split("/")[1] if "/" in stratum else UNTOLD
            label = UNTOLD if label == "und" else label
            tokens[label] = tokens.get(label, 0) + number
    else:
        tokens = {label: total * values[1] / text_bytes if text_bytes else 0 for label, values in counted.items()}
    if not tokens:
        return Note("No document of this source was kept.")
    about = "" if strata_tell or len(counted) < 2 else "≈ "
    shown = _largest(tokens)
    bars = [Bar(label, number, f"{about}{round(number):,}, {percent(number, total)}") for label, number in shown]
    rest = {label for label in tokens if label not in dict(shown)}
    rows = []
    for label, number in shown:
        documents, own_bytes = counted.get(label, (0, 0))
        rows.append((label, f"{about}{round(number):,}", percent(number, total), f"{documents:,}", size(own_bytes)))
    if rest:
        number = sum(tokens[label] for label in rest)
        documents, own_bytes = (sum(counted.get(label, (0, 0))[index] for label in rest) for index in (0, 1))
        name = f"{len(rest)} others"
        bars.append(Bar(name, number, f"{about}{round(number):,}, {percent(number, total)}"))
        rows.append((name, f"{about}{round(number):,}", percent(number, total), f"{documents:,}", size(own_bytes)))
    columns = ("language", "tokens", "of the source", "documents", "text")
    table = Table(f"Tokens of source {source} by language", columns, rows)
    return Pair(_bars_chart("Tokens by language", bars, table), table)


def _largest(values: Mapping[str, float]) -> list[tuple[str, Any]]:
    return sorted(values.items(), key=lambda item: (-item[1], item[0]))[:_LANGUAGES]


def _bars_chart(title: str, bars: Sequence[Bar], table: Table) -> Chart:
    label = f"{table.caption}: " + ", ".join(f"{bar.label} {bar.shown}" for bar in bars[:5])
    return Chart(title, bar_chart(bars[:BARS], label), table)


def packing(sheets: Sheets, components: Mapping[str, Mapping[str, int]], lengths: Sequence[int]) -> Section:
    """How full rows are, and which documents were cut."""
    rows, bars = [], []
    for source, sheet in sheets.items():
        tokens, padding = tokens_of(sheet), sheet["padding_tokens"]
        packed = balances(sheet)["pack"].out.documents
        cells = tokens + padding
        whole = cells or 1
        bars.append(Bar(source, tokens / whole, percent(tokens, cells), padding / whole))
        cut, cut_tokens = sheet["cut_documents"], sheet.get("cut_tokens")  # not there in older runs
        counts = (f"{sheet['rows']:,}", f"{sheet['shards']:,}", size(sheet["shard_bytes"]), percent(tokens, cells))
        aligned = f"{sheet.get('align_tokens', 0):,}"
        cuts = (f"{cut:,}", percent(cut, packed), "–" if cut_tokens is None else percent(cut_tokens, tokens))
        rows.append((source, *counts, f"{padding:,}", aligned, *cuts))
    columns = (
        *("source", "rows", "shards", "on disk", "fill", "padding", "to align"),
        *("documents cut", "of documents", "their tokens"),
    )
    table = Table("Packing by source", columns, rows)
    chart = Chart(
        "Fill: tokens (blue) and padding (orange)",
        bar_chart(bars, "Fill of rows by source: " + ", ".join(f"{bar.label} {bar.shown}" for bar in bars)),
        table,
    )
    blocks: list[Any] = [Pair(chart, table, wide=True)]
    if components:
        blocks.append(_components(components, lengths[-1]))
    decoded = sum(sheet.get("round_trip_documents", 0) for sheet in sheets.values())
    differing = sum(sheet.get("round_trip_differing", 0) for sheet in sheets.values())
    encoded = sorted({sheet["encoded_by"] for sheet in sheets.values() if sheet.get("encoded_by")})
    if decoded:
        blocks.append(Note(f"{decoded:,} documents were decoded again, {differing:,} of them to another text."))
    if encoded:
        blocks.append(Note(f"Encoded by {'; '.join(encoded)}."))
    lead = f"Rows of {in_words(lengths)} tokens. A document is cut when it goes on in another row."
    return Section("packing", "Packing", lead, blocks)


def _cells(component: str, found: Mapping[str, int], length: int) -> int:
    """Room of a component's rows, in tokens."""
    return found["rows"] * (length_of(component) or length)


def _components(components: Mapping[str, Mapping[str, int]], length: int) -> Table:
    shown = sorted(components.items(), key=lambda item: (-item[1]["tokens"], item[0]))
    rows = [
        (name, f"{found['rows']:,}", f"{found['tokens']:,}", percent(found["tokens"], _cells(name, found, length)))
        for name, found in shown[:_COMPONENTS]
    ]
    caption = "Components: sources by stratum"
    if len(shown) > _COMPONENTS:
        caption += f"; the {len(shown) - _COMPONENTS:,} smallest are left out here"
    return Table(caption, ("component", "rows", "tokens", "fill"), rows)
