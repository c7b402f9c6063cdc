"""Rows that only fill a batch: the last one of a validation split."""

import numpy as np

from tokenmill.pipeline.loader.batch import Gathered
from tokenmill.pipeline.loader.stored_rows import Pieces


def padded(gathered: Gathered, padding_id: int) -> Gathered:
    """The rows, those numbered -1 turned into padding, in place where that can be.

    Args:
        gathered: rows; what stands in those numbered -1 does not matter.
        padding_id: what padding holds.
    """
    fills = gathered.rows < 0
    if not fills.any():
        return gathered
    gathered.clean[fills] = padding_id
    gathered.valid[fills] = 0
    if gathered.answers is not None:
        gathered.answers[fills] = False
    checks = gathered.checks
    if checks is not None:
        checks = [("", None) if fill else check for check, fill in zip(checks, fills.tolist(), strict=True)]
    pieces = gathered.pieces
    if pieces is not None:
        kept = np.flatnonzero(~fills[pieces.row])
        pieces = Pieces(*(column[kept] for column in pieces))
    return gathered._replace(pieces=pieces, checks=checks)
