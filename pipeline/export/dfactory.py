"""dFactory's JSONL, for LLaDA2: a conversation a line, as messages or as tokens.

    {"messages": [{"role": "user", "content": "…"}, {"role": "assistant", "content": "…"}]}    data_type: conversation
    {"input_ids": [L ids], "prompt_lengths": 17}                                               data_type: tokenid

Its transforms train on the last answer alone: of messages, all but the last are the prompt, which its tokenizer's own
template renders, without tools. Tokens go up to the end of that answer, and it wants as many of them as its
`max_seq_len`, which is L: padding fills them up, to be masked and learnt as what its tokenizer pads messages with.

Source: inclusionAI/dFactory, tasks/dataset/data_transform.py; `train_path` is a folder with nothing else in it.
"""

import json
from collections import Counter
from typing import IO

import numpy as np

from tokenmill.pipeline.chat.conversation import Conversation, message_of
from tokenmill.pipeline.export.conversations import Conversations

#: Why a conversation is left out.
TOOLS, NO_ANSWER, TOO_LONG = "tools", "no_answer", "longer_than_row"


def line_of(conversation: Conversation) -> bytes | str:
    """A line of messages; or why there is none: nothing can be said there of the tools offered."""
    if conversation.tools is not None:
        return TOOLS
    messages = [_ordered(message_of(turn)) for turn in conversation.turns]
    return (json.dumps({"messages": messages}, ensure_ascii=False) + "\n").encode()


def _ordered(message: dict[str, object]) -> dict[str, object]:
    """The role and the content first, as people write them."""
    return {"role": message["role"], "content": message["content"], **message}


def write_tokens(file: IO[bytes], batch: Conversations, length: int, pad_id: int) -> tuple[int, Counter[str]]:
    """Write a line a conversation; tokens of padding in all lines, and how many conversations have none, by reason."""
    begins, ends = batch.last_answers()
    row = np.empty(length, np.int64)
    padding, left_out = 0, Counter[str]()
    for first, begin, end in zip(batch.offsets[:-1].tolist(), begins.tolist(), ends.tolist(), strict=True):
        if not 0 < end <= length:
            left_out[TOO_LONG if end else NO_ANSWER] += 1
            continue
        row[:end], row[end:] = batch.tokens[first : first + end], pad_id
        padding += length - end
        value = {"input_ids": row.tolist(), "prompt_lengths": begin}
        file.write((json.dumps(value, separators=(",", ":")) + "\n").encode())
    return padding, left_out
