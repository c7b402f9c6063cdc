"""The formats of exports, by name."""

from typing import Literal, get_args

#: Of packed rows, or of the documents in them.
RowFormat = Literal["megatron", "smdm", "datasets", "mds"]
#: Of conversations, each by itself: as tokens of which some are answers, or as messages.
TokenFormat = Literal["dfactory-tokens", "dllm", "automodel"]
MessageFormat = Literal["dfactory", "dream"]
Format = RowFormat | TokenFormat | MessageFormat
ROW_FORMATS: tuple[str, ...] = get_args(RowFormat)
MESSAGE_FORMATS: tuple[str, ...] = get_args(MessageFormat)
CHAT_FORMATS: tuple[str, ...] = (*MESSAGE_FORMATS, *get_args(TokenFormat))
FORMATS: tuple[str, ...] = (*ROW_FORMATS, *CHAT_FORMATS)
