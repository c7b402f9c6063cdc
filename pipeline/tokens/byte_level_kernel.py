"""The kernel of byte-level BPE: see `byte_level_encoder`."""

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.tokens.added_pieces import find_added
from tokenmill.pipeline.tokens.byte_pairs import ROOM_PER_BYTE, merge_piece
from tokenmill.pipeline.tokens.letter_classes import NFC_CHANGES
from tokenmill.pipeline.tokens.piece_cache import (
    LONGEST,
    SHORT_BYTES,
    find_long,
    find_short,
    hash_bytes,
    is_short,
    keep_long,
    keep_short,
    short_ids,
    short_row,
)
from tokenmill.pipeline.tokens.scanner import char_bytes, class_at, piece_end, segment_end
from tokenmill.pipeline.tokens.whole_pieces import find_whole

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]

#: Pieces that are looked up together.
AHEAD = 128


@kernel
def find_changes(data: U8, bounds: I64, present: BOOL, block: U16, of_block: U8, changes: BOOL) -> None:
    """Which texts NFC may change; bytes under a null are none."""
    for i in range(changes.shape[0]):
        at, end = bounds[i], bounds[i + 1] if present[i] else bounds[i]
        while at < end and not changes[i]:
            if data[at] < 0x80:
                at += 1
            else:
                changes[i] = class_at(data, at, block, of_block) & NFC_CHANGES != 0
                at += char_bytes(data[at])


@kernel
def keep_pieces(
    data: U8,
    bounds: I64,
    first_ids: U32,
    first_ranks: U32,
    pair_rows: U64,
    made: U32,
    whole_rows: U64,
    whole_bounds: I64,
    whole_data: U8,
    whole_ids: U32,
    short: U64,
    long: U64,
    kept: U32,
    used: I64,
    room: U64,
    out: U32,
) -> None:
    """Remember pieces that no text has shown yet, each of them as a text would be encoded that is this piece."""
    for i in range(bounds.shape[0] - 1):
        at, number = bounds[i], bounds[i + 1] - bounds[i]
        count = _new_piece(
            data, at, number, first_ids, first_ranks, pair_rows, made, whole_rows, whole_bounds, whole_data, whole_ids,
            long, kept, used, room, out, 0,
        )  # fmt: skip
        if is_short(number, out, 0, count):
            keep_short(data, at, number, short_row(data, at, number, short), short, out, 0, count)


@kernel
def encode_batch(
    data: U8,
    bounds: I64,
    present: BOOL,
    head: U32,
    tail: U32,
    added_begins: I64,
    added_bounds: I64,
    added_data: U8,
    added_ids: U32,
    kind: int,
    digits: int,
    contractions: bool,
    slashes: bool,
    group_digits: int,
    numbers: int,
    block: U16,
    of_block: U8,
    first_ids: U32,
    first_ranks: U32,
    pair_rows: U64,
    made: U32,
    whole_rows: U64,
    whole_bounds: I64,
    whole_data: U8,
    whole_ids: U32,
    short: U64,
    long: U64,
    kept: U32,
    used: I64,
    room: U64,
    ahead: I64,
    state: I64,
    lengths: I64,
    out: U32,
) -> int:
    """Encode from `state` (text, place in it or -1, next added piece, end of the segment, place in `out`) on.

    Returns 0 when all is done, or for how many bytes there must be room to go on.
    """
    text, at, stop, segment, to = state[0], state[1], state[2], state[3], state[4]
    while text < present.shape[0]:
        end = bounds[text + 1]
        if at < 0:  # it begins
            at = stop = segment = bounds[text]
            lengths[text] = -to
            if present[text]:
                for k in range(head.shape[0]):
                    out[to] = head[k]
                    to += 1
            else:
                at = end
        while at < end:
            if at == stop:
                stop = end
                if added_ids.shape[0]:
                    stop, which = find_added(data, at, end, added_begins, added_bounds, added_data)
                    if stop == at:
                        out[to] = added_ids[which]
                        to += 1
                        at += added_bounds[which + 1] - added_bounds[which]
                        stop = segment = at
                        continue
            if at == segment:
                segment = segment_end(data, at, stop, group_digits, numbers, block, of_block)
            count = _scan(
                data, at, segment, kind, digits, contractions, slashes, block, of_block, short, ahead[0], ahead[1]
            )
            for i in range(count):
                number, row = ahead[0, i] - at, ahead[1, i]
                found = find_short(data, at, number, row, short) if row >= 0 else -1
                if found >= 0:
                    to = short_ids(short, found, out, to)
                else:
                    if number * ROOM_PER_BYTE > room.shape[0]:
                        state[0], state[1], state[2], state[3], state[4] = text, at, stop, segment, to
                        return number
                    behind = _new_piece(
                        data, at, number, first_ids, first_ranks, pair_rows, made, whole_rows, whole_bounds, whole_data,
                        whole_ids, long, kept, used, room, out, to,
                    )  # fmt: skip
                    if is_short(number, out, to, behind - to):
                        keep_short(data, at, number, row, short, out, to, behind - to)
                    to = behind
                at = ahead[0, i]
        if present[text]:
            for k in range(tail.shape[0]):
                out[to] = tail[k]
                to += 1
        lengths[text] += to
        text, at = text + 1, -1
    state[0], state[1], state[4] = text, at, to
    return 0


@helper
def _scan(
    data: U8,
    at: int,
    segment: int,
    kind: int,
    digits: int,
    contractions: bool,
    slashes: bool,
    block: U16,
    of_block: U8,
    short: U64,
    ends: I64,
    rows: I64,
) -> int:
    """Ends of the next pieces of a segment, and their rows in `short`, -1: too long; how many pieces.

    Rows are asked for pieces ahead of their use, so that a core waits for many lines of the table at once.
    """
    count = 0
    while at < segment and count < ends.shape[0]:
        behind = piece_end(data, at, segment, kind, digits, contractions, slashes, block, of_block)
        rows[count] = short_row(data, at, behind - at, short) if behind - at <= 15 else -1
        ends[count] = behind
        count += 1
        at = behind
    return count


@helper
def _new_piece(
    data: U8,
    at: int,
    number: int,
    first_ids: U32,
    first_ranks: U32,
    pair_rows: U64,
    made: U32,
    whole_rows: U64,
    whole_bounds: I64,
    whole_data: U8,
    whole_ids: U32,
    long: U64,
    kept: U32,
    used: I64,
    room: U64,
    out: U32,
    to: int,
) -> int:
    """Write the ids of one piece that `short` has not: where they end."""
    mixed = np.uint64(0)
    if SHORT_BYTES < number <= LONGEST:
        mixed = hash_bytes(data, at, number)
        behind = find_long(data, at, number, mixed, long, kept, out, to)
        if behind >= 0:
            return behind
    behind = -1
    if whole_rows.shape[0] > 1:
        if number <= SHORT_BYTES or number > LONGEST:
            mixed = hash_bytes(data, at, number)
        one = find_whole(data, at, number, mixed, whole_rows, whole_bounds, whole_data, whole_ids)
        if one >= 0:
            out[to] = np.uint32(one)
            behind = to + 1
    if behind < 0:
        behind = merge_piece(data, at, at + number, first_ids, first_ranks, pair_rows, made, room, out, to)
    if SHORT_BYTES < number <= LONGEST:
        keep_long(data, at, number, mixed, long, kept, used, out, to, behind - to)
    return behind
