"""Pieces that are a token as they stand: for tokenizers that look there before they merge (`ignore_merges`)."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import helper, kernel
from tokenmill.pipeline.tokens.piece_cache import hash_bytes

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

_SIXTEEN = np.uint64(16)


class WholePieces(NamedTuple):
    """A table with open addressing.

    Attributes:
        rows: uint64[2^k, 2], a hash and the piece's index + 1, or zeros. One row alone: nothing is looked up.
        bounds: int64[n+1], where each piece lies in `data`.
        data: uint8, all pieces.
        ids: uint32[n].
    """

    rows: U64
    bounds: I64
    data: U8
    ids: U32


def whole_pieces(ids: Mapping[bytes, int]) -> WholePieces:
    """The table of some pieces; of none: one row."""
    rows = np.zeros((1 << (2 * len(ids)).bit_length() if ids else 1, 2), np.uint64)
    bounds = np.zeros(len(ids) + 1, np.int64)
    np.cumsum([len(piece) for piece in ids], out=bounds[1:])
    data = np.frombuffer(b"".join(ids), np.uint8)
    _fill(rows, bounds, data)
    return WholePieces(rows, bounds, data, np.fromiter(ids.values(), np.uint32, len(ids)))


@kernel
def _fill(rows: U64, bounds: I64, data: U8) -> None:
    for i in range(bounds.shape[0] - 1):
        mixed = hash_bytes(data, bounds[i], bounds[i + 1] - bounds[i])
        row = np.int64((mixed >> _SIXTEEN) & np.uint64(rows.shape[0] - 1))
        while rows[row, 1]:
            row = (row + 1) & (rows.shape[0] - 1)
        rows[row, 0], rows[row, 1] = mixed, np.uint64(i + 1)


@helper
def find_whole(text: U8, at: int, number: int, mixed: np.uint64, rows: U64, bounds: I64, data: U8, ids: U32) -> int:
    """Id of a piece of so many bytes, or -1."""
    row = np.int64((mixed >> _SIXTEEN) & np.uint64(rows.shape[0] - 1))
    while rows[row, 1]:
        index = np.int64(rows[row, 1]) - 1
        if rows[row, 0] == mixed and bounds[index + 1] - bounds[index] == number:
            same = 0
            while same < number and data[bounds[index] + same] == text[at + same]:
                same += 1
            if same == number:
                return int(ids[index])
        row = (row + 1) & (rows.shape[0] - 1)
    return -1
