"""The kernel of SentencePiece's BPE: see `sentence_pieces_encoder`."""

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.tokens.added_pieces import find_added
from tokenmill.pipeline.tokens.byte_pairs import ROOM_PER_BYTE, merge_ids
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
from tokenmill.pipeline.tokens.safe_cuts import safe_end, symbol_at
from tokenmill.pipeline.tokens.scanner import char_bytes

U8 = npt.NDArray[np.uint8]
U16 = npt.NDArray[np.uint16]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]
BOOL = npt.NDArray[np.bool_]

#: Pieces that are looked up together.
AHEAD = 128


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
    ascii_pairs: U8,
    bits: U64,
    block: U16,
    of_block: I32,
    byte_ids: U32,
    pair_rows: U64,
    made: U32,
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
    """Encode from `state` (text, place in it or -1, place in `out`) on.

    Returns 0 when all is done, or for how many bytes there must be room to go on.
    """
    text, at, to = state[0], state[1], state[2]
    while text < present.shape[0]:
        end = bounds[text + 1]
        if at < 0:  # it begins
            at = bounds[text]
            lengths[text] = -to
            if present[text]:
                for k in range(head.shape[0]):
                    out[to] = head[k]
                    to += 1
            else:
                at = end
        stop = at  # of a piece between added ones, as far as is known
        while at < end:
            count, stop = _scan(
                data,
                at,
                stop,
                end,
                added_begins,
                added_bounds,
                added_data,
                ascii_pairs,
                bits,
                short,
                ahead[0],
                ahead[1],
            )
            for i in range(count):
                number, row = ahead[0, i] - at, ahead[1, i]
                found = find_short(data, at, number, row, short) if row >= 0 else -1
                if found >= 0:
                    to = short_ids(short, found, out, to)
                elif row < -1:
                    out[to] = added_ids[-2 - row]
                    to += 1
                else:
                    if number * ROOM_PER_BYTE > room.shape[0]:
                        state[0], state[1], state[2] = text, at, to
                        return number
                    behind = _new_piece(
                        data, at, number, block, of_block, byte_ids, pair_rows, made, long, kept, used, room, out, to
                    )
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
    state[0], state[1], state[2] = text, at, to
    return 0


@helper
def _scan(
    data: U8,
    at: int,
    stop: int,
    end: int,
    added_begins: I64,
    added_bounds: I64,
    added_data: U8,
    ascii_pairs: U8,
    bits: U64,
    short: U64,
    ends: I64,
    rows: I64,
) -> tuple[int, int]:
    """Ends of the next pieces; their rows in `short`, -1: too long, -2 - k: added piece k. How many; the next `stop`.

    Rows are asked for pieces ahead of their use, so that a core waits for many lines of the table at once.
    """
    count = 0
    while at < end and count < ends.shape[0]:
        which = -1
        if at == stop:
            stop, which = find_added(data, at, end, added_begins, added_bounds, added_data)
        if stop == at:
            at += added_bounds[which + 1] - added_bounds[which]
            stop = at
            rows[count] = -2 - which
        else:
            behind = safe_end(data, at, stop, ascii_pairs, bits)
            rows[count] = short_row(data, at, behind - at, short) if behind - at <= 15 else -1
            at = behind
        ends[count] = at
        count += 1
    return count, stop


@helper
def _new_piece(
    data: U8,
    at: int,
    number: int,
    block: U16,
    of_block: I32,
    byte_ids: U32,
    pair_rows: U64,
    made: U32,
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
    behind = _spell(data, at, at + number, block, of_block, byte_ids, out, to)
    behind = merge_ids(behind - to, pair_rows, made, room, out, to)
    if SHORT_BYTES < number <= LONGEST:
        keep_long(data, at, number, mixed, long, kept, used, out, to, behind - to)
    return behind


@helper
def _spell(data: U8, at: int, end: int, block: U16, of_block: I32, byte_ids: U32, out: U32, to: int) -> int:
    """Write the ids of characters, and of the bytes of those that are no piece: where they end."""
    while at < end:
        symbol, size = symbol_at(data, at), char_bytes(data[at])
        one = of_block[np.int64(block[symbol >> 8]) << 8 | symbol & 0xFF]
        if one >= 0:
            out[to] = np.uint32(one)
            to += 1
        else:
            for k in range(size):
                out[to] = byte_ids[data[at + k]]
                to += 1
        at += size
    return to
