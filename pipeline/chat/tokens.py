"""Conversations → token ids, and of each token whose it is and whether it is an answer.

Control tokens come from the template's own text alone. What a content spells, `<|im_end|>` say, is encoded as the text
that it is; but assistants may spell the tokens of ANSWER_TOKENS, which stand for reasoning in their answers.

The text between control tokens is one text to the tokenizer, be it the template's, a turn's or both. A token that
stands across the border of an answer is part of it, as in `transformers`' assistant mask: that takes the tokens of an
answer's first and last character and all between. (One difference: where the last character is several tokens, all of
them are the answer's; `transformers` takes the first.)

For a conversation whose skeleton is known Python chooses it, and collects its pieces; of plain ones a kernel does both
(see `plain_chats`). The rest is done for all conversations of a call together: one Arrow array of pieces, of which the
texts are slices, our encoder, a kernel that puts control tokens and texts in order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.dedup.shingles import text_buffers
from tokenmill.pipeline.chat.conversation import Conversation
from tokenmill.pipeline.chat.plain_chats import PlainChats
from tokenmill.pipeline.chat.plan import Plan, finder, plan_of, split_answers
from tokenmill.pipeline.chat.rendering import Renderer, Skeleton, marks_of
from tokenmill.pipeline.chat.segments import SegmentEncoder
from tokenmill.pipeline.chat.spans import ends_of, stretches
from tokenmill.pipeline.chat.template import ChatTemplate
from tokenmill.pipeline.chat.token_places import assemble
from tokenmill.pipeline.chat.whole_text import encode_whole
from tokenmill.pipeline.tokens.encode import TokenizerPolicy
from tokenmill.pipeline.tokens.piece_cache import CACHE_BYTES

ANSWER_TOKENS = ("<think>", "</think>")
LOST, OTHERS, NOT_UNICODE = "template_lost_turn", "other_control_tokens", "not_unicode"
I8 = npt.NDArray[np.int8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class EncodedChats:
    """Tokens of n conversations, one after another.

    Attributes:
        tokens: uint16 or uint32 [offsets[n]].
        roles: int8 a token: TEMPLATE, SYSTEM, USER, ASSISTANT or TOOL of `plan`.
        answers: bool a token: an assistant gave it, and is trained on it.
        offsets: int64[n + 1], first token of each conversation.
        reasons: of each conversation, why it has no tokens; None: it has.
        spelled_controls: how often texts spell a control token; it is encoded as the text that it is.
    """

    tokens: npt.NDArray[Any]
    roles: I8
    answers: BOOL
    offsets: I64
    reasons: tuple[str | None, ...]
    spelled_controls: int


class ChatEncoder:
    """A tokenizer and a template as a function from conversations to tokens. One thread's."""

    def __init__(
        self,
        tokenizer_json: bytes,
        template: ChatTemplate,
        policy: TokenizerPolicy,
        answer_tokens: Sequence[str] = ANSWER_TOKENS,
        add_generation_prompt: bool = False,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Read the tokenizer, and look at what the template does with small conversations.

        Args:
            tokenizer_json: bytes of a `tokenizer.json`.
            template: of conversations.
            policy: names control tokens; none is put before or behind a conversation but by the template.
            answer_tokens: control tokens that an assistant's content may spell; those the tokenizer has.
            add_generation_prompt: conversations are prompts, which end where an answer is to begin.
            cache_bytes: see `Encoder`.

        Raises:
            ValueError: the tokenizer cannot be read; the template prints today's date, and has none.
        """
        self._segments = SegmentEncoder(tokenizer_json, policy, cache_bytes)
        self._ids = self._segments.ids
        self._controls = finder(list(self._ids))
        self._answer_names = tuple(name for name in answer_tokens if name in self._ids)
        self._answer_finder = finder(self._answer_names)
        marks = marks_of(template)
        self._prompt = marks.prompt
        self._ends = ends_of(marks.tail, marks.between, self._controls)
        self._generation = template.generation
        self._renderer: Renderer[Plan] = Renderer(template, self._plan, add_generation_prompt=add_generation_prompt)
        self._plain = PlainChats(self._plain_plan, {name: self._ids[name] for name in self._answer_names})
        self.encoder = self._segments.encoder
        self.dtype = self.encoder.dtype.to_pandas_dtype()

    def _plan(self, skeleton: Skeleton, roles: tuple[str, ...]) -> Plan:
        found = stretches(skeleton, roles, self._prompt, self._ends, self._generation)
        return plan_of(found, roles, self._ids, self._controls, self._segments.knows)

    def _plain_plan(self, conversation: Conversation) -> Plan | None:
        """The plan of all conversations of these roles that have contents alone; None: they are not plain."""
        self._renderer.find(conversation)
        plan = self._renderer.only_leaf(tuple([turn.role for turn in conversation.turns]))
        if plan is None or plan.prints is None or plan.slow or plan.silent:
            return None
        return plan if all(_is_unicode(one.literal) for one in plan.prints) else None

    def encode_plain(self, texts: pa.LargeStringArray, turns: pa.RecordBatch) -> tuple[BOOL, EncodedChats]:
        """Which of n conversations are plain (see `plain_chats`), bool [n], and their tokens; no plain one is refused.

        Args:
            texts: n.
            turns: n rows of TURNS.
        """
        found = self._plain.lay_out(texts, turns)
        encoded = self._assembled(found.items, found.item_bounds, found.pieces)
        tokens, roles, answers, offsets, spelled = encoded
        return found.plain, EncodedChats(tokens, roles, answers, offsets, (None,) * (len(offsets) - 1), spelled)

    def encode(self, conversations: Sequence[Conversation]) -> EncodedChats:
        """Tokens of conversations, in order; one that cannot be encoded has none, and a reason.

        Reasons: "template_refused: …" with what the template says, "template_endless", "template_untracked: …" (it does
        something with a content that is not tracked), "template_lost_turn" (a content is not printed),
        "other_control_tokens" (a tokenizer that goes the slow way finds others than the template prints: a content
        spells one), "not_unicode" (a lone surrogate).

        Raises:
            ValueError: a preference pair, which is two conversations.
        """
        batch = _Batch(len(conversations))
        find, answer_names = self._renderer.find, self._answer_names
        for number, conversation in enumerate(conversations):
            plan = find(conversation)
            if isinstance(plan, str):
                batch.refuse(number, plan)
                continue
            _, contents, branches, fields = zip(*conversation.turns, strict=True)
            if any(branches):
                raise ValueError(f"conversation {number} is a preference pair: encode both its branches, each alone")
            items, pieces = plan.items, plan.values(contents, fields, conversation.tools)
            if (plan.silent or "" in pieces) and _loses(plan, contents, pieces):
                batch.refuse(number, LOST)
                continue
            if any([name in pieces[at] for at in plan.answering for name in answer_names]):
                items, pieces = split_answers(plan, pieces, self._answer_finder, self._ids)
            if plan.slow:
                batch.slow.append((number, items, pieces))
                batch.refuse(number, None)
            else:
                batch.add(items, pieces)
        return self._finished(batch)

    def _finished(self, batch: "_Batch") -> EncodedChats:
        pieces, lone = _arrow(batch)
        items = np.concatenate([_NOTHING, *batch.items])
        item_bounds = _bounds([len(one) for one in batch.items])
        tokens, roles, answers, offsets, spelled = self._assembled(items, item_bounds, pieces)
        for number in lone:
            batch.reasons[number] = NOT_UNICODE
        found = EncodedChats(tokens, roles, answers, offsets, tuple(batch.reasons), spelled)
        if not batch.slow:
            return found
        return self._with_slow(found, batch)

    def _assembled(
        self, items: I32, item_bounds: I64, pieces: pa.LargeStringArray
    ) -> tuple[npt.NDArray[Any], I8, BOOL, I64, int]:
        data, piece_bounds = text_buffers(pieces)
        is_piece = items[:, 0] < 0
        begins = np.ones(len(items) + 1, np.bool_)
        begins[1:-1] = ~is_piece[:-1]
        begins[item_bounds] = True
        texts_at = np.flatnonzero(begins[:-1] & is_piece)  # the items that begin a text
        first = np.isin(texts_at, item_bounds[:-1])
        piece_of = np.cumsum(is_piece) - 1
        bounds = piece_bounds[np.append(piece_of[texts_at], len(pieces))]
        several = np.diff(np.append(piece_of[texts_at], len(pieces))) > 1
        buffers = [None, pa.py_buffer(bounds.tobytes()), pa.py_buffer(data)]
        texts = pa.Array.from_buffers(pa.large_string(), len(texts_at), buffers)
        segments = self._segments.encode(texts, first, several)
        count = len(segments.tokens) + int((~is_piece).sum())
        tokens, roles = np.empty(count, self.dtype), np.empty(count, np.int8)
        answers, offsets = np.empty(count, np.bool_), np.empty(len(item_bounds), np.int64)
        sides = (segments.tokens, segments.bounds, segments.starts, segments.ends)
        assemble(items, item_bounds, piece_bounds, *sides, tokens, roles, answers, offsets)
        return tokens, roles, answers, offsets, segments.spelled_controls

    def _with_slow(self, found: EncodedChats, batch: "_Batch") -> EncodedChats:
        """The same with those conversations that `tokenizers` encodes whole."""
        parts = [
            (found.tokens[a:b], found.roles[a:b], found.answers[a:b])
            for a, b in zip(found.offsets[:-1].tolist(), found.offsets[1:].tolist(), strict=True)
        ]
        reasons = list(found.reasons)
        names = {i: name for name, i in self._ids.items()}
        for number, items, pieces in batch.slow:
            unicode = all(map(_is_unicode, pieces))
            whole = encode_whole(self._segments.whole, items, pieces, names) if unicode else None
            if whole is None:
                reasons[number] = OTHERS if unicode else NOT_UNICODE
            else:
                parts[number] = (whole[0].astype(self.dtype), whole[1], whole[2])
        tokens, roles, answers = (np.concatenate(column) for column in zip(*parts, strict=True))
        offsets = _bounds([len(part[0]) for part in parts])
        return EncodedChats(tokens, roles, answers, offsets, tuple(reasons), found.spelled_controls)


class _Batch:
    """What a call has collected: of each conversation its items, one after another its pieces."""

    def __init__(self, count: int) -> None:
        self.items: list[I32] = []
        self.pieces: list[str] = []
        self.reasons: list[str | None] = [None] * count
        self.slow: list[tuple[int, I32, Sequence[str]]] = []

    def add(self, items: I32, pieces: Sequence[str]) -> None:
        """The next conversation."""
        self.items.append(items)
        self.pieces += pieces

    def refuse(self, number: int, reason: str | None) -> None:
        """The next conversation, which has no tokens."""
        self.reasons[number] = reason
        self.items.append(_NOTHING)


_NOTHING = np.zeros((0, 3), np.int32)


def _loses(plan: Plan, contents: Sequence[str], values: Sequence[str]) -> bool:
    """Whether a content is not printed: not at all, or nothing is left of it."""
    return any(
        content.strip() != "" and not any([values[at] for at in places])
        for content, places in zip(contents, plan.places, strict=True)
    )


def _arrow(batch: _Batch) -> tuple[pa.LargeStringArray, list[int]]:
    """The pieces in an array; those of conversations with a lone surrogate are empty, and their numbers returned."""
    try:
        return pa.array(batch.pieces, pa.large_string()), []
    except UnicodeEncodeError:
        pieces, lone, at = [], [], 0
        for number, items in enumerate(batch.items):
            count = int((items[:, 0] < 0).sum())
            mine = batch.pieces[at : at + count]
            at += count
            if any(not _is_unicode(piece) for piece in mine):
                lone.append(number)
                batch.items[number], mine = _NOTHING, []
            pieces += mine
        return pa.array(pieces, pa.large_string()), lone


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)


def _bounds(lengths: Sequence[int]) -> I64:
    bounds = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=bounds[1:])
    return bounds
