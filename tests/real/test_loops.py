"""Loops planted into what people wrote are found, what they wrote is let be: a small form of tests/bench/loops.py."""

from pathlib import Path

import numpy as np
import pytest

from tests.bench.loops import FLAGGED_BAR, RECALL_BAR, pieces_of, planted, repeats_of, written


@pytest.mark.real_data
def test_planted_loops_are_found_and_what_people_wrote_is_let_be(real_data: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOKENMILL_REAL_DATA", str(real_data))
    pieces = {kind: pieces_of(texts) for kind, texts in written(quick=True).items()}
    assert np.mean(np.concatenate([repeats_of(texts) >= 3 for texts in pieces.values()])) <= FLAGGED_BAR
    prose = [text for kind in ("pages", "articles", "solutions") for text in pieces[kind]]
    periods, texts = planted(prose, 3000, (3, 3))
    assert np.mean((repeats_of(texts) >= 3)[periods > 8]) >= RECALL_BAR
    _, texts = planted(prose, 3000, (3, 10))
    assert np.mean(repeats_of(texts) >= 3) >= RECALL_BAR
