"""The kernel of `plain`: lines of JSONL into texts and turns, as far as they are plain.

Places in the block are those of bytes; -1 for one says that the line is not plain. What is behind the text so far
(`to`) serves to write strings that are only looked at.
"""

from typing import NamedTuple

import numpy as np

from tokenmill.filters.eight_bytes import find_byte
from tokenmill.filters.scan import I32, I64, U8, count_characters, skip_space
from tokenmill.filters.turns import ASSISTANT, ROLES, USER
from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.chat.json_bytes import (
    CLOSE,
    COLON,
    COMMA,
    END_OF_LIST,
    LIST,
    OPEN,
    QUOTE,
    behind,
    read_string,
    skip_blanks,
    skip_digits,
    skip_value,
)
from tokenmill.pipeline.chat.messages import AFTER, TEXT_CALL
from tokenmill.pipeline.chat.turns import BETWEEN

#: What keys of a line mean: what it is called, its turns, or that it is not plain.
ID, LIST_OF_TURNS, ODD = range(3)
#: Keys of a message: its role, its content. It has both in either way.
FIELDS = {"role": 0, "content": 1, "from": 2, "value": 3}
_IS_ROLE, _EITHER_WAY = 0b0101, (0b0011, 0b1100)
#: What came last in a dialogue, the first four as codes of roles, and bits of the roles that may follow.
_STATES = (*ROLES, "start", "text call")
_START, _CALLED = len(ROLES), len(ROLES) + 1
_AFTER = np.array([sum(1 << ROLES.index(role) for role in AFTER[state]) for state in _STATES], np.uint8)
#: Which a dialogue may end with.
_ENDS = np.array([state in ("assistant", "text call") for state in _STATES])
_CALL = np.frombuffer(TEXT_CALL.encode(), np.uint8)
_BETWEEN = np.frombuffer(BETWEEN.encode(), np.uint8)
_LINE_FEED, _ZERO = ord("\n"), ord("0")
#: Digits of a number as an id: more are seldom, and Python may refuse many.
_ID_DIGITS = 18
#: After so many lines that are not plain no other of the block is tried: where none is, little time is lost.
_PATIENCE = 64


class Names(NamedTuple):
    """Name i is `data[bounds[i]:bounds[i + 1]]`, and means `codes[i]`."""

    data: U8
    bounds: I64
    codes: U8


class Plain(NamedTuple):
    """What lines are plain.

    Attributes:
        keys: of a line.
        fields: keys of a message.
        roles: codes of roles (filters/turns.py) by the data's names for them.
        max_bytes: the longest line.
        min_characters: the shortest text, in code points.
        max_characters: the longest.
    """

    keys: Names
    fields: Names
    roles: Names
    max_bytes: int
    min_characters: int
    max_characters: int


class PlainLines(NamedTuple):
    """What was found in a block of lines, n of them plain, with m turns.

    Attributes:
        text: uint8, the texts of plain lines, one behind the other; what is behind them means nothing.
        texts: int64[n + 1], where each begins and ends in `text`.
        starts: int64[n], first byte of each line in the block.
        sizes: int64[n], bytes of each line without its end.
        ids: int64[n, 2], first byte in the block of what the line is called, and the byte behind; -1 where nothing is.
        turns: int32[n + 1], first turn of each line, then m.
        turn_roles: uint8[m], codes of filters/turns.py.
        turn_starts: int64[m], first byte of each turn's content in its line's text.
        turn_ends: int64[m], the byte behind it.
        others: int64[k, 3], lines that are not plain: first byte in the block, byte behind, and plain lines before.
    """

    text: U8
    texts: I64
    starts: I64
    sizes: I64
    ids: I64
    turns: I32
    turn_roles: U8
    turn_starts: I64
    turn_ends: I64
    others: I64


@kernel
def read_lines(data: U8, plain: Plain, room: PlainLines) -> tuple[int, int]:
    """Fill arrays that have room for every line and turn: how many lines are plain, and how many turns they have."""
    row = turn = other = at = to = others_in_a_row = 0
    while at < len(data):
        end = find_byte(data, at, len(data), _LINE_FEED)
        behind_text = -1
        if end - at <= plain.max_bytes and others_in_a_row < _PATIENCE:
            behind_text, turn_after = _read_line(data, at, plain, room, row, turn, to)
        if behind_text >= 0 and _is_within(room.text, to, behind_text, plain):
            room.starts[row] = at
            room.sizes[row] = end - at
            row, turn, to, others_in_a_row = row + 1, turn_after, behind_text, 0
            room.texts[row] = to
            room.turns[row] = turn
        else:
            room.others[other, 0] = at
            room.others[other, 1] = end
            room.others[other, 2] = row
            other += 1
            others_in_a_row += 1
        at = end + 1
    return row, turn


@helper
def _is_within(text: U8, begin: int, end: int, plain: Plain) -> bool:
    """Whether a text is neither too short nor too long; its bytes nearly always tell, at most four a character."""
    size = end - begin
    if size // 4 < plain.min_characters or size > plain.max_characters:
        size = count_characters(text, begin, end)
    return plain.min_characters <= size <= plain.max_characters


