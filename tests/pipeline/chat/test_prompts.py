"""Prompts whose answers are checked: from raw data to rows, books and batches, against `transformers`."""

import shutil
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.pipeline.chat.packed_rows import packed_run
from tests.pipeline.chat.test_pack import of_transformers
from tests.pipeline.runs import newest
from tokenmill.manifests.balance import Balance
from tokenmill.pipeline import checks
from tokenmill.pipeline.loader import PromptBatch, open_mixture
from tokenmill.pipeline.packed import read_batches, shards_of
from tokenmill.pipeline.storage import Storage

LENGTH = 64


def asked(number: int) -> list[dict[str, str]]:
    """Every third has an answer before, which is given."""
    question = [{"role": "user", "content": f"What is {number} and {number}?"}]
    before = [{"role": "user", "content": "Add."}, {"role": "assistant", "content": "What?"}] if number % 3 == 0 else []
    return [*before, *question]


def check(number: int) -> tuple[str, str | None]:
    return f"{2 * number}é", "number" if number % 2 else None


def records() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for number in range(20):
        answer, checker = check(number)
        found.append({"messages": asked(number), "answer": answer} | ({"checker": checker} if checker else {}))
    long = {"prompt": "Why? " * 100, "answer": "4"}
    answered = {"messages": [*asked(97), {"role": "assistant", "content": "A lot."}]}
    others = [{"prompt": "Hm?", "response": "Ah."}, {"prompt": "Which?", "chosen": "This.", "rejected": "None."}]
    return [*found, long, answered, *others]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return packed_run(tmp_path_factory.mktemp("prompts"), "prompts", LENGTH, records())


def expected(run: Path, number: int) -> list[int]:
    """Tokens of a prompt, by `transformers`."""
    tokens: list[int] = of_transformers(run).apply_chat_template(
        asked(number), add_generation_prompt=True, return_dict=False
    )
    return tokens


def test_rows_hold_prompts_and_how_they_are_checked(built: Path):
    storage = Storage(str(built))
    shards = [shard for one in checks.receipts_in(storage, newest(built), "pack") for shard in shards_of(one)]
    rows = [row for shard in shards for batch in read_batches(storage, shard) for row in batch.to_pylist()]
    assert sorted(row["document_rows"][0] for row in rows) == list(range(20))
    for row in rows:
        (number,) = row["document_rows"]
        assert row["tokens"][: row["valid"]] == expected(built, number)
        assert row["maskable"] == [row["valid"]]
        assert (row["answer"], row["checker"]) == check(number)


def test_books(built: Path):
    storage, published = Storage(str(built)), newest(built)
    sheet = published.value["balance"]["chat"]
    dropped = Balance.from_json(sheet["steps"]["pack"]).dropped
    assert {name: tally.documents for name, tally in dropped.items()} == {
        "pack.longer_than_row": 1,
        "pack.not_checked": 3,
    }
    assert (sheet["rows"], sheet["roles"]["answer_tokens"]) == (20, 0)
    assert [problem for _, problem in checks.verify(storage, published) if problem] == []
    assert [problems for _, problems in checks.recount(storage, published) if problems] == []


def test_batches(built: Path):
    seen: Counter[int] = Counter()
    numbers = {tuple(expected(built, number)): number for number in range(20)}
    with open_mixture(str(built), batch_size=4, objective="prompts") as loader:
        for batch in loader:
            assert isinstance(batch, PromptBatch)
            assert batch.denominator == len(batch.answers) == len(batch.checkers) == 4
            for row, length in enumerate(batch.prompt_lengths.tolist()):
                number = numbers[tuple(batch.clean[row, :length].tolist())]
                assert (batch.answers[row], batch.checkers[row]) == check(number)
                assert batch.position_ids[row].tolist() == [*range(length), *range(LENGTH - length)]
                seen[number] += 1
    assert seen == dict.fromkeys(range(20), 2)


def test_a_corrupt_record_batch_becomes_rows_without_prompts(built: Path, tmp_path: Path):
    shutil.copytree(built, tmp_path / "out")
    (shard,) = (tmp_path / "out" / "sequences").rglob("*.arrow")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    skipping = open_mixture(str(tmp_path / "out"), batch_size=4, objective="prompts", on_corrupt="skip_and_report")
    with skipping as loader:
        batch = next(iter(loader))
    assert (batch.answers, batch.checkers, batch.denominator) == (("",) * 4, (None,) * 4, 0)
    assert batch.prompt_lengths.tolist() == [0] * 4


def test_other_objectives_are_refused(built: Path):
    with pytest.raises(ValueError, match="take one of prompts on these"):
        open_mixture(str(built), batch_size=4, objective="llada_sft")
