r"""Plain conversations, as most are, read from lines of JSONL by a kernel (plain_lines.py): no Python object each.

A line is plain if it is an object whose `messages` (`conversations`) are objects of just `role` and `content` (`from`
and `value`), strings, in an order that `check_order` takes; beside them only an `id` and keys that no shape knows; and
if it is written without oddities (json_bytes.py). What comes of it is what readers/chat.py makes of the same line.
Of any other line this says that it is not plain, never why: Python's own reader reads it, and knows.

```
line     {"id": "a", "messages": [{"role": "user", "content": "2 + 2 =\t?"}, {"role": "assistant", "content": "4"}]}
text     "2 + 2 =\t?\n\n4"        turns    USER 0 … 9, ASSISTANT 11 … 12
```
"""

from collections.abc import Mapping

import numpy as np

from tokenmill.filters.scan import count_byte
from tokenmill.filters.turns import ROLES
from tokenmill.pipeline.chat.plain_lines import FIELDS, ID, LIST_OF_TURNS, ODD, Names, Plain, PlainLines, read_lines
from tokenmill.pipeline.chat.shapes import COLUMNS, Shape

#: Shapes that may be plain, and the keys they are told by.
_TOLD_BY = {"messages": "messages", "sharegpt": "conversations"}
#: The least that a turn takes of a line (a recipe may call a role ""), and beyond the text what its writer may touch.
_TURN_BYTES, _SLACK = len('{"from":"","value":""}'), 8


def plain_of(
    shape: Shape, max_bytes: int | None = None, min_characters: int | None = None, max_characters: int | None = None
) -> Plain | None:
    """What lines are plain where records are of `shape`, within bounds of lines and texts; None: none are."""
    told_by = [key for name, key in _TOLD_BY.items() if shape.shape in (None, name)]
    if shape.columns or not told_by:
        return None
    codes = {name: ROLES.index(role) for name, role in shape.all_roles.items() if name != "function_call"}
    most = int(np.iinfo(np.int64).max)
    return Plain(
        keys=_names({**dict.fromkeys(COLUMNS, ODD), **dict.fromkeys(told_by, LIST_OF_TURNS), "id": ID}),
        fields=_names(FIELDS),
        roles=_names(codes),
        max_bytes=most if max_bytes is None else max_bytes,
        min_characters=min_characters or 0,
        max_characters=most if max_characters is None else max_characters,
    )


def _names(codes: Mapping[str, int]) -> Names:
    names = [name.encode(errors="surrogatepass") for name in codes]
    bounds = np.cumsum([0, *map(len, names)], dtype=np.int64)
    return Names(np.frombuffer(b"".join(names), np.uint8), bounds, np.array(list(codes.values()), np.uint8))


def read_plain(block: bytes, plain: Plain) -> PlainLines:
    """Plain lines of a block, in which every line is whole and has its end."""
    data = np.frombuffer(block, np.uint8)
    lines, turns = count_byte(data, 0, len(data), ord("\n")), len(block) // _TURN_BYTES
    room = PlainLines(
        text=np.empty(len(block) + _SLACK, np.uint8),
        texts=np.zeros(lines + 1, np.int64),
        starts=np.empty(lines, np.int64),
        sizes=np.empty(lines, np.int64),
        ids=np.empty((lines, 2), np.int64),
        turns=np.zeros(lines + 1, np.int32),
        turn_roles=np.empty(turns, np.uint8),
        turn_starts=np.empty(turns, np.int64),
        turn_ends=np.empty(turns, np.int64),
        others=np.empty((lines, 3), np.int64),
    )
    n, m = read_lines(data, plain, room)
    return room._replace(
        texts=room.texts[: n + 1],
        starts=room.starts[:n],
        sizes=room.sizes[:n],
        ids=room.ids[:n],
        turns=room.turns[: n + 1],
        turn_roles=room.turn_roles[:m],
        turn_starts=room.turn_starts[:m],
        turn_ends=room.turn_ends[:m],
        others=room.others[: lines - n],
    )
