"""The ledger: nothing is lost, and what counts of a request asked several times."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tokenmill.pipeline.regenerate import ledger as ledger_module
from tokenmill.pipeline.regenerate.ledger import Ledger
from tokenmill.pipeline.storage import Storage


def row(request: int, known: int, failure: str | None = None, message: str | None = "{}") -> dict[str, Any]:
    return {
        "request": request.to_bytes(16, "big"),
        "document": f"{request:016x}:0",
        "sample": 0,
        "body": "{}",
        "message": None if failure else message,
        "finish_reason": None,
        "model": None,
        "prompt_tokens": None,
        "completion_tokens": None,
        "failure": failure,
        "detail": None,
        "tries": 1,
        "known": known,
    }


def asked(*requests: int) -> pa.Array:
    return pa.array([request.to_bytes(16, "big") for request in requests], pa.binary(16))


def test_what_is_recorded_is_at_rest_and_outlives_its_process(tmp_path: Path):
    first = Ledger(Storage(str(tmp_path)))
    first.record([row(1, 1, message='{"content": "a\u2028b\\n"}')])
    first.record([row(2, 2), row(3, 3, "timeout")])
    assert len(list(tmp_path.glob("tail/*"))) == 2
    second = Ledger(Storage(str(tmp_path)))  # the first was killed
    assert list(tmp_path.glob("tail/*")) == []
    known = second.known()
    assert known.answered(asked(1, 2, 3, 4, 1)).tolist() == [True, True, False, False, True]
    assert known.places(asked(4)).tolist() == [-1]
    found = second.read(known, known.places(asked(3, 1)))
    assert [each["failure"] for each in found] == ["timeout", None]
    assert found[1]["message"] == '{"content": "a\u2028b\\n"}'
    first.fold()  # it was not killed after all: the same rows twice
    assert second.known().places(asked(1, 2, 3)).min() >= 0
    assert len(second.known().requests) == 3


def test_a_part_is_made_of_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(ledger_module, "_PART_ROWS", 4)
    ledger = Ledger(Storage(str(tmp_path)))
    for number in range(10):
        ledger.record([row(number, number)])
    assert (len(list(tmp_path.glob("parts/*"))), len(list(tmp_path.glob("tail/*")))) == (2, 2)
    ledger.fold()
    known = ledger.known()
    assert known.answered(asked(*range(10))).all()
    found = ledger.read(known, known.places(asked(9, 0, 5, 5)))
    assert [each["known"] for each in found] == [9, 0, 5, 5]


_ROWS = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 9), st.booleans()), max_size=30)


@settings(max_examples=40)
@given(_ROWS, st.integers(1, 7))
def test_an_answer_counts_before_a_failure_and_the_earliest_before_others(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, bool]], size: int
):
    folder = tmp_path_factory.mktemp("ledger")
    ledger = Ledger(Storage(str(folder)))
    told = [row(request, known, "timeout" if failed else None) for request, known, failed in rows]
    for start in range(0, len(told), size):
        ledger.record(told[start : start + size])
        ledger.fold()
    known = ledger.known()
    for request in range(6):
        mine = [(failed, -when if failed else when) for each, when, failed in rows if each == request]
        place = known.places(asked(request))
        assert (place[0] >= 0) == bool(mine)
        if mine:
            (found,) = ledger.read(known, place)
            assert (found["failure"] is not None, found["known"]) == (min(mine)[0], abs(min(mine)[1]))
            assert known.answered(asked(request)).tolist() == [not min(mine)[0]]


def test_an_empty_ledger_knows_nothing(tmp_path: Path):
    known = Ledger(Storage(str(tmp_path / "none"))).known()
    assert known.answered(asked(1)).tolist() == [False]
    assert known.answered(asked()).tolist() == []
