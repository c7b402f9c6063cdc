"""Turns of stored dialogues: runs of tokens that the model is to give."""

import numpy as np
import numpy.typing as npt

from tokenmill.kernels import kernel
from tokenmill.pipeline.loader import noise

BOOL = npt.NDArray[np.bool_]
I64 = npt.NDArray[np.int64]


def drawn_turns(answers: BOOL, rows: I64, seed: int) -> tuple[I64, I64]:
    """One turn a dialogue, each with the same chance, drawn by (seed, global row): its answer's span, int64 [B] twice.

    An n-turn dialogue is n pairs of prompt and response; the prompt is all that comes before the answer. A row without
    an answer (one of padding) gives the span (L, L).

    Args:
        answers: bool [B, L], tokens of answers.
        rows: int64 [B], global row numbers.
        seed: 64-bit noise seed.
    """
    counts = np.empty(rows.size, np.int64)
    _count_runs(answers, counts)
    drawn = noise.draw(seed, noise.PURPOSE_TURN, rows, 1)[:, 0]
    chosen = noise.uniform_from_one(drawn, np.maximum(counts, 1))
    spans = np.empty((2, rows.size), np.int64)
    _find_runs(answers, chosen, spans)
    return spans[0], spans[1]


@kernel
def _count_runs(answers: BOOL, counts: I64) -> None:
    for row in range(answers.shape[0]):
        found = 0
        before = False
        for place in range(answers.shape[1]):
            if answers[row, place] and not before:
                found += 1
            before = answers[row, place]
        counts[row] = found


@kernel
def _find_runs(answers: BOOL, chosen: I64, spans: I64) -> None:
    """Span of each row's `chosen`-th run, counted from 1."""
    length = answers.shape[1]
    for row in range(answers.shape[0]):
        found = 0
        before = False
        spans[0, row] = spans[1, row] = length
        for place in range(length):
            now = answers[row, place]
            if now and not before:
                found += 1
                if found == chosen[row]:
                    spans[0, row] = place
            if before and not now and found == chosen[row]:
                spans[1, row] = place
                break
            before = now
