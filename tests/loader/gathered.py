"""Rows of documents for the objectives' tests, and what is said of them the slow way."""

from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from tokenmill.pipeline.loader.batch import Batch, Gathered, NoiseKey, Objective
from tokenmill.pipeline.loader.stored_rows import Pieces

PAD, EOS, MASK = 0, 1, 2
VOCABULARY = 1000
#: Per row, its documents as (start, end).
Spans = Sequence[Sequence[tuple[int, int]]]


def key(seed: int) -> NoiseKey:
    return NoiseKey(seed, MASK, PAD, eos_id=EOS, vocab_size=VOCABULARY)


def gathered(
    spans: Spans,
    length: int,
    rows: Sequence[int],
    aligned: bool = False,
    answers: np.ndarray | None = None,
    epoch: np.ndarray | None = None,
) -> Gathered:
    """Rows whose tokens tell their places: 3 and up; padding elsewhere."""
    clean = np.full((len(spans), length), PAD, np.int64)
    for row, some in enumerate(spans):
        for start, end in some:
            clean[row, start:end] = 3 + np.arange(start, end) + 100 * row
    flat = [(row, start, end) for row, some in enumerate(spans) for start, end in some]
    columns = np.array(flat, np.int64).reshape(-1, 3).T
    valid = np.array([sum(end - start for start, end in some) for some in spans], np.int32)
    numbers = np.array(rows, np.int64)
    return Gathered(
        clean=clean,
        valid=valid,
        pieces=Pieces(*columns),
        aligned=aligned,
        rows=numbers,
        answers=answers,
        epoch=np.zeros(len(spans), np.int32) if epoch is None else epoch,
        identities=lambda: numbers.astype(np.uint64),
        batch_rows=(int(numbers.min()), int(numbers.max()) + 1),
    )


def batch_of(objective: Objective, stored: Gathered, seed: int = 0) -> Batch:
    """The batch of these rows; its provenance is made up."""
    zeros = np.zeros(len(stored.rows), np.int32)
    provenance = {"rows": stored.rows, "component": zeros, "epoch": zeros, "stored_row": stored.rows}
    return objective.batch_type(
        **objective.arrays(stored, key(seed)), **provenance, component_names=("made/train",), state={}
    )


@st.composite
def drawn_rows(draw: st.DrawFn, align: int = 1) -> tuple[Spans, int]:
    """Rows of documents, at multiples of `align`, and L; a row may hold none."""
    length = align * draw(st.integers(1, 12 // align))
    spans = []
    for _ in range(draw(st.integers(1, 4))):
        at, some = 0, []
        while at < length and draw(st.integers(0, 3)):
            end = draw(st.integers(at + 1, length))
            some.append((at, end))
            at = -(-end // align) * align
        spans.append(some)
    return spans, length


def borders_of(labels: Sequence[object]) -> list[int]:
    """Where the labels of the flat batch's places change, from 0 to their number."""
    changes = [i for i in range(1, len(labels)) if labels[i] != labels[i - 1]]
    return [0, *changes, len(labels)]


@st.composite
def drawn_dialogues(draw: st.DrawFn, most_turns: int = 3) -> tuple[list[list[int]], int]:
    """Dialogues as run lengths, prompt and answer in turn, and an L that all of them fit into."""
    turns = st.lists(st.tuples(st.integers(0, 4), st.integers(1, 6)), min_size=1, max_size=most_turns)
    dialogues = [[length for turn in draw(turns) for length in turn] for _ in range(draw(st.integers(1, 4)))]
    dialogues = [[max(1, run) if i and i % 2 == 0 else run for i, run in enumerate(runs)] for runs in dialogues]
    return dialogues, max(map(sum, dialogues)) + draw(st.integers(0, 5))


def stored_dialogues(dialogues: Sequence[Sequence[int]], length: int, rows: Sequence[int]) -> Gathered:
    """A dialogue a row, as given by its run lengths."""
    answers = np.zeros((len(dialogues), length), np.bool_)
    for row, runs in enumerate(dialogues):
        marks = [bool(i % 2) for i, run in enumerate(runs) for _ in range(run)]
        answers[row, : len(marks)] = marks
    spans = [[(0, sum(runs))] if sum(runs) else [] for runs in dialogues]
    return gathered(spans, length, rows, answers=answers)


def answer_spans(runs: Sequence[int]) -> list[tuple[int, int]]:
    """Where the answers of a dialogue stand."""
    ends = np.cumsum(runs).tolist()
    return [(ends[i] - runs[i], ends[i]) for i in range(1, len(runs), 2)]
