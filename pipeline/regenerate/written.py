"""What regenerating a source leaves beside its ledger: chosen answers, what was left out, and the books, written last.

answers/<part>.jsonl   conversations, `messages` and where they are from: raw data of reader chat
left_out.jsonl         each prompt without an answer: document, reason, detail
regenerated.json       books, counts, hashes of the files; not there: they are being made
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tokenmill.manifests.balance import Balance, Tally
from tokenmill.manifests.receipts import hash_json
from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.progress import Reporter
from tokenmill.pipeline.recipe.regenerate import Regenerate
from tokenmill.pipeline.regenerate.choosing import FAILED, Asked, Chooser, Fate, sample_of
from tokenmill.pipeline.regenerate.erased import ANSWERS, LEFT_OUT, MARKER
from tokenmill.pipeline.regenerate.ledger import Known, Ledger
from tokenmill.pipeline.regenerate.plan import Plan
from tokenmill.pipeline.regenerate.prompts import Prompt, PromptPart, prompts_of
from tokenmill.pipeline.storage import Draft, Storage, Stored
from tokenmill.pipeline.tables import read_table

FORMAT = "tokenmill-regenerated/1"
#: Columns of `documents` that go with an answer.
_PROVENANCE = ("url", "date", "licence")


class _Books:
    """Prompts by what became of them, and answers."""

    def __init__(self) -> None:
        self.balance = Balance()
        self.samples: Counter[str] = Counter()

    def add(self, prompt: Prompt, fate: Fate) -> None:
        tally = Tally(1, prompt.text_bytes)
        self.balance.taken += tally
        if fate.reason is None:
            self.balance.out += tally
        elif fate.reason.startswith(FAILED):
            self.balance.fail(fate.reason, tally)
        else:
            self.balance.drop(fate.reason, tally)

    def add_samples(self, asked: Sequence[Asked]) -> None:
        for sample in (sample for each in asked for sample in each.samples):
            self.samples[sample.reason or "regenerate.whole"] += 1
            for name in ("prompt_tokens", "completion_tokens"):
                self.samples[name] += sample.row[name] or 0


def write_chosen(
    output: Storage, plan: Plan, ledger: Ledger, chooser: Chooser, head: Mapping[str, Any], name: str, show: Reporter
) -> dict[str, Any]:
    """Choose, and write what is chosen.

    Args:
        output: the source's folder.
        plan: whose requests are all in the ledger.
        ledger: has them.
        chooser: chooses.
        head: what the marker says besides.
        name: of the source.
        show: told of parts.

    Returns:
        What the marker says.
    """
    known, books = ledger.known(), _Books()
    before = output.sizes(ANSWERS)
    output.delete(MARKER)
    files: list[Stored] = []
    with output.temporary() as left_out:
        for number, (part, requests) in enumerate(zip(plan.parts, plan.requests, strict=True)):
            told = _told_of_part(plan, part, requests, ledger, known, chooser, books)
            files += _write_part(output, part, told, plan.storage, left_out)
            show.step(f"choose for {name}", number + 1, len(plan.parts))
        files.append(left_out.commit(LEFT_OUT))
    books.balance.check(f"regenerate {name}")
    for path in sorted(before.keys() - {file.path for file in files}):
        output.delete(path)
    value = {
        "format": FORMAT,
        "source": name,
        **head,
        "balance": books.balance.to_json(),
        "samples": dict(sorted(books.samples.items())),
        "files": [vars(file) for file in files],
        "hash": hash_json([[file.path, file.hash] for file in files]),
    }
    output.write(MARKER, (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode())
    output.forget_drafts()
    return value


def _told_of_part(
    plan: Plan, part: PromptPart, requests: pa.Array, ledger: Ledger, known: Known, chooser: Chooser, books: _Books
) -> Iterator[tuple[Prompt, Fate]]:
    """Every prompt of a part, by row, and what became of it."""
    at = 0
    for prompts in prompts_of(plan.storage, part, plan.settings.choose):
        sent = [prompt for prompt in prompts if prompt.dropped is None]
        mine = requests.slice(at, len(sent) * plan.settings.samples)
        at += len(mine)
        places = known.places(mine)
        assert (places >= 0).all(), "all requests were asked"
        asked = _asked(plan.settings, sent, ledger.read(known, places))
        books.add_samples(asked)
        fates = iter(chooser(asked))
        for prompt in prompts:
            fate = next(fates) if prompt.dropped is None else Fate(None, reason=prompt.dropped)
            books.add(prompt, fate)
            yield prompt, fate
    assert at == len(requests)


def _asked(settings: Regenerate, prompts: Sequence[Prompt], rows: Sequence[Mapping[str, Any]]) -> list[Asked]:
    samples = [sample_of(settings, place % settings.samples, row) for place, row in enumerate(rows)]
    return [
        Asked(prompt, samples[number * settings.samples : (number + 1) * settings.samples])
        for number, prompt in enumerate(prompts)
    ]


def _write_part(
    output: Storage, part: PromptPart, told: Iterator[tuple[Prompt, Fate]], storage: Storage, left_out: Draft
) -> list[Stored]:
    """Write a part's answers, if it has any, and what it leaves out."""
    table = read_table(storage, part.tables["documents"].path, list(_PROVENANCE))
    with output.temporary() as draft:
        chosen = 0
        for prompt, fate in told:
            if fate.sample is None:
                left_out.file.write(_line({"document": prompt.document, "reason": fate.reason, "detail": fate.detail}))
                continue
            from_where = {name: table.column(name)[prompt.row].as_py() for name in _PROVENANCE}
            draft.file.write(_line(_record(prompt, fate, from_where)))
            chosen += 1
        return [draft.commit(f"{ANSWERS}/{part.key}.jsonl")] if chosen else []


def _record(prompt: Prompt, fate: Fate, from_where: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation with its new answer, as reader `chat` takes it, and where it is from."""
    assert fate.sample is not None
    row, told = fate.sample.row, prompt.conversation
    made = {
        "document": prompt.document,
        "request": row["request"].hex(),
        "sample": fate.sample.number,
        "model": row["model"],
        "finish_reason": row["finish_reason"],
        "score": fate.score,
    }
    kept = {"id": prompt.document, "tools": told.tools, **_checked(told), **from_where, "regenerated": made}
    messages = [*(_message(turn) for turn in prompt.turns), fate.sample.message]
    return {"messages": messages, **{key: value for key, value in kept.items() if value is not None}}


def _message(turn: Any) -> dict[str, Any]:
    return {"role": turn.role, "content": turn.content, **(turn.fields or {})}


def _checked(told: Conversation) -> dict[str, Any]:
    return {"answer": told.answer, "checker": told.checker}


def _line(value: Mapping[str, Any]) -> bytes:
    return (json.dumps(value, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
