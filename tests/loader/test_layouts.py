"""Shards of SFT through the loader: which tokens are answers, and which objectives read what."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.loader.small_run import Stored
from tokenmill.manifests.mixture import Mixture
from tokenmill.manifests.schemas import sequence_schema
from tokenmill.manifests.shards import CONCAT, DIALOGUE, PRETRAINING, SequenceFormat
from tokenmill.pipeline.loader import Block, Illada, Loader, open_mixture
from tokenmill.pipeline.loader.gather import Sought, gather
from tokenmill.pipeline.loader.opening import OBJECTIVES
from tokenmill.pipeline.loader.order import Places
from tokenmill.pipeline.loader.stored_rows import StoredRows


def turns(row: int) -> list[int]:
    """Run lengths: one, two or three turns, some rows with padding behind."""
    return [[5, 11], [3, 4, 2, 6], [0, 2, 1, 3, 4, 2], [16]][row % 4]


def open_sft(make_run, layout: str, **arguments) -> Loader:
    stored = Stored(
        "chat/train",
        1.0,
        [[[8, 8, 5], [3]]],
        runs=None if layout == PRETRAINING else turns,
        valid=lambda i: sum(turns(i)),
        max_epochs=3,
    )
    run = make_run([stored], length=16, vocab_size=50, layout=layout)
    return open_mixture(run.path, batch_size=6, **arguments)


@pytest.mark.parametrize("name", ["llada_sft", "dream", "block"])
def test_answers_of_dialogues(make_run, name):
    objective = OBJECTIVES["block"].__class__(block_size=1) if name == "block" else name
    seen = 0
    for batch in open_sft(make_run, DIALOGUE, objective=objective):
        for row, number in enumerate(batch.stored_row.tolist()):
            marks = [bool(i % 2) for i, run in enumerate(turns(number)) for _ in range(run)]
            marks += [False] * (16 - len(marks))
            if name == "llada_sft":
                begins = [at for at in range(16) if marks[at] and (at == 0 or not marks[at - 1])]
                assert batch.prompt_lengths[row] in (begins or [16])
            else:
                marks[0] = marks[0] and name != "dream"
                assert batch.maskable[row].tolist() == marks
            seen += 1
    assert seen == 72


def test_every_turn_comes_up_over_the_visits(make_run):
    seen: dict[int, set[int]] = {}
    for batch in open_sft(make_run, DIALOGUE, objective="llada_sft"):
        for number, prompt in zip(batch.stored_row.tolist(), batch.prompt_lengths.tolist(), strict=True):
            seen.setdefault(number % 4, set()).add(prompt)
    assert seen == {0: {5}, 1: {3, 9}, 2: {0, 3, 10}, 3: {16}}


def test_concatenated_samples(make_run):
    shown = [batch.labels for batch in open_sft(make_run, CONCAT, objective="autoregressive")]
    rows = [batch.stored_row for batch in open_sft(make_run, CONCAT, objective="illada")]
    masked = [batch.maskable for batch in open_sft(make_run, CONCAT, objective=Illada(cut_probability=0))]
    for labels, numbers, maskable in zip(shown, rows, masked, strict=True):
        for row, number in enumerate(numbers.tolist()):
            marks = [bool(i % 2) for i, run in enumerate(turns(number)) for _ in range(run)]
            assert maskable[row].tolist() == [True] * len(marks) + [False] * (16 - len(marks))
            expected = [at > 0 and mark for at, mark in enumerate(marks)] + [False] * (16 - len(marks))
            assert (labels[row] != -100).tolist() == expected


@pytest.mark.parametrize("layout", [PRETRAINING, CONCAT, DIALOGUE])
def test_other_pairs_are_refused_with_what_would_serve(make_run, layout):
    for name, objective in OBJECTIVES.items():
        if layout in objective.layouts:
            asked = Block(block_size=8) if name == "block" else name  # the default does not divide rows of 16
            assert open_sft(make_run, layout, objective=asked).num_batches == 12
        else:
            refused = rf"cannot read rows laid out as '{layout}'.*sequences: {{layout: \w+}}"
            with pytest.raises(ValueError, match=refused):
                open_sft(make_run, layout, objective=name)


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_answers_follow_the_pieces_of_aligned_rows(data):
    align = data.draw(st.integers(1, 4))
    length, rows = 6 * align, data.draw(st.integers(1, 4))
    pieces, runs = [], []
    for _ in range(rows):
        sizes, room = [], 6
        while room and data.draw(st.booleans()):
            size = data.draw(st.integers(1, room * align))
            sizes.append(size)
            room -= -(-size // align)
        total, mine = sum(sizes), []
        while sum(mine) < total:
            mine.append(data.draw(st.integers(0 if not mine else 1, total - sum(mine))))
        pieces.append(sizes)
        runs.append(mine)
    schema = sequence_schema(length, pa.uint16(), maskable=True)
    tokens = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(rows * length, np.uint16)), type=schema.field(0).type)
    zeros = [[0] * len(sizes) for sizes in pieces]
    columns = [pa.array(value, schema.field(1).type) for value in (pieces, zeros, zeros, zeros)]
    valid = pa.array([sum(sizes) for sizes in pieces], pa.int32())
    columns = [tokens, *columns, valid, pa.array(runs, schema.field("maskable").type)]
    table = pa.RecordBatch.from_arrays(columns, schema=schema)
    stored = StoredRows(np.zeros((rows, length), np.uint16), valid.to_numpy(), table, align)
    asked = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=4))
    places = Places(np.zeros(len(asked), np.int64), np.array(asked))
    found = gather(Sought.of(places), [stored], length, pieces=False, answers=True).answers
    for index, row in enumerate(asked):
        marks = [bool(i % 2) for i, run in enumerate(runs[row]) for _ in range(run)]
        expected, at, taken = [False] * length, 0, 0
        for size in pieces[row]:
            expected[at : at + size] = marks[taken : taken + size]
            at, taken = -(-(at + size) // align) * align, taken + size
        assert found[index].tolist() == expected


def test_layouts_are_written_down(make_run):
    loader = open_sft(make_run, DIALOGUE, objective="dream")
    mixture = loader.plan.mixture
    assert Mixture.from_json(mixture.to_json()) == mixture
    assert '"layout": "dialogue"' in mixture.to_json()
    form = SequenceFormat(16, 50, "0" * 32, {}, "dialogue/1", "train", "u", ("p",), layout=DIALOGUE)
    assert SequenceFormat.of(form.schema) == form
    with pytest.raises(ValueError, match="layout is 'rows': give 'pretraining', 'concat', 'dialogue'"):
        SequenceFormat(16, 50, "0" * 32, {}, "dialogue/1", "train", "u", ("p",), layout="rows")
