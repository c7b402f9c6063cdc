"""The conversations that a run kept → prompts, and prompts → requests."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow.compute as pc
import xxhash

from tokenmill.manifests.receipts import Output, canonical_json
from tokenmill.pipeline.chat.conversation import Conversation, Turn, message_of
from tokenmill.pipeline.chat.turns import conversations_of
from tokenmill.pipeline.kept import NONE_REMOVED, edit_outputs, kept_documents, removed_rows
from tokenmill.pipeline.opened_units import OpenedUnits
from tokenmill.pipeline.recipe.regenerate import Choose, Regenerate
from tokenmill.pipeline.recipe.source import Source
from tokenmill.pipeline.regenerate.checkers import CHECKERS, is_readable
from tokenmill.pipeline.steps.takedown import standing_rows
from tokenmill.pipeline.storage import Storage
from tokenmill.pipeline.tables import read_table

#: Reasons for which a prompt is dropped before it is asked.
NO_ANSWER, UNREADABLE = "regenerate.nothing_to_check", "regenerate.unreadable_answer"


@dataclass(frozen=True, eq=False)
class PromptPart:
    """A part whose prompts are asked.

    Attributes:
        key: of the part.
        tables: its outputs by name.
        edits: its edit tables, in the order in which they apply.
        removed: int32, rows that *deduplicate* removed or that are taken down.
    """

    key: str
    tables: Mapping[str, Output]
    edits: list[Output]
    removed: npt.NDArray[np.int32]


class Prompt(NamedTuple):
    """What is asked about one document.

    Attributes:
        document: "part:row".
        row: in the part.
        text_bytes: of the conversation, as it was.
        conversation: as it was.
        turns: of the prompt: all before the last answer.
        dropped: why it is not asked; None: it is.
        checker: of a verifiable prompt, one of CHECKERS; None where answers are not checked.
    """

    document: str
    row: int
    text_bytes: int
    conversation: Conversation
    turns: tuple[Turn, ...]
    dropped: str | None
    checker: str | None


def prompt_parts(storage: Storage, units: OpenedUnits, source: Source) -> list[PromptPart]:
    """The parts of a source, by key."""
    order = [entry.group for entry in source.filters]
    found: list[PromptPart] = []
    for unit in units.units.values():
        if unit.source != source.name:
            continue
        removed = removed_rows(read_table(storage, unit.ledger.path, ["removed_part", "removed_row"]))
        takedown = units.takedown.get(unit.name)
        taken = {} if takedown is None else standing_rows(read_table(storage, takedown.path))
        for part in unit.parts:
            gone = np.union1d(removed.get(part.key, NONE_REMOVED), taken.get(part.key, NONE_REMOVED))
            tables = unit.tables[part.key]
            found.append(PromptPart(part.key, tables, edit_outputs(tables, order), gone.astype(np.int32)))
    return sorted(found, key=lambda part: part.key)


def prompts_of(storage: Storage, part: PromptPart, choose: Choose) -> Iterator[list[Prompt]]:
    """The prompts of a part's kept conversations, by row, a row group at a time.

    Raises:
        ValueError: one wants a checker that there is not; names the document and says what to do.
    """
    for batch in kept_documents(storage, part.tables, part.edits, part.removed):
        assert batch.turns is not None, "a source of reader chat has turns"
        sizes = pc.binary_length(batch.texts).to_pylist()
        told = zip(batch.rows.tolist(), sizes, conversations_of(batch.texts, batch.turns), strict=True)
        yield [_prompt(f"{part.key}:{row}", row, size, each, choose) for row, size, each in told if each is not None]


def _prompt(document: str, row: int, size: int, conversation: Conversation, choose: Choose) -> Prompt:
    turns = tuple(turn for turn in conversation.turns if turn.branch is None)
    if conversation.kind == "conversation":
        turns = turns[:-1]
    dropped = checker = None
    if choose.by == "verifiable":
        if conversation.answer is None:
            dropped = NO_ANSWER
        else:
            checker = _checker(document, conversation, choose)
            dropped = None if is_readable(checker, conversation.answer) else UNREADABLE
    return Prompt(document, row, size, conversation, turns, dropped, checker)


def _checker(document: str, conversation: Conversation, choose: Choose) -> str:
    told = conversation.checker
    if told is None and choose.checker is not None:
        return choose.checker
    found = None if told is None else choose.checkers.get(told, told)
    if found in CHECKERS:
        return str(found)
    if told is None:
        raise ValueError(
            f"document {document} has an answer to be checked and names no checker: say which, such as "
            f"`choose: {{by: verifiable, checker: number}}`; there are {', '.join(CHECKERS)}"
        )
    raise ValueError(
        f"document {document} wants checker {told!r}, and there are {', '.join(CHECKERS)}: if one of these does for "
        f"it, say `choose: {{by: verifiable, checkers: {{{told}: number}}}}`; what has to be run or proven to be "
        "checked, take into a source of its own with `choose: first`, and check its answers yourself"
    )


def body_of(settings: Regenerate, prompt: Prompt, sample: int) -> dict[str, Any]:
    """The JSON of a request, as /chat/completions takes it."""
    body: dict[str, Any] = {**settings.asked, "messages": [_message(turn) for turn in prompt.turns]}
    if prompt.conversation.tools is not None:
        body["tools"] = prompt.conversation.tools
    if settings.seed is not None:
        body["seed"] = settings.seed + sample
    return body


def _message(turn: Turn) -> dict[str, Any]:
    """A turn as the endpoint wants it: arguments of calls as text."""
    message = message_of(turn)
    if "tool_calls" in message:
        message["tool_calls"] = [_call(call) for call in message["tool_calls"]]
    return message


def _call(call: Any) -> Any:
    arguments = call["function"].get("arguments")
    if arguments is None or isinstance(arguments, str):
        return call
    text = json.dumps(arguments, ensure_ascii=False)
    return {**call, "function": {**call["function"], "arguments": text}}


def request_hash(body: Mapping[str, Any], sample: int) -> bytes:
    """What a request is known by: 16 bytes."""
    return xxhash.xxh3_128_digest(canonical_json([body, sample]).encode())
