"""Kernels of `plain_chats`: which shape a conversation has, and its items and pieces, laid out without Python."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.filters.eight_bytes import copy_bytes
from tokenmill.filters.scan import skip_space, trim_space
from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.tokens.added_pieces import Added, find_added

U8 = npt.NDArray[np.uint8]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]

#: Most turns of a shape: two bits each, and a 1 before them.
MOST_TURNS = 31


class Contents(NamedTuple):
    """Where n conversations have the contents of their turns.

    Attributes:
        data: their texts, one after another.
        bounds: int64[n + 1], where each text begins, and the last ends.
        first_turns: int64[n + 1], the first turn of each.
        starts: int64 a turn, where its content begins in its text.
        ends: one past its end.
    """

    data: U8
    bounds: I64
    first_turns: I64
    starts: I64
    ends: I64


class Plans(NamedTuple):
    """What `p` plans print, one after another.

    Attributes:
        bounds: int64[p + 1], the items of each.
        items: int32[k, 3], as a Plan has them.
        prints: int64[k, 3], of an item that is a piece: the turn, and 1 where its content is stripped; or -1, and where
            the literal begins and ends.
        literals: uint8.
    """

    bounds: I64
    items: I32
    prints: I64
    literals: U8


@kernel
def shape_keys(first_turns: I64, roles: U8, odd: npt.NDArray[np.bool_], keys: npt.NDArray[np.uint64]) -> None:
    """The roles of a conversation, in order, as one number.

    Args:
        first_turns: int64[n + 1], the first turn of each conversation.
        roles: uint8 a turn, 0 to 3.
        odd: bool a turn: it has more than a role and a content.
        keys: uint64[n], to be filled; 0: there is no turn, or more than MOST_TURNS, or one is odd.
    """
    for row in range(len(keys)):
        first, end = first_turns[row], first_turns[row + 1]
        key = np.uint64(0 < end - first <= MOST_TURNS)
        for turn in range(first, end if key else first):
            key = (key << np.uint64(2)) | np.uint64(roles[turn])
            if odd[turn]:
                key = np.uint64(0)
                break
        keys[row] = key


@helper
def _printed(contents: Contents, row: int, place: int, stripped: bool) -> tuple[int, int]:
    """Which bytes a conversation prints of a turn."""
    turn = contents.first_turns[row] + place
    start, end = contents.bounds[row] + contents.starts[turn], contents.bounds[row] + contents.ends[turn]
    if stripped:
        start = skip_space(contents.data, start, end)
        end = trim_space(contents.data, start, end)
    return start, end


@kernel
def measure(contents: Contents, plans: Plans, plan_of: I32, assistant: int, names: Added, sizes: I64) -> None:
    """How much the items and pieces of each conversation take.

    Args:
        contents: of n conversations.
        plans: what is done with them.
        plan_of: int32[n], the plan of each; -1: none. Set to -1 where a content prints nothing.
        assistant: the role that may spell the named tokens.
        names: those.
        sizes: int64[n, 3], zeros, to be filled: items, pieces, bytes of the pieces; zeros stay where there is no plan.
    """
    for row in range(len(plan_of)):
        plan = plan_of[row]
        if plan < 0:
            continue
        count, pieces, size = np.int64(0), np.int64(0), np.int64(0)
        for k in range(plans.bounds[plan], plans.bounds[plan + 1]):
            turn, second, third = plans.prints[k, 0], plans.prints[k, 1], plans.prints[k, 2]
            count += 1
            if plans.items[k, 0] >= 0:
                continue
            pieces += 1
            if turn < 0:
                size += third - second
                continue
            at, end = _printed(contents, row, turn, second != 0)
            if at == end:  # perhaps a turn that is lost: Python looks at it
                plan_of[row] = -1
                count, pieces, size = np.int64(0), np.int64(0), np.int64(0)
                break
            size += end - at
            if plans.items[k, 1] == assistant:
                count, pieces = count - 1, pieces - 1
                while at < end:
                    found, which = find_added(contents.data, at, end, names.begins, names.bounds, names.data)
                    count, pieces, at = count + (found > at), pieces + (found > at), found
                    if which >= 0:
                        length = names.bounds[which + 1] - names.bounds[which]
                        count, size, at = count + 1, size - length, at + length
        sizes[row, 0], sizes[row, 1], sizes[row, 2] = count, pieces, size


@helper
def _put(items: I32, item: int, given: I32, k: int, control: int) -> int:
    """Write an item with the role and the answer of item k of those given: the place behind it."""
    items[item, 0], items[item, 1], items[item, 2] = control, given[k, 1], given[k, 2]
    return item + 1


@kernel
def lay_out(
    contents: Contents,
    plans: Plans,
    plan_of: I32,
    assistant: int,
    names: Added,
    items: I32,
    piece_bounds: I64,
    pieces: U8,
) -> None:
    """Items and pieces of all conversations that have a plan, in order.

    Args:
        contents: of n conversations.
        plans: what is done with them.
        plan_of: int32[n], the plan of each; -1: none.
        assistant: the role that may spell the named tokens.
        names: those.
        items: int32[k, 3], to be filled, as large as `measure` says, and so are the others.
        piece_bounds: int64[pieces + 1].
        pieces: uint8, bytes of the pieces.
    """
    item, piece, size = np.int64(0), np.int64(0), np.int64(0)
    piece_bounds[0] = 0
    for row in range(len(plan_of)):
        plan = plan_of[row]
        if plan < 0:
            continue
        for k in range(plans.bounds[plan], plans.bounds[plan + 1]):
            turn, second, third = plans.prints[k, 0], plans.prints[k, 1], plans.prints[k, 2]
            if plans.items[k, 0] >= 0 or turn < 0:
                item = _put(items, item, plans.items, k, plans.items[k, 0])
                if plans.items[k, 0] < 0:
                    size = copy_bytes(plans.literals, second, third, pieces, size)
                    piece += 1
                    piece_bounds[piece] = size
                continue
            at, end = _printed(contents, row, turn, second != 0)
            while at < end:
                found, which = end, -1
                if plans.items[k, 1] == assistant:
                    found, which = find_added(contents.data, at, end, names.begins, names.bounds, names.data)
                if found > at:
                    item = _put(items, item, plans.items, k, -1)
                    size = copy_bytes(contents.data, at, found, pieces, size)
                    piece += 1
                    piece_bounds[piece] = size
                at = found
                if which >= 0:
                    item = _put(items, item, plans.items, k, names.ids[which])
                    at += names.bounds[which + 1] - names.bounds[which]
