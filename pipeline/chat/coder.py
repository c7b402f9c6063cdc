"""Rows of TURNS and their texts → token ids and answers, as *pack* wants them."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from tokenmill.kernels import kernel
from tokenmill.manifests.schemas import CHECKS
from tokenmill.manifests.shards import CONCAT, PREFERENCE, PROMPTS
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.plan import ASSISTANT, SYSTEM, TEMPLATE, TOOL, USER
from tokenmill.pipeline.chat.template import ChatTemplate
from tokenmill.pipeline.chat.tokens import ChatEncoder, EncodedChats
from tokenmill.pipeline.chat.turns import conversations_of
from tokenmill.pipeline.chat.weaving import woven
from tokenmill.pipeline.tokens.encode import EncodedBatch, TokenizerPolicy
from tokenmill.pipeline.tokens.piece_cache import CACHE_BYTES

I64 = npt.NDArray[np.int64]
#: Raised when the same conversations and template become other tokens.
VERSION = 2
#: What a conversation is left out for that is no sample to train on: a prompt whose answer is to be found and checked.
UNANSWERED = "unanswered"
#: And for `layout: preference`: a conversation that is no pair.
NO_PAIR = "no_pair"
#: And for `layout: prompts`: one whose answer cannot be checked.
NOT_CHECKED = "not_checked"
_ROLES = {TEMPLATE: "template", SYSTEM: "system", USER: "user", ASSISTANT: "assistant", TOOL: "tool"}


def tokens_of_roles(encoded: EncodedBatch, eos_id: int) -> dict[str, int]:
    """Tokens of conversations by whose they are, and those of answers: all of ROLE_NOTES."""
    assert encoded.answers is not None
    assert encoded.roles is not None
    counts = np.zeros(len(_ROLES) + 2, np.int64)
    _count_roles(encoded.tokens, encoded.roles, encoded.answers, eos_id, counts)
    names = [f"{_ROLES[code]}_tokens" for code in range(len(_ROLES))]
    return dict(zip([*names, "answer_tokens", "answer_eos_tokens"], counts.tolist(), strict=True))


@kernel
def _count_roles(tokens, roles, answers, eos, counts):  # type: ignore[no-untyped-def]
    """Add up tokens of each role, those of answers, and those of these that are EOS: int64[roles + 2]."""
    for place in range(len(tokens)):
        counts[roles[place]] += 1
        counts[-2] += answers[place]
        counts[-1] += answers[place] and tokens[place] == eos


class ChatCoder:
    """Encodes the conversations of batches; of a preference pair the chosen one, or for `layout: preference` both.

    For `layout: prompts` those whose answers can be checked, up to where an answer is to begin; all of it is given.

    One EOS ends a conversation, as an answer, if the policy appends it and the last answer does not end with it.

    Attributes:
        encoder: of the texts between control tokens.
    """

    def __init__(
        self,
        tokenizer_json: bytes,
        template: ChatTemplate,
        policy: TokenizerPolicy,
        layout: str = CONCAT,
        cache_bytes: int = CACHE_BYTES,
    ) -> None:
        """Read the tokenizer; see `ChatEncoder`."""
        prompts = layout == PROMPTS
        self._chats = ChatEncoder(
            tokenizer_json, template, policy, add_generation_prompt=prompts, cache_bytes=cache_bytes
        )
        self.encoder = self._chats.encoder
        self._eos = self.encoder.special_ids["eos"] if policy.append_eos and layout != PROMPTS else -1
        self._in_pairs, self._prompts = layout == PREFERENCE, layout == PROMPTS

    def encode(self, texts: pa.LargeStringArray, turns: pa.RecordBatch) -> tuple[EncodedBatch, Sequence[str | None]]:
        """Tokens of n conversations, and why each is left out; None: it is not.

        Args:
            texts: n, no null.
            turns: n rows of TURNS.
        """
        if self._in_pairs or self._prompts:
            return self._encoded(texts, turns)
        plain, chats = self._chats.encode_plain(texts, turns)
        found = self._ended(chats)
        if plain.all():
            return found, chats.reasons
        others = pa.array(~plain)
        encoded, told = self._encoded(texts.filter(others), turns.filter(others))
        reasons = np.full(len(texts), None, object)
        reasons[~plain] = told
        return _in_order(found, encoded, plain), reasons.tolist()

    def _encoded(self, texts: pa.LargeStringArray, turns: pa.RecordBatch) -> tuple[EncodedBatch, Sequence[str | None]]:
        """Conversations one by one."""
        told = [self._samples(conversation) for conversation in conversations_of(texts, turns)]
        chats = self._chats.encode([sample for samples in told for sample in samples])
        ended = self._ended(chats)
        first = np.cumsum([0, *map(len, told)])
        reasons = [self._reason(chats.reasons[a:b]) for a, b in pairwise(first.tolist())]
        chosen = None
        if self._prompts:  # what an assistant said before is given, too
            ended = replace(ended, answers=np.zeros(len(ended.tokens), np.bool_), checks=_checks(turns))
        if self._in_pairs:
            lengths = np.append(ended.lengths, 0)
            chosen = np.where(np.diff(first) > 0, lengths[first[:-1]], 0)
        return replace(ended, offsets=ended.offsets[first], chosen_lengths=chosen), reasons

    def _samples(self, conversation: Conversation | None) -> tuple[Conversation, ...]:
        """What is trained on of a conversation."""
        if self._in_pairs:
            return pair_of(conversation) or ()
        if self._prompts:
            return (conversation,) if conversation is not None and conversation.kind == "verifiable" else ()
        sample = sample_of(conversation)
        return () if sample is None else (sample,)

    def _reason(self, found: Sequence[str | None]) -> str | None:
        """Why a conversation is left out, by what was found of its samples; what is counted has few names."""
        if not found:
            return NO_PAIR if self._in_pairs else NOT_CHECKED if self._prompts else UNANSWERED
        reason = next((one for one in found if one is not None), None)
        return None if reason is None else reason.partition(":")[0]

    def _ended(self, chats: EncodedChats) -> EncodedBatch:
        """The tokens, an EOS behind each conversation that is to have one."""
        tokens, answers, roles, offsets = chats.tokens, chats.answers, chats.roles, chats.offsets
        if self._eos >= 0:
            wanted = np.zeros(len(offsets) - 1, np.bool_)
            _want_end(tokens, answers, offsets, self._eos, wanted)
            behind = offsets[1:][wanted]
            tokens, answers = np.insert(tokens, behind, self._eos), np.insert(answers, behind, True)
            roles = np.insert(roles, behind, ASSISTANT)
            offsets = offsets + np.concatenate([np.zeros(1, np.int64), np.cumsum(wanted)])
        return EncodedBatch(tokens, offsets, chats.spelled_controls, answers, roles)


def _in_order(plain: EncodedBatch, others: EncodedBatch, of_plain: npt.NDArray[np.bool_]) -> EncodedBatch:
    """The conversations of both, in order: those of `of_plain`, bool [n], are of the first."""
    columns = [(getattr(plain, name), getattr(others, name)) for name in ("tokens", "answers", "roles")]
    offsets, (tokens, answers, roles) = woven(of_plain, (plain.offsets, others.offsets), columns)
    return EncodedBatch(tokens, offsets, plain.spelled_controls + others.spelled_controls, answers, roles)


def _checks(turns: pa.RecordBatch) -> pa.RecordBatch:
    """Rows of CHECKS, those of rows of TURNS; what has no answer is left out later."""
    columns = [pc.fill_null(turns.column("answer"), ""), turns.column("checker")]
    return pa.RecordBatch.from_arrays(columns, schema=CHECKS)


@kernel
def _want_end(tokens, answers, offsets, eos, wanted):  # type: ignore[no-untyped-def]
    """Mark the conversations, bool [n], whose last answer does not end with EOS; what stands behind it joins it.

    So that answer goes on to the EOS: a newline that a template prints behind every turn is learnt before the end.
    """
    for conversation in range(len(wanted)):
        place = offsets[conversation + 1] - 1
        while place >= offsets[conversation] and not answers[place]:
            place -= 1
        if place >= offsets[conversation]:
            wanted[conversation] = tokens[place] != eos
            for behind in range(place + 1, offsets[conversation + 1] if wanted[conversation] else 0):
                answers[behind] = True


def sample_of(conversation: Conversation | None) -> Conversation | None:
    """What is trained on of a conversation; None: nothing, as it has no answer."""
    if conversation is None or conversation.kind == "verifiable":
        return None
    if conversation.kind != "preference":
        return conversation
    return _without("rejected", conversation)


def pair_of(conversation: Conversation | None) -> tuple[Conversation, Conversation] | None:
    """The prompt of a preference pair with the chosen answer, and with the rejected one; None: it is no pair."""
    if conversation is None or conversation.kind != "preference":
        return None
    return _without("rejected", conversation), _without("chosen", conversation)


def _without(branch: str, pair: Conversation) -> Conversation:
    turns = (Turn(turn.role, turn.content, None, turn.fields) for turn in pair.turns if turn.branch != branch)
    return pair._replace(turns=tuple(turns), kind="conversation")
