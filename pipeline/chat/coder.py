"""Rows of TURNS and their texts → token ids and answers, as *pack* wants them."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tokenmill.kernels import kernel
from tokenmill.pipeline.chat.conversation import Conversation, Turn
from tokenmill.pipeline.chat.plan import ASSISTANT, SYSTEM, TEMPLATE, TOOL, USER
from tokenmill.pipeline.chat.template import ChatTemplate
from tokenmill.pipeline.chat.tokens import ChatEncoder, EncodedChats
from tokenmill.pipeline.chat.turns import conversations_of
from tokenmill.pipeline.tokens.encode import EncodedBatch, TokenizerPolicy

I64 = npt.NDArray[np.int64]
#: Raised when the same conversations and template become other tokens.
VERSION = 1
#: What a conversation is left out for that is no sample to train on: a prompt whose answer is to be found and checked.
UNANSWERED = "unanswered"
_ROLES = {TEMPLATE: "template", SYSTEM: "system", USER: "user", ASSISTANT: "assistant", TOOL: "tool"}


def tokens_of_roles(encoded: EncodedBatch, eos_id: int) -> dict[str, int]:
    """Tokens of conversations by whose they are, and those of answers: all of ROLE_NOTES."""
    assert encoded.answers is not None
    assert encoded.roles is not None
    counts = np.bincount(encoded.roles, minlength=len(_ROLES)).tolist()
    found = {f"{name}_tokens": counts[code] for code, name in _ROLES.items()}
    found["answer_tokens"] = int(np.count_nonzero(encoded.answers))
    found["answer_eos_tokens"] = int(np.count_nonzero(encoded.answers & (encoded.tokens == eos_id)))
    return found


class ChatCoder:
    """Encodes the conversations of batches, of a preference pair the chosen one.

    One EOS ends a conversation, as an answer, if the policy appends it and the last answer does not end with it.
    """

    def __init__(
        self, tokenizer_json: bytes, template: ChatTemplate, policy: TokenizerPolicy, special_ids: Mapping[str, int]
    ) -> None:
        """Read the tokenizer; `special_ids` are those of bos, eos, pad and mask, -1 for none."""
        self._chats = ChatEncoder(tokenizer_json, template, policy)
        self._eos = special_ids["eos"] if policy.append_eos else -1

    def encode(self, texts: pa.LargeStringArray, turns: pa.RecordBatch) -> tuple[EncodedBatch, Sequence[str | None]]:
        """Tokens of n conversations, and why each is left out; None: it is not.

        Args:
            texts: n, no null.
            turns: n rows of TURNS.
        """
        told = [sample_of(conversation) for conversation in conversations_of(texts, turns)]
        chats = self._chats.encode([conversation for conversation in told if conversation is not None])
        inside = np.array([conversation is not None for conversation in told], np.bool_)
        lengths = np.zeros(len(told), np.int64)
        lengths[inside] = np.diff(chats.offsets)
        offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        found = iter(chats.reasons)
        reasons = [UNANSWERED if conversation is None else next(found) for conversation in told]
        return self._ended(chats, offsets), [None if reason is None else _code(reason) for reason in reasons]

    def _ended(self, chats: EncodedChats, offsets: I64) -> EncodedBatch:
        """The tokens, an EOS behind each conversation that is to have one."""
        tokens, answers, roles = chats.tokens, chats.answers, chats.roles
        if self._eos >= 0:
            wanted = np.zeros(len(offsets) - 1, np.bool_)
            _want_end(tokens, answers, offsets, self._eos, wanted)
            behind = offsets[1:][wanted]
            tokens, answers = np.insert(tokens, behind, self._eos), np.insert(answers, behind, True)
            roles = np.insert(roles, behind, ASSISTANT)
            offsets = offsets + np.concatenate([np.zeros(1, np.int64), np.cumsum(wanted)])
        return EncodedBatch(tokens, offsets, chats.spelled_controls, answers, roles)


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
    turns = tuple(Turn(turn.role, turn.content, None, turn.fields) for turn in conversation.turns if _stays(turn))
    return conversation._replace(turns=turns, kind="conversation")


def _stays(turn: Turn) -> bool:
    return turn.branch != "rejected"


def _code(reason: str) -> str:
    """A reason without what the template says: what is counted has few names."""
    return reason.partition(":")[0]