@helper
def _read_line(data: U8, at: int, plain: Plain, room: PlainLines, row: int, turn: int, to: int) -> tuple[int, int]:
    """Read the line at `at` as row `row`: its text from `to` on (to where; -1: it is not plain), and turns."""
    room.ids[row, 0] = room.ids[row, 1] = -1
    first_turn = turn
    at = skip_blanks(data, at)
    at = skip_blanks(data, at + 1) if data[at] == OPEN else -1
    while at >= 0:
        start = at + 1
        at = _skip_name(data, at, room.text, to)
        if at < 0:
            break
        key = _meaning(plain.keys, data, start, at - 1)
        at = behind(data, at, COLON)
        if at < 0:
            break
        if key < 0:
            at = skip_value(data, at, room.text, to)
        elif key == LIST_OF_TURNS and turn == first_turn:
            at, to, turn = _read_turns(data, at, plain, room, turn, to)
        elif key == ID and room.ids[row, 0] < 0:
            at = _read_id(data, at, room, row, to)
        else:
            break
        if at < 0:
            break
        at = skip_blanks(data, at)
        if data[at] == CLOSE:
            is_plain = data[skip_blanks(data, at + 1)] == _LINE_FEED and turn > first_turn
            return (to if is_plain else -1), turn
        at = skip_blanks(data, at + 1) if data[at] == COMMA else -1
    return -1, turn


@helper
def _skip_name(data: U8, at: int, out: U8, to: int) -> int:
    """Place behind a string at `at` that has no escapes; -1 if there is none. What is behind `to` in `out` is lost."""
    if data[at] != QUOTE:
        return -1
    end, written = read_string(data, at + 1, out, to)
    return end if written - to == end - at - 2 else -1


@helper
def _meaning(names: Names, data: U8, start: int, end: int) -> int:
    """What the bytes start … end are the name of; -1: nothing."""
    for k in range(len(names.codes)):
        first = names.bounds[k]
        if names.bounds[k + 1] - first == end - start and _same(names.data, first, data, start, end):
            return int(names.codes[k])
    return -1


@helper
def _same(one: U8, at: int, two: U8, start: int, end: int) -> bool:
    """Whether the bytes from `at` on are those in start … end."""
    for k in range(end - start):  # noqa: SIM110 - Numba compiles no generator expression
        if one[at + k] != two[start + k]:
            return False
    return True


@helper
def _read_id(data: U8, at: int, room: PlainLines, row: int, to: int) -> int:
    """Note where a string without escapes, or a number that is its own text, lies: the place behind it; -1: neither."""
    if data[at] == QUOTE:
        behind_it: int = _skip_name(data, at, room.text, to)
        room.ids[row, 0], room.ids[row, 1] = at + 1, behind_it - 1
    else:
        behind_it = skip_digits(data, at)
        room.ids[row, 0], room.ids[row, 1] = at, behind_it
        if behind_it == at or behind_it > at + _ID_DIGITS or (data[at] == _ZERO and behind_it > at + 1):
            behind_it = -1
    return behind_it


@helper
def _read_turns(data: U8, at: int, plain: Plain, room: PlainLines, turn: int, to: int) -> tuple[int, int, int]:
    """Read a list of messages: places behind it (-1: not plain) and behind the text, and the turn behind them."""
    start, state = to, _START
    at = skip_blanks(data, at + 1) if data[at] == LIST else -1
    while at >= 0:
        if state != _START:
            for byte in _BETWEEN:
                room.text[to] = byte
                to += 1
        at, end, role = _read_message(data, at, plain, room.text, to)
        if at < 0:
            break
        state = _state_after(state, role, room.text, to, end)
        if state < 0:
            break
        room.turn_roles[turn] = role
        room.turn_starts[turn], room.turn_ends[turn] = to - start, end - start
        turn, to = turn + 1, end
        at = skip_blanks(data, at)
        if data[at] == END_OF_LIST:
            return (at + 1 if _ENDS[state] else -1), to, turn
        at = skip_blanks(data, at + 1) if data[at] == COMMA else -1
    return -1, to, turn


@helper
def _read_message(data: U8, at: int, plain: Plain, out: U8, to: int) -> tuple[int, int, int]:
    """Read an object of a role and a content: places behind it (-1: not plain) and behind the content, and the role."""
    found, role, end = 0, -1, to
    at = skip_blanks(data, at + 1) if data[at] == OPEN else -1
    for sign in (COMMA, CLOSE):  # one stands behind each field
        if at < 0:
            break
        start = at + 1
        at = _skip_name(data, at, out, end)
        field = _meaning(plain.fields, data, start, at - 1) if at >= 0 else -1
        at = behind(data, at, COLON) if field >= 0 else -1
        if at < 0 or data[at] != QUOTE:
            return -1, to, -1
        start = at + 1
        if (_IS_ROLE >> field) & 1:
            at = _skip_name(data, at, out, end)
            role = _meaning(plain.roles, data, start, at - 1) if at >= 0 else -1
        else:
            at, end = read_string(data, start, out, end)
        found |= 1 << field
        at = behind(data, at, sign) if at >= 0 else -1
    is_whole = found == _EITHER_WAY[0] or found == _EITHER_WAY[1]
    return (at if is_whole and role >= 0 else -1), end, role


@helper
def _state_after(state: int, role: int, text: U8, begin: int, end: int) -> int:
    """The state behind a turn; -1 if it may not be."""
    if not (_AFTER[state] >> role) & 1:
        return -1
    if role != USER and role != ASSISTANT:
        return role
    if skip_space(text, begin, end) == end:
        return -1
    return _CALLED if role == ASSISTANT and _calls(text, begin, end) else role


@helper
def _calls(text: U8, begin: int, end: int) -> bool:
    """Whether TEXT_CALL is in begin … end."""
    last = end - len(_CALL)
    at = find_byte(text, begin, end, _CALL[0])
    while at <= last:
        if _same(_CALL, 0, text, at, at + len(_CALL)):
            return True
        at = find_byte(text, at + 1, end, _CALL[0])
    return False
