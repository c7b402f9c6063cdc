"""The balance sheet: for each source and step, what came in, went on, was dropped or failed, and whether it adds up."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tokenmill.manifests.balance import Balance, BalanceError, Tally
from tokenmill.manifests.receipts import Output, Receipt

#: The steps that keep books, in the order in which records walk through them, and the measure they count in.
STEPS = {"ingest": "raw bytes", "select": "text bytes", "deduplicate": "text bytes", "pack": "tokens"}

#: What the receipts of *pack* note beside their balance.
PACK_NOTES = tuple(
    [
        *("text_bytes", "padding_tokens", "align_tokens", "cut_documents", "cut_tokens"),
        *("round_trip_documents", "round_trip_differing", "spelled_controls"),
    ]
)

#: What they note of conversations: tokens by whose they are, those trained on, and those of them that end an answer.
ROLE_NOTES = tuple(
    [
        *("template_tokens", "system_tokens", "user_tokens", "assistant_tokens", "tool_tokens"),
        *("answer_tokens", "answer_eos_tokens"),
    ]
)


@dataclass
class SourceSheet:
    """The books of one source.

    Attributes:
        steps: balance by step, in the order of STEPS.
        other_records: raw records that are no documents (WARC requests and their like), by kind.
        text_bytes: bytes of text that were packed, after every edit.
        padding_tokens: tokens of padding in its packed rows.
        align_tokens: those of them that fill up the last block of a document (`sequences: {align: …}`).
        cut_documents: documents that are in more than one row.
        cut_tokens: tokens of those documents.
        round_trip_documents: documents whose tokens were decoded and compared with their text.
        round_trip_differing: of these, those that came back as another text, from a tokenizer that loses some.
        encoded_by: "our kernels", or "tokenizers, because …"; "" where nothing was packed, or before this was noted.
        spelled_controls: how often texts spell a control token; they are encoded as the text that they are.
        shards: sequence shards written.
        rows: packed rows.
        shard_bytes: bytes of those shards.
        tokens: valid tokens by stratum.
        roles: of conversations: tokens by whose they are, and those of answers, by the names of ROLE_NOTES.
    """

    steps: dict[str, Balance] = field(default_factory=dict)
    other_records: dict[str, int] = field(default_factory=dict)
    text_bytes: int = 0
    padding_tokens: int = 0
    align_tokens: int = 0
    cut_documents: int = 0
    cut_tokens: int = 0
    round_trip_documents: int = 0
    round_trip_differing: int = 0
    encoded_by: str = ""
    spelled_controls: int = 0
    shards: int = 0
    rows: int = 0
    shard_bytes: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    roles: dict[str, int] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain values; without `roles` where documents are no conversations."""
        value = {**vars(self), "steps": {step: balance.to_json() for step, balance in self.steps.items()}}
        return value if self.roles else {name: each for name, each in value.items() if name != "roles"}


def balance_sheet(sources: Sequence[str], receipts: Iterable[Receipt]) -> dict[str, SourceSheet]:
    """The books of every source, from receipts.

    Raises:
        BalanceError: when a step's books do not balance, or a step did not take in what the step before let out.
    """
    sheets = {source: SourceSheet({step: Balance() for step in STEPS}) for source in sources}
    for receipt in receipts:
        if receipt.step == "deduplicate" and not receipt.source:  # one task for all sources, as older versions had it
            for source, value in receipt.notes["sources"].items():
                sheets[source].steps["deduplicate"] += Balance.from_json(value)
        elif receipt.step in STEPS:
            _enter(sheets[receipt.source], receipt)
    for source, sheet in sheets.items():
        check_sheet(source, sheet.steps)
    return sheets


def _enter(sheet: SourceSheet, receipt: Receipt) -> None:
    sheet.steps[receipt.step] += receipt.balance
    if receipt.step == "ingest":
        for kind, count in receipt.notes["other_records"].items():
            sheet.other_records[kind] = sheet.other_records.get(kind, 0) + count
    if receipt.step == "pack":
        for name in PACK_NOTES:
            setattr(sheet, name, getattr(sheet, name) + receipt.notes.get(name, 0))  # older receipts lack some
        for name in ROLE_NOTES:
            if name in receipt.notes:
                sheet.roles[name] = sheet.roles.get(name, 0) + receipt.notes[name]
        sheet.encoded_by = receipt.notes.get("encoded_by", "")
        for output in shards_of(receipt):
            sheet.shards += 1
            sheet.shard_bytes += output.bytes
            sheet.rows += output.detail["rows"]
            stratum = output.name.removeprefix("sequences/")
            sheet.tokens[stratum] = sheet.tokens.get(stratum, 0) + output.detail["tokens"]


def shards_of(receipt: Receipt) -> list[Output]:
    """The sequence shards that a task of *pack* wrote."""
    return [output for output in receipt.outputs if output.name.startswith("sequences/")]


def check_sheet(source: str, steps: Mapping[str, Balance]) -> None:
    """Raise BalanceError unless every step balances and takes in what the one before let out."""
    before: tuple[str, Balance] | None = None
    for step, balance in steps.items():
        balance.check(f"{step} of source {source}")
        if before is not None:
            name, earlier = before
            lost = earlier.out.documents - balance.taken.documents
            if lost:
                raise BalanceError(
                    f"source {source}: {name} let out {earlier.out.documents} documents, {step} took in "
                    f"{balance.taken.documents}: {lost} are unaccounted for"
                )
        before = (step, balance)


def differences(stated: Mapping[str, Balance], counted: Mapping[str, Balance]) -> list[str]:
    """Where two sets of books (by step) differ, each as a sentence; empty when they agree."""
    found: list[str] = []
    for step in STEPS:
        one, two = stated[step], counted[step]
        for title, a, b in (("taken", one.taken, two.taken), ("out", one.out, two.out)):
            found += _difference(f"{step}: {title}", a, b)
        for title, a_reasons, b_reasons in (("dropped", one.dropped, two.dropped), ("failed", one.failed, two.failed)):
            for reason in sorted({*a_reasons, *b_reasons}):
                found += _difference(
                    f"{step}: {title} for {reason}", a_reasons.get(reason, Tally()), b_reasons.get(reason, Tally())
                )
    return found


def _difference(what: str, stated: Tally, counted: Tally) -> list[str]:
    return [] if stated == counted else [f"{what}: the receipts say {stated}, the files hold {counted}"]


def strata_tokens(receipts: Iterable[Receipt]) -> dict[str, dict[str, int]]:
    """Rows and valid tokens of each component ("source/stratum") that was packed."""
    found: dict[str, dict[str, int]] = defaultdict(lambda: {"rows": 0, "tokens": 0})
    for receipt in receipts:
        if receipt.step == "pack":
            for output in shards_of(receipt):
                found[output.detail["component"]]["rows"] += output.detail["rows"]
                found[output.detail["component"]]["tokens"] += output.detail["tokens"]
    return dict(found)
