"""Where a batch's rows are cut into segments; all objectives say it as borders in the flat batch, 0 … B·L."""

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import kernel
from tokenmill.pipeline.loader.batch import Gathered
from tokenmill.pipeline.loader.stored_rows import Pieces

BOOL = npt.NDArray[np.bool_]
I32 = npt.NDArray[np.int32]
I64 = npt.NDArray[np.int64]


def row_ends(valid: I32, pieces: Pieces | None, aligned: bool) -> I64:
    """Behind each row's last token that is not padding: int64 [B].

    Args:
        valid: int32 [B], how many such tokens each row has; they come first, unless pieces are aligned.
        pieces: where they stand; None: not asked.
        aligned: whether there may be padding between pieces.
    """
    ends = valid.astype(np.int64)
    if aligned and pieces is not None:
        np.maximum.at(ends, pieces.row, pieces.end)
    return ends


def row_borders(cuts: I64, ends: I64, length: int) -> I32:
    """Borders where each row begins, is cut and ends: int32 [S + 1].

    Args:
        cuts: int64 [B], a place in each row, 0: none.
        ends: int64 [B], behind each row's last token; padding follows.
        length: L.
    """
    inside = np.stack([np.zeros_like(cuts), cuts, ends], axis=1)
    is_border = np.stack([np.ones(cuts.size, np.bool_), cuts > 0, (ends > 0) & (ends < length)], axis=1)
    row_of = np.nonzero(is_border)[0]
    return np.append(row_of * length + inside[is_border], cuts.size * length).astype(np.int32)


def with_pieces(borders: I32, pieces: Pieces, ends: I64, length: int) -> I32:
    """The borders, and those of all pieces up to the `ends` of their rows; what lies behind an end is one segment."""
    row, place = np.tile(pieces.row, 2), np.concatenate([pieces.start, pieces.end])
    inside = place < ends[row]
    return np.union1d(borders, (row * length + place)[inside]).astype(np.int32)


def token_places(ends: I64, length: int, pieces: Pieces | None, aligned: bool) -> BOOL:
    """Which places hold tokens, not padding, up to the `ends` of their rows: bool [B, L]; see `row_ends`."""
    found: BOOL = np.arange(length) < ends[:, None]
    if aligned and pieces is not None:
        _clear_gaps(found, *pieces)
    return found


def by_document(gathered: Gathered) -> tuple[I32, BOOL]:
    """Rows cut at every document, for objectives whose logits are shifted by one.

    Returns:
        The borders, int32 [S + 1]; and which places have something to be foretold, bool [B, L]: no padding, of SFT's
        rows the answers alone, and of no document the first token, for which the shift leaves no logit.
    """
    pieces, length = gathered.pieces, gathered.clean.shape[1]
    assert pieces is not None
    ends = row_ends(gathered.valid, pieces, gathered.aligned)
    borders = with_pieces(row_borders(np.zeros_like(ends), ends, length), pieces, ends, length)
    targets = token_places(ends, length, pieces, gathered.aligned)
    if gathered.answers is not None:
        targets &= gathered.answers
    targets.reshape(-1)[borders[:-1]] = False
    return borders, targets


@kernel
def _clear_gaps(maskable: BOOL, piece_row: I64, start: I64, end: I64) -> None:
    """Take the padding between pieces out of what can be masked, bool [B, L], in place."""
    for piece in range(1, piece_row.shape[0]):
        if piece_row[piece] == piece_row[piece - 1]:
            for place in range(end[piece - 1], start[piece]):
                maskable[piece_row[piece], place] = False


def positions(borders: I32, length: int) -> I64:
    """Places counted from 0 in each segment: int64 [B, L]."""
    found = np.empty(int(borders[-1]), np.int64)
    _count_from_borders(borders, found)
    return found.reshape(-1, length)


@kernel
def _count_from_borders(borders: I32, found: I64) -> None:
    for segment in range(borders.shape[0] - 1):
        start = np.int64(borders[segment])
        for place in range(start, np.int64(borders[segment + 1])):
            found[place] = place - start


def refuse_mask_id(clean: I64, rows: I64, mask_token_id: int) -> None:
    """Raise ValueError if the mask id is among the tokens: the model could not tell it from noise."""
    found = clean == mask_token_id
    if found.any():
        row, place = (int(index[0]) for index in np.nonzero(found))
        raise ValueError(
            f"mask_token_id {mask_token_id} occurs in the data, at place {place} of global row {rows[row]}: pass the "
            "id of a token that is in no text, such as one past the vocabulary"
        )
